"""Short texts in common rows: each in one place of its own, and hardly any place left free."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pairloom.encode.packing import pack


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(30, 64))
def test_texts_stand_side_by_side_within_rows(lengths: list[int], width: int) -> None:
    found = pack(np.array(lengths), width)
    places = [
        (row, place)
        for row, begin, length in zip(found.row.tolist(), found.begin.tolist(), lengths, strict=True)
        for place in range(begin, begin + length)
    ]
    assert len(set(places)) == sum(lengths)
    assert {row for row, _ in places} == set(range(found.num_rows))
    assert max(place for _, place in places) + 1 == found.width <= width
    # A row was begun because its first text, the longest, fitted into none of those before.
    taken = np.bincount(found.row, lengths, found.num_rows)
    for row in range(1, found.num_rows):
        first = max(length for length, where in zip(lengths, found.row.tolist(), strict=True) if where == row)
        assert (taken[:row] + first > width).all()


def test_the_longest_come_first_and_each_goes_where_it_fits_best() -> None:
    found = pack(np.array([20, 40, 24, 44, 4]), 64)
    assert (found.num_rows, found.width) == (3, 64)
    assert found.row.tolist() == [0, 1, 1, 0, 2]
    assert found.begin.tolist() == [44, 0, 40, 0, 0]
