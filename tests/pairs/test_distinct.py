"""No text twice: the quick way against the obvious one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pairloom.pairs.distinct import fitting, repeats_itself


def one_by_one(hashes: list[list[int]], taken: set[int]) -> list[bool]:
    let_in = []
    for texts in hashes:
        fits = len(set(texts)) == len(texts) and taken.isdisjoint(texts)
        if fits:
            taken = taken | set(texts)
        let_in.append(fits)
    return let_in


ROWS = st.integers(2, 3).flatmap(
    lambda columns: st.integers(0, 40).flatmap(
        lambda largest: st.lists(
            st.lists(st.integers(0, largest) | st.just(2**64 - 1), min_size=columns, max_size=columns), min_size=1
        )
    )
)


@given(rows=ROWS, taken=st.sets(st.integers(0, 60) | st.just(2**64 - 1)))
def test_it_equals_going_through_them(rows: list[list[int]], taken: set[int]) -> None:
    hashes = np.array(rows, dtype=np.uint64)
    found = fitting(hashes, np.array(sorted(taken), dtype=np.uint64))
    assert found.tolist() == one_by_one(rows, taken)


@given(rows=ROWS)
def test_rows_that_repeat_themselves(rows: list[list[int]]) -> None:
    found = repeats_itself(np.array(rows, dtype=np.uint64))
    assert found.tolist() == [len(set(row)) < len(row) for row in rows]
