"""Reading rows of Arrow files by number, as fast as the disk gives them.

Each file is mapped into memory and read in place. Arrow's library is asked once for each record batch where its
buffers lie; after that a row's hashes are numbers at computed places of the map, and its texts are cut out of it, with
no call into the library. Hashes are read without touching a page of text.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairloom.errors import ArtifactError, MissingExtraError
from pairloom.pairs.layout import CONTEXT_COLUMNS, Layout
from pairloom.records import Pair

try:
    import pyarrow as pa
except ImportError:
    raise MissingExtraError("reading and writing shards", "pyarrow", "data") from None

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

RowNumbers = NDArray[np.int64]
_WORD_BYTES = 8
# Rows of a file's table of buffers: where a column's offsets and its hashes begin (in words), where its text begins and
# how long it is (in bytes).
_OFFSETS, _HASHES, _TEXT, _TEXT_BYTES = range(4)
# So many places are looked at first, to see whether the disk must be waited for.
_PROBES = 16


@dataclass(frozen=True)
class Rows:
    """Some rows of a shards folder, column by column.

    Args:
        columns: The texts: anchors, positives and, in triplets, negatives, or in conversations past contexts.
        hashes: uint64 ``[num_rows, num_columns]``: the `text_hash` of each text.
    """

    columns: tuple[list[str], ...]
    hashes: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.columns[0])


class RowFiles:
    """Reads the rows of a folder of Arrow files; the texts stay on disk until they are asked for.

    Memory: some tens of bytes for each record batch that a row was read of.

    Args:
        folder: Where the files lie.
        layout: How they were written.
        num_rows: Rows of all files together.
        reads_ahead: Whether the system may read more of a file than was asked for. That is good where neighbours of a
            row will soon be read, too, and bad where rows are read at random: most of what is read is then not needed.
    """

    def __init__(self, folder: Path, layout: Layout, num_rows: int, *, reads_ahead: bool = False) -> None:
        self.folder, self.layout, self._num_rows, self._reads_ahead = folder, layout, num_rows, reads_ahead
        self._files: dict[int, _MappedFile] = {}

    def __len__(self) -> int:
        return self._num_rows

    def __getstate__(self) -> dict[str, Any]:
        # To another process go the names of the files; it maps them itself.
        return self.__dict__ | {"_files": {}}

    @property
    def columns(self) -> tuple[str, ...]:
        """``("anchor", "positive")``, in triplets also ``"negative"``, in conversations ``"context"``."""
        return self.layout.columns

    def take(self, rows: RowNumbers) -> Rows:
        """Reads rows by number.

        Args:
            rows: int64 ``[n]``: row numbers in any order, repeated as wished.

        Returns:
            The rows, in the order of ``rows``.

        Raises:
            IndexError: A number is negative or not below ``len(self)``.
            ArtifactError: A file is damaged.
        """
        columns: tuple[list[str], ...] = tuple([""] * len(rows) for _ in self.columns)
        hashes = np.empty((len(rows), len(self.columns)), dtype=np.uint64)
        for file, where, inside in self._by_file(rows):
            hashes[where] = file.hashes(inside)
            places = where.tolist()
            for column, texts in zip(columns, file.texts(inside), strict=True):
                for place, text in zip(places, texts, strict=True):
                    column[place] = text
        return Rows(columns, hashes)

    def hashes(self, rows: RowNumbers) -> NDArray[np.uint64]:
        """Reads only the texts' hashes of rows: uint64 ``[n, num_columns]``, in the order of ``rows``.

        Raises:
            IndexError: A number is negative or not below ``len(self)``.
            ArtifactError: A file is damaged.
        """
        hashes = np.empty((len(rows), len(self.columns)), dtype=np.uint64)
        for file, where, inside in self._by_file(rows):
            hashes[where] = file.hashes(inside)
        return hashes

    def batches(self) -> Iterator[Rows]:
        """Reads everything once, in order, a record batch at a time."""
        layout = self.layout
        for first in range(0, len(self), layout.rows_per_file):
            path = self.folder / layout.file_name(first // layout.rows_per_file)
            num_rows = min(layout.rows_per_file, len(self) - first)
            try:
                with pa.memory_map(str(path)) as source:
                    reader = _open(source, layout, num_rows)
                    for number in range(reader.num_record_batches):
                        batch = _get_batch(reader, number, layout, num_rows)
                        batch.validate(full=True)  # Arrow trusts offsets, and would read wherever damaged ones lead
                        texts = tuple(batch.column(column).to_pylist() for column in layout.columns)
                        hashes = [batch.column(column).to_numpy() for column in layout.hash_columns]
                        yield Rows(texts, np.stack(hashes, axis=1))
            except (pa.ArrowException, OSError, ValueError) as error:
                raise _damaged(path, error) from None

    def table(self) -> Any:
        """Everything as an Arrow table over the mapped files; a text is read when it is looked at.

        Raises:
            ArtifactError: A file is damaged.
        """
        layout, tables = self.layout, []
        for first in range(0, len(self), layout.rows_per_file):
            path = self.folder / layout.file_name(first // layout.rows_per_file)
            try:
                reader = _open(pa.memory_map(str(path)), layout, min(layout.rows_per_file, len(self) - first))
                tables.append(reader.read_all())
            except (pa.ArrowException, OSError, ValueError) as error:
                raise _damaged(path, error) from None
        return pa.concat_tables(tables)

    def __iter__(self) -> Iterator[Pair]:
        for batch in self.batches():
            for anchor, positive, *others in zip(*batch.columns, strict=True):
                if self.columns == CONTEXT_COLUMNS:
                    yield Pair(anchor, positive, context=others[0])
                else:
                    yield Pair(anchor, positive, tuple(others))

    def _by_file(self, rows: RowNumbers) -> Iterator[tuple[_MappedFile, RowNumbers, RowNumbers]]:
        """For each file that some rows lie in: the file, their places in ``rows``, and their numbers in the file."""
        rows = np.asarray(rows, dtype=np.int64)
        if rows.size and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(f"rows must be in [0, {len(self)}), got {rows.min()} to {rows.max()}")
        order = np.argsort(rows)  # disks like ascending places
        files, inside = np.divmod(rows[order], self.layout.rows_per_file)
        starts = np.flatnonzero(np.diff(files, prepend=-1)).tolist()
        for start, stop in pairwise([*starts, len(rows)]):
            yield self._file(int(files[start])), order[start:stop], inside[start:stop]

    def _file(self, number: int) -> _MappedFile:
        if number not in self._files:
            path = self.folder / self.layout.file_name(number)
            num_rows = min(self.layout.rows_per_file, len(self) - number * self.layout.rows_per_file)
            self._files[number] = _MappedFile(path, self.layout, num_rows, reads_ahead=self._reads_ahead)
        return self._files[number]


class _MappedFile:
    """A file of rows, read in place. Whatever its bytes are, nothing outside the map is ever read."""

    def __init__(self, path: Path, layout: Layout, num_rows: int, *, reads_ahead: bool) -> None:
        self._path, self._layout, self._num_rows = path, layout, num_rows
        try:
            with path.open("rb") as stream:
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            if not reads_ahead and hasattr(mmap, "MADV_RANDOM"):
                self._map.madvise(mmap.MADV_RANDOM)
            self._buffer = pa.py_buffer(self._map)
            self._reader = _open(self._buffer, layout, num_rows)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _damaged(path, error) from None
        self._reads_ahead = reads_ahead
        self._bytes = np.frombuffer(self._map, dtype=np.uint8)
        self._words = np.frombuffer(self._map, dtype="<u8", count=len(self._map) // _WORD_BYTES)
        num_batches = self._reader.num_record_batches
        self._buffers = np.zeros((num_batches, 4, len(layout.columns)), dtype=np.int64)
        self._known = np.zeros(num_batches, dtype=np.bool_)

    def hashes(self, rows: RowNumbers) -> NDArray[np.uint64]:
        """uint64 ``[n, num_columns]``."""
        buffers, places = self._find(rows)
        words = buffers[:, _HASHES] + places
        self._expect(words * _WORD_BYTES, words * _WORD_BYTES + _WORD_BYTES)
        hashes: NDArray[np.uint64] = self._words[words]
        return hashes

    def texts(self, rows: RowNumbers) -> tuple[list[str], ...]:
        """The texts of each column."""
        buffers, places = self._find(rows)
        offsets = self._words.view("<i8")
        first = buffers[:, _OFFSETS] + places
        self._expect(first * _WORD_BYTES, (first + 2) * _WORD_BYTES)
        begins, ends = offsets[first], offsets[first + 1]
        if ((begins < 0) | (ends < begins) | (ends > buffers[:, _TEXT_BYTES])).any():
            raise _damaged(self._path, "a text reaches beyond its record batch")
        begins, ends = begins + buffers[:, _TEXT], ends + buffers[:, _TEXT]
        self._expect(begins, ends)
        content = self._map
        try:
            return tuple(
                [content[begin:end].decode() for begin, end in zip(*places, strict=True)]
                for places in zip(begins.T.tolist(), ends.T.tolist(), strict=True)
            )
        except UnicodeDecodeError as error:
            raise _damaged(self._path, f"bytes that are no text: {error.reason}") from None

    def _find(self, rows: RowNumbers) -> tuple[RowNumbers, RowNumbers]:
        """The buffers of each row's record batch, ``[n, 4, num_columns]``, and its place in them, ``[n, 1]``."""
        batches, places = np.divmod(rows, self._layout.rows_per_batch)
        for number in np.unique(batches[~self._known[batches]]).tolist():
            self._buffers[number] = self._find_buffers(number)
            self._known[number] = True
        return self._buffers[batches], places[:, None]

    def _expect(self, begins: RowNumbers, ends: RowNumbers) -> None:
        """Tells the system which bytes will be read, so that the disk fetches them side by side and not in turn.

        Telling takes longer than reading what is in memory already, so some places are tried first.
        """
        if self._reads_ahead or resource is None or not hasattr(mmap, "MADV_WILLNEED") or begins.size <= _PROBES:
            return
        # The empty text at the end of a damaged file would begin behind it.
        begins, ends = np.minimum(begins.ravel(), len(self._map) - 1), ends.ravel()
        before = _waits_for_disk()
        self._bytes[begins[:: begins.size // _PROBES]].max()
        if _waits_for_disk() > before:
            pages = begins // mmap.PAGESIZE * mmap.PAGESIZE
            spans = np.unique(np.stack([pages, np.maximum(ends - pages, 1)], axis=1), axis=0)
            for page, length in spans.tolist():
                self._map.madvise(mmap.MADV_WILLNEED, page, length)

    def _find_buffers(self, number: int) -> RowNumbers:
        try:
            batch = _get_batch(self._reader, number, self._layout, self._num_rows)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _damaged(self._path, error) from None
        found = np.zeros((4, len(self._layout.columns)), dtype=np.int64)
        for column, (text, text_hash) in enumerate(zip(self._layout.columns, self._layout.hash_columns, strict=True)):
            _, offsets, content = batch.column(text).buffers()
            _, hashes = batch.column(text_hash).buffers()
            found[_OFFSETS, column] = self._word(offsets, batch.num_rows + 1)
            found[_HASHES, column] = self._word(hashes, batch.num_rows)
            if content is not None and content.size:
                found[_TEXT, column], found[_TEXT_BYTES, column] = self._place(content), content.size
        return found

    def _place(self, buffer: Any) -> int:
        """Where a buffer begins in the file."""
        place = buffer.address - self._buffer.address
        if not 0 <= place <= len(self._map) - buffer.size:
            raise _damaged(self._path, "a buffer lies outside the file, or is compressed")
        return int(place)

    def _word(self, buffer: Any, count: int) -> int:
        """Which word of the file a buffer of at least ``count`` words begins with."""
        if buffer is None or buffer.size < count * _WORD_BYTES:
            raise _damaged(self._path, "a buffer is too short")
        word, rest = divmod(self._place(buffer), _WORD_BYTES)
        if rest:
            raise _damaged(self._path, "a buffer is not aligned")
        return word


def _waits_for_disk() -> int:
    """How often this thread has waited for a page to be read."""
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_majflt


def _open(source: Any, layout: Layout, num_rows: int) -> Any:
    reader = pa.ipc.open_file(source)
    if not reader.schema.equals(layout.schema):
        raise pa.ArrowInvalid(f"columns are {', '.join(reader.schema.names)}, or of other types than pairloom writes")
    if reader.num_record_batches != -(-num_rows // layout.rows_per_batch):
        raise pa.ArrowInvalid(f"{reader.num_record_batches} record batches do not hold {num_rows:,} rows")
    return reader


def _get_batch(reader: Any, number: int, layout: Layout, num_rows: int) -> Any:
    expected = min(layout.rows_per_batch, num_rows - number * layout.rows_per_batch)
    batch = reader.get_batch(number)
    if batch.num_rows != expected:
        raise pa.ArrowInvalid(f"record batch {number} has {batch.num_rows:,} rows instead of {expected:,}")
    return batch


def _damaged(path: Path, what: object) -> ArtifactError:
    if isinstance(what, OSError) and what.errno is not None:
        return ArtifactError(f"{path}: cannot be read ({what.strerror})")
    return ArtifactError(f"{path}: damaged ({what}); make {path.parent} again")
