"""Random numbers as functions of counters: never other ones, and without pattern."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pairloom.pairs.counter_random import below, mix, random_numbers, stream_key

KEY = 6905717141492417173


def test_the_numbers_never_change() -> None:
    """The order of all training data follows from these; a version that changes them changes every run."""
    assert stream_key(0) == 11243728523470438572
    assert stream_key(7, "rows", "pärs", 3) == KEY
    assert random_numbers(KEY, np.arange(3, dtype=np.uint64)).tolist() == [
        1972659612394646839,
        6126003146971385096,
        15128531517610453349,
    ]
    assert random_numbers(KEY, np.arange(3, dtype=np.uint64), 5).tolist() == [
        2782019663071024134,
        17194934592380364240,
        4811523438785594364,
    ]


def test_mix_is_that_of_splitmix64() -> None:
    """Its published first outputs from the state 1234567."""
    states = np.uint64(1234567) + np.arange(1, 4, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert mix(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_words_do_not_run_together() -> None:
    keys = [
        stream_key(*words)  # type: ignore[arg-type]
        for words in [(1,), (1, ""), (1, "a", "b"), (1, "ab"), (1, "a", 1), (1, "a1"), (1, "a", "1"), (11, "a"), (-1,)]
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("lane", [0, 1])
def test_bits_are_even_and_streams_independent(lane: int) -> None:
    counters = np.arange(100_000, dtype=np.uint64)
    numbers = random_numbers(stream_key(3), counters, lane)
    bits = np.unpackbits(numbers.view(np.uint8).reshape(-1, 8), axis=1)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(len(counters)), "five standard deviations"
    for other in (random_numbers(stream_key(4), counters, lane), random_numbers(stream_key(3), counters, lane + 1)):
        flipped = np.unpackbits((numbers ^ other).view(np.uint8).reshape(-1, 8), axis=1)
        assert np.abs(flipped.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(len(counters))
    bytes_seen = np.bincount(numbers.view(np.uint8), minlength=256)
    assert stats.chisquare(bytes_seen).pvalue > 1e-4
    neighbours = numbers[:-1].astype(np.float64), numbers[1:].astype(np.float64)
    assert abs(np.corrcoef(*neighbours)[0, 1]) < 5 / np.sqrt(len(counters))


@given(
    number=st.integers(0, 2**64 - 1),
    limit=st.integers(0, 2**64 - 1),
)
def test_below_is_exact(number: int, limit: int) -> None:
    assert below(np.array([number], np.uint64), np.array([limit], np.uint64)).tolist() == [number * limit >> 64]
