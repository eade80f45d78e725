"""What the tests of indexes share: vectors that lie in clusters, and the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pairloom.search.index.flat_file import FlatFile, Mask, Storage, write_flat

Vectors = npt.NDArray[np.float32]


def clustered(count: int, dimensions: int = 32, *, seed: int = 0, normalized: bool = True) -> Vectors:
    """Vectors around 40 centres, as texts lie around subjects."""
    dice = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((40, dimensions))
    vectors = centres[dice.integers(0, 40, count)] + 0.7 * dice.standard_normal((count, dimensions))
    if normalized:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def in_blocks(vectors: Vectors, size: int = 300) -> Iterator[Vectors]:
    for begin in range(0, len(vectors), size):
        yield vectors[begin : begin + size]


def flat_of(
    folder: Path, vectors: Vectors, *, storage: Storage = "float16", threads: int = 1, first_row: int = 10
) -> FlatFile:
    """A flat file of these vectors; every second number of a row is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.arange(len(vectors), dtype=np.int64) * 2 + first_row
    write_flat(folder, rows, in_blocks(vectors), dimensions=vectors.shape[1], storage=storage)
    return FlatFile(folder, num_rows=len(rows), dimensions=vectors.shape[1], storage=storage, threads=threads)


def oracle(
    queries: Vectors, stored: npt.NDArray[np.floating], k: int, allowed: Mask | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The best ``k`` by float64 products with all; -1 and -inf where there are no more; of equal ones the first."""
    scores = queries.astype(np.float64) @ stored.astype(np.float64).T
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, 1)
    order = np.where(np.isneginf(best), -1, order)
    missing = k - order.shape[1]
    more = ((0, 0), (0, max(0, missing)))
    return np.pad(order, more, constant_values=-1), np.pad(best, more, constant_values=-np.inf)


def share_found(found: npt.NDArray[np.int64], expected: npt.NDArray[np.int64]) -> float:
    """The mean share of the expected positions that were found."""
    pairs = [(set(mine), set(its) - {-1}) for mine, its in zip(found.tolist(), expected.tolist(), strict=True)]
    return float(np.mean([len(mine & its) / len(its) if its else 1.0 for mine, its in pairs]))
