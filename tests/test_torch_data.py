"""The mixture in torch's DataLoader: the same batches, and the state of those given out."""

from __future__ import annotations

import json
import pickle
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from pairloom.errors import ArtifactError, UsageError
from pairloom.pairs.dataset import Dataset
from pairloom.pairs.mixture import Mixture
from pairloom.pairs.shards import Shards
from pairloom.torch_data import MixtureDataset, MixtureLoader, TextBatch
from tests.conftest import make_pairs, make_shards
from tests.pairs.fakes import FakeRows, different

# Torch warns of more workers than the machine has processors.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")

COLLIDING = [(number % 9, 100 + number) for number in range(30)]


def mixture(seed: int = 2, **options: Any) -> Mixture:
    datasets = [
        Dataset("a", FakeRows(COLLIDING), max_epochs=options.pop("max_epochs", None)),
        Dataset("b", different(21, first=500), weight=2),
    ]
    return Mixture(datasets, **{"batch_size": 5, "seed": seed, **options})


def columns(mixture: Mixture, count: int) -> list[tuple[list[str], ...]]:
    return [batch.columns for batch in islice(mixture, count)]


def anchors(batch: TextBatch) -> str:
    return " ".join(batch.columns["anchor"])


def test_torchs_own_loader_gives_the_mixtures_batches_in_order() -> None:
    expected = columns(mixture(), 12)
    dataset = MixtureDataset(mixture())
    for num_workers in (0, 3):
        loaded = list(islice(DataLoader(dataset, batch_size=None, num_workers=num_workers), 12))
        assert [tuple(batch.columns.values()) for batch in loaded] == expected
        assert [batch.step for batch in loaded] == list(range(12))
    assert list(loaded[0].columns) == ["anchor", "positive"]


@pytest.mark.parametrize(
    ("num_workers", "options"),
    [(0, {}), (1, {}), (2, {}), (2, {"batch_size": 2, "steps_per_group": 4, "datasets_per_group": 2})],
)
def test_the_state_is_that_of_the_batch_given_out(num_workers: int, options: dict[str, int]) -> None:
    expected = [" ".join(batch.columns[0]) for batch in islice(mixture(**options), 15)]
    plain = mixture(**options)
    list(islice(plain, 7))
    loader = MixtureLoader(mixture(**options), num_workers=num_workers, collate_fn=anchors)
    assert loader.state_dict() == mixture(**options).state()
    assert list(islice(loader, 7)) == expected[:7]
    state = json.loads(json.dumps(loader.state_dict()))
    assert state == plain.state(), "whatever the workers have made ahead"

    resumed = MixtureLoader(mixture(**options), num_workers=1 - min(num_workers, 1), collate_fn=anchors)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert list(islice(resumed, 8)) == expected[7:]
    assert list(islice(loader, 8)) == expected[7:], "as does going on with the first one"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_stream_ends_where_the_mixture_does(num_workers: int) -> None:
    datasets = [Dataset("a", FakeRows(COLLIDING), max_epochs=1), Dataset("b", different(21, first=500), max_epochs=2)]
    whole = [batch.columns for batch in Mixture(datasets, batch_size=5, seed=2)]
    loader = MixtureLoader(Mixture(datasets, batch_size=5, seed=2), num_workers=num_workers)
    assert [tuple(batch.columns.values()) for batch in loader] == whole
    assert list(loader) == []


def test_an_iteration_that_was_left_does_not_disturb_the_next() -> None:
    loader = MixtureLoader(mixture(), collate_fn=anchors)
    first = iter(loader)
    expected = [next(first), next(first)]
    second = iter(loader)
    expected.append(next(second))
    state = loader.state_dict()
    assert next(first) == expected[2]
    assert loader.state_dict() == state
    assert expected == [" ".join(batch.columns[0]) for batch in islice(mixture(), 3)]
    loader.load_state_dict(mixture().state())
    next(second)
    assert loader.state_dict() == mixture().state()


def test_the_mixture_stays_where_it_is() -> None:
    source = mixture()
    list(islice(source, 2))
    before = source.state()
    loader = MixtureLoader(source)
    assert next(iter(loader)).step == 2
    assert source.state() == before


def test_ranks_load_their_own_share() -> None:
    whole = columns(mixture(), 4)
    shares = [columns_of(MixtureLoader(mixture(rank=rank, world_size=2)), 4) for rank in range(2)]
    assert [tuple(one + other for one, other in zip(*pair, strict=True)) for pair in zip(*shares, strict=True)] == whole


def columns_of(loader: MixtureLoader, count: int) -> list[tuple[list[str], ...]]:
    return [tuple(batch.columns.values()) for batch in islice(loader, count)]


def test_prompts_names_and_triplets() -> None:
    datasets = [
        Dataset("a", different(10, columns=3), anchor_prompt="q: ", positive_prompt="d: "),
        Dataset("b", different(10, first=100, columns=3)),
    ]
    (plain,) = columns(Mixture(datasets, batch_size=4, seed=1, datasets_per_batch=2), 1)
    batch = next(iter(MixtureLoader(Mixture(datasets, batch_size=4, seed=1, datasets_per_batch=2))))
    assert sorted(batch.names) == ["a", "a", "b", "b"]
    prompts = {"a": ("q: ", "d: ", "d: "), "b": ("", "", "")}
    for number, column in enumerate(("anchor", "positive", "negative")):
        expected = [prompts[name][number] + text for name, text in zip(batch.names, plain[number], strict=True)]
        assert batch.columns[column] == expected


def test_past_contexts_are_called_what_they_are() -> None:
    rows = different(10, columns=3, contexts=True)
    batch = next(iter(MixtureLoader(Mixture([Dataset("a", rows, positive_prompt="d: ")], batch_size=4, seed=1))))
    assert list(batch.columns) == ["anchor", "positive", "context"]
    assert all(text.startswith("d: ") for text in batch.columns["context"])


def test_what_is_wrong_in_a_state_or_an_option_is_said() -> None:
    loader = MixtureLoader(mixture(seed=3))
    state = loader.state_dict()
    with pytest.raises(UsageError, match="seed was 2 and is 3"):
        loader.load_state_dict(mixture().state())
    with pytest.raises(ArtifactError, match="version"):
        loader.load_state_dict({})
    assert loader.state_dict() == state, "as before"
    loader.load_state_dict(mixture().state(), allow_changes=True)
    options: list[dict[str, Any]] = [{"batch_size": 1}, {"shuffle": True}, {"persistent_workers": True}]
    for option in options:
        with pytest.raises(UsageError, match=f"{next(iter(option))} is not an option here"):
            MixtureLoader(mixture(), **option)


def test_what_goes_to_a_worker_can_be_pickled_and_opens_its_files_anew(tmp_path: Path) -> None:
    """As processes are started where they are not forked."""
    shards = Shards(make_shards(tmp_path / "pairs", make_pairs(30)))
    source = Mixture([Dataset("a", shards)], batch_size=5, seed=1)
    list(islice(source, 2))
    dataset = pickle.loads(pickle.dumps(MixtureDataset(source)))
    assert tuple(next(iter(dataset)).columns.values()) == next(source).columns
