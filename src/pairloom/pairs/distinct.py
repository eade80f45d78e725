"""Which rows of a batch may stay: no text of theirs twice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]


def repeats_itself(hashes: Hashes) -> NDArray[np.bool_]:
    """Tells which rows have a text twice: bool ``[n]`` for uint64 ``[n, num_columns]``. No batch has room for them."""
    ordered = np.sort(hashes, axis=1)
    return np.asarray((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))


def fitting(hashes: Hashes, taken: Hashes) -> NDArray[np.bool_]:
    """Goes through rows in order and lets each in whose texts have not come before.

    The texts of a row that is not let in do not count. Most batches have no text twice, which one sort shows; only
    rows that share a text with another, or with what is taken, are gone through one by one.

    Args:
        hashes: uint64 ``[n, num_columns]``: of the texts of each row.
        taken: uint64 ``[m]``, sorted: of texts that have come before.

    Returns:
        bool ``[n]``: which rows are let in.
    """
    ordered = np.sort(hashes, axis=None)
    shared = ordered[1:][ordered[1:] == ordered[:-1]]
    met = taken[:0]
    if len(taken):
        places = np.searchsorted(taken, ordered)
        met = ordered[taken[np.minimum(places, len(taken) - 1)] == ordered]
    if not len(shared) and not len(met):
        return np.ones(len(hashes), dtype=np.bool_)
    doubtful = np.asarray(np.isin(hashes, np.concatenate([shared, met])).any(axis=1))
    let_in = np.logical_not(doubtful)
    seen = set(met.tolist())
    for row in np.flatnonzero(doubtful).tolist():
        texts = hashes[row].tolist()
        if seen.isdisjoint(texts) and len(set(texts)) == len(texts):
            seen.update(texts)
            let_in[row] = True
    return let_in
