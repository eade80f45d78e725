"""The little of FAISS that is used here, over arrays that stay where they are.

FAISS (Douze et al. 2024, https://arxiv.org/abs/2401.08281) computes; what is on the disk are files of NumPy, so that none of its
readers has to be trusted with a damaged one, and no version of it with the format of another.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.errors import MissingExtraError

try:
    import faiss as _faiss
except ImportError:
    raise MissingExtraError("a vector index", "faiss", "search") from None

faiss: Any = _faiss
"""The module, whose annotations are made by a program and do not hold."""

Floats = npt.NDArray[np.floating]
Vectors = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]


@contextmanager
def faiss_threads(count: int) -> Iterator[None]:
    """How many threads FAISS takes in the block; it remembers that for each calling thread by itself."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def lend(vector: Any, array: npt.NDArray[Any]) -> None:
    """Lets a vector of FAISS look at an array [n] of its type, instead of holding numbers; whoever calls keeps the array."""
    pointer = faiss.swig_ptr(array)
    vector.view_data = pointer
    vector.view_size = array.size
    vector.c_ptr = pointer
    vector.c_size = array.size
    vector.is_owned = False


def numbers_of(vector: Any) -> npt.NDArray[Any]:
    """The numbers of a vector of FAISS, not copied; whoever calls keeps the vector."""
    found: npt.NDArray[Any] = faiss.rev_swig_ptr(vector.data(), vector.size())
    return found


def empty_index(dtype: np.dtype[Any], dimensions: int) -> Any:
    """An index by inner product over vectors that are stored as float16 or float32."""
    if dtype == np.float16:
        kind = faiss.ScalarQuantizer.QT_fp16
        return faiss.IndexScalarQuantizer(dimensions, kind, faiss.METRIC_INNER_PRODUCT)
    return faiss.IndexFlatIP(dimensions)


def flat_index(stored: Floats) -> Any:
    """An index by inner product over vectors [n, D] that stay where they are; whoever calls keeps them."""
    index = empty_index(stored.dtype, stored.shape[1])
    if len(stored):
        lend(index.codes, stored.reshape(-1).view(np.uint8))
    index.ntotal = len(stored)
    return index


def best_of(queries: Vectors, stored: Floats, k: int) -> tuple[Positions, Vectors]:
    """The vectors with the largest inner products with each query, among all of some.

    Args:
        queries: [Q, D].
        stored: [n, D], float16 or float32, contiguous.
        k: How many of them.

    Returns:
        Their places [Q, min(k, n)] and scores, best first, of equal scores the smaller place first. Where numbers so large
        that their product is not finite leave nothing to find, the place is -1.
    """
    k = min(k, len(stored))
    if not len(queries) or not k:
        return np.zeros((len(queries), k), np.int64), np.zeros((len(queries), k), np.float32)
    index = flat_index(stored)
    scores, places = index.search(queries, min(k + 1, len(stored)))
    order = np.lexsort((places, -scores))[:, :k]
    best_places, best_scores = np.take_along_axis(places, order, 1), np.take_along_axis(scores, order, 1)
    if k < len(stored):
        # Which of equal scores FAISS keeps depends on the order in which better ones came.
        for row in np.flatnonzero((scores[:, k - 1] == scores[:, k]) & (places[:, k] >= 0)):
            worst = float(scores[row, k])
            margin = max(abs(worst) * 1e-5, 1e-30)
            _, tied_scores, tied_places = index.range_search(queries[row : row + 1], worst - margin)
            first = np.lexsort((tied_places, -tied_scores))[:k]
            best_places[row], best_scores[row] = tied_places[first], tied_scores[first]
    best_scores[best_places < 0] = -np.inf
    return best_places, best_scores
