"""How much meaning and words shall count when a collection is searched by both: found on judgements, and shown on others.

A weight that is chosen and measured on the same queries looks better than it is. So it is found on one half of them and shown on
the other half; and again in turns, so that every query is once among those that had no part in the choice (cross-validation:
Stone 1974).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pairloom.errors import InputError
from pairloom.evaluate import bootstrap, metrics
from pairloom.evaluate.evaluation import Measurement, Outcome, with_intervals, without_own
from pairloom.evaluate.metrics import FloatArray
from pairloom.evaluate.searching import Mode, Searcher, check_documents, search_rankings
from pairloom.evaluate.tasks import RetrievalTask

METRIC = "nDCG@10"
"""What is made as large as it can be."""

MIN_QUERIES = 20
"""With fewer there is nothing left to show a choice on."""

_MODES: tuple[Mode, Mode] = ("vector", "words")
# Weights of the words that are tried. A finer grid moves the metric by less than another half of the queries does.
_GRID = tuple(float(part) for part in np.round(np.linspace(0, 1, 21), 2))
_NUM_FOLDS = 5
# Documents that the metric looks at.
_DEPTH = 10

Fusion = Callable[[Sequence[Sequence[str]], Sequence[float]], Sequence[tuple[str, float]]]
"""Rankings and their weights to keys and scores, best first."""


class Weights(NamedTuple):
    """What counts in a hybrid search. Only their ratio matters; with one of 0 the other is all."""

    vector: float
    words: float


@dataclass(frozen=True)
class Tuning:
    """Weights, and what they are worth. All numbers are nDCG@10.

    Args:
        task: The task's name.
        before: The weights until now.
        weights: Those that are best on one half of the queries.
        grid: By the weight of the words, the value on that half.
        num_queries: In that half, and in the other.
        held_out: The other half by these weights, compared with those until now.
        alone: The other half by each mode alone.
        folds: All queries, each fifth by what is best on the rest, compared with the weights until now.
        fold_weights: The weights of the words which that gave.
        remarks: What a reader of the numbers should know about the data.
        num_resamples: Of the bootstrap.
        seed: Of the bootstrap, and of how queries are divided.
    """

    task: str
    before: Weights
    weights: Weights
    grid: Mapping[float, float]
    num_queries: tuple[int, int]
    held_out: Measurement
    alone: Mapping[Mode, float]
    folds: Measurement
    fold_weights: tuple[float, ...]
    remarks: tuple[str, ...]
    num_resamples: int
    seed: int

    @property
    def is_better(self) -> bool:
        """Whether the new weights did better on queries that had no part in the choice."""
        return self.held_out.comparison is not None and self.held_out.comparison.difference > 0


def tune(
    searcher: Searcher,
    task: RetrievalTask,
    fuse: Fusion,
    *,
    weights: tuple[float, float] = (1.0, 1.0),
    show_progress: bool = False,
    num_resamples: int = bootstrap.NUM_RESAMPLES,
    seed: int = 0,
) -> Tuning:
    """Finds the weights by which a hybrid search does best on a task.

    The collection is searched once by meaning and once by words; what is tried are fusions of these rankings.

    Args:
        searcher: The collection; it holds the task's documents under the task's ids.
        task: With at least 20 queries.
        fuse: As the collection does it.
        weights: Those until now, of meaning and words.
        show_progress: Whether to show on stderr how far it is.
        num_resamples: Of the bootstrap.
        seed: Of the bootstrap, and of how queries are divided.

    Raises:
        InputError: There are too few queries, or the collection has none of the task's documents.
        MissingExtraError: A library of the extra ``evaluate`` is not installed.
    """
    num_queries = len(task.queries)
    if num_queries < MIN_QUERIES:
        raise InputError(
            f"{task.name} has {num_queries:,} queries; tuning takes at least {MIN_QUERIES}: weights are found on one half and "
            "shown on the other"
        )
    remarks = (*task.remarks, *check_documents(searcher, task))
    found = [search_rankings(searcher, task, mode, show_progress=show_progress) for mode in _MODES]
    rankings = [
        [without_own(task, query, ranking) for ranking in of_modes]
        for query, *of_modes in zip(task.queries, *found, strict=True)
    ]

    def values(these: Sequence[float]) -> FloatArray:
        fused = {
            query.id: [key for key, _ in fuse(of_modes, these)[:_DEPTH]]
            for query, of_modes in zip(task.queries, rankings, strict=True)
        }
        return metrics.retrieval_metrics(task.judgements, fused)[METRIC]

    total = sum(weights)
    before = Weights(weights[0] / total, weights[1] / total)
    values_before = values(before)
    table = np.stack([values((1 - part, part)) for part in _GRID])
    order = np.random.default_rng(seed).permutation(num_queries)
    half, other = np.array_split(order, 2)
    best = _best(table[:, half], before)
    in_turns, fold_weights = _in_turns(table, order, before)
    return Tuning(
        task.name,
        before,
        Weights(round(1 - _GRID[best], 2), _GRID[best]),
        dict(zip(_GRID, table[:, half].mean(axis=1).tolist(), strict=True)),
        (len(half), len(other)),
        _measure(table[best, other], values_before[other], num_resamples, seed),
        {"vector": float(table[0, other].mean()), "words": float(table[-1, other].mean())},
        _measure(in_turns, values_before, num_resamples, seed),
        fold_weights,
        remarks,
        num_resamples,
        seed,
    )


def _best(table: FloatArray, before: Weights) -> int:
    """The row of the grid with the highest mean; of equal ones that which changes least."""
    means = table.mean(axis=1)
    return max(range(len(_GRID)), key=lambda row: (round(float(means[row]), 9), -abs(_GRID[row] - before.words)))


def _in_turns(table: FloatArray, order: npt.NDArray[np.int64], before: Weights) -> tuple[FloatArray, tuple[float, ...]]:
    """The value of each query by the weights that are best on the other folds, and these weights."""
    values = np.empty(len(order))
    weights = []
    for fold in np.array_split(order, _NUM_FOLDS):
        best = _best(np.delete(table, fold, axis=1), before)
        values[fold] = table[best, fold]
        weights.append(_GRID[best])
    return values, tuple(weights)


def _measure(values: FloatArray, beside: FloatArray, num_resamples: int, seed: int) -> Measurement:
    outcome, reference = (
        Outcome({METRIC: float(of_queries.mean())}, {METRIC: bootstrap.mean_statistic(of_queries)}, len(of_queries))
        for of_queries in (values, beside)
    )
    return with_intervals(outcome, reference, num_resamples, seed)[METRIC]
