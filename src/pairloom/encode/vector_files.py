"""The files of a vectors artifact: parts of a fixed number of rows, each of which is written once and then left alone.

Part 0 is ``vectors-00000.npy`` [rows, D], for int8 also ``scales-00000.npy`` [rows], then ``texts-00000.jsonl`` (``{"id", "text"}``
a line) and ``offsets-00000.npy`` [rows + 1], where each of its lines begins; the last number is where they end.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.artifacts import FileEntry, file_entry, flush
from pairloom.encode.storage import Storage
from pairloom.errors import ArtifactError

LAYOUT = 1
# A file of 384 float32 numbers a row has 1.6 GB then: few enough files, and none too large to be copied again.
ROWS_PER_FILE = 2**20


@dataclass(frozen=True)
class VectorLayout:
    """What the names, sizes and types of the files follow from."""

    dimensions: int
    storage: Storage
    rows_per_file: int

    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Of each kind of .npy file: its type, and the shape of a row."""
        number = np.dtype(self.storage).newbyteorder("<")
        scales: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {"scales": (np.dtype("<f4"), ())}
        return {
            "vectors": (number, (self.dimensions,)),
            **(scales if self.storage == "int8" else {}),
            "offsets": (np.dtype("<i8"), ()),
        }

    def names(self, part: int) -> list[str]:
        """The files of a part."""
        return [*(column_name(kind, part) for kind in self.columns()), texts_name(part)]

    def num_parts(self, rows: int) -> int:
        """How many parts so many rows have."""
        return -(-rows // self.rows_per_file)


def column_name(kind: str, part: int) -> str:
    """Such as ``vectors-00000.npy``."""
    return f"{kind}-{part:05d}.npy"


def texts_name(part: int) -> str:
    """Such as ``texts-00000.jsonl``."""
    return f"texts-{part:05d}.jsonl"


@dataclass(frozen=True)
class Rows:
    """Some rows as they are stored.

    Args:
        vectors: [N, D] of the stored type.
        scales: [N], of int8 only.
        lines: N lines of JSON.
        line_bytes: The length of each, [N].
    """

    vectors: npt.NDArray[Any]
    scales: npt.NDArray[np.float32] | None
    lines: bytes
    line_bytes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.vectors)

    def split(self, count: int) -> tuple[Rows, Rows]:
        """The first ``count`` rows, and the others."""
        place = int(self.line_bytes[:count].sum())
        scales = (None, None) if self.scales is None else (self.scales[:count], self.scales[count:])
        return (
            Rows(self.vectors[:count], scales[0], self.lines[:place], self.line_bytes[:count]),
            Rows(self.vectors[count:], scales[1], self.lines[place:], self.line_bytes[count:]),
        )


class VectorWriter:
    """Appends rows to the files of a vectors artifact, and finishes each part as soon as it is full.

    Writes go to the system at once, so that what `flush` has passed can be taken up by another process.

    Args:
        folder: Where the files are; it is made if it is not there.
        layout: Of the files.
        rows: So many are there already; whatever lies behind them is cut off.
        text_bytes: So many bytes of their texts are in the last part, if it is not full.
        finished: The files of the full parts among them.

    Raises:
        ArtifactError: Less is there than is said.
    """

    def __init__(
        self,
        folder: Path,
        layout: VectorLayout,
        *,
        rows: int = 0,
        text_bytes: int = 0,
        finished: dict[str, FileEntry] | None = None,
    ) -> None:
        self.folder, self.layout, self.rows = folder, layout, rows
        self.finished: dict[str, FileEntry] = dict(finished or {})
        """Size and checksum of every file that is done."""
        folder.mkdir(exist_ok=True)
        number, kept = divmod(rows, layout.rows_per_file)
        names = {*self.finished, *(layout.names(number) if kept else ())}
        for file in folder.iterdir():
            if file.name not in names:
                file.unlink()
        for name, entry in self.finished.items():
            if not (folder / name).is_file() or (folder / name).stat().st_size != entry.bytes:
                raise _too_short(folder / name)
        self._part = _Part(folder, number, layout, kept, text_bytes) if kept else None

    @property
    def text_bytes(self) -> int:
        """Bytes of texts in the last part, if it is not full."""
        return 0 if self._part is None else self._part.text_bytes

    def append(self, rows: Rows) -> None:
        """Writes some rows behind the others."""
        while len(rows):
            if self._part is None:
                self._part = _Part(self.folder, self.rows // self.layout.rows_per_file, self.layout)
            now, rows = rows.split(self.layout.rows_per_file - self._part.rows)
            self._part.append(now)
            self.rows += len(now)
            if self._part.rows == self.layout.rows_per_file:
                self._finish_part()

    def flush(self) -> None:
        """Waits until everything is on the disk."""
        if self._part is not None:
            self._part.flush()
        flush(self.folder)

    def finish(self) -> dict[str, FileEntry]:
        """Finishes the last part, though it is not full.

        Returns:
            Size and checksum of every file.
        """
        if self._part is not None:
            self._finish_part()
        return self.finished

    def close(self) -> None:
        """Closes the files as they are."""
        if self._part is not None:
            self._part.close()

    def _finish_part(self) -> None:
        assert self._part is not None
        self._part.finish()
        for name in self.layout.names(self._part.number):
            self.finished[name] = file_entry(self.folder / name)
        self._part = None


class _Part:
    """The files of one part, open for writing behind what is there."""

    def __init__(self, folder: Path, number: int, layout: VectorLayout, rows: int = 0, text_bytes: int = 0) -> None:
        self.number, self.rows, self.text_bytes = number, rows, text_bytes
        self._columns = layout.columns()
        self._files: dict[str, io.FileIO] = {}
        try:
            for kind, (dtype, shape) in self._columns.items():
                count = rows + (kind == "offsets")
                size = len(npy_header(dtype, (0, *shape))) + count * dtype.itemsize * int(np.prod(shape))
                self._files[kind] = _open(folder / column_name(kind, number), size if rows else None)
                if not rows:
                    _write(self._files[kind], npy_header(dtype, (0, *shape)))
            self._files["texts"] = _open(folder / texts_name(number), text_bytes if rows else None)
            if not rows:
                _write(self._files["offsets"], np.zeros(1, dtype="<i8"))
        except BaseException:
            self.close()
            raise

    def append(self, rows: Rows) -> None:
        _write(self._files["vectors"], rows.vectors)
        if rows.scales is not None:
            _write(self._files["scales"], rows.scales)
        _write(self._files["texts"], np.frombuffer(rows.lines, dtype=np.uint8))
        _write(self._files["offsets"], self.text_bytes + np.cumsum(rows.line_bytes, dtype="<i8"))
        self.text_bytes += len(rows.lines)
        self.rows += len(rows)

    def flush(self) -> None:
        for file in self._files.values():
            os.fsync(file.fileno())

    def finish(self) -> None:
        """Puts the number of rows into the headers."""
        for kind, (dtype, shape) in self._columns.items():
            self._files[kind].seek(0)
            _write(self._files[kind], npy_header(dtype, (self.rows + (kind == "offsets"), *shape)))
        self.flush()
        self.close()

    def close(self) -> None:
        for file in self._files.values():
            file.close()


def npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """The header of a .npy file, as bytes; NumPy leaves room in it for the first dimension to grow."""
    stream = io.BytesIO()
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return np.frombuffer(stream.getvalue(), dtype=np.uint8)


def _open(path: Path, size: int | None) -> io.FileIO:
    """A file to write to, without a buffer of its own: a new one, or one that is cut to a size."""
    if size is None:
        return path.open("wb", buffering=0)
    if not path.is_file() or path.stat().st_size < size:
        raise _too_short(path)
    file = path.open("r+b", buffering=0)
    file.truncate(size)
    file.seek(size)
    return file


def _write(file: io.FileIO, numbers: npt.NDArray[Any]) -> None:
    """Writes all of it; the system may take less at once than it is given."""
    left = memoryview(np.ascontiguousarray(numbers).reshape(-1).view(np.uint8).data)
    while len(left):
        left = left[file.write(left) :]


def _too_short(path: Path) -> ArtifactError:
    return ArtifactError(f"{path}: is missing or shorter than it was; begin anew with --restart")
