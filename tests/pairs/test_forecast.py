from __future__ import annotations

import itertools
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.errors import UsageError
from pairloom.pairs.configuration import Configuration, ConfiguredDataset, read_configuration
from pairloom.pairs.draws import Draws
from pairloom.pairs.forecast import Forecast, Numbers, draws_per_step, expected_batches, forecast
from pairloom.pairs.layout import CONTEXT_COLUMNS, PAIR_COLUMNS, TRIPLET_COLUMNS

KINDS = [("a", 5.0, PAIR_COLUMNS), ("b", 1.0, PAIR_COLUMNS), ("c", 3.0, TRIPLET_COLUMNS), ("d", 0.5, TRIPLET_COLUMNS)]


def mixture(*datasets: ConfiguredDataset, per_batch: int = 1) -> Configuration:
    return Configuration(datasets, per_batch)


def rows_drawn(result: Forecast) -> list[float]:
    return [one.rows_drawn for one in result.datasets]


@pytest.mark.parametrize(
    ("name", "steps", "batch_size"),
    [
        ("reddit", 540_000, 1024),
        ("stackoverflow", 80_000, 1024),
        ("multi-qa_v1", 200_000, 1024),
        ("all_datasets_v4", 100_000, 1024),
        ("all_datasets_v4", 3, 7),
    ],
)
def test_published_configurations(shared: Path, name: str, steps: int, batch_size: int) -> None:
    path = shared / "configs" / f"{name}.json"
    raw = json.loads(path.read_text())
    weight = sum(entry["weight"] for entry in raw)
    result = forecast(read_configuration(path), steps=steps, batch_size=batch_size)
    for entry, one in zip(raw, result.datasets, strict=True):
        batches = Fraction(entry["weight"] * steps, weight)
        assert one.dataset.name == entry["name"]
        assert one.share == pytest.approx(entry["weight"] / weight)
        assert one.batches == pytest.approx(float(batches))
        assert one.rows_drawn == pytest.approx(float(batches * batch_size))
        if "lines" in entry:
            assert one.epochs == pytest.approx(float(batches * batch_size / entry["lines"]))
        else:
            assert one.epochs is None
    assert sum(rows_drawn(result)) == pytest.approx(steps * batch_size)


def test_whose_share_is_taken_over_when_a_dataset_has_run_out() -> None:
    """By hand: a and b run out after 12 and 24 batches; until then 3 of 6, 2 of 6, 1 of 6, and afterwards 2 of 3, 1 of 3.

    a is out at step 24, when b has 8 and c 4 batches; b has 24 after another 24 steps, when c has 12.
    """
    a = ConfiguredDataset("a", 3, num_rows=60, max_epochs=2)
    b = ConfiguredDataset("b", 2, num_rows=245, max_epochs=1)
    c = ConfiguredDataset("c", 1)
    result = forecast(mixture(a, b, c), steps=100, batch_size=10)
    assert [one.batches for one in result.datasets] == pytest.approx([12, 24, 64])
    assert [one.runs_out_at for one in result.datasets] == [pytest.approx(24), pytest.approx(48), None]
    assert [one.share for one in result.datasets] == pytest.approx([0.12, 0.24, 0.64])
    assert result.ends_at is None
    until = forecast(mixture(a, b, c), steps=30, batch_size=10)
    assert [one.batches for one in until.datasets] == pytest.approx([12, 12, 6])


def test_a_mixture_that_ends() -> None:
    a = ConfiguredDataset("a", 3, num_rows=60, max_epochs=2)
    b = ConfiguredDataset("b", 2, num_rows=245, max_epochs=1, batch_size=100)
    result = forecast(mixture(a, b), steps=100, batch_size=10)
    assert [one.batches for one in result.datasets] == pytest.approx([12, 2])
    assert rows_drawn(result) == pytest.approx([120, 200])
    assert result.ends_at == pytest.approx(14)
    assert forecast(mixture(a, b), steps=14, batch_size=10).ends_at is None


def test_a_batch_that_is_larger_than_the_dataset() -> None:
    small = ConfiguredDataset("small", 1, num_rows=9, max_epochs=1)
    result = forecast(mixture(small, ConfiguredDataset("large", 1, num_rows=10)), steps=5, batch_size=10)
    assert [one.fits for one in result.datasets] == [False, True]
    assert rows_drawn(result) == [0, 50]
    alone = forecast(mixture(small), steps=5, batch_size=10)
    assert (alone.ends_at, alone.datasets[0].share) == (0, 0)


def test_a_limit_without_rows_is_none() -> None:
    result = forecast(mixture(ConfiguredDataset("a", 1, max_epochs=1)), steps=5, batch_size=10)
    assert rows_drawn(result) == [50]


def test_what_is_repeated_and_what_is_hardly_seen() -> None:
    datasets = [
        ConfiguredDataset("often", 1, num_rows=20),
        ConfiguredDataset("more often", 1, num_rows=10),
        ConfiguredDataset("just not too often", 1, num_rows=50),
        ConfiguredDataset("large", 1, num_rows=50_001),
        ConfiguredDataset("unknown", 1),
        ConfiguredDataset("rare", 0.001),
    ]
    result = forecast(mixture(*datasets), steps=250, batch_size=10, repeat_limit=10)
    assert [one.dataset.name for one in result.repeated] == ["more often", "often"]
    assert [one.dataset.name for one in result.hardly_seen] == ["rare", "large"]


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"batch_size": 0}, {"repeat_limit": 0}, {"repeat_limit": float("nan")}]
)
def test_numbers_must_be_above_0(wrong: dict[str, float]) -> None:
    numbers = {"steps": 1, "batch_size": 2, "repeat_limit": 1.0, **wrong}
    with pytest.raises(UsageError, match="must be above 0"):
        forecast(mixture(ConfiguredDataset("a", 1)), **numbers)  # type: ignore[arg-type]


WEIGHTS = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=7)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.floats(1e-6, 1e6), st.none() | st.integers(0, 300)), min_size=1, max_size=9),
    st.integers(1, 500),
)
def test_nothing_is_lost_and_no_limit_exceeded(datasets: list[tuple[float, int | None]], steps: int) -> None:
    weights = np.array([weight for weight, _ in datasets])
    limits = np.array([np.inf if limit is None else limit for _, limit in datasets])

    def rates(available: Numbers) -> Numbers:
        return draws_per_step(np.where(available, weights, 0.0), np.full(len(weights), 2), 1)

    batches, ends = expected_batches(rates, limits, steps)  # type: ignore[arg-type]
    assert (batches <= limits).all()
    assert batches.sum() == pytest.approx(min(steps, limits.sum()))
    assert (batches[ends < steps] == limits[ends < steps]).all()
    heavier = np.argsort(-weights)
    unlimited = heavier[np.isinf(limits[heavier])]
    assert (np.diff(batches[unlimited]) <= 1e-9 * steps).all()


@settings(max_examples=50, deadline=None)
@given(WEIGHTS, st.integers(1, 4))
def test_datasets_of_a_batch_are_drawn_without_replacement(weights: list[float], count: int) -> None:
    """Against the sum over all orders in which they can be drawn."""
    shares = np.array(weights) / sum(weights)
    expected = np.zeros(len(shares))
    count = min(count, len(shares))
    for order in itertools.permutations(range(len(shares)), count):
        chance, left = 1.0, set(range(len(shares)))
        for number in order:
            chance *= shares[number] / shares[list(left)].sum()
            left.remove(number)
        expected[list(order)] += chance
    found = draws_per_step(np.array(weights), np.full(len(weights), 3), count)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_formats_are_not_mixed_in_a_batch() -> None:
    found = draws_per_step(np.array([6.0, 2, 1, 1, 0]), np.array([3, 2, 2, 2, 2]), 2)
    assert found[0] == pytest.approx(0.6)
    # In a batch of pairs 2:1:1 are drawn twice: the first is there unless both draws miss it, 1/2 · 1/3.
    assert found[1:] == pytest.approx([0.4 * 5 / 6, 0.4 * 7 / 12, 0.4 * 7 / 12, 0])


def test_datasets_that_share_a_batch_share_its_rows() -> None:
    pairs = [ConfiguredDataset(name, 1, num_rows=100, columns=PAIR_COLUMNS) for name in "abc"]
    triplets = ConfiguredDataset("t", 3, num_rows=100, columns=TRIPLET_COLUMNS)
    result = forecast(mixture(*pairs, triplets, per_batch=2), steps=60, batch_size=10)
    assert rows_drawn(result) == pytest.approx([100, 100, 100, 300])


def test_triplets_and_past_contexts_share_no_batch() -> None:
    triplets = [ConfiguredDataset(name, 1, num_rows=100, columns=TRIPLET_COLUMNS) for name in "ab"]
    contexts = ConfiguredDataset("c", 2, num_rows=100, columns=CONTEXT_COLUMNS)
    result = forecast(mixture(*triplets, contexts, per_batch=2), steps=60, batch_size=10)
    assert rows_drawn(result) == pytest.approx([150, 150, 300])


def test_groups_change_no_expectation_and_need_more_rows() -> None:
    pairs = [
        ConfiguredDataset(name, number + 1.0, num_rows=79 + number, columns=PAIR_COLUMNS)
        for number, name in enumerate("ab")
    ]
    triplets = ConfiguredDataset("t", 3, num_rows=100, columns=TRIPLET_COLUMNS)
    plain = forecast(Configuration((*pairs, triplets)), steps=60, batch_size=10)
    grouped = forecast(
        Configuration((*pairs, triplets), steps_per_group=8, datasets_per_group=2), steps=60, batch_size=10
    )
    assert rows_drawn(plain) == rows_drawn(grouped) == pytest.approx([100, 200, 300])
    assert [one.fits for one in plain.datasets] == [True, True, True]
    assert [one.fits for one in grouped.datasets] == [False, True, True]
    assert (grouped.steps_per_group, grouped.datasets_per_group) == (8, 2)


@pytest.mark.parametrize("name", ["stackoverflow", "multi-qa_v1", "all_datasets_v4"])
def test_every_published_file_has_the_rows_of_a_group(shared: Path, name: str) -> None:
    read = read_configuration(shared / "configs" / f"{name}.json")
    result = forecast(Configuration(read.datasets, steps_per_group=8, datasets_per_group=2), steps=9, batch_size=1024)
    assert all(one.fits for one in result.datasets)


def test_the_expectation_is_that_of_groups() -> None:
    """Against what 400 seeds draw: formats are apart in a group, and yet shares are as without groups."""
    datasets = [ConfiguredDataset(name, weight, columns=columns) for name, weight, columns in KINDS]
    result = forecast(Configuration(tuple(datasets), steps_per_group=8, datasets_per_group=2), steps=64, batch_size=2)
    columns = [columns for *_, columns in KINDS]
    counts = np.array(
        [
            Draws([weight for _, weight, _ in KINDS], columns, seed=seed, steps_per_group=8, datasets_per_group=2)
            .count(64, [2] * 4, [None] * 4)
            .batches
            for seed in range(400)
        ]
    )
    errors = counts.std(axis=0) / np.sqrt(len(counts))
    assert (np.abs(counts.mean(axis=0) - [one.batches for one in result.datasets]) <= 5 * errors).all()


def test_many_datasets_that_share_a_batch(shared: Path) -> None:
    read = read_configuration(shared / "configs" / "all_datasets_v4.json")
    result = forecast(Configuration(read.datasets, 8), steps=1000, batch_size=1024)
    assert sum(one.batches for one in result.datasets) == pytest.approx(8000)
    assert sum(rows_drawn(result)) == pytest.approx(1000 * 1024)


def test_the_expectation_is_that_of_drawing() -> None:
    """Against drawing step by step, with limits, in 400 runs: within five standard errors of the mean."""
    weights, limits, steps = np.array([5.0, 3, 1]), np.array([60, np.inf, 40]), 300
    datasets = [
        ConfiguredDataset("a", 5, num_rows=600, max_epochs=1),
        ConfiguredDataset("b", 3, num_rows=600),
        ConfiguredDataset("c", 1, num_rows=400, max_epochs=1),
    ]
    dice = np.random.default_rng(3)
    runs = np.zeros((400, 3))
    for batches in runs:
        for _ in range(steps):
            left = np.where(batches < limits, weights, 0)
            batches[dice.choice(3, p=left / left.sum())] += 1
    expected = [one.batches for one in forecast(mixture(*datasets), steps=steps, batch_size=10).datasets]
    errors = runs.std(axis=0) / np.sqrt(len(runs))
    assert (np.abs(runs.mean(axis=0) - expected) <= 5 * errors + 0.5).all()
