"""The order in which pairs are drawn: by weight among datasets, shuffled within each, no text twice in a batch.

Nothing is drawn up beforehand and nothing is buffered. Which datasets a step draws from is computed from the seed and
the step (`pairloom.pairs.draws`), and which row stands at a position of a dataset from the seed, the dataset's name and
the epoch (`pairloom.pairs.order`). What a mixture remembers is a position for each dataset and the few rows that wait.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pairloom.errors import InputError, UsageError
from pairloom.pairs.batch import Batch, Part
from pairloom.pairs.dataset import Dataset
from pairloom.pairs.distinct import Hashes
from pairloom.pairs.draws import Drawn, Draws, part_sizes
from pairloom.pairs.filling import Stream, fill
from pairloom.pairs.order import BlockShuffle, RowOrder
from pairloom.pairs.place import Cursor, Identity, Place, restored

# A dataset keeps so many batches of rows waiting at most. Rows that share their text with more than one of
# ``batch_size`` rows come faster than they can be drawn, however long they wait.
_MAX_WAITING_BATCHES = 4
# Of a dataset's fingerprint in the state: 64 bits tell any two versions apart and keep the state small.
_FINGERPRINT_CHARS = 16


class Mixture:
    """A stream of batches, determined by the seed, that can be stopped and continued anywhere.

    It is an iterator over `Batch`, endless unless every dataset has a limit of epochs.

    A text occurs once in a batch at most (by its hash; anchors and candidates together, over all datasets of the
    batch), because two equal texts would be each other's false negatives. A row that would bring a text again waits
    and comes first in its dataset's next batch. Rows of a text that stands in more than one of ``batch_size`` rows come
    faster than they can be drawn; when four batches of them wait, the oldest are left out and counted
    (`Place.num_left_out`), as is at once a row that has a text twice, and at the end of a dataset with ``max_epochs``
    what does not fill a batch.

    With several ranks each computes the same batches from hashes alone, without communication, and reads the texts of
    its own share, which is contiguous and as large as the others', up to one pair.

    Memory: some kilobytes for each dataset, whatever the number of rows.

    Args:
        datasets: What is drawn from.
        batch_size: Pairs a batch, over all ranks, for datasets that have no batch size of their own.
        seed: Two mixtures with the same seed and datasets are equal.
        datasets_per_batch: So many datasets share each batch, in parts as equal as possible. The first is drawn by
            weight; the others by weight from those with as many columns; where these are too few, all of them.
        block_shuffle: An order of rows that is kind to disks; by default a full shuffle.
        rank: Whose share of each batch is read, from 0.
        world_size: How many ranks there are.

    Raises:
        UsageError: No dataset, a name twice, or a number out of bounds.
        InputError: A dataset has fewer rows, or fewer different texts, than it must give to a batch.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        *,
        batch_size: int,
        seed: int,
        datasets_per_batch: int = 1,
        block_shuffle: BlockShuffle | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not datasets:
            raise UsageError("the mixture has no dataset")
        if batch_size < 1 or datasets_per_batch < 1:
            raise UsageError("batch_size and datasets_per_batch must be at least 1")
        if not 0 <= rank < world_size:
            raise UsageError(f"rank must be in [0, {world_size}), got {rank}")
        self.datasets = tuple(datasets)
        self._rank, self._world_size = rank, world_size
        self._batch_sizes = np.array([dataset.batch_size or batch_size for dataset in datasets], dtype=np.int64)
        self._most_per_batch = min(datasets_per_batch, len(datasets))
        self._check_datasets()
        self._draws = Draws(
            [dataset.weight for dataset in datasets],
            [len(dataset.rows.columns) for dataset in datasets],
            seed=seed,
            datasets_per_batch=self._most_per_batch,
        )
        self._streams = [
            Stream(
                dataset,
                RowOrder(dataset.name, len(dataset), seed=seed, blocks=block_shuffle),
                end=None if dataset.max_epochs is None else dataset.max_epochs * len(dataset),
                max_waiting=_MAX_WAITING_BATCHES * size,
            )
            for dataset, size in zip(datasets, self._batch_sizes.tolist(), strict=True)
        ]
        settings = {
            "seed": seed,
            "batch_size": batch_size,
            "datasets_per_batch": datasets_per_batch,
            "block_shuffle": block_shuffle and [block_shuffle.rows_per_block, block_shuffle.blocks_per_window],
        }
        self._identity = Identity(settings, {dataset.name: _facts(dataset) for dataset in datasets})
        self._place = Place(self._identity, 0, [Cursor()] * len(datasets))

    def __iter__(self) -> Mixture:
        return self

    def __next__(self) -> Batch:
        """Draws the batch of the next step, and reads its texts.

        Raises:
            StopIteration: All datasets have run out.
            InputError: A dataset has too few different texts to fill its part.
        """
        batch = self._next()
        if batch is None:
            raise StopIteration
        batch = self.read(batch)
        self._place.advance(batch.step, batch.cursors)
        return batch

    def draw(self) -> Batch | None:
        """Draws the batch of the next step from hashes alone, for those who want only some of the texts, or none.

        Returns:
            The batch with empty ``columns``; None if all datasets have run out.

        Raises:
            InputError: A dataset has too few different texts to fill its part.
        """
        batch = self._next()
        if batch is not None:
            self._place.advance(batch.step, batch.cursors)
        return batch

    def read(self, batch: Batch) -> Batch:
        """The batch with the texts of the rank's own pairs; it has to be of a mixture of the same datasets."""
        texts = [part.dataset.texts(part.rows) for part, _ in batch.own_parts()]
        columns = tuple([text for piece in column for text in piece] for column in zip(*texts, strict=True))
        return replace(batch, columns=columns)

    def copy(self, place: Place | None = None) -> Mixture:
        """The same stream, to be drawn from by itself: from the same place on, or from another one of it."""
        twin = copy.copy(self)
        twin._place = (place or self._place).copy()
        return twin

    def _next(self) -> Batch | None:
        """The batch of the next step without its texts, and without going on to the step after it."""
        cursors: dict[int, Cursor] = {}  # of datasets that run out, and then of those that are drawn
        while True:
            now = [cursors.get(number, cursor) for number, cursor in enumerate(self._place.cursors)]
            available = np.array([not cursor.run_out for cursor in now])
            if not available.any():
                return None
            chosen = self._draws.choose(np.array([self._place.step]), available)
            sizes = part_sizes(chosen, self._batch_sizes)
            parts, moved = self._draw(
                [(n, size) for n, size in zip(*chosen.tolist(), *sizes.tolist(), strict=True) if size]
            )
            cursors |= moved
            if parts:
                size = sum(len(part.rows) for part in parts)
                begin, end = (size * rank // self._world_size for rank in (self._rank, self._rank + 1))
                return Batch(self._place.step, parts, begin, end, (), cursors)

    @property
    def place(self) -> Place:
        """Where the stream is: after the last batch that was drawn. A copy; it can be led on by the batches."""
        return self._place.copy()

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on after the last batch that was drawn, as JSON values."""
        return self._place.state()

    def restore(self, state: dict[str, Any], *, allow_changes: bool = False) -> None:
        """Goes to where a state was taken; the batches from there on are those of the unbroken stream, bit for bit.

        The number of ranks may have changed.

        Args:
            state: From `state`.
            allow_changes: Whether to go on where seed, sizes, datasets or their options have changed. Datasets keep
                their cursors by name, new ones begin at their beginning; a warning says what was given up.

        Raises:
            ArtifactError: The state is damaged or of another version.
            UsageError: Something has changed, and ``allow_changes`` is false.
        """
        self._place = restored(state, self._identity, allow_changes=allow_changes)

    def seek(self, step: int) -> None:
        """Goes to a step without a state, in a time that hardly depends on the step.

        Every dataset stands where it would if no row had ever waited or been left out. So the datasets of the steps
        are those of the unbroken stream, and the rows, too, where no text came twice; otherwise rows that had been
        waiting come later or are passed over. `restore` is exact.
        """
        drawn = self.count(step)
        self._place = Place(
            self._identity,
            drawn.steps,
            [Cursor(int(rows), run_out=bool(run_out)) for rows, run_out in zip(drawn.rows, drawn.run_out, strict=True)],
        )

    def count(self, steps: int) -> Drawn:
        """What the first steps draw of each dataset, if no row has to wait."""
        return self._draws.count(steps, self._batch_sizes.tolist(), [stream.end for stream in self._streams])

    def _check_datasets(self) -> None:
        names = [dataset.name for dataset in self.datasets]
        if twice := [name for name in names if names.count(name) > 1]:
            raise UsageError(f"two datasets are called {twice[0]}; give one of them another name")
        for dataset, size in zip(self.datasets, self._batch_sizes.tolist(), strict=True):
            part = -(-size // self._fewest_beside(dataset))
            hint = "lower its batch size or leave the dataset out"
            if len(dataset) < part:
                what = "a batch of" if part == size else "its part of a batch,"
                raise InputError(f"has {len(dataset):,} pairs, too few for {what} {part:,}; {hint}", dataset.name)
            for column, number in dataset.num_distinct.items():
                if number < part:
                    raise InputError(
                        f"has {number:,} different texts in its column {column}, too few for {part:,} in a batch "
                        f"without repeating one; {hint}",
                        dataset.name,
                    )
            if size < self._world_size:
                raise UsageError(f"{dataset.name}: a batch of {size:,} cannot be shared by {self._world_size:,} ranks")

    def _fewest_beside(self, dataset: Dataset) -> int:
        """How many datasets share a batch with this one, itself included, when all that can run out have done so."""
        endless = sum(
            one is not dataset and one.max_epochs is None and len(one.rows.columns) == len(dataset.rows.columns)
            for one in self.datasets
        )
        return min(self._most_per_batch, endless + 1)

    def _draw(self, wanted: list[tuple[int, int]]) -> tuple[tuple[Part, ...], dict[int, Cursor]]:
        """Draws a batch.

        Args:
            wanted: Numbers of datasets, and how many rows each shall give.

        Returns:
            The parts and their cursors; no part and one cursor if a dataset has run out.
        """
        parts, cursors = [], {}
        taken: Hashes = np.empty(0, dtype=np.uint64)
        for number, size in wanted:
            filled = fill(self._streams[number], self._place.cursors[number], size=size, taken=taken)
            if filled.cursor.run_out:
                return (), {number: filled.cursor}
            parts.append(Part(self.datasets[number], filled.rows))
            cursors[number], taken = filled.cursor, filled.taken
        return tuple(parts), cursors


def _facts(dataset: Dataset) -> dict[str, Any]:
    """What of a dataset its batches depend on, as JSON values; options that are as usual are left out."""
    options = {
        "batch_size": dataset.batch_size,
        "max_epochs": dataset.max_epochs,
        "swap": dataset.swap,
        "anchor_prompt": dataset.anchor_prompt,
        "positive_prompt": dataset.positive_prompt,
        "anchor_max_tokens": dataset.anchor_max_tokens,
        "positive_max_tokens": dataset.positive_max_tokens,
    }
    return {
        "rows": dataset.rows.fingerprint[:_FINGERPRINT_CHARS],
        "weight": dataset.weight,
        **{option: value for option, value in options.items() if value},
    }
