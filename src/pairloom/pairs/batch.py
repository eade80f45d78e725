"""A batch of pairs: which rows of which datasets, and the texts of the rank's own share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairloom.pairs.dataset import Dataset
from pairloom.pairs.place import Cursor


@dataclass(frozen=True)
class Part:
    """The rows that a dataset gives to a batch.

    Args:
        dataset: Which.
        rows: int64: row numbers in it, in the order in which they were drawn.
    """

    dataset: Dataset
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """The pairs of one optimizer step; all pairs, all triplets, or all with a past context.

    Args:
        step: From 0.
        parts: The rows of the whole batch, over all ranks.
        begin: The rank's own pairs begin here, counted through all parts,
        end: and end before here.
        columns: The texts of the rank's own pairs: anchors, positives and, where there are any, negatives or past
            contexts.
        cursors: How far the step's datasets have been read after it, by their number in the mixture.
    """

    step: int
    parts: tuple[Part, ...]
    begin: int
    end: int
    columns: tuple[list[str], ...]
    cursors: dict[int, Cursor]

    @property
    def num_pairs(self) -> int:
        """Of the whole batch."""
        return sum(len(part.rows) for part in self.parts)

    @property
    def has_context(self) -> bool:
        """Whether the third column holds past contexts, and no negatives."""
        return self.parts[0].dataset.has_context

    @property
    def names(self) -> tuple[str, ...]:
        """Of the datasets."""
        return tuple(part.dataset.name for part in self.parts)

    def own_parts(self) -> Iterator[tuple[Part, slice]]:
        """What of each part is the rank's own: the rows, and where their texts stand in ``columns``."""
        yield from own_parts(self.parts, self.begin, self.end)


def own_parts(parts: Sequence[Part], begin: int, end: int) -> Iterator[tuple[Part, slice]]:
    """Cuts a span, counted through all parts, out of them; parts that have nothing of it are passed over.

    Yields:
        A part with the rows that lie in the span, and their places in it.
    """
    before = 0
    for part in parts:
        first, last = max(begin - before, 0), min(end - before, len(part.rows))
        if first < last:
            yield Part(part.dataset, part.rows[first:last]), slice(before + first - begin, before + last - begin)
        before += len(part.rows)
