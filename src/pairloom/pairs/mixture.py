"""The order in which pairs are drawn: by weight among datasets, shuffled within each, no text twice in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.errors import InputError
from pairloom.pairs.shards import Shards


@dataclass(frozen=True)
class Batch:
    """Pairs of one optimizer step, all from one dataset.

    Args:
        dataset: Number of the dataset.
        rows: Row numbers in it, [B].
        columns: The texts: anchors, positives and, for triplets, negatives; B of each.
    """

    dataset: int
    rows: npt.NDArray[np.int64]
    columns: tuple[list[str], ...]


@dataclass
class _Cursor:
    """How far a dataset has been read.

    Args:
        epoch: Of the order of rows.
        place: In that order.
        deferred: ``(epoch, row)`` of rows put off to the dataset's next batches, oldest first.
        num_left_out: Rows that no batch had room for up to the end of the epoch after their own.
    """

    epoch: int = 0
    place: int = 0
    deferred: list[tuple[int, int]] = field(default_factory=list)
    num_left_out: int = 0


class Mixture:
    """An endless stream of batches, determined by the seed, that can be stopped and continued anywhere.

    Which dataset a step draws from is a function of (seed, step); the order of a dataset's rows is one of
    (seed, dataset, epoch). A row one of whose texts is already in the batch waits for the dataset's next batch: two
    equal texts in a batch would be each other's false negatives. A text that stands in more than one of ``batch_size``
    rows cannot be drawn as often as it occurs; a row that has waited for a whole epoch is left out and counted
    (`num_left_out`).

    The order of an epoch is held in memory, 8 bytes a row of the datasets in use.

    Args:
        datasets: What is drawn from.
        weights: How often each is drawn, relative to the others.
        batch_size: Pairs a batch.
        seed: Two mixtures with the same seed and datasets are equal.

    Raises:
        InputError: A dataset has fewer rows than a batch.
    """

    def __init__(self, datasets: Sequence[Shards], weights: Sequence[float], *, batch_size: int, seed: int) -> None:
        for dataset in datasets:
            if len(dataset) < batch_size:
                raise InputError(
                    f"has {len(dataset):,} pairs, too few for a batch of {batch_size:,}; "
                    "lower train.batch_size or leave the dataset out",
                    dataset.path,
                )
        self._datasets = list(datasets)
        self._shares = np.asarray(weights, dtype=np.float64) / np.sum(weights)
        self._batch_size = batch_size
        self._seed = seed
        self._step = 0
        self._cursors = [_Cursor() for _ in datasets]
        self._orders: dict[int, tuple[int, npt.NDArray[np.int64]]] = {}

    def next_batch(self) -> Batch:
        """Draws the batch of the next step.

        Raises:
            InputError: The dataset has fewer distinct texts than a batch needs.
        """
        generator = np.random.default_rng([self._seed, 0, self._step])
        number = int(generator.choice(len(self._datasets), p=self._shares))
        self._step += 1
        return self._fill(number)

    @property
    def num_left_out(self) -> int:
        """Rows so far that no batch had room for, because too many rows share a text with them."""
        return sum(cursor.num_left_out for cursor in self._cursors)

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on after the last batch that was drawn, as JSON values."""
        return {"step": self._step, "cursors": [vars(cursor).copy() for cursor in self._cursors]}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes to where `state` was taken."""
        self._step = state["step"]
        self._cursors = [
            _Cursor(**{**cursor, "deferred": [(epoch, row) for epoch, row in cursor["deferred"]]})
            for cursor in state["cursors"]
        ]

    def _fill(self, number: int) -> Batch:
        dataset, cursor = self._datasets[number], self._cursors[number]
        rows: list[int] = []
        texts: set[int] = set()
        # The oldest deferred rows first; no more of them than a batch, so that a step costs the same however many wait.
        candidates, cursor.deferred = cursor.deferred[: self._batch_size], cursor.deferred[self._batch_size :]
        new = 0
        while True:
            hashes = dataset.hashes(np.asarray([row for _, row in candidates], dtype=np.int64)).tolist()
            for candidate, own in zip(candidates, hashes, strict=True):
                if len(rows) < self._batch_size and texts.isdisjoint(own):
                    rows.append(candidate[1])
                    texts.update(own)
                else:
                    cursor.deferred.append(candidate)
            if len(rows) == self._batch_size:
                break
            candidates = self._next_rows(number, self._batch_size - len(rows))
            new += len(candidates)
            if new > 2 * len(dataset):  # at least one whole epoch
                raise InputError(
                    f"has too few different texts for a batch of {self._batch_size:,} without repeating one; "
                    "lower train.batch_size or leave the dataset out",
                    dataset.path,
                )
        taken = np.asarray(rows, dtype=np.int64)
        return Batch(number, taken, dataset.take(taken).columns)

    def _next_rows(self, number: int, count: int) -> list[tuple[int, int]]:
        """The next rows of the epoch's order, with its number; at its end the next epoch begins."""
        cursor, total = self._cursors[number], len(self._datasets[number])
        if cursor.place == total:
            cursor.epoch, cursor.place = cursor.epoch + 1, 0
            kept = [(epoch, row) for epoch, row in cursor.deferred if epoch == cursor.epoch - 1]
            cursor.num_left_out += len(cursor.deferred) - len(kept)
            cursor.deferred = kept
        begin, cursor.place = cursor.place, min(cursor.place + count, total)
        return [(cursor.epoch, row) for row in self._order(number)[begin : cursor.place].tolist()]

    def _order(self, number: int) -> npt.NDArray[np.int64]:
        epoch = self._cursors[number].epoch
        if number not in self._orders or self._orders[number][0] != epoch:
            generator = np.random.default_rng([self._seed, 1, number, epoch])
            self._orders[number] = epoch, generator.permutation(len(self._datasets[number]))
        return self._orders[number][1]
