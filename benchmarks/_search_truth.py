"""What is really nearest, and how much of it was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks._search_rows import Mask, Rows, Selected, Vectors
from pairloom.encode.similarity import top_k

K = 10
# Found in float32 with so many to spare, decided in float64.
_SPARE = 20
# Of two float64 sums of the same products.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Truth:
    """The nearest rows of each of Q questions, found by comparing with all of them in float64.

    Args:
        questions: [Q, D], float32.
        floors: [Q]: the similarity of the last of the nearest; minus infinity if there are fewer than `K` rows.
        count: How many there are: `K`, or fewer.
        allowed: Which rows count [N]; None for all.
    """

    questions: Vectors
    floors: npt.NDArray[np.float64]
    count: int
    allowed: Mask | None = None


def truth(rows: Rows, questions: Vectors, allowed: Mask | None = None) -> Truth:
    """By an exact search."""
    searched = rows if allowed is None else Selected(rows, allowed)
    places = np.arange(len(rows)) if allowed is None else np.flatnonzero(allowed)
    count = min(K, len(searched))
    if not count:
        return Truth(questions, np.full(len(questions), -np.inf), 0, allowed)
    near, _ = top_k(questions, searched, count + _SPARE, "dot")
    floors = [
        np.sort(_similarities(rows, question, places[found]))[-count]
        for question, found in zip(questions, near, strict=True)
    ]
    return Truth(questions, np.array(floors), count, allowed)


def recalls(found: Sequence[Sequence[int]], rows: Rows, known: Truth) -> npt.NDArray[np.float64]:
    """Of each question, which share of its nearest rows was found, [Q].

    A row counts if it is as near as the last of the nearest, so that of equals any may be found; one that is not allowed,
    or comes twice, does not. If there is nothing to be found, everything was unless something is.
    """
    values = np.zeros(len(known.questions))
    for number, (question, some) in enumerate(zip(known.questions, found, strict=True)):
        distinct = np.unique(np.array([row for row in some[:K] if row >= 0], dtype=np.int64))
        if known.allowed is not None:
            distinct = distinct[known.allowed[distinct]]
        if known.count:
            near = _similarities(rows, question, distinct) >= known.floors[number] - _ROUNDING
            values[number] = min(int(near.sum()), known.count) / known.count
        else:
            values[number] = float(not some)
    return values


def recall(found: Sequence[Sequence[int]], rows: Rows, known: Truth) -> float:
    """The mean over questions."""
    return float(recalls(found, rows, known).mean())


def _similarities(rows: Rows, question: Vectors, places: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.asarray(rows.take(places).astype(np.float64) @ question.astype(np.float64))
