"""How far a metric would move with other queries or pairs of the same kind: bootstrap intervals (Efron 1979).

A resample draws as many items as there are, with replacement. Here a resample is the counts of how often each item was
drawn, and each metric has a form that takes counts. Against ``scipy.stats.bootstrap`` that has two merits: one set of
resamples serves all metrics of both models, so that differences are paired; and items are sorted by similarity once,
not once a resample.

Shapes: R resamples, N items (queries or pairs), G groups of equal values.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pairloom.evaluate.metrics import FloatArray

# Takes counts [R, N] and gives the metric of each resample [R].
Statistic = Callable[[FloatArray], FloatArray]

Name = TypeVar("Name", bound=Hashable)

LEVEL = 0.95
# 50 of them lie beyond each end, so that another seed moves an end by about 2 % of the interval's width.
NUM_RESAMPLES = 2_000
# Counts at a time, 0.8 MB: with the arrays made from them they stay in the cache. Five times as many took 1.7 times as
# long on 10,000 pairs.
_BLOCK_ITEMS = 100_000


def resample(
    statistics: Mapping[Name, Statistic], num_items: int, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[Name, FloatArray]:
    """The values of each statistic on the same resamples.

    Args:
        statistics: By name.
        num_items: N, how many queries or pairs there are.
        num_resamples: R.
        seed: The same seed draws the same resamples.

    Returns:
        By the same names, the values [R].
    """
    random = np.random.default_rng(seed)
    parts: dict[Name, list[FloatArray]] = {name: [] for name in statistics}
    step = max(1, _BLOCK_ITEMS // num_items)
    for begin in range(0, num_resamples, step):
        rows = min(step, num_resamples - begin)
        drawn = random.integers(num_items, size=(rows, num_items)) + np.arange(rows)[:, None] * num_items
        counts = np.bincount(drawn.ravel(), minlength=rows * num_items).reshape(rows, num_items).astype(np.float64)
        for name, statistic in statistics.items():
            parts[name].append(statistic(counts))
    return {name: np.concatenate(values) for name, values in parts.items()}


def interval(values: FloatArray) -> tuple[float, float]:
    """The ends between which the middle 95 % of resampled ``values`` [R] lie (the percentile interval)."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mean_statistic(values: FloatArray) -> Statistic:
    """The mean of ``values`` [N], such as a metric of each query."""
    return lambda counts: counts @ values / len(values)


def pearson_statistic(scores: npt.ArrayLike, similarities: npt.ArrayLike) -> Statistic:
    """Pearson's correlation of two arrays [N]."""
    # Values near 0 keep the sums of squares exact; the correlation does not mind.
    x, y = (np.asarray(values, dtype=np.float64) for values in (scores, similarities))
    x, y = x - x.mean(), y - y.mean()
    return lambda counts: _correlation(x[None], y[None], counts)


def spearman_statistic(scores: npt.ArrayLike, similarities: npt.ArrayLike) -> Statistic:
    """Spearman's correlation of two arrays [N], with the mid-ranks that the items have within each resample."""
    x, y = _Groups(scores), _Groups(similarities)
    return lambda counts: _correlation(x.ranks(counts), y.ranks(counts), counts)


def average_precision_statistic(labels: npt.ArrayLike, similarities: npt.ArrayLike) -> Statistic:
    """Average precision of labels 0 or 1 [N]; 0 in a resample without a 1."""
    hits = _Hits(labels, similarities)

    def statistic(counts: FloatArray) -> FloatArray:
        true, predicted = hits.above_threshold(counts)
        gained = np.diff(true, axis=1, prepend=0)
        return np.asarray(np.sum(gained * true / np.maximum(predicted, 1), axis=1) / np.maximum(true[:, -1], 1))

    return statistic


def best_f1_statistic(labels: npt.ArrayLike, similarities: npt.ArrayLike) -> Statistic:
    """The best F1 over thresholds, of labels 0 or 1 [N]; each resample chooses its own threshold.

    A maximum fitted to the data at hand, so resampled values lie a little above the metric itself, the more so the
    fewer the pairs.
    """
    hits = _Hits(labels, similarities)

    def statistic(counts: FloatArray) -> FloatArray:
        true, predicted = hits.above_threshold(counts)
        return np.asarray(np.max(2 * true / (predicted + true[:, -1:]).clip(min=1), axis=1))

    return statistic


class _Groups:
    """Values [N] in ascending order, equal ones together."""

    def __init__(self, values: npt.ArrayLike) -> None:
        _, self._group, sizes = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
        self._order = np.argsort(self._group, kind="stable")
        self._starts = np.cumsum(sizes) - sizes

    def sums(self, counts: FloatArray) -> FloatArray:
        """The counts [R, N] of each group [R, G]."""
        return np.asarray(np.add.reduceat(counts[:, self._order], self._starts, axis=1))

    def ranks(self, counts: FloatArray) -> FloatArray:
        """The mid-rank that each item has in a resample [R, N] (for an item that was not drawn: would have)."""
        sums = self.sums(counts)
        ranks = np.cumsum(sums, axis=1) - (sums - 1) / 2
        return np.asarray(ranks[:, self._group])


class _Hits:
    """Labels 0 or 1 in the order of falling similarity."""

    def __init__(self, labels: npt.ArrayLike, similarities: npt.ArrayLike) -> None:
        self._labels = np.asarray(labels, dtype=np.float64)
        self._groups = _Groups(-np.asarray(similarities))

    def above_threshold(self, counts: FloatArray) -> tuple[FloatArray, FloatArray]:
        """At each distinct similarity: how many drawn 1s, and how many drawn items, reach it; both [R, G]."""
        true = np.cumsum(self._groups.sums(counts * self._labels), axis=1)
        return true, np.cumsum(self._groups.sums(counts), axis=1)


def _correlation(x: FloatArray, y: FloatArray, counts: FloatArray) -> FloatArray:
    """Pearson's correlation [R] of ``x`` and ``y``, [R, N] or [1, N], each item counted [R, N] times; 0 if undefined."""
    total = counts.sum(axis=1, keepdims=True)
    x = x - np.sum(counts * x, axis=1, keepdims=True) / total
    y = y - np.sum(counts * y, axis=1, keepdims=True) / total
    weighted = counts * x
    covariance = np.sum(weighted * y, axis=1)
    spread = np.sqrt(np.sum(weighted * x, axis=1) * np.sum(counts * y * y, axis=1))
    return np.asarray(np.divide(covariance, spread, out=np.zeros_like(covariance), where=spread > 0))
