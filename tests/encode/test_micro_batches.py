from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pairloom.encode.micro_batches import even_micro_batches, few_rows, micro_batches, rows_above, rows_below


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


@given(st.lists(st.integers(1, 300), min_size=1, max_size=200), st.integers(1, 2000), st.integers(0, 600))
def test_even_micro_batches(lengths: list[int], num_tokens: int, most_padding: int) -> None:
    array = np.array(lengths, dtype=np.int64)
    batches = list(even_micro_batches(array, num_tokens, most_padding=most_padding))
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(len(lengths)))
    longest = [int(array[batch].max()) for batch in batches]
    assert longest == sorted(longest, reverse=True)
    for place, (batch, width) in enumerate(zip(batches, longest, strict=True)):
        tokens = int(array[batch].sum())
        assert tokens - array[batch[-1]] < num_tokens
        assert len(batch) * width - tokens <= most_padding
        if place + 1 < len(batches):
            following = int(array[batches[place + 1][0]])
            assert tokens >= num_tokens or (len(batch) + 1) * width - tokens - following > most_padding


def test_as_many_micro_batches_as_are_wanted() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, size=400)
    for parts in (2, 4, 6):
        share = -(-int(lengths.sum()) // parts)
        tokens = [int(lengths[rows].sum()) for rows in even_micro_batches(lengths, share, most_padding=10_000)]
        assert len(tokens) == parts
        assert max(tokens) - min(tokens) < parts * 60


def test_numbers_of_rows_are_few_and_hardly_more() -> None:
    few = [*range(1, 9), *range(10, 17, 2), *range(20, 33, 4), *range(40, 65, 8), *range(80, 129, 16)]
    assert sorted({few_rows(count) for count in range(129)}) == few
    assert all(count <= few_rows(count) <= count * 5 / 4 for count in range(1, 5000))


def test_few_numbers_of_rows() -> None:
    few = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
    assert sorted({rows_above(count) for count in range(129)}) == few
    for count in range(1, 129):
        assert rows_above(count) == min(size for size in few if size >= count)
        assert rows_below(count) == max(size for size in few if size <= count)
