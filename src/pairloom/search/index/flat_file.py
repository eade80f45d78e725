"""The vectors of an index, one behind the other on the disk, and the exact search over them.

``vectors.npy`` [n, D] has them as float16 or float32, ``rows.npy`` [n] the number of the row that each belongs to, rising. A
position is a place in these files.

FAISS compares queries with blocks of the mapped vectors, several queries with a block that is in the cache. Making float32 of
float16 and multiplying matrices takes longer, also for many queries: finding the largest scores is most of the work then.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from pairloom.encode.vector_files import npy_header
from pairloom.search.index.arrays import append, damaged, map_array, save_array
from pairloom.search.index.faiss_views import Floats, Positions, Vectors, best_of, faiss_threads
from pairloom.search.index.watch import Watch

Storage = Literal["float16", "float32"]
Mask = npt.NDArray[np.bool_]
Found = tuple[Positions, Vectors]

NUMBERS: dict[Storage, str] = {"float16": "<f2", "float32": "<f4"}
ROWS, VECTORS = "rows.npy", "vectors.npy"

# So much stays in the cache while several queries are compared with it.
_BLOCK_BYTES = 8 << 20
# Vectors picked out by a mask are copied together first, into a buffer that stays nearer.
_PICKED_BYTES = 2 << 20
# Less is compared before another thread has woken up.
_BYTES_A_THREAD = 8 << 20
# From here on it is faster to compare with all and pass over some: picking a vector takes as long as comparing with it.
_DENSE = 0.5


def write_flat(
    folder: Path,
    rows: Positions,
    blocks: Iterable[Floats],
    *,
    dimensions: int,
    storage: Storage,
    watch: Watch | None = None,
) -> None:
    """Writes the files of a `FlatFile`, holding a block at a time.

    Args:
        folder: Where.
        rows: [n], rising.
        blocks: Their vectors in order, [any number, D] at a time.
        dimensions: D.
        storage: How numbers are stored.
        watch: Looked at between blocks.

    Raises:
        ValueError: Blocks and rows do not fit together, or rows do not rise.
    """
    if np.any(np.diff(rows) <= 0):
        raise ValueError("the numbers of rows do not rise")
    watch = watch or Watch()
    save_array(folder / ROWS, rows.astype(np.int64))
    dtype, written = np.dtype(NUMBERS[storage]), 0
    with (folder / VECTORS).open("wb") as stream:
        stream.write(npy_header(dtype, (len(rows), dimensions)).data)
        for block in blocks:
            if block.ndim != 2 or block.shape[1] != dimensions:
                raise ValueError(f"a block has the shape {list(block.shape)}, and vectors have {dimensions} numbers")
            append(stream, block.astype(dtype, copy=False))
            written += len(block)
            watch.at(min(1.0, written / max(1, len(rows))))
    if written != len(rows):
        raise ValueError(f"there are {len(rows):,} rows, and {written:,} vectors")


class FlatFile:
    """Vectors on the disk, opened for searching. Threads may share it.

    Args:
        folder: With the files that `write_flat` makes.
        num_rows: How many there are.
        dimensions: Numbers in a vector.
        storage: How they are stored.
        threads: At most so many work at one search.

    Raises:
        ArtifactError: The files are missing, cut, or of other sizes.
    """

    def __init__(self, folder: Path, *, num_rows: int, dimensions: int, storage: Storage, threads: int = 1) -> None:
        self.rows: Positions = map_array(folder / ROWS, "<i8", (num_rows,))
        self.stored: Floats = map_array(folder / VECTORS, NUMBERS[storage], (num_rows, dimensions))
        if np.any(np.diff(self.rows) <= 0):
            raise damaged(folder / ROWS, "its numbers do not rise")
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads - 1, "pairloom-search") if threads > 1 else None
        self._guard = threading.Lock()
        self._num_scanning = 0

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def dimensions(self) -> int:
        """Numbers in a vector."""
        return int(self.stored.shape[1])

    @property
    def storage(self) -> Storage:
        """How they are stored."""
        return "float16" if self.stored.dtype == np.float16 else "float32"

    def search(self, queries: Vectors, k: int, allowed: Mask | None = None) -> Found:
        """The vectors with the largest inner products with each query, found by comparing with all of them.

        Args:
            queries: [Q, D].
            k: How many.
            allowed: [n], which of them count; by default all.

        Returns:
            Positions [Q, k], -1 where there are no more, and scores, best first, of equal scores the smaller position first.
        """
        if allowed is None:
            return _padded(self._search_all(queries, k), k)
        chosen = np.flatnonzero(allowed)
        if len(chosen) <= _DENSE * len(self):
            return _padded(self._search_chosen(queries, chosen, k), k)
        share = len(chosen) / len(self)
        # The best of all hold the best of the allowed, if enough of them are allowed.
        found, scores = self._search_all(queries, num_wanted(k, share))
        counts = allowed[found] & (found >= 0)
        order = np.argsort(~counts, axis=1, kind="stable")[:, :k]
        places, best = np.take_along_axis(found, order, 1), np.take_along_axis(scores, order, 1)
        few = counts.sum(axis=1) < min(k, len(chosen))
        places, best = _padded((places, best), k)
        if len(chosen) < k:
            places[:, len(chosen) :], best[:, len(chosen) :] = -1, -np.inf
        if few.any():
            places[few], best[few] = _padded(self._search_chosen(queries[few], chosen, k), k)
        return places, best

    def among(self, query: Vectors, positions: Positions, k: int) -> Found:
        """The best of a few vectors for one query.

        Args:
            query: [D].
            positions: [C], rising.
            k: How many.

        Returns:
            Positions [min(k, C)] and scores, best first.
        """
        places, scores = best_of(query[None], np.take(self.stored, positions, axis=0), k)
        return np.where(places[0] < 0, -1, positions[places[0]]), scores[0]

    def vectors(self, positions: npt.NDArray[np.integer]) -> Vectors:
        """The vectors [m, D] at some positions."""
        return np.take(self.stored, positions, axis=0).astype(np.float32)

    def blocks(self, max_rows: int) -> Iterator[Vectors]:
        """All vectors in order, [at most ``max_rows``, D] at a time."""
        for begin in range(0, len(self), max_rows):
            yield self.stored[begin : begin + max_rows].astype(np.float32)

    def _search_all(self, queries: Vectors, k: int) -> Found:
        def scan(begin: int, end: int) -> Found:
            # With a single query everything at once: between blocks Python would have to wait for its other threads.
            step = self._rows_in(_BLOCK_BYTES) if len(queries) > 1 else max(1, end - begin)

            def part(cut: int) -> Found:
                return _moved(best_of(queries, self.stored[cut : min(cut + step, end)], k), lambda places: places + cut)

            return _best_of_parts(map(part, range(begin, end, step)), len(queries), k)

        return self._by_threads(scan, len(self), queries, k)

    def _search_chosen(self, queries: Vectors, chosen: Positions, k: int) -> Found:
        def scan(begin: int, end: int) -> Found:
            step = min(self._rows_in(_PICKED_BYTES), max(1, end - begin))
            buffer = np.empty((step, self.dimensions), self.stored.dtype)

            def part(cut: int) -> Found:
                positions = chosen[cut : min(cut + step, end)]
                picked = buffer[: len(positions)]
                # With the default mode NumPy would copy twice.
                np.take(self.stored, positions, axis=0, out=picked, mode="clip")
                return _moved(best_of(queries, picked, k), lambda places: positions[places])

            return _best_of_parts(map(part, range(begin, end, step)), len(queries), k)

        return self._by_threads(scan, len(chosen), queries, k)

    def _by_threads(self, scan: Callable[[int, int], Found], count: int, queries: Vectors, k: int) -> Found:
        """Several queries are divided among threads by FAISS; for a single one, the vectors are.

        Searches at the same time share the threads: two that take turns on two cores are done later than two that have one each.
        """
        with self._guard:
            self._num_scanning += 1
            threads = max(1, self.threads // self._num_scanning)
        try:
            return self._by(threads, scan, count, queries, k)
        finally:
            with self._guard:
                self._num_scanning -= 1

    def _by(self, threads: int, scan: Callable[[int, int], Found], count: int, queries: Vectors, k: int) -> Found:
        if len(queries) != 1:
            with faiss_threads(threads):
                return scan(0, count)

        def alone(begin: int, end: int) -> Found:
            with faiss_threads(1):
                return scan(begin, end)

        shares = min(threads, max(1, count // self._rows_in(_BYTES_A_THREAD)))
        if self._pool is None or shares == 1:
            return alone(0, count)
        cuts = [count * share // shares for share in range(shares + 1)]
        own, *others = itertools.pairwise(cuts)
        elsewhere = [self._pool.submit(alone, *ends) for ends in others]
        return _best_of_parts([alone(*own), *(part.result() for part in elsewhere)], 1, k)

    def _rows_in(self, num_bytes: int) -> int:
        return max(1, num_bytes // (self.dimensions * self.stored.dtype.itemsize))


def num_wanted(k: int, share: float) -> int:
    """How many of the best are needed to have ``k`` of which each counts with a chance of ``share``, almost surely."""
    return math.ceil((k + 3 * math.sqrt(k * (1 - share))) / share) + 1 if share < 1 else k


def _best_of_parts(parts: Iterable[Found], num_queries: int, k: int) -> Found:
    """The best of several parts' best; each part lies behind the one before it."""
    places: Positions = np.zeros((num_queries, 0), np.int64)
    scores: Vectors = np.zeros((num_queries, 0), np.float32)
    for more_places, more_scores in parts:
        places = np.concatenate([places, more_places], axis=1)
        scores = np.concatenate([scores, more_scores], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        places, scores = np.take_along_axis(places, order, 1), np.take_along_axis(scores, order, 1)
    return places, scores


def _moved(found: Found, to: Callable[[Positions], Positions]) -> Found:
    places, scores = found
    return np.where(places < 0, -1, to(places)), scores


def _padded(found: Found, k: int) -> Found:
    places, scores = found
    missing = k - places.shape[1]
    if not missing:
        return found
    more = ((0, 0), (0, missing))
    return np.pad(places, more, constant_values=-1), np.pad(scores, more, constant_values=-np.inf)
