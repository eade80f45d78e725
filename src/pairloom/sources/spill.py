"""Rows put aside on disk by key, so that a corpus of any size is joined and sorted in the memory of a small part of it.

Every process writes files of its own. When its memory is full, the rows are sorted into buckets by the upper bits of a
64-bit order, and each bucket becomes a record batch of an Arrow file. Later a bucket is collected from all files and
handled alone. The buckets in their order, each sorted, are the whole in its order, however many buckets, processes and
files there were.

References: the Grace hash join, Kitsuregawa et al. 1983.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairloom.errors import ArtifactError, MissingExtraError

try:
    import pyarrow as pa
except ImportError:
    raise MissingExtraError("preparing a dump", "pyarrow", "data") from None

Orders = NDArray[np.uint64]

# What a process holds of rows before it sorts and writes them; for a moment there is a sorted copy of it.
_BUFFER_BYTES = 32 << 20
# What it holds of them as Python objects before they become Arrow arrays, which are smaller.
_CHUNK_BYTES = 2 << 20
# What a bucket shall have when it is read back, and how many there may be: each costs a record batch per buffer.
_BUCKET_BYTES = 16 << 20
_MAX_BUCKETS = 2048


def choose_num_buckets(num_bytes: int) -> int:
    """A power of two that makes buckets of moderate size of so many bytes."""
    wanted = max(1, min(num_bytes // _BUCKET_BYTES, _MAX_BUCKETS))
    return 1 << int(wanted - 1).bit_length()


def scatter(numbers: Orders) -> Orders:
    """A permutation of the 64-bit numbers under which neighbours lie far apart (the finaliser of SplitMix64).

    References: Steele et al. 2014, Fast splittable pseudorandom number generators.
    """
    state = numbers + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@dataclass(frozen=True)
class SpillKind:
    """What rows look like.

    Args:
        schema: The Arrow schema.
        order: From a table of rows to uint64 ``[num_rows]``: the order by which they are bucketed.
    """

    schema: Any
    order: Callable[[Any], Orders]


class SpillWriter:
    """Puts rows aside in a file.

    Args:
        path: The file; it is made when the first rows are written.
        kind: What rows look like.
        num_buckets: A power of two.
    """

    def __init__(self, path: Path, kind: SpillKind, num_buckets: int) -> None:
        self._path, self._kind, self._num_buckets = path, kind, num_buckets
        self._rows: list[Sequence[Any]] = []
        self._chunks: list[Any] = []
        self._rows_bytes = self._chunks_bytes = 0
        self._sink: Any = None
        self._stream: Any = None
        self._buckets: list[NDArray[np.int16]] = []

    def write(self, row: Sequence[Any], size: int) -> None:
        """Puts a row aside: its values in the order of the schema, and about how many bytes they have."""
        self._rows.append(row)
        self._rows_bytes += size + 64
        if self._rows_bytes >= _CHUNK_BYTES:
            self._gather()
            if self._chunks_bytes >= _BUFFER_BYTES:
                self._flush()

    def close(self) -> NDArray[np.int16]:
        """Writes what is left; returns the bucket of every record batch of the file."""
        self._gather()
        if self._chunks:
            self._flush()
        if self._stream is not None:
            self._stream.close()
            self._sink.close()
            self._stream = None
        return np.concatenate(self._buckets) if self._buckets else np.empty(0, dtype=np.int16)

    def _gather(self) -> None:
        if self._rows:
            schema = self._kind.schema
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            self._chunks.append(pa.record_batch(arrays, schema=schema))
            self._chunks_bytes += self._rows_bytes
            self._rows, self._rows_bytes = [], 0

    def _flush(self) -> None:
        schema = self._kind.schema
        if self._stream is None:
            self._sink = pa.OSFile(str(self._path), "wb")
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._stream = pa.ipc.new_file(self._sink, schema, options=options)
        table = pa.Table.from_batches(self._chunks, schema)
        self._chunks, self._chunks_bytes = [], 0
        buckets = bucket_of(self._kind.order(table), self._num_buckets)
        places = np.argsort(buckets, kind="stable")
        table, buckets = table.take(pa.array(places)), buckets[places]
        starts = np.flatnonzero(np.diff(buckets, prepend=np.int16(-1)))
        for start, stop in zip(starts.tolist(), np.append(starts, len(buckets))[1:].tolist(), strict=True):
            (batch,) = table.slice(start, stop - start).combine_chunks().to_batches()
            self._stream.write_batch(batch)
        self._buckets.append(buckets[starts])


def bucket_of(orders: Orders, num_buckets: int) -> NDArray[np.int16]:
    """The bucket of each order: its upper bits."""
    bits = num_buckets.bit_length() - 1
    return (orders >> np.uint64(64 - bits)).astype(np.int16) if bits else np.zeros(len(orders), dtype=np.int16)


class Spill:
    """Reads what writers have put aside.

    Args:
        files: Each file with the bucket of every record batch in it.
        kind: What rows look like.
        num_buckets: As it was written.
    """

    def __init__(self, files: dict[Path, NDArray[np.int16]], kind: SpillKind, num_buckets: int) -> None:
        self._files = {path: buckets for path, buckets in files.items() if len(buckets)}
        self._kind, self.num_buckets = kind, num_buckets

    def bucket(self, number: int, columns: Sequence[str] | None = None) -> Any:
        """All rows of a bucket as an Arrow table, in no particular order; only some columns, if wanted."""
        names = self._kind.schema.names
        wanted = names if columns is None else list(columns)
        options = pa.ipc.IpcReadOptions(included_fields=[names.index(name) for name in wanted])
        batches = []
        for path, buckets in self._files.items():
            mine = np.flatnonzero(buckets == number)
            if len(mine):
                try:
                    with pa.memory_map(str(path)) as source:
                        reader = pa.ipc.open_file(source, options=options)
                        batches += [reader.get_batch(int(batch)).select(wanted) for batch in mine]
                except (pa.ArrowException, OSError) as error:
                    raise ArtifactError(f"{path}: damaged while it was in use ({error}); run again") from None
        schema = pa.schema([self._kind.schema.field(name) for name in wanted])
        return pa.Table.from_batches(batches, schema)
