"""Shards: pairs as memory-mapped Arrow files in which any row is reached at once.

A shards folder holds ``part-00000.arrow``, … in the Arrow IPC file format, which ``pyarrow.ipc.open_file``,
``polars.read_ipc`` and ``datasets.load_dataset("arrow", data_files=…)`` read as they are. Every file but the last has the same number of rows, and so has every record batch, so
the place of a row is two divisions away. The texts are not compressed: a row is read without its neighbours.

Columns: ``anchor`` and ``positive``, in triplets also ``negative``, in conversations ``context``; and for each its
`text_hash` as ``…_hash``.

References: https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pairloom.artifacts import new_artifact, read_manifest
from pairloom.errors import ArtifactError, MissingExtraError
from pairloom.pairs.layout import CONTEXT_COLUMNS, PAIR_COLUMNS, TRIPLET_COLUMNS, Layout
from pairloom.pairs.rows import RowFiles, Rows

try:
    import pyarrow as pa
except ImportError:
    raise MissingExtraError("reading and writing shards", "pyarrow", "data") from None

__all__ = [
    "CONTEXT_COLUMNS",
    "PAIR_COLUMNS",
    "TRIPLET_COLUMNS",
    "Layout",
    "RowFiles",
    "Rows",
    "ShardWriter",
    "Shards",
    "new_shards",
]

KIND = "shards"


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


class Shards(RowFiles):
    """A finished shards folder.

    Args:
        path: The folder.
        reads_ahead: Whether the system may read more of a file than was asked for; see `RowFiles`.

    Raises:
        ArtifactError: It is missing, not whole, or not a shards folder.
    """

    def __init__(self, path: Path, *, reads_ahead: bool = False) -> None:
        manifest = read_manifest(path, KIND)
        self.path, self.facts = path, manifest.facts
        try:
            if not isinstance(self.facts["num_rows"], int) or self.facts["num_rows"] < 1:
                raise ValueError(f"num_rows is {self.facts['num_rows']!r}")
            layout = Layout(tuple(self.facts["columns"]), self.facts["rows_per_batch"], self.facts["rows_per_file"])
            super().__init__(path, layout, self.facts["num_rows"], reads_ahead=reads_ahead)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path}: its manifest is damaged ({error}); make the folder again") from None
        content = "\n".join(f"{name} {entry.sha256}" for name, entry in sorted(manifest.files.items()))
        self.fingerprint: str = hashlib.sha256(content.encode()).hexdigest()
        """SHA-256 over the files' names and checksums: equal for equal content, whenever it was written."""
