"""How two vectors are compared, and the exact search that follows from it: pure functions of arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.floating]

# Documents scored at once by `top_k`: 32,768 float32 scores a query stay within the cache for a handful of queries.
_BLOCK_ROWS = 32_768
_QUERY_BLOCK_ROWS = 256


class StoredVectors(Protocol):
    """Vectors that are read block by block, such as a `pairloom.encode.vectors.VectorSet`."""

    def __len__(self) -> int: ...

    def blocks(self, max_rows: int) -> Iterator[npt.NDArray[np.float32]]:
        """All of them in order, [at most ``max_rows``, D] at a time."""
        ...


def normalize(vectors: Vectors) -> npt.NDArray[np.float32]:
    """Scales each row of ``vectors`` [N, D] to length 1; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def similarity(a: Vectors, b: Vectors, name: str) -> npt.NDArray[np.float32]:
    """The similarity of every row of ``a`` [N, D] with every row of ``b`` [M, D], as [N, M].

    Args:
        a: One set of vectors.
        b: The other.
        name: ``cosine`` or ``dot``.
    """
    if name == "cosine":
        a, b = normalize(a), normalize(b)
    elif name != "dot":
        raise ValueError(f"similarity {name!r} is not known; cosine and dot are")
    return np.asarray(a, dtype=np.float32) @ np.asarray(b, dtype=np.float32).T


def top_k(
    queries: Vectors, documents: Vectors | StoredVectors, k: int, name: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The ``k`` most similar documents of each query, found by comparing with all of them.

    Documents are taken in blocks, so there may be more of them than memory holds. Of equal scores the smaller row number
    comes first, so that the order does not depend on the blocks.

    Args:
        queries: [Q, D].
        documents: [N, D], an array (which may be memory-mapped) or a `StoredVectors`.
        k: How many; fewer come back if there are fewer documents.
        name: ``cosine`` or ``dot``.

    Returns:
        Row numbers [Q, min(k, N)] and their scores, best first.
    """
    k = min(k, len(documents))
    if not len(queries):
        return np.zeros((0, k), dtype=np.int64), np.zeros((0, k), dtype=np.float32)
    rows = np.zeros((len(queries), 0), dtype=np.int64)
    scores = np.zeros((len(queries), 0), dtype=np.float32)
    prepare = normalize if name == "cosine" else np.asarray
    queries = prepare(queries)
    begin = 0
    for raw_block in _blocks(documents):
        block = prepare(raw_block)
        found = [
            largest(similarity(queries[part : part + _QUERY_BLOCK_ROWS], block, "dot"), k)
            for part in range(0, len(queries), _QUERY_BLOCK_ROWS)
        ]
        rows = np.concatenate([rows, np.concatenate([columns for columns, _ in found]) + begin], axis=1)
        scores = np.concatenate([scores, np.concatenate([values for _, values in found])], axis=1)
        keep, scores = largest(scores, k)
        rows = np.take_along_axis(rows, keep, 1)
        begin += len(block)
    return rows, scores


def _blocks(documents: Vectors | StoredVectors) -> Iterator[Vectors]:
    if not isinstance(documents, np.ndarray):
        yield from documents.blocks(_BLOCK_ROWS)
        return
    for begin in range(0, len(documents), _BLOCK_ROWS):
        yield documents[begin : begin + _BLOCK_ROWS]


def largest(scores: npt.NDArray[np.float32], k: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Columns of the ``k`` largest scores of each row, and the scores; earlier columns come first among equals."""
    k = min(k, scores.shape[1])
    if k == 0:
        return np.zeros((len(scores), 0), dtype=np.int64), np.zeros((len(scores), 0), dtype=np.float32)
    # Everything above the k-th largest value is in; of those equal to it, the first ones fill what is left.
    threshold = np.partition(scores, -k, axis=1)[:, -k, None]
    above, equal = scores > threshold, scores == threshold
    room = k - above.sum(axis=1, keepdims=True)
    chosen = above | (equal & (np.cumsum(equal, axis=1) <= room))
    columns = np.nonzero(chosen)[1].reshape(len(scores), k)
    order = np.argsort(-np.take_along_axis(scores, columns, 1), axis=1, kind="stable")
    columns = np.take_along_axis(columns, order, 1)
    return columns, np.take_along_axis(scores, columns, 1)
