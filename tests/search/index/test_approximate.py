"""The choice between candidates and all vectors, and what comes of candidates, whoever finds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pairloom.search.index.approximate import ApproximateSearch, Settings
from pairloom.search.index.flat_file import FlatFile
from tests.search.indexing import clustered, flat_of, oracle

VECTORS = clustered(2000)
QUERIES = clustered(20, seed=5)
SETTINGS = Settings(effort_10=40, effort_100=160, candidates_10=10, candidates_100=100)


class Perfect:
    """Finds the true neighbours, and remembers what it was asked for; of some it finds only so many."""

    efforts: Sequence[int] = (1, 2)
    most_candidates = 1
    rows_per_effort = 1.0

    def __init__(self, flat: FlatFile, most: int = 10**9) -> None:
        self.flat, self.most = flat, most
        self.asked: list[tuple[int, int]] = []

    def nearest(
        self, queries: npt.NDArray[np.float32], count: int, effort: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32] | None]:
        self.asked.append((count, effort))
        found = oracle(queries, self.flat.stored, count)[0]
        found[:, self.most :] = -1
        return found, None


@pytest.fixture
def flat(tmp_path: Path) -> FlatFile:
    return flat_of(tmp_path, VECTORS)


def test_the_effort_is_a_power_between_what_was_measured() -> None:
    assert [SETTINGS.effort(k) for k in (1, 10, 100, 1000)] == pytest.approx([40, 40, 160, 1600])
    assert SETTINGS.effort(10**1.5) == pytest.approx(80)
    assert [SETTINGS.candidates(k) for k in (1, 10, 37, 100, 250)] == [10, 10, 37, 100, 250]
    coarse = replace(SETTINGS, candidates_10=80, candidates_100=400)
    assert [coarse.candidates(k) for k in (1, 10, 100, 1000)] == [80, 80, 400, 4000]
    # Candidates for the nearest 10 of a tenth are a tenth of those for the nearest 100, if these are so many.
    assert [SETTINGS.candidates(10, share) for share in (1, 0.9, 0.5, 0.1)] == [10] * 4
    steep = replace(SETTINGS, candidates_10=20, candidates_100=3000)
    assert steep.candidates(10, 0.1) == 300
    assert coarse.candidates(10, 0.1) == 80


def test_the_fewer_count_the_more_is_looked_at(flat: FlatFile) -> None:
    search = ApproximateSearch(flat, Perfect(flat), SETTINGS)
    plans = [search.plan(10, count) for count in (2000, 1990, 1000, 200)]
    assert plans[0].wanted == plans[0].needed == 10
    assert plans[0].effort == 40
    assert [plan.effort for plan in plans] == sorted(plan.effort for plan in plans)
    assert [plan.wanted for plan in plans] == sorted(plan.wanted for plan in plans)
    assert plans[1].wanted < 13
    assert plans[3].effort == 160  # the nearest 10 of a tenth are among the nearest 100
    masked = ApproximateSearch(flat, Perfect(flat), replace(SETTINGS, masked_effort=2.0))
    assert masked.plan(10, 2000).effort == 40
    assert masked.plan(10, 200).effort == 320


def test_all_are_compared_where_that_is_faster(flat: FlatFile) -> None:
    search = ApproximateSearch(flat, Perfect(flat), SETTINGS)
    assert search.is_faster(10, 2000)
    assert search.is_faster(10, 1000)
    assert not search.is_faster(10, 60)
    assert not search.is_faster(10, 10)
    assert not search.is_faster(1500, 2000)
    assert not search.is_faster(2000, 2000)


@pytest.mark.parametrize("density", [None, 0.99, 0.5, 0.1])
@pytest.mark.parametrize("k", [1, 10, 30])
def test_perfect_candidates_give_what_an_exact_search_gives(flat: FlatFile, density: float | None, k: int) -> None:
    allowed = None if density is None else np.random.default_rng(3).random(2000) < density
    found = ApproximateSearch(flat, Perfect(flat), SETTINGS).search(QUERIES, k, allowed)
    exact = flat.search(QUERIES, k, allowed)
    for mine, its in zip(found, exact, strict=True):
        np.testing.assert_array_equal(mine, its)


def test_where_what_counts_lies_elsewhere_all_that_counts_is_compared(flat: FlatFile) -> None:
    source = Perfect(flat)
    search = ApproximateSearch(flat, source, SETTINGS)
    allowed = np.random.default_rng(3).random(2000) < 0.5
    # None of the neighbours of the first query count.
    allowed[oracle(QUERIES[:1], flat.stored, 300)[0][0]] = False
    positions, _, enough = search.attempt(QUERIES, 10, allowed)
    assert not enough[0]
    assert (positions[0] == -1).all()
    np.testing.assert_array_equal(search.search(QUERIES, 10, allowed)[0], oracle(QUERIES, flat.stored, 10, allowed)[0])


def test_too_few_candidates_are_made_up_for(flat: FlatFile) -> None:
    search = ApproximateSearch(flat, Perfect(flat, most=6), SETTINGS)
    assert not search.attempt(QUERIES, 10)[2].any()
    np.testing.assert_array_equal(search.search(QUERIES, 10)[0], oracle(QUERIES, flat.stored, 10)[0])
    assert search.attempt(QUERIES, 5)[2].all()


def test_of_equal_scores_the_smaller_position_comes_first(tmp_path: Path) -> None:
    flat = flat_of(tmp_path, np.repeat(clustered(100), 20, axis=0))
    found = ApproximateSearch(flat, Perfect(flat), SETTINGS).search(QUERIES, 10)[0]
    np.testing.assert_array_equal(found, oracle(QUERIES, flat.stored, 10)[0])


@pytest.mark.parametrize("density", [None, 0.5])
def test_scores_that_are_known_are_not_computed_again(
    flat: FlatFile, density: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Knowing(Perfect):
        def nearest(
            self, queries: npt.NDArray[np.float32], count: int, effort: int
        ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32] | None]:
            return super().nearest(queries, count, effort)[0], flat.search(queries, count)[1]

    allowed = None if density is None else np.random.default_rng(3).random(2000) < density
    exact = flat.search(QUERIES, 10, allowed)
    monkeypatch.setattr(flat, "among", None)
    found = ApproximateSearch(flat, Knowing(flat), SETTINGS).attempt(QUERIES, 10, allowed)
    assert found[2].all()
    np.testing.assert_array_equal(found[0], exact[0])
    np.testing.assert_array_equal(found[1], exact[1])


def test_nothing_is_asked_for_nothing(flat: FlatFile) -> None:
    source = Perfect(flat)
    search = ApproximateSearch(flat, source, SETTINGS)
    assert search.search(QUERIES[:0], 5)[0].shape == (0, 5)
    assert search.search(QUERIES, 0)[0].shape == (20, 0)
    assert (search.search(QUERIES, 5, np.zeros(2000, np.bool_))[0] == -1).all()
    assert source.asked == []
