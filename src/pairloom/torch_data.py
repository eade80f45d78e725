"""A mixture's batches for a training loop in plain torch.

    mixture = start_mixture(load_recipe(Path("recipe.toml")))  # or Mixture([Dataset("quora", Shards(...)), ...], ...)
    loader = MixtureLoader(mixture, num_workers=1, collate_fn=tokenize)
    for inputs in loader:
        ...
        checkpoint = {"mixture": loader.state_dict(), ...}

`MixtureLoader` is torch's DataLoader with a state on the consumer's side: workers may be any number of batches ahead, the
state is that of the batch last given out. `MixtureDataset` is what it loads, for those who have a loader of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pairloom.errors import MissingExtraError, UsageError
from pairloom.pairs.batch import Batch
from pairloom.pairs.mixture import Mixture
from pairloom.pairs.place import Cursor

try:
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info
except ImportError:
    raise MissingExtraError("torch's data loading", "torch", "torch") from None

_OURS = frozenset({"batch_size", "shuffle", "sampler", "batch_sampler", "drop_last", "persistent_workers"})


@dataclass(frozen=True)
class TextBatch:
    """The texts of one optimizer step, or a rank's share of them.

    Args:
        step: From 0.
        columns: ``anchor``, ``positive`` and, of triplets, ``negative``, or of conversations ``context``: texts that
            belong together stand at the same place. The prompts of the datasets are put before them; longer texts than a dataset allows are for the
            tokenizer to cut.
        names: The dataset of each pair.
        cursors: How far the step's datasets have been read after it, for `pairloom.pairs.place.Place.advance`.
    """

    step: int
    columns: dict[str, list[str]]
    names: list[str]
    cursors: Mapping[int, Cursor]


class MixtureDataset(IterableDataset[TextBatch]):
    """The batches of a mixture from where it stands, for ``DataLoader(dataset, batch_size=None)``.

    Each iteration begins at the same place, which is that of the mixture when this was made. With several workers each
    reads the texts of every so many-th batch, and torch gives them out in the order of the steps; each worker draws all
    batches, though, from hashes, since what a batch leaves waiting depends on those before it.

    A dataset cannot know which of its batches have left the loader: torch's loader asks for them ahead. Therefore it has
    no state; each batch carries what to advance a `Place` with, as `MixtureLoader` does.
    """

    def __init__(self, mixture: Mixture) -> None:
        self._mixture = mixture.copy()

    def __iter__(self) -> Iterator[TextBatch]:
        mixture = self._mixture.copy()
        worker = get_worker_info()
        number, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        first = mixture.place.step
        while (batch := mixture.draw()) is not None:
            if (batch.step - first) % count == number:
                yield _with_texts(mixture.read(batch))


class MixtureLoader:
    """Loads a mixture's batches with torch's DataLoader, and knows which of them have been given out.

    Iterating again, after a ``break`` for example, goes on behind the batch that was given out last.

    Args:
        mixture: What to draw from, from where it stands. It is copied, and stays where it is.
        collate_fn: Makes of a `TextBatch` what the loop wants, in the worker if there is one; by default nothing.
        options: Of DataLoader: ``num_workers``, ``prefetch_factor``, ``pin_memory`` and the like.

    Raises:
        UsageError: An option is the mixture's affair.
    """

    def __init__(
        self, mixture: Mixture, *, collate_fn: Callable[[TextBatch], Any] | None = None, **options: Any
    ) -> None:
        if wrong := sorted(_OURS & options.keys()):
            raise UsageError(f"{wrong[0]} is not an option here: the mixture makes the batches; leave it out")
        self._mixture = mixture.copy()
        self._place = mixture.place
        self._collate: Callable[[Any], Any] = _Collate(collate_fn)
        self._options = options

    def __iter__(self) -> Iterator[Any]:
        place = self._place = self._place.copy()  # an iteration that was left and is gone on with advances its own
        dataset = MixtureDataset(self._mixture.copy(place))
        for step, cursors, made in DataLoader(dataset, batch_size=None, collate_fn=self._collate, **self._options):
            place.advance(step, cursors)
            yield made

    def state_dict(self) -> dict[str, Any]:
        """What to go on from after the batch that was given out last, as JSON values.

        It does not depend on the workers, and may be loaded where there are more or fewer of them, or other ranks.
        """
        return self._place.state()

    def load_state_dict(self, state: dict[str, Any], *, allow_changes: bool = False) -> None:
        """Goes to where a state was taken; see `Mixture.restore`. The next iteration begins there.

        Raises:
            ArtifactError: The state is damaged or of another version.
            UsageError: The mixture has changed, and ``allow_changes`` is false.
        """
        mixture = self._mixture.copy()
        mixture.restore(state, allow_changes=allow_changes)
        self._place = mixture.place


class _Collate:
    """Sends the place past ``collate_fn``, so that it reaches the consumer. A class, because workers may pickle it."""

    def __init__(self, collate_fn: Callable[[TextBatch], Any] | None) -> None:
        self._collate = collate_fn

    def __call__(self, batch: TextBatch) -> tuple[int, Mapping[int, Cursor], Any]:
        return batch.step, batch.cursors, batch if self._collate is None else self._collate(batch)


def _with_texts(batch: Batch) -> TextBatch:
    anchors, *candidates = [list(column) for column in batch.columns]
    names: list[str] = []
    for part, where in batch.own_parts():
        dataset = part.dataset
        names += [dataset.name] * len(part.rows)
        for column, prompt in [(anchors, dataset.anchor_prompt)] + [(c, dataset.positive_prompt) for c in candidates]:
            if prompt:
                column[where] = [prompt + text for text in column[where]]
    columns = dict(zip(batch.parts[0].dataset.rows.columns, (anchors, *candidates), strict=True))
    return TextBatch(batch.step, columns, names, batch.cursors)
