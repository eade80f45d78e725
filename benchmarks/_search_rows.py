"""Rows on disk: vectors and texts that are read block by block, so that whoever reads them does not hold them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


class Rows:
    """Vectors of a ``.npy`` file, float32 [N, D].

    Blocks are read, not mapped: the pages of a mapped file would count as memory of a contestant that has long done with
    them.

    Args:
        path: The file.
        size: The first so many rows; by default all.
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        self.path = path
        stored = np.load(path, mmap_mode="r")
        if stored.dtype != np.float32 or stored.ndim != 2 or not stored.flags.c_contiguous:
            raise ValueError(f"{path} has {stored.dtype} {stored.shape}, not float32 rows")
        self._size = len(stored) if size is None else min(size, len(stored))
        self.dimensions = int(stored.shape[1])
        self._offset = path.stat().st_size - stored.nbytes

    def __len__(self) -> int:
        return self._size

    def read(self, begin: int, end: int) -> Vectors:
        """[end - begin, D]."""
        end = min(end, self._size)
        count, width = max(0, end - begin), self.dimensions
        offset = self._offset + begin * width * 4
        return np.fromfile(self.path, np.float32, count * width, offset=offset).reshape(count, width)

    def blocks(self, max_rows: int) -> Iterator[Vectors]:
        """All rows in order, [at most ``max_rows``, D] at a time."""
        return (self.read(begin, begin + max_rows) for begin in range(0, self._size, max_rows))

    def take(self, rows: npt.NDArray[np.int64]) -> Vectors:
        """[len(rows), D]."""
        return np.asarray(np.load(self.path, mmap_mode="r")[rows])


class Selected:
    """The rows that a mask [N] lets through, as if there were no others."""

    def __init__(self, rows: Rows, mask: Mask) -> None:
        self._rows, self._mask = rows, mask

    def __len__(self) -> int:
        return int(self._mask.sum())

    def blocks(self, max_rows: int) -> Iterator[Vectors]:
        begin = 0
        for block in self._rows.blocks(max_rows):
            chosen = block[self._mask[begin : begin + len(block)]]
            begin += len(block)
            if len(chosen):
                yield chosen


def write_lines(path: Path, records: Iterable[Any]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def read_lines(path: Path, count: int | None = None) -> Iterator[Any]:
    """The first ``count`` records of a file of JSON lines; by default all."""
    with path.open(encoding="utf-8") as stream:
        yield from map(json.loads, itertools.islice(stream, count))
