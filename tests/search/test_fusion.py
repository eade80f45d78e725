"""Reciprocal rank fusion, by hand."""

from __future__ import annotations

import pytest

from pairloom.search.fusion import reciprocal_rank_fusion


def test_by_hand() -> None:
    found = reciprocal_rank_fusion([["a", "b", "c"], ["b", "d"]])
    assert [key for key, _ in found] == ["b", "a", "d", "c"]
    assert [score for _, score in found] == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62, 1 / 63])


def test_weights_and_constant() -> None:
    found = dict(reciprocal_rank_fusion([["a", "b"], ["b"], ["c"]], [0.5, 2, 1], constant=1))
    assert found == pytest.approx({"a": 0.5 / 2, "b": 0.5 / 3 + 2 / 2, "c": 1 / 2})


def test_a_weight_of_0_takes_a_ranking_out() -> None:
    assert reciprocal_rank_fusion([["a"], ["b"]], [0, 1]) == [("b", 1 / 61)]


def test_of_equal_ones_the_first_rankings_comes_first() -> None:
    assert [key for key, _ in reciprocal_rank_fusion([["a", "b"], ["c", "d"]])] == ["a", "c", "b", "d"]
    assert [key for key, _ in reciprocal_rank_fusion([[2, 1], [1, 2]])] == [2, 1]


def test_one_ranking_and_none() -> None:
    assert [key for key, _ in reciprocal_rank_fusion([["x", "y"], []])] == ["x", "y"]
    assert reciprocal_rank_fusion([[], []]) == []
    assert reciprocal_rank_fusion([]) == []


@pytest.mark.parametrize("weights", [[1], [1, 1, 1], [1, -0.1]])
def test_weights_that_do_not_fit(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="2 rankings need as many weights, none below 0"):
        reciprocal_rank_fusion([["a"], ["b"]], weights)
