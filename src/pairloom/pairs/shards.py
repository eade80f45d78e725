"""Shards: pairs as memory-mapped Arrow files in which any row is reached at once.

A shards folder holds ``part-00000.arrow``, … in the Arrow IPC file format, which ``pyarrow.ipc.open_file``,
``polars.read_ipc`` and ``datasets.load_dataset("arrow", data_files=…)`` read as they are. Every file but the last has the same number of rows, and so has every record batch, so
the place of a row is two divisions away. The texts are not compressed: a row is read without its neighbours.

Columns: ``anchor`` and ``positive``, in triplets also ``negative``; and for each its `text_hash` as ``…_hash``.

References: https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairloom.artifacts import new_artifact, read_manifest
from pairloom.errors import ArtifactError, MissingExtraError
from pairloom.records import Pair

try:
    import pyarrow as pa
except ImportError:
    raise MissingExtraError("reading and writing shards", "pyarrow", "data") from None

KIND = "shards"
PAIR_COLUMNS = ("anchor", "positive")
TRIPLET_COLUMNS = ("anchor", "positive", "negative")

# Larger batches cost a writer memory, smaller ones make the metadata weigh: a billion rows have 61,000 batches.
ROWS_PER_BATCH = 16384
# Some gigabytes a file, so that a billion pairs are a few hundred files, fewer than a process may open.
ROWS_PER_FILE = 256 * ROWS_PER_BATCH


@dataclass(frozen=True)
class Rows:
    """Some rows of a shards folder, column by column.

    Args:
        columns: The texts: anchors, positives and, in triplets, negatives.
        hashes: uint64 ``[num_rows, num_columns]``: the `text_hash` of each text.
    """

    columns: tuple[list[str], ...]
    hashes: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.columns[0])


@dataclass(frozen=True)
class Layout:
    """How rows are spread over files and record batches.

    Args:
        columns: `PAIR_COLUMNS` or `TRIPLET_COLUMNS`.
        rows_per_batch: Rows of every record batch but the last.
        rows_per_file: Rows of every file but the last; a multiple of ``rows_per_batch``.
    """

    columns: tuple[str, ...] = PAIR_COLUMNS
    rows_per_batch: int = ROWS_PER_BATCH
    rows_per_file: int = ROWS_PER_FILE

    def __post_init__(self) -> None:
        if self.columns not in (PAIR_COLUMNS, TRIPLET_COLUMNS):
            raise ValueError(f"columns must be {PAIR_COLUMNS} or {TRIPLET_COLUMNS}, not {self.columns}")
        if self.rows_per_batch < 1 or self.rows_per_file < 1 or self.rows_per_file % self.rows_per_batch:
            raise ValueError("rows_per_file must be a multiple of rows_per_batch, and both at least 1")

    @property
    def hash_columns(self) -> tuple[str, ...]:
        return tuple(f"{column}_hash" for column in self.columns)

    @property
    def schema(self) -> Any:
        """The Arrow schema. Large strings: a thousand texts of a few megabytes would overflow 32-bit offsets."""
        texts = [pa.field(column, pa.large_string(), nullable=False) for column in self.columns]
        return pa.schema(texts + [pa.field(column, pa.uint64(), nullable=False) for column in self.hash_columns])

    @staticmethod
    def file_name(number: int) -> str:
        return f"part-{number:05d}.arrow"


class ShardWriter:
    """Writes rows one after another into a folder; holds about one record batch in memory.

    Close it, or use it as a context manager, before the files are read.
    """

    def __init__(self, folder: Path, layout: Layout) -> None:
        self.folder, self.layout = folder, layout
        self.num_rows = 0
        self.facts: dict[str, Any] = {}
        self._rows: list[tuple[Any, ...]] = []
        self._waiting = layout.schema.empty_table()
        self._num_written = 0
        self._sink: Any = None
        self._stream: Any = None

    def write(self, texts: Sequence[str], hashes: Sequence[int]) -> None:
        """Appends a row: its clean texts in the order of the columns, and their hashes."""
        self._rows.append((*texts, *hashes))
        self.num_rows += 1
        if len(self._rows) == self.layout.rows_per_batch:
            self._gather()

    def write_table(self, table: Any) -> None:
        """Appends the rows of an Arrow table with the columns of the layout."""
        self._gather()
        self.num_rows += table.num_rows
        self._append(table)

    def close(self) -> None:
        """Writes what is left, and the last file's footer."""
        self._gather()
        if self._waiting.num_rows:
            self._write_batch(self._waiting)
        self._end_file()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        elif self._sink is not None:
            self._sink.close()  # the folder is about to be thrown away; a footer could fail again

    def _gather(self) -> None:
        if self._rows:
            schema = self.layout.schema
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            self._rows = []
            self._append(pa.table(arrays, schema=schema))

    def _append(self, table: Any) -> None:
        """Writes whole record batches; what is left over waits for more."""
        table = pa.concat_tables([self._waiting, table])
        size = self.layout.rows_per_batch
        whole = table.num_rows - table.num_rows % size
        for start in range(0, whole, size):
            self._write_batch(table.slice(start, size))
        self._waiting = table.slice(whole).combine_chunks()  # lets go of what was written

    def _write_batch(self, table: Any) -> None:
        if self._stream is None:
            number = self._num_written // self.layout.rows_per_file
            self._sink = pa.OSFile(str(self.folder / self.layout.file_name(number)), "wb")
            self._stream = pa.ipc.new_file(self._sink, self.layout.schema)
        (batch,) = table.combine_chunks().to_batches()
        self._stream.write_batch(batch)
        self._num_written += table.num_rows
        if self._num_written % self.layout.rows_per_file == 0:
            self._end_file()

    def _end_file(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._sink.close()
            self._stream = self._sink = None


@contextmanager
def new_shards(path: Path, layout: Layout) -> Iterator[ShardWriter]:
    """Makes the shards folder ``path`` appear whole when the block ends, or not at all.

    Yields:
        The writer; what the block puts into its ``facts`` goes into the manifest.

    Raises:
        ArtifactError: Something else stands there, or the disk is full.
    """
    with new_artifact(path, KIND) as draft, ShardWriter(draft.path, layout) as writer:
        yield writer
        draft.facts = writer.facts | {
            "num_rows": writer.num_rows,
            "columns": list(layout.columns),
            "rows_per_batch": layout.rows_per_batch,
            "rows_per_file": layout.rows_per_file,
        }


class RowFiles:
    """Reads the rows of a folder of Arrow files; the texts stay on disk until they are asked for."""

    def __init__(self, folder: Path, layout: Layout, num_rows: int) -> None:
        self.folder, self.layout, self._num_rows = folder, layout, num_rows
        self._files: dict[int, Any] = {}

    def __len__(self) -> int:
        return self._num_rows

    @property
    def columns(self) -> tuple[str, ...]:
        """``("anchor", "positive")``, in triplets also ``"negative"``."""
        return self.layout.columns

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """Reads rows by number.

        Args:
            rows: int64 ``[n]``: row numbers in any order, repeated as wished.

        Returns:
            The rows, in the order of ``rows``.

        Raises:
            IndexError: A number is negative or not below ``len(self)``.
            ArtifactError: A file is damaged.
        """
        return self._to_rows(self._gather(rows, self.layout.schema.names))

    def hashes(self, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Reads only the texts' hashes of rows: uint64 ``[n, num_columns]``, in the order of ``rows``.

        Raises:
            IndexError: A number is negative or not below ``len(self)``.
            ArtifactError: A file is damaged.
        """
        table = self._gather(rows, list(self.layout.hash_columns))
        return np.stack([table.column(column).to_numpy() for column in self.layout.hash_columns], axis=1)

    def _gather(self, rows: NDArray[np.int64], columns: list[str]) -> Any:
        """An Arrow table of some columns of some rows."""
        rows = np.asarray(rows, dtype=np.int64)
        if rows.size and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(f"rows must be in [0, {len(self)}), got {rows.min()} to {rows.max()}")
        order = np.argsort(rows, kind="stable")
        batches, places = np.divmod(rows[order], self.layout.rows_per_batch)
        starts = np.flatnonzero(np.diff(batches, prepend=-1))
        pieces = [
            self._batch(int(batches[start])).select(columns).take(pa.array(places[start:stop]))
            for start, stop in zip(starts, np.append(starts, len(rows))[1:], strict=True)
        ]
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        schema = pa.schema([self.layout.schema.field(column) for column in columns])
        return pa.Table.from_batches(pieces, schema).take(pa.array(back))

    def batches(self) -> Iterator[Rows]:
        """Reads everything once, in order, a record batch at a time."""
        for number in range(-(-len(self) // self.layout.rows_per_batch)):
            yield self._to_rows(self._batch(number))

    def __iter__(self) -> Iterator[Pair]:
        for batch in self.batches():
            for anchor, positive, *negatives in zip(*batch.columns, strict=True):
                yield Pair(anchor, positive, tuple(negatives))

    def _to_rows(self, table: Any) -> Rows:
        try:
            texts = tuple(table.column(column).to_pylist() for column in self.layout.columns)
        except (UnicodeDecodeError, SystemError) as error:
            raise ArtifactError(f"{self.folder}: holds bytes that are no text ({error}); make it again") from None
        hashes = [table.column(column).to_numpy() for column in self.layout.hash_columns]
        return Rows(texts, np.stack(hashes, axis=1))

    def _batch(self, number: int) -> Any:
        file, batch = divmod(number, self.layout.rows_per_file // self.layout.rows_per_batch)
        path = self.folder / self.layout.file_name(file)
        try:
            if file not in self._files:
                self._files[file] = pa.ipc.open_file(pa.memory_map(str(path)))
            return self._files[file].get_batch(batch)
        except (pa.ArrowException, OSError) as error:
            raise ArtifactError(f"{path}: damaged ({error}); make {self.folder} again") from None


class Shards(RowFiles):
    """A finished shards folder.

    Args:
        path: The folder.

    Raises:
        ArtifactError: It is missing, not whole, or not a shards folder.
    """

    def __init__(self, path: Path) -> None:
        manifest = read_manifest(path, KIND)
        self.path, self.facts = path, manifest.facts
        try:
            if not isinstance(self.facts["num_rows"], int) or self.facts["num_rows"] < 1:
                raise ValueError(f"num_rows is {self.facts['num_rows']!r}")
            layout = Layout(tuple(self.facts["columns"]), self.facts["rows_per_batch"], self.facts["rows_per_file"])
            super().__init__(path, layout, self.facts["num_rows"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path}: its manifest is damaged ({error}); make the folder again") from None
        content = "\n".join(f"{name} {entry.sha256}" for name, entry in sorted(manifest.files.items()))
        self.fingerprint: str = hashlib.sha256(content.encode()).hexdigest()
        """SHA-256 over the files' names and checksums: equal for equal content, whenever it was written."""
