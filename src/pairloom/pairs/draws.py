"""Which datasets a step draws from: by weight, and a function of the seed and the step alone.

It needs no data: weights, formats and batch sizes are enough to say what a run will draw.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pairloom.pairs.counter_random import Numbers, below, random_numbers, stream_key

# Weights become whole numbers that add up to about this, so that a draw is the same on every machine.
_TOTAL = 2**62
# Steps that are counted at a time: large enough for vectors to pay, small enough to lie in the cache. When a dataset
# has run out, what was chosen for later steps is chosen again, so counting begins small after it.
_FEWEST_AT_ONCE, _MOST_AT_ONCE = 1024, 32768


@dataclass(frozen=True)
class Drawn:
    """What some steps have drawn.

    Args:
        steps: How many there were: fewer than asked for where all datasets have run out.
        batches: int64 ``[num_datasets]``: steps in which the dataset took part.
        rows: int64 ``[num_datasets]``: rows drawn of it.
        run_out: bool ``[num_datasets]``: whether it came to its limit before a step that drew it.
    """

    steps: int
    batches: NDArray[np.int64]
    rows: NDArray[np.int64]
    run_out: NDArray[np.bool_]


class Draws:
    """The datasets of each step.

    The first draw of a step is among all datasets. If what it finds has run out, another draw is made among those that
    have not, so that one dataset's end changes no other step. With several datasets a batch, the others are drawn from
    those of the first's format, each by its weight and none twice; where there are too few, all are taken.

    Steps may be drawn in groups, in which some draws take turns. Each serves as many steps in a row, up to one, and later
    ones find datasets of the first one's format. All are by weight and may find the same dataset again, so a
    dataset's share of all steps is that of its weight, whatever the groups. Where the first draw's dataset runs out within a
    group, the rest of the group follows what is drawn in its place, which may have another format.

    Args:
        weights: Finite and above zero.
        formats: Of each dataset, equal for those that may share a batch: the names of the columns, for example.
        seed: Of the mixture.
        datasets_per_batch: Datasets that share a batch.
        steps_per_group: Steps that are drawn together.
        datasets_per_group: Draws of a group; at most one a step is made.
    """

    def __init__(
        self,
        weights: Sequence[float],
        formats: Sequence[Hashable],
        *,
        seed: int,
        datasets_per_batch: int = 1,
        steps_per_group: int = 1,
        datasets_per_group: int = 1,
    ) -> None:
        total = sum(map(Fraction, weights), Fraction())
        self._widths = np.array([max(1, int(Fraction(weight) * _TOTAL / total)) for weight in weights], dtype=np.uint64)
        self._formats = format_numbers(formats)
        self._key = stream_key(seed, "datasets")
        self._most = datasets_per_batch
        self._steps_per_group, self._turns_per_group = steps_per_group, min(datasets_per_group, steps_per_group)

    def choose(self, steps: NDArray[np.int64], available: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The datasets of some steps.

        Args:
            steps: int64 ``[n]``.
            available: bool ``[num_datasets]``: which have not run out; one at least.

        Returns:
            int64 ``[n, datasets_per_batch]``: their numbers in the order of the draws; −1 where there are no more.
        """
        groups, within = np.divmod(steps, self._steps_per_group)
        turns = within * self._turns_per_group // self._steps_per_group
        # Draws are counted, not steps, so that without groups they are the same.
        leads = groups * self._turns_per_group
        counters = (leads + turns).astype(np.uint64)
        first = self._draw(leads.astype(np.uint64), np.ones_like(available), available)
        for one in np.unique(self._formats[first[turns > 0]]).tolist():
            alike = self._formats == one
            here = np.flatnonzero(alike[first] & (turns > 0))
            first[here] = self._draw(counters[here], alike, available)
        chosen = np.full((len(steps), self._most), -1, dtype=np.int64)
        chosen[:, 0] = first
        if self._most == 1:
            return chosen
        formats = self._formats[first]
        for one in np.unique(formats).tolist():
            alike = available & (self._formats == one)
            here = np.flatnonzero(formats == one)
            for draw in range(1, min(self._most, int(alike.sum()))):
                numbers = random_numbers(self._key, counters[here], 1 + draw)
                chosen[here, draw] = self._pick(numbers, alike, chosen[here, :draw])
        return chosen

    def _draw(self, counters: Numbers, among: NDArray[np.bool_], available: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Draws a dataset for each of n counters, and anew where what it finds has run out."""
        drawn = self._pick(random_numbers(self._key, counters), among)
        if len(again := np.flatnonzero(~available[drawn])):
            drawn[again] = self._pick(random_numbers(self._key, counters[again], 1), among & available)
        return drawn

    def _pick(
        self, numbers: Numbers, among: NDArray[np.bool_], without: NDArray[np.int64] | None = None
    ) -> NDArray[np.int64]:
        """Draws a dataset for each of n random numbers, by weight.

        Args:
            numbers: uint64 ``[n]``.
            among: bool ``[num_datasets]``.
            without: int64 ``[n, m]``: numbers of datasets that the draw must not find; all of them in ``among``.
        """
        ends = np.cumsum(np.where(among, self._widths, np.uint64(0)), dtype=np.uint64)
        if without is None:
            return np.searchsorted(ends, below(numbers, ends[-1]), side="right")
        # The number line with the intervals of those datasets cut out: whoever comes to a cut is set behind it.
        cut = np.sort(without, axis=1)
        places = below(numbers, ends[-1] - self._widths[cut].sum(axis=1, dtype=np.uint64))
        for which in cut.T:
            width = self._widths[which]
            places += np.where(places >= ends[which] - width, width, np.uint64(0))
        return np.searchsorted(ends, places, side="right")

    def count(self, steps: int, batch_sizes: Sequence[int], limits: Sequence[int | None]) -> Drawn:
        """What the first steps draw, if no row is put off.

        Args:
            steps: How many.
            batch_sizes: Rows of a batch that is drawn from one dataset alone, for each dataset.
            limits: Rows after which a dataset has run out; None for those that have no limit.
        """
        most = np.array([np.iinfo(np.int64).max if limit is None else limit for limit in limits], dtype=np.int64)
        sizes = np.asarray(batch_sizes, dtype=np.int64)
        batches, rows = np.zeros_like(sizes), np.zeros_like(sizes)
        available = np.ones(len(sizes), dtype=np.bool_)
        step, at_once = 0, _FEWEST_AT_ONCE
        while step < steps:
            chosen = self.choose(np.arange(step, min(step + at_once, steps)), available)
            parts = part_sizes(chosen, sizes)
            end, over = _first_over(chosen, parts, most - rows)
            counted = chosen[:end].ravel()
            taken = counted >= 0
            batches += np.bincount(counted[taken], minlength=len(sizes))
            # Sums of rows are exact in float64: below 2^53 in so few steps.
            weights = parts[:end].ravel()[taken]
            rows += np.bincount(counted[taken], weights=weights, minlength=len(sizes)).astype(np.int64)
            step, at_once = step + end, min(2 * at_once, _MOST_AT_ONCE)
            if over is not None:
                available[over], at_once = False, _FEWEST_AT_ONCE
                if not available.any():
                    break
        return Drawn(step, batches, rows, ~available)


def format_numbers(formats: Sequence[Hashable]) -> NDArray[np.int64]:
    """A number for each of some formats, equal for equal ones."""
    numbers = {one: number for number, one in enumerate(dict.fromkeys(formats))}
    return np.array([numbers[one] for one in formats], dtype=np.int64)


def part_sizes(chosen: NDArray[np.int64], batch_sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many rows each dataset of a batch gives: its own batch size over their number, the first ones one more.

    Args:
        chosen: int64 ``[n, m]``, from `Draws.choose`.
        batch_sizes: int64 ``[num_datasets]``.

    Returns:
        int64 ``[n, m]``; 0 where no dataset is.
    """
    present = chosen >= 0
    number = present.sum(axis=1, keepdims=True)
    sizes = batch_sizes[chosen] + number - 1 - np.arange(chosen.shape[1])
    return np.where(present, sizes // number, 0)


def _first_over(chosen: NDArray[np.int64], parts: NDArray[np.int64], left: NDArray[np.int64]) -> tuple[int, int | None]:
    """The first step in which a dataset is asked for more rows than it has left, and the dataset; else (n, None)."""
    first, which = len(chosen), None
    asked = np.bincount(chosen[chosen >= 0], weights=parts[chosen >= 0], minlength=len(left))
    for dataset in np.flatnonzero(asked > left).tolist():
        steps, places = np.nonzero(chosen == dataset)
        over = np.flatnonzero(np.cumsum(parts[steps, places]) > left[dataset])
        if steps[over[0]] < first:
            first, which = int(steps[over[0]]), dataset
    return first, which
