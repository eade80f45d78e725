"""The recall that is measured, beside one that is counted by hand, and the effort that is chosen by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pairloom.search.index import calibrate as calibrating
from pairloom.search.index.approximate import MOST_EFFORT, ApproximateSearch, Settings
from pairloom.search.index.calibrate import calibrate, draw_sample, of_the_worse_half, recalls
from pairloom.search.index.flat_file import FlatFile
from pairloom.search.index.graph import Graph, build_graph
from pairloom.search.index.watch import StoppedError, Watch
from tests.search.indexing import clustered, flat_of, oracle, share_found

VECTORS = clustered(2000)


class Forgetful:
    """Finds a neighbour with a chance that grows with the effort: 20 of 20 parts and it finds all."""

    most_candidates = 1
    rows_per_effort = 1.0

    def __init__(self, flat: FlatFile, efforts: tuple[int, ...] = tuple(range(1, 21))) -> None:
        self.flat, self.efforts = flat, efforts

    def nearest(self, queries: npt.NDArray[np.float32], count: int, effort: int) -> tuple[npt.NDArray[np.int64], None]:
        return self.found(queries, count, effort), None

    def found(self, queries: npt.NDArray[np.float32], count: int, effort: int) -> npt.NDArray[np.int64]:
        nearest = oracle(queries, self.flat.stored, min(2000, count * 25))[0]
        lost = nearest * 7919 % 20 >= effort
        order = np.argsort(lost, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(nearest, order, 1)


@pytest.fixture
def flat(tmp_path: Path) -> FlatFile:
    return flat_of(tmp_path, VECTORS)


def test_stand_ins_are_of_two_kinds_and_know_their_neighbours(flat: FlatFile) -> None:
    sample = draw_sample(flat, num_queries=60)
    assert sample.vectors.shape == (60, 32)
    own = sample.own[:30]
    assert len(set(own.tolist())) == 30
    np.testing.assert_array_equal(sample.vectors[:30], flat.vectors(own))
    np.testing.assert_array_equal(sample.positions[:30, 0], own)
    assert (sample.own[30:] == -1).all()
    expected, best = oracle(sample.vectors, flat.stored, 200)
    assert share_found(sample.positions, expected) > 0.999
    np.testing.assert_allclose(sample.scores, best, atol=1e-5)


def test_only_what_lives_is_drawn_and_found(flat: FlatFile) -> None:
    live = np.arange(2000) % 10 != 0
    sample = draw_sample(flat, num_queries=60, live=live)
    assert live[sample.own[:30]].all()
    assert live[sample.positions].all()


def test_a_vector_does_not_count_as_found_by_itself(flat: FlatFile) -> None:
    class OnlyItself(Forgetful):
        def found(self, queries: npt.NDArray[np.float32], count: int, effort: int) -> npt.NDArray[np.int64]:
            found = oracle(queries, self.flat.stored, 1800)[0][:, -count:]  # the farthest ones
            found[:, 0] = oracle(queries, self.flat.stored, 1)[0][:, 0]
            return found

    sample = draw_sample(flat, num_queries=40)
    measured = recalls(ApproximateSearch(flat, OnlyItself(flat), Settings(1, 1, 10, 100)), sample, 10)
    np.testing.assert_array_equal(measured[:20], np.zeros(20))
    np.testing.assert_allclose(measured[20:], np.full(20, 0.1))


@pytest.mark.parametrize("density", [None, 0.5])
def test_the_recall_is_that_counted_by_hand(flat: FlatFile, density: float | None) -> None:
    allowed = None if density is None else np.random.default_rng(3).random(2000) < density
    sample = draw_sample(flat, num_queries=60)
    search = ApproximateSearch(flat, Forgetful(flat), Settings(14, 14, 10, 100))
    found = search.attempt(sample.vectors, 10, allowed)[0]
    expected = oracle(sample.vectors, flat.stored, 10, allowed)[0]
    by_hand = []
    for mine, its, own in zip(found.tolist(), expected.tolist(), sample.own.tolist(), strict=True):
        others = set(its) - {own}
        by_hand.append(len(set(mine) & others) / len(others) if mine[0] >= 0 else 1.0)
    np.testing.assert_allclose(recalls(search, sample, 10, allowed), by_hand)


def test_of_equal_texts_any_is_as_good(tmp_path: Path) -> None:
    flat = flat_of(tmp_path, np.repeat(clustered(100), 20, axis=0))

    class TheLast(Forgetful):
        def found(self, queries: npt.NDArray[np.float32], count: int, effort: int) -> npt.NDArray[np.int64]:
            return oracle(queries, self.flat.stored, 20)[0][:, -count:]

    sample = draw_sample(flat, num_queries=40)
    assert (recalls(ApproximateSearch(flat, TheLast(flat), Settings(1, 1, 10, 100)), sample, 10) == 1).all()


def test_candidates_that_are_too_few_are_failures_unless_that_is_rare(flat: FlatFile) -> None:
    class Sometimes(Forgetful):
        rare = False

        def found(self, queries: npt.NDArray[np.float32], count: int, effort: int) -> npt.NDArray[np.int64]:
            found = oracle(queries, self.flat.stored, count)[0]
            found[: 1 if self.rare else 30, 3:] = -1
            return found

    sample = draw_sample(flat, num_queries=100)
    source = Sometimes(flat)
    search = ApproximateSearch(flat, source, Settings(1, 1, 10, 100))
    np.testing.assert_array_equal(recalls(search, sample, 10), np.arange(100) >= 30)
    source.rare = True
    assert (recalls(search, sample, 10) == 1).all()


def test_the_worse_half_counts() -> None:
    mean, surely = of_the_worse_half(np.array([1.0, 1.0, 1.0, 1.0, 0.5, 1.0, 0.5, 1.0]))
    assert mean == 0.75
    assert surely == pytest.approx(0.75 - 0.25 / 2)
    assert of_the_worse_half(np.ones(8)) == (1, 1)


def test_the_least_effort_that_is_enough_is_chosen(flat: FlatFile) -> None:
    for target, least, most in ((0.5, 9, 13), (0.99, 20, 20)):
        found = calibrate(flat, Forgetful(flat, tuple(range(8, 21))), target_recall=target, num_queries=60)
        assert found.settings is not None
        assert least <= found.settings.effort_10 <= most
        assert found.recall >= target
    assert found.recall == 1
    assert found.settings is not None
    assert (found.settings.candidates_10, found.settings.candidates_100) == (10, 100)


@pytest.mark.parametrize("target", [0.5, 0.7, 0.9])
def test_between_two_efforts_the_least_is_found_to_an_eighth(flat: FlatFile, target: float) -> None:
    def effort(*efforts: int) -> int:
        found = calibrate(flat, Forgetful(flat, efforts), target_recall=target, num_queries=60)
        assert found.settings is not None
        assert found.recall >= target
        return found.settings.effort_10

    least = effort(*range(1, 21))
    assert least <= effort(1, 20) <= least + max(1, least // 8)
    assert effort(2, least, 20) == least, "one that is named is taken if less than an eighth below it is not enough"


def test_the_effort_for_a_hundred_begins_with_that_for_ten(flat: FlatFile, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = {10: 37, 100: 45}

    def tried(self: object, effort: int, k: int, candidates: int) -> tuple[float, bool]:
        return 1.0, effort >= needed[k]

    monkeypatch.setattr(calibrating._Trial, "_tried", tried)
    found = calibrate(flat, Forgetful(flat, (16, 32, 64, 128)), target_recall=0.5, num_queries=20)
    assert found.settings is not None
    assert 37 <= found.settings.effort_10 <= 41
    assert 45 <= found.settings.effort_100 <= 50
    needed[100] = 30
    found = calibrate(flat, Forgetful(flat, (16, 32, 64, 128)), target_recall=0.5, num_queries=20)
    assert found.settings is not None
    assert found.settings.effort_100 == found.settings.effort_10


def test_what_cannot_be_reached_is_said(flat: FlatFile) -> None:
    found = calibrate(flat, Forgetful(flat, efforts=(5, 10)), target_recall=0.99, num_queries=100)
    assert found.settings is None
    assert 0.35 < found.recall < 0.65


def test_a_graph_keeps_its_promise_on_queries_that_it_has_not_seen(flat: FlatFile, tmp_path: Path) -> None:
    graph = Graph(tmp_path, flat, build_graph(tmp_path, flat))
    found = calibrate(flat, graph, target_recall=0.95, num_queries=200)
    assert found.settings is not None
    assert set(found.masked_recall) == {"0.5", "0.2"}
    search = ApproximateSearch(flat, graph, found.settings)
    queries = clustered(200, seed=77)
    for share in (1.0, 0.5, 0.2, 0.1):
        allowed = np.random.default_rng(8).random(2000) < share
        expected = oracle(queries, flat.stored, 10, allowed)[0]
        assert share_found(search.search(queries, 10, allowed)[0], expected) > 0.95
    expected = oracle(queries, flat.stored, 100)[0]
    assert share_found(search.search(queries, 100)[0], expected) > 0.95


def test_it_tells_how_far_it_is_and_can_be_stopped(flat: FlatFile) -> None:
    shares: list[float] = []
    calibrate(flat, Forgetful(flat), target_recall=0.5, num_queries=40, watch=Watch(on_progress=shares.append))
    assert shares == sorted(shares)
    for count in (0, 1, 5, 10):
        looks = iter([False] * count + [True])
        with pytest.raises(StoppedError):
            calibrate(
                flat,
                Forgetful(flat),
                target_recall=0.5,
                num_queries=40,
                watch=Watch(stop=looks.__next__),
            )


def test_efforts_that_no_search_would_make_are_not_tried(flat: FlatFile) -> None:
    asked = []

    class Shortsighted(Forgetful):
        def found(self, queries: npt.NDArray[np.float32], count: int, effort: int) -> npt.NDArray[np.int64]:
            asked.append(effort)
            found = super().found(queries, count, effort)
            found[:, 50:] = found[:, :1]
            return found

    calibration = calibrate(flat, Shortsighted(flat), target_recall=0.9, num_queries=40)
    assert calibration.settings is not None
    assert calibration.settings.effort_100 == MOST_EFFORT  # the nearest hundred are not found
    assert max(asked) <= 2 * 20
    assert set(calibration.masked_recall) == {"0.5", "0.2"}
