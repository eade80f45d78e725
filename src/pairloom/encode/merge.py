"""The parts of a divided bulk job, joined to what one process would have made."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.artifacts import FileEntry, file_sha256, new_artifact, read_manifest
from pairloom.encode.bulk import BLOCKS
from pairloom.encode.vector_files import Rows, VectorWriter, column_name, npy_header, texts_name
from pairloom.encode.vectors import KIND, PART_KIND, read_layout
from pairloom.errors import ArtifactError, UsageError
from pairloom.progress import meter

# What must not differ between parts. Where the model and the input lay may: the parts may come from several machines.
_SAME = (
    *("layout", "fingerprint", "query_fingerprint", "precision", "storage", "dimensions", "rows_per_file"),
    *("parts", "input_sha256", "input_count", "input_blocks"),
)
_NUMBERS_OF_PARTS = ("part", "parts", "input_count", "input_blocks")
_ONLY_OF_PARTS = (*_NUMBERS_OF_PARTS, "job")
_SUMS = ("count", "truncated", "tokens", "seconds")
_SHOWN = 20


def merge_parts(parts: Sequence[Path], out: Path, *, show_progress: bool = True) -> dict[str, Any]:
    """Joins all parts of a job, in constant memory; every byte is compared with its checksum on the way.

    Args:
        parts: The folders that ``encode_texts(…, shard=…)`` has made, in any order.
        out: The folder to make: the same bytes as without parts, but for the times in its manifest.
        show_progress: Whether to show progress on stderr.

    Returns:
        The manifest's facts.

    Raises:
        ArtifactError: A part is missing, given twice, damaged, or of another job; something stands at ``out``; the disk is full.
    """
    if not parts:
        raise UsageError("give the parts to merge")
    found = _all_parts([_Part(path) for path in parts])
    first = found[0]
    facts = {name: value for name, value in first.facts.items() if name not in _ONLY_OF_PARTS}
    facts |= {name: sum(part.facts[name] for part in found) for name in _SUMS}
    facts["seconds"] = round(facts["seconds"], 3)
    with new_artifact(out, KIND) as draft, ExitStack() as stack:
        writer = VectorWriter(draft.path, first.layout)
        stack.callback(writer.close)
        for part in found:
            stack.callback(part.close)
        with meter("merging", total=facts["count"], unit="texts", show=show_progress) as progress:
            for block in range(first.facts["input_blocks"]):
                part = found[block % len(found)]
                count = int(part.block_rows[block // len(found)])
                for rows in part.take(count):
                    writer.append(rows)
                progress.advance(count)
        for part in found:
            part.check_end()
        draft.files, draft.facts = writer.finish(), facts
    return facts


class _Part:
    """A part of a job, read from its beginning to its end."""

    def __init__(self, path: Path) -> None:
        manifest = read_manifest(path, PART_KIND)
        self.path, self.facts, self._entries = path, manifest.facts, manifest.files
        try:
            self.layout, self.num_rows = read_layout(self.facts)
            self.index = int(self.facts["part"]) - 1
            if not all(isinstance(self.facts[name], int | float) for name in _SUMS + _NUMBERS_OF_PARTS):
                raise ValueError("a number in its manifest is none")
            if file_sha256(path / BLOCKS) != self._entries[BLOCKS].sha256:
                raise ValueError(f"{BLOCKS} has changed since it was written")
            self.block_rows: npt.NDArray[np.int64] = np.load(path / BLOCKS, allow_pickle=False)
            own = range(self.index, self.facts["input_blocks"], self.facts["parts"])
            if (len(self.block_rows), int(self.block_rows.sum())) != (len(own), self.num_rows):
                raise ValueError("blocks and rows differ in number")
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise ArtifactError(f"{path}: damaged ({error}); encode this part again") from None
        self._row = 0
        self._files: dict[str, _CheckedFile] = {}

    def take(self, count: int) -> list[Rows]:
        """The next rows, as they are stored; more than one if they lie in several files."""
        taken = []
        while count:
            number, place = divmod(self._row, self.layout.rows_per_file)
            if place == 0:
                self._open(number)
            now = min(count, self.layout.rows_per_file - place)
            taken.append(self._take(now))
            self._row, count = self._row + now, count - now
        return taken

    def check_end(self) -> None:
        """Makes sure that the files that are open end here, and were as they had been written."""
        for file in self._files.values():
            file.check_end()
        self._files = {}

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _open(self, number: int) -> None:
        self.check_end()
        for kind, (dtype, shape) in self.layout.columns().items():
            name = column_name(kind, number)
            file = self._files[kind] = self._checked(name)
            rows = min(self.layout.rows_per_file, self.num_rows - number * self.layout.rows_per_file)
            file.expect(npy_header(dtype, (rows + (kind == "offsets"), *shape)).tobytes())
        self._files["texts"] = self._checked(texts_name(number))
        self._text_end = int(self._files["offsets"].numbers(np.dtype("<i8"), 1)[0])

    def _checked(self, name: str) -> _CheckedFile:
        if name not in self._entries:
            raise ArtifactError(f"{self.path / name}: missing; encode this part again")
        return _CheckedFile(self.path / name, self._entries[name])

    def _take(self, count: int) -> Rows:
        columns = self.layout.columns()
        ends = self._files["offsets"].numbers(np.dtype("<i8"), count)
        line_bytes = np.diff(ends, prepend=self._text_end)
        self._text_end = int(ends[-1])
        vectors = self._files["vectors"].numbers(columns["vectors"][0], count * self.layout.dimensions)
        scales = self._files["scales"].numbers(np.dtype("<f4"), count) if "scales" in columns else None
        lines = self._files["texts"].read(int(line_bytes.sum()))
        return Rows(vectors.reshape(count, -1), scales, lines, line_bytes)


class _CheckedFile:
    """A file that is read from its beginning to its end and compared with its checksum."""

    def __init__(self, path: Path, entry: FileEntry) -> None:
        self._path, self._entry, self._sha256 = path, entry, hashlib.sha256()
        self._stream = path.open("rb")

    def read(self, size: int) -> bytes:
        """The next bytes: as many, or the checksum is wrong."""
        content = self._stream.read(size) if 0 <= size <= self._entry.bytes else b""
        if len(content) != size:
            raise self._changed()
        self._sha256.update(content)
        return content

    def expect(self, content: bytes) -> None:
        """Reads what must be this."""
        if self.read(len(content)) != content:
            raise self._changed()

    def numbers(self, dtype: np.dtype[Any], count: int) -> npt.NDArray[Any]:
        return np.frombuffer(self.read(dtype.itemsize * count), dtype=dtype)

    def check_end(self) -> None:
        """Raises `ArtifactError` if there is more, or if what there was is not what was written."""
        more = self._stream.read(1)
        self.close()
        if more or self._sha256.hexdigest() != self._entry.sha256:
            raise self._changed()

    def close(self) -> None:
        self._stream.close()

    def _changed(self) -> ArtifactError:
        return ArtifactError(f"{self._path}: its content has changed since it was written; encode this part again")


def _all_parts(parts: Sequence[_Part]) -> list[_Part]:
    """The parts in their order.

    Raises:
        ArtifactError: They are of different jobs, or not all there, each once.
    """
    first = parts[0]
    for part, name in itertools.product(parts, _SAME):
        if part.facts.get(name) != first.facts.get(name):
            raise ArtifactError(
                f"{part.path}: is a part of another job than {first.path}: {name.replace('_', ' ')} {part.facts.get(name)} "
                f"and {first.facts.get(name)}"
            )
    by_index: dict[int, _Part] = {}
    for part in parts:
        if (other := by_index.setdefault(part.index, part)) is not part:
            raise ArtifactError(f"{part.path}: is part {part.index + 1}, and so is {other.path}; give each part once")
    count = first.facts["parts"]
    if missing := [str(index + 1) for index in range(count) if index not in by_index]:
        more = ", …" if len(missing) > _SHOWN else ""
        raise ArtifactError(f"of {count} parts these are missing: {', '.join(missing[:_SHOWN])}{more}")
    return [by_index[index] for index in range(count)]
