from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairloom.pairs.weights import capped, equal, power, proportional

ROWS = st.lists(st.integers(1, 10**10), min_size=1, max_size=30)


def test_values_by_hand() -> None:
    assert equal([7, 1_000_000]) == [1, 1]
    assert proportional([7, 30]) == [7, 30]
    assert power([4, 100], 0.5) == [2, 10]
    # Counted are 100, 100 and 50 of 250: 40, 40 and 20 of 100, and a third of 40, rounded up.
    assert capped([5000, 100, 50], [1, 3, 1], total=100, cap=100) == [40, 14, 20]
    assert capped([1, 10**9], [1, 1]) == [1, 10_000]


def test_an_exact_quotient_is_not_rounded_up() -> None:
    """In binary fractions 10,000 · 3 / 100 / 0.1 and the like come out a little above or below the whole number."""
    for rows in range(1, 100):
        assert capped([rows, 100 - rows], [1, 1], total=100) == [rows, 100 - rows]


@given(ROWS, st.floats(0, 3))
def test_power_lies_between_equal_and_proportional(rows: list[int], alpha: float) -> None:
    weights = power(rows, alpha)
    assert all(weight > 0 and math.isfinite(weight) for weight in weights)
    for (a, x), (b, y) in zip(zip(rows, weights, strict=True), zip(rows[1:], weights[1:], strict=False), strict=False):
        assert (a <= b) == (x <= y) or x == pytest.approx(y)
    assert power(rows, 0) == equal(rows)
    assert power(rows, 1) == proportional(rows)


@given(ROWS, st.integers(1, 10**6), st.integers(1, 10**9), st.floats(0.01, 100))
def test_capped_is_the_formula_rounded_up(rows: list[int], total: int, cap: int, divisor: float) -> None:
    weights = capped(rows, [divisor] * len(rows), total=total, cap=cap)
    in_all = sum(min(one, cap) for one in rows)
    for one, weight in zip(rows, weights, strict=True):
        exact = Fraction(total * min(one, cap), in_all) / Fraction(divisor)
        assert weight >= 1
        assert 0 <= Fraction(weight) - exact < 1
    assert len({weight for one, weight in zip(rows, weights, strict=True) if one >= cap}) <= 1


# The published weights of what is no Stack Exchange dump, as far as they are not what the formula says of a whole
# divisor: these were divided by it and rounded down, as if it were a little more, or were written by hand.
ROUNDED_DOWN = {
    "multi-qa_v1": {"PAQ_pairs": 3, "WikiAnswers_pairs": 3},
    "all_datasets_v4": {
        **dict.fromkeys((f"reddit/reddit_{year}" for year in range(2015, 2019)), 3),
        "specter_train_triples": 2,
        "S2ORC_title_abstract": 2,
        "S2ORC_citation_pairs": 2,
        "S2ORC_citation_pairs_abstract": 2,
        "PAQ_pairs": 2,
        "WikiAnswers_pairs": 2,
    },
}
BY_HAND = {
    "multi-qa_v1": {"msmarco-query_passage_negative_v2": 1000},
    "all_datasets_v4": {"flickr30k_captions": 1, "coco_captions": 1, "codesearchnet": 1},
}
WHOLE = {
    "multi-qa_v1": {"stackexchange": 2, "yahoo_answers": 2},
    "all_datasets_v4": {"stackexchange": 3},
}


@pytest.mark.parametrize(
    ("name", "num_datasets", "num_whole"), [("multi-qa_v1", 188, 185), ("all_datasets_v4", 290, 277)]
)
def test_published_weights(shared: Path, name: str, num_datasets: int, num_whole: int) -> None:
    listed = {
        entry["name"].removesuffix(".jsonl.gz"): entry
        for entry in json.loads((shared / "configs" / f"{name}.json").read_text())
    }
    rows = [entry["lines"] for entry in listed.values()]
    published = {file: entry["weight"] for file, entry in listed.items()}

    def differing(divisors: dict[str, float]) -> dict[str, int]:
        computed = capped(rows, [divisors.get(file, 1) for file in listed])
        return {
            file: published[file] for file, weight in zip(listed, computed, strict=True) if weight != published[file]
        }

    divisors = {
        file: float(divisor) for file in listed for start, divisor in WHOLE[name].items() if file.startswith(start)
    }
    others: dict[str, float] = dict(ROUNDED_DOWN[name])
    assert len(listed) == num_datasets
    assert len(listed) - len(differing(divisors | others)) == num_whole
    assert differing(divisors | others).keys() == others.keys() | BY_HAND[name].keys()
    assert differing(divisors | {file: divisor + 0.01 for file, divisor in others.items()}) == BY_HAND[name]
