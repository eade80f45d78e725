from __future__ import annotations

import importlib
from math import log2
from typing import Any

import numpy as np
import pytest

from pairloom.errors import MissingExtraError
from pairloom.evaluate import metrics


def of_one_query(grades: dict[str, int], ranking: list[str]) -> dict[str, float]:
    values = metrics.retrieval_metrics({"q": grades}, {"q": ranking})
    return {name: float(value[0]) for name, value in values.items()}


def test_binary_judgements_by_hand() -> None:
    found = of_one_query({"a": 1, "b": 1, "c": 1}, ["x", "a", "y", "b"])
    ideal = 1 + 1 / log2(3) + 1 / log2(4)
    assert found == pytest.approx(
        {
            "nDCG@10": (1 / log2(3) + 1 / log2(5)) / ideal,
            "MRR@10": 1 / 2,
            "Recall@1": 0.0,
            "Recall@10": 2 / 3,
            "Recall@100": 2 / 3,
            "MAP@100": (1 / 2 + 2 / 4) / 3,
        }
    )


def test_only_ndcg_looks_at_grades_and_its_gain_is_linear() -> None:
    grades = {"best": 3, "fair": 1, "off": 0}
    found = of_one_query(grades, ["fair", "off", "best"])
    assert found["nDCG@10"] == pytest.approx((1 + 3 / log2(4)) / (3 + 1 / log2(3)))
    assert found["MRR@10"] == 1
    assert found["Recall@1"] == 1 / 2
    assert found["MAP@100"] == pytest.approx((1 + 2 / 3) / 2)


def test_a_grade_of_0_is_as_good_as_no_judgement() -> None:
    assert of_one_query({"a": 1, "b": 0}, ["b", "a"]) == of_one_query({"a": 1}, ["b", "a"])


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        (1, (1.0, 1.0, 1.0, 1.0, 1.0)),
        (10, (1 / 10, 0.0, 1.0, 1.0, 1 / 10)),
        (11, (0.0, 0.0, 0.0, 1.0, 1 / 11)),
        (100, (0.0, 0.0, 0.0, 1.0, 1 / 100)),
        (101, (0.0, 0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_cutoffs(rank: int, expected: tuple[float, ...]) -> None:
    ranking = [f"x{index}" for index in range(110)]
    ranking[rank - 1] = "a"
    found = of_one_query({"a": 1}, ranking)
    assert tuple(found[name] for name in ("MRR@10", "Recall@1", "Recall@10", "Recall@100", "MAP@100")) == (
        pytest.approx(expected)
    )


def test_the_order_given_is_the_order_measured() -> None:
    # Sorting by id, in either direction, would bring "b" before or after both others.
    for ranking in (["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"]):
        assert of_one_query({"b": 1}, ranking)["MRR@10"] == 1 / (1 + ranking.index("b"))


def test_a_perfect_ranking_gets_1_and_an_empty_one_0() -> None:
    grades = {f"d{grade}": grade for grade in (4, 3, 2, 1)}
    perfect = of_one_query(grades, list(grades))
    assert {name: value for name, value in perfect.items() if name != "Recall@1"} == pytest.approx(
        dict.fromkeys(("nDCG@10", "MRR@10", "Recall@10", "Recall@100", "MAP@100"), 1.0)
    )
    assert perfect["Recall@1"] == 1 / 4
    assert set(of_one_query(grades, []).values()) == {0.0}


def test_values_come_in_the_order_of_the_judgements() -> None:
    judgements = {"z": {"a": 1}, "b": {"a": 1}, "m": {"a": 1}, "unranked": {"a": 1}}
    rankings = {"b": ["a"], "z": ["x", "a"], "m": ["x", "y", "z", "a"]}
    assert metrics.retrieval_metrics(judgements, rankings)["MRR@10"].tolist() == [1 / 2, 1, 1 / 4, 0]


def test_spearman_by_hand() -> None:
    # Ranks 1 2 3 4 against 2 1 3 4: 1 - 6 * (1 + 1) / (4 * 15).
    assert metrics.spearman([1, 2, 3, 4], [0.2, 0.1, 0.7, 0.9]) == pytest.approx(0.8)
    # Ties share a rank: ranks 1.5 1.5 3 against 1 2 3.
    assert metrics.spearman([5, 5, 9], [0.1, 0.2, 0.3]) == pytest.approx(np.sqrt(3) / 2)


def test_pearson_by_hand() -> None:
    assert metrics.pearson([0, 1, 2], [0.0, 1.0, 0.5]) == pytest.approx(0.5)
    assert metrics.pearson([0, 1, 2], [-1, -3, -5]) == pytest.approx(-1)


def test_a_constant_correlates_with_nothing() -> None:
    for correlation in (metrics.spearman, metrics.pearson):
        assert correlation([1, 2, 3], [0.5, 0.5, 0.5]) == 0
        assert correlation([2, 2, 2], [0.1, 0.2, 0.3]) == 0


def test_average_precision_by_hand() -> None:
    # From the top: 1 0 1 0, so precision 1 at the first hit and 2/3 at the second.
    assert metrics.average_precision([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]) == pytest.approx((1 + 2 / 3) / 2)
    # All equal: only one threshold, with half of the pairs right.
    assert metrics.average_precision([1, 0, 1, 0], [0.5] * 4) == pytest.approx(1 / 2)


def test_best_f1_by_hand() -> None:
    # Thresholds take in 1, 2, 3 or 4 pairs: F1 of 2/3, 2/4, 4/5, 4/6.
    assert metrics.best_f1([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]) == pytest.approx(4 / 5)
    assert metrics.best_f1([1, 1, 0], [0.9, 0.8, 0.1]) == 1
    # Equal similarities cannot be told apart.
    assert metrics.best_f1([1, 0, 0, 0], [0.5] * 4) == pytest.approx(2 / 5)


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(
        MissingExtraError, match=r"scikit-learn, which is not installed: pip install 'pairloom\[evaluate\]'"
    ):
        metrics.best_f1([1, 0], [0.2, 0.1])
