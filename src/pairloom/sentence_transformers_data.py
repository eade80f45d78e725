"""A mixture's batches for the trainer of sentence-transformers: weights, no text twice in a batch, exact resume.

    mixture = Mixture([Dataset("quora", Shards(Path("quora"))), Dataset("msmarco", Shards(Path("msmarco")), weight=3)],
                      batch_size=256, seed=1)
    batches = TrainerBatches(mixture, steps=10_000)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            "out", max_steps=10_000, multi_dataset_batch_sampler=batches, prompts=batches.prompts
        ),
        train_dataset=batches.train_dataset(),
        loss=MultipleNegativesRankingLoss(model),
        callbacks=[batches.callback()],
    )
    trainer.train(resume_from_checkpoint=False)  # or True

`TrainerBatches.train_dataset` opens the shards in place. Any ``DatasetDict`` with the same rows in the same order does as
well, such as ``{"quora": load_dataset("arrow", data_files=sorted(glob("quora/*.arrow")), split="train")
.select_columns(["anchor", "positive"]), …}``, which copies them into a cache first. (``Dataset.from_file`` does not read
them: it wants Arrow's stream format, and shards are in the file format, in which a row is reached at once.)

Nothing here imports sentence-transformers or transformers. The interface is that of release 6.2.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pairloom.errors import ArtifactError, MissingExtraError, UsageError
from pairloom.pairs.batch import Batch
from pairloom.pairs.clean import text_hash
from pairloom.pairs.dataset import Dataset
from pairloom.pairs.mixture import Mixture
from pairloom.pairs.place import Cursor
from pairloom.pairs.rows import RowFiles

try:
    from torch.utils.data import Sampler
except ImportError:
    raise MissingExtraError("training with sentence-transformers", "torch", "torch") from None

STATE_FILE = "pairloom_mixture.json"
# Batches that the trainer's loader may be ahead of the model, with a state still known for each. Loaders are some tens ahead.
_MAX_AHEAD = 1024


class TrainerBatches(Sampler[list[int]]):
    """What the trainer takes as ``multi_dataset_batch_sampler``: batch ``i`` of the run is batch ``i`` of the mixture.

    That holds whatever the trainer skips, and whether a state is there or not: a state makes resuming quick and sees
    to it that the mixture is still the same one; without it the batches up to there are drawn again, from hashes alone.

    The trainer's ``per_device_train_batch_size``, ``batch_sampler`` and ``seed`` have no say in the batches. On several
    devices each takes another batch of the mixture, as is the trainer's way; with ``split_batches`` in its
    ``accelerator_config`` they share each. Keep ``ignore_data_skip`` off.

    Args:
        mixture: What to draw from, from its beginning. It is copied, and stays where it is.
        steps: Batches of one epoch of the trainer, over all devices. The next epoch goes on where this one ended. Where
            it is all batches of the run (``max_steps`` by ``gradient_accumulation_steps`` by devices), the run is one.
        allow_changes: Whether a run is resumed with a mixture that has changed; see `Mixture.restore`.

    Raises:
        UsageError: The mixture ends before, or has an option that the trainer cannot follow.
    """

    def __init__(self, mixture: Mixture, *, steps: int, allow_changes: bool = False) -> None:
        if steps < 1:
            raise UsageError(f"steps is {steps}, but must be at least 1")
        if (most := mixture.count(steps).steps) < steps:
            raise UsageError(
                f"there are pairs for only {most:,} of {steps:,} batches, because every dataset has max_epochs; lower "
                "steps or allow more epochs"
            )
        if conversations := [one.name for one in mixture.datasets if one.has_context]:
            raise UsageError(
                f"{conversations[0]}: has a column of past contexts, and the trainer's losses take a third column for hard "
                "negatives; prepare pairs, such as those of Reddit's view single-context"
            )
        if limited := [one.name for one in mixture.datasets if one.anchor_max_tokens or one.positive_max_tokens]:
            raise UsageError(
                f"{limited[0]}: the trainer cannot cut the texts of one dataset; leave anchor_max_tokens and "
                "positive_max_tokens out and set max_seq_length of the model"
            )
        self._steps, self._allow_changes = steps, allow_changes
        self._begin = mixture.copy()
        self._begin.seek(0)
        self._settings = mixture.place.identity.settings
        self._drawn: deque[tuple[int, Mapping[int, Cursor]]] = deque()
        self._go_to(self._begin)
        self.epoch = 0
        sizes = {dataset.batch_size or self._settings["batch_size"] for dataset in mixture.datasets}
        self.batch_size: int | None = sizes.pop() if len(sizes) == 1 else None
        """Of all batches; None if they differ. Read by accelerate, as the next one is."""
        self.drop_last = True
        self.prompts = self._prompts()
        """For the trainer's argument of this name."""

    def __call__(
        self, dataset: Any, batch_samplers: Any = None, generator: Any = None, seed: int = 0
    ) -> TrainerBatches:
        """What the trainer calls with its datasets, one after another in ``dataset.datasets``.

        Raises:
            UsageError: They have not the rows of the mixture's datasets, in the same order.
        """
        _check_rows(self._begin.datasets, dataset.datasets)
        return self

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of the epoch: places in the concatenation of the datasets."""
        first = self.epoch * self._steps
        if self._next_step > first:
            self._go_to(self._begin)
        names = [dataset.name for dataset in self._begin.datasets]
        starts = np.cumsum([0, *(len(dataset) for dataset in self._begin.datasets)])
        offsets = dict(zip(names, starts.tolist(), strict=False))
        for step in range(first, min(self._next_step, first + self._steps)):
            yield _ConsumedBatch(step, self.batch_size or 1)
        while self._next_step < first + self._steps:
            batch = self._draw()
            if batch is None:
                return
            if batch.step >= first:
                yield [offsets[part.dataset.name] + row for part in batch.parts for row in part.rows.tolist()]

    def set_epoch(self, epoch: int) -> None:
        """What the trainer calls before each of its epochs."""
        self.epoch = epoch

    def state(self, step: int) -> dict[str, Any]:
        """Where the mixture is when so many batches have been consumed, as JSON values.

        Raises:
            UsageError: The step is ahead of what was drawn, or too far behind it.
        """
        if not self._consumed.step <= step <= self._next_step:
            raise UsageError(
                f"the state at batch {step:,} is not known: of {self._next_step:,} batches drawn the last "
                f"{self._next_step - self._consumed.step:,} are remembered"
            )
        place = self._consumed.copy()
        for number, cursors in self._drawn:
            if number < step:
                place.advance(number, cursors)
        return place.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Goes to where a state was taken: the batches before it cannot be had any more, those after it are quick.

        Raises:
            ArtifactError: The state is damaged or of another version.
            UsageError: The mixture has changed, and changes are not allowed.
        """
        mixture = self._begin.copy()
        mixture.restore(state, allow_changes=self._allow_changes)
        self._begin = mixture
        self._go_to(mixture)

    def callback(self) -> TrainerCallback:
        """Saves the state with each checkpoint, and restores it when the trainer resumes."""
        return TrainerCallback(self)

    def train_dataset(self) -> dict[str, Any]:
        """The datasets as the trainer wants them: Arrow files mapped into memory, of which nothing is copied.

        Workers of the trainer's loader that are not forked would get all of it as a copy; there, use ``load_dataset``.

        Raises:
            UsageError: A dataset is not made of shards; give the trainer a ``DatasetDict`` with the same rows.
            MissingExtraError: The package ``datasets`` is not installed.
        """
        return {dataset.name: _opened(dataset) for dataset in self._begin.datasets}

    def __reduce__(self) -> tuple[Callable[..., str], tuple[str]]:
        # The trainer pickles its arguments beside each model, as a note. Of this a name is enough; workers get no sampler.
        return str, ("the batches of a pairloom mixture",)

    def __deepcopy__(self, memo: dict[int, Any]) -> TrainerBatches:
        return self

    def _go_to(self, mixture: Mixture) -> None:
        self._now = mixture.copy()
        self._consumed = mixture.place
        self._next_step = self._consumed.step
        self._drawn.clear()

    def _draw(self) -> Batch | None:
        batch = self._now.draw()
        if batch is not None:
            self._next_step = batch.step + 1
            self._drawn.append((batch.step, batch.cursors))
            if len(self._drawn) > _MAX_AHEAD:
                self._consumed.advance(*self._drawn.popleft())
        return batch

    def _prompts(self) -> dict[str, Any] | None:
        prompts = {}
        for one in self._begin.datasets:
            prompts[one.name] = {"anchor": one.anchor_prompt} | dict.fromkeys(one.rows.columns[1:], one.positive_prompt)
        given = {name: {key: text for key, text in columns.items() if text} for name, columns in prompts.items()}
        if not any(given.values()):
            return None
        if self._settings["datasets_per_batch"] > 1:
            raise UsageError(
                "the trainer takes the prompts of a batch from one dataset, but datasets_per_batch is "
                f"{self._settings['datasets_per_batch']}; put the prompts into the trainer's arguments, the same for all"
            )
        return given


class TrainerCallback:
    """What the trainer takes among its ``callbacks``, to keep the mixture's state in its checkpoints.

    It needs nothing else to be told: the checkpoint that is resumed from is found by its step in ``output_dir``. If it
    has no state, or lies elsewhere, the batches up to there are drawn again.
    """

    def __init__(self, batches: TrainerBatches) -> None:
        self._batches = batches

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Writes `STATE_FILE` into the checkpoint."""
        if state.is_world_process_zero:
            text = json.dumps(self._batches.state(self._num_consumed(args, state)))
            _checkpoint(args, state).joinpath(STATE_FILE).write_text(text, encoding="utf-8")

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Reads it again, if this is not a beginning.

        Raises:
            ArtifactError: The state is damaged.
            UsageError: The mixture has changed, and changes are not allowed.
        """
        # Through the shares of several devices the trainer does not reach the sampler with the epoch it resumes in.
        self._batches.set_epoch(self._num_consumed(args, state) // len(self._batches))
        path = _checkpoint(args, state) / STATE_FILE
        if not state.global_step or args.ignore_data_skip or not path.is_file():
            return
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{path}: cannot be read ({error}); remove it to draw the batches again") from None
        self._batches.restore(saved)

    def __getattr__(self, name: str) -> Callable[..., None]:
        # The trainer calls a method for each of its events, and adds events from release to release.
        if name.startswith("on_"):
            return _pass
        raise AttributeError(name)

    def _num_consumed(self, args: Any, state: Any) -> int:
        """The batches of the mixture that the trainer's steps so far have taken, over all devices."""
        devices: int = 1 if args.accelerator_config.split_batches else args.world_size
        accumulated: int = args.gradient_accumulation_steps
        steps_per_epoch = max(-(-(len(self._batches) // devices) // accumulated), 1)
        epoch, step = divmod(state.global_step, steps_per_epoch)
        return int(epoch * len(self._batches) + step * accumulated * devices)


class _ConsumedBatch(list[int]):
    """Stands for a batch before a restored state. The trainer passes over it when it resumes, without looking inside."""

    def __init__(self, step: int, size: int) -> None:
        super().__init__([-1] * size)
        self._step = step

    def __iter__(self) -> Iterator[int]:
        raise UsageError(
            f"batch {self._step:,} of the mixture was consumed before the state that was restored; resume the trainer from "
            "the checkpoint of that state, with ignore_data_skip off, or make new TrainerBatches to begin anew"
        )

    def __getitem__(self, places: Any) -> Any:  # accelerate cuts a device's share out of a batch
        return _ConsumedBatch(self._step, len(range(*places.indices(len(self)))))

    def __reduce__(self) -> Any:
        return _ConsumedBatch, (self._step, len(self))


def _pass(*_: Any, **__: Any) -> None:
    return None


def _checkpoint(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def _check_rows(ours: Sequence[Dataset], theirs: Sequence[Any]) -> None:
    names = ", ".join(dataset.name for dataset in ours)
    if len(ours) != len(theirs):
        raise UsageError(f"the trainer has {len(theirs)} datasets and the mixture {len(ours)}; give it {names}")
    for our, their in zip(ours, theirs, strict=True):
        if len(our) != len(their):
            raise UsageError(
                f"{our.name}: has {len(our):,} rows in the mixture and {len(their):,} at the same place of the trainer's "
                f"datasets; give it the same rows, and the datasets in this order: {names}"
            )
        # Some rows, the ends among them: enough to see another order or another dataset.
        for row in np.unique(np.linspace(0, len(our) - 1, num=5).astype(np.int64)).tolist():
            texts = [value for key, value in their[row].items() if key != "dataset_name"]
            hashes = [text_hash(text) if isinstance(text, str) else None for text in texts]
            expected = our.rows.hashes(np.array([row]))[0].tolist()
            if hashes != (expected if not our.swap else [expected[1], expected[0], *expected[2:]]):
                raise UsageError(
                    f"{our.name}: row {row:,} of the trainer's dataset is not that of the mixture; give it the same rows "
                    "in the same order, with the columns of texts alone, anchors first"
                )


def _opened(dataset: Dataset) -> Any:
    rows = dataset.rows
    if not isinstance(rows, RowFiles):
        raise UsageError(f"{dataset.name}: is not made of shards; give the trainer a DatasetDict with the same rows")
    try:
        import datasets
    except ImportError:
        raise UsageError("the trainer needs the package datasets: pip install 'sentence-transformers[train]'") from None
    anchor, positive, *negative = rows.columns
    columns = [positive, anchor, *negative] if dataset.swap else list(rows.columns)
    table = rows.table().select(columns).rename_columns(list(rows.columns))
    # Without a fingerprint it would make one, of every byte.
    return datasets.Dataset(table, fingerprint=dataset.rows.fingerprint[:32] + ("-swapped" if dataset.swap else ""))
