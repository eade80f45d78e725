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
_NO_TEXTS: Hashes = np.empty(0, dtype=np.uint64)
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

    Steps may be drawn in groups, as those of the published models were: the datasets of a group are drawn by weight and take
    turns, and a text occurs once in the whole group. A row that would bring one again waits for the next group; then
    four batches and one for each further step of a group may wait.

    With several ranks each computes the same batches from hashes alone, without communication, and reads the texts of
    its own share, which is contiguous and as large as the others', up to one pair.

    Memory: some kilobytes for each dataset, whatever the number of rows.

    Args:
        datasets: What is drawn from.
        batch_size: Pairs a batch, over all ranks, for datasets that have no batch size of their own.
        seed: Two mixtures with the same seed and datasets are equal.
        datasets_per_batch: So many datasets share each batch, in parts as equal as possible. The first is drawn by
            weight; the others by weight from those with the same columns; where these are too few, all of them.
        steps_per_group: Steps that are drawn together. No text occurs twice in them.
        datasets_per_group: So many draws of a dataset (or of those that share a batch) serve a group, each for steps in a
            row, as equal in number as possible. The first is by weight from all datasets; the others by weight from those
            with the same columns, the same one included. At most one a step is made.
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
        steps_per_group: int = 1,
        datasets_per_group: int = 1,
        block_shuffle: BlockShuffle | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not datasets:
            raise UsageError("the mixture has no dataset")
        if batch_size < 1 or datasets_per_batch < 1:
            raise UsageError("batch_size and datasets_per_batch must be at least 1")
        if steps_per_group < 1 or datasets_per_group < 1:
            raise UsageError("steps_per_group and datasets_per_group must be at least 1")
        if not 0 <= rank < world_size:
            raise UsageError(f"rank must be in [0, {world_size}), got {rank}")
        self.datasets = tuple(datasets)
        self._rank, self._world_size = rank, world_size
        self._batch_sizes = np.array([dataset.batch_size or batch_size for dataset in datasets], dtype=np.int64)
        self._most_per_batch = min(datasets_per_batch, len(datasets))
        self._steps_per_group = steps_per_group
        self._check_datasets()
        self._draws = Draws(
            [dataset.weight for dataset in datasets],
            [dataset.rows.columns for dataset in datasets],
            seed=seed,
            datasets_per_batch=self._most_per_batch,
            steps_per_group=steps_per_group,
            datasets_per_group=datasets_per_group,
        )
        self._streams = [
            Stream(
                dataset,
                RowOrder(dataset.name, len(dataset), seed=seed, blocks=block_shuffle),
                end=None if dataset.max_epochs is None else dataset.max_epochs * len(dataset),
                # At the end of an epoch all of the group so far may come again: these rows must not be lost.
                max_waiting=(_MAX_WAITING_BATCHES + steps_per_group - 1) * size,
            )
            for dataset, size in zip(datasets, self._batch_sizes.tolist(), strict=True)
        ]
        settings = {
            "seed": seed,
            "batch_size": batch_size,
            "datasets_per_batch": datasets_per_batch,
            "block_shuffle": block_shuffle and [block_shuffle.rows_per_block, block_shuffle.blocks_per_window],
        }
        if steps_per_group > 1:  # states without groups are those of versions that had none
            settings |= {"steps_per_group": steps_per_group, "datasets_per_group": datasets_per_group}
        self._identity = Identity(settings, {dataset.name: _facts(dataset) for dataset in datasets})
        self._place = Place(self._identity, 0, [Cursor()] * len(datasets))
        # The texts of the present group's batches so far, sorted; None: to be found by drawing them again.
        self._seen: Hashes | None = _NO_TEXTS

    def __iter__(self) -> Mixture:
        return self

    def __next__(self) -> Batch:
        """Draws the batch of the next step, and reads its texts.

        Raises:
            StopIteration: All datasets have run out.
            InputError: A dataset has too few different texts to fill its part.
        """
        drawn = self._next()
        if drawn is None:
            raise StopIteration
        batch, seen = drawn
        batch = self.read(batch)
        self._go_on(batch, seen)
        return batch

    def draw(self) -> Batch | None:
        """Draws the batch of the next step from hashes alone, for those who want only some of the texts, or none.

        Returns:
            The batch with empty ``columns``; None if all datasets have run out.

        Raises:
            InputError: A dataset has too few different texts to fill its part.
        """
        drawn = self._next()
        if drawn is None:
            return None
        self._go_on(*drawn)
        return drawn[0]

    def read(self, batch: Batch) -> Batch:
        """The batch with the texts of the rank's own pairs; it has to be of a mixture of the same datasets."""
        texts = [part.dataset.texts(part.rows) for part, _ in batch.own_parts()]
        columns = tuple([text for piece in column for text in piece] for column in zip(*texts, strict=True))
        return replace(batch, columns=columns)

    def copy(self, place: Place | None = None) -> Mixture:
        """The same stream, to be drawn from by itself: from the same place on, or from another one of it."""
        twin = copy.copy(self)
        twin._place = self._place.copy()
        if place is not None:
            twin._go_to(place.copy())
        return twin

    def _go_to(self, place: Place) -> None:
        self._place, self._seen = place, None

    def _go_on(self, batch: Batch, seen: Hashes) -> None:
        """Goes on to after a batch, and the texts that have been seen in its group after it."""
        self._place.advance(batch.step, batch.cursors)
        self._seen = seen if self._place.group_start < self._place.step else _NO_TEXTS

    def _draw_up_to(self, step: int) -> None:
        while self._place.step < step and self.draw() is not None:
            pass

    def _seen_in_group(self) -> Hashes:
        """uint64, sorted: the hashes of the texts of the present group's batches so far."""
        if self._seen is None:
            twin = self.copy()
            twin._place, twin._seen = self._place.start_of_group(), _NO_TEXTS
            twin._draw_up_to(self._place.step)
            self._seen = twin._seen
        return self._seen

    def _next(self) -> tuple[Batch, Hashes] | None:
        """The batch of the next step without its texts, and the texts seen in its group then; it goes on to no other step."""
        before = self._seen_in_group()
        cursors: dict[int, Cursor] = {}  # of datasets that run out, and then of those that are drawn
        while True:
            now = [cursors.get(number, cursor) for number, cursor in enumerate(self._place.cursors)]
            available = np.array([not cursor.run_out for cursor in now])
            if not available.any():
                return None
            chosen = self._draws.choose(np.array([self._place.step]), available)
            sizes = part_sizes(chosen, self._batch_sizes)
            wanted = [(n, size) for n, size in zip(*chosen.tolist(), *sizes.tolist(), strict=True) if size]
            parts, moved, seen = self._draw(wanted, before)
            cursors |= moved
            if parts:
                size = sum(len(part.rows) for part in parts)
                begin, end = (size * rank // self._world_size for rank in (self._rank, self._rank + 1))
                return Batch(self._place.step, parts, begin, end, (), cursors), seen

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
        self._go_to(restored(state, self._identity, allow_changes=allow_changes))

    def seek(self, step: int) -> None:
        """Goes to a step without a state, in a time that hardly depends on the step.

        Every dataset stands where it would if no row had ever waited or been left out. So the datasets of the steps
        are those of the unbroken stream, and the rows, too, where no text came twice; otherwise rows that had been
        waiting come later or are passed over. `restore` is exact. Within a group of steps, its first ones are drawn.

        Raises:
            InputError: One of these could not be filled.
        """
        drawn = self.count(step - step % self._steps_per_group)
        cursors = [Cursor(int(rows), run_out=bool(end)) for rows, end in zip(drawn.rows, drawn.run_out, strict=True)]
        self._go_to(Place(self._identity, drawn.steps, cursors))
        self._draw_up_to(step)

    def count(self, steps: int) -> Drawn:
        """What the first steps draw of each dataset, if no row has to wait."""
        return self._draws.count(steps, self._batch_sizes.tolist(), [stream.end for stream in self._streams])

    def _check_datasets(self) -> None:
        names = [dataset.name for dataset in self.datasets]
        if twice := [name for name in names if names.count(name) > 1]:
            raise UsageError(f"two datasets are called {twice[0]}; give one of them another name")
        for dataset, size in zip(self.datasets, self._batch_sizes.tolist(), strict=True):
            part = -(-size // self._fewest_beside(dataset))
            # All draws of a group may find the same dataset.
            needed, span, hint = part, "a batch", "lower its batch size or leave the dataset out"
            if self._steps_per_group > 1:
                needed, span = part * self._steps_per_group, f"a group of {self._steps_per_group} steps"
                hint = "lower its batch size or steps_per_group, or leave the dataset out"
            if len(dataset) < needed:
                what = f"{span} of" if part == size else f"its part of {span},"
                raise InputError(f"has {len(dataset):,} pairs, too few for {what} {part:,}; {hint}", dataset.name)
            for column, number in dataset.num_distinct.items():
                if number < needed:
                    raise InputError(
                        f"has {number:,} different texts in its column {column}, too few for {needed:,} in {span} "
                        f"without repeating one; {hint}",
                        dataset.name,
                    )
            if size < self._world_size:
                raise UsageError(f"{dataset.name}: a batch of {size:,} cannot be shared by {self._world_size:,} ranks")

    def _fewest_beside(self, dataset: Dataset) -> int:
        """How many datasets share a batch with this one, itself included, when all that can run out have done so."""
        endless = sum(
            one is not dataset and one.max_epochs is None and one.rows.columns == dataset.rows.columns
            for one in self.datasets
        )
        return min(self._most_per_batch, endless + 1)

    def _draw(self, wanted: list[tuple[int, int]], taken: Hashes) -> tuple[tuple[Part, ...], dict[int, Cursor], Hashes]:
        """Draws a batch.

        Args:
            wanted: Numbers of datasets, and how many rows each shall give.
            taken: uint64, sorted: the hashes of texts that must not come.

        Returns:
            The parts, their cursors, and ``taken`` with their texts; no part and one cursor if a dataset has run out.
        """
        parts, cursors = [], {}
        for number, size in wanted:
            filled = fill(self._streams[number], self._place.cursors[number], size=size, taken=taken)
            if filled.cursor.run_out:
                return (), {number: filled.cursor}, taken
            parts.append(Part(self.datasets[number], filled.rows))
            cursors[number], taken = filled.cursor, filled.taken
        return tuple(parts), cursors, taken


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
