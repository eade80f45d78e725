from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pairloom.encode.micro_batches import filled_up, micro_batches, rows_above, rows_below


@given(st.lists(st.integers(1, 300), max_size=200), st.integers(1, 2000))
def test_every_text_once_within_the_budget_and_longest_first(lengths: list[int], budget: int) -> None:
    array = np.array(lengths, dtype=np.int64)
    batches = list(micro_batches(array, budget))
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(len(lengths)))
    longest = [int(array[batch].max()) for batch in batches]
    assert longest == sorted(longest, reverse=True)
    for batch, width in zip(batches, longest, strict=True):
        assert len(batch) * width <= budget or len(batch) == 1


def test_padding_is_little() -> None:
    lengths = np.random.default_rng(0).integers(3, 128, size=2000)
    computed = sum(len(batch) * lengths[batch].max() for batch in micro_batches(lengths, 2048))
    assert computed < 1.02 * lengths.sum()


def test_micro_batches_of_many_blocks_have_few_shapes() -> None:
    dice = np.random.default_rng(0)
    shapes, raw = set(), set()
    for _ in range(300):
        lengths = dice.integers(3, 20, size=int(dice.integers(500, 600)))
        for rows in micro_batches(lengths, 256):
            filled = filled_up(rows, lengths, 256)
            np.testing.assert_array_equal(filled[: len(rows)], rows)
            assert set(filled[len(rows) :]) <= {rows[-1]}
            assert len(filled) * lengths[filled].max() <= 256
            shapes.add((len(filled), lengths[filled].max()))
            raw.add((len(rows), lengths[rows].max()))
    assert len(shapes) <= 17 + 10 < len(raw)


def test_a_micro_batch_of_long_texts_is_left_as_it_is() -> None:
    lengths = np.array([300, 200, 100])
    for rows in (np.array([0]), np.array([0, 1])):
        assert filled_up(rows, lengths, 1024) is rows


def test_few_numbers_of_rows() -> None:
    few = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
    assert sorted({rows_above(count) for count in range(129)}) == few
    for count in range(1, 129):
        assert rows_above(count) == min(size for size in few if size >= count)
        assert rows_below(count) == max(size for size in few if size <= count)
