"""The permutation is one, for every size, and looks like a shuffle."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pairloom.pairs.permutation import MAX_SIZE, Permutation

# What is tested is determined, so this is no chance of failing: it is how unlikely a result may look.
UNLIKELY = 1e-4


def test_it_is_a_bijection_for_every_size_up_to_5000() -> None:
    for size in range(1, 5001):
        numbers = np.arange(size)
        shuffled = Permutation(size, key=size)(numbers)
        back = np.full(size, -1)
        back[shuffled] = numbers  # raises where a number is too large
        assert back.min() >= 0, size


@settings(max_examples=200, deadline=None)
@given(
    power=st.integers(1, 40),
    offset=st.integers(-3, 3),
    key=st.integers(0, 2**64 - 1),
    seed=st.integers(0, 2**32),
)
def test_it_has_an_inverse_near_every_power_of_two(power: int, offset: int, key: int, seed: int) -> None:
    """What has an inverse on both sides, staying below the size, is a bijection."""
    size = max(1, 2**power + offset)
    permutation = Permutation(size, key)
    places = np.random.default_rng(seed).integers(0, size, 50)
    places = np.concatenate([places, [0, size - 1]])
    numbers = permutation(places)
    assert numbers.min() >= 0
    assert numbers.max() < size
    assert permutation.inverse(numbers).tolist() == places.tolist()
    assert permutation(permutation.inverse(places)).tolist() == places.tolist()


@pytest.mark.parametrize("size", [0, -1, MAX_SIZE + 1])
def test_sizes_that_it_has_not(size: int) -> None:
    with pytest.raises(ValueError, match="size must be in"):
        Permutation(size, 0)


def test_the_largest_size() -> None:
    permutation = Permutation(MAX_SIZE, 5)
    places = np.array([0, 1, MAX_SIZE - 1])
    assert permutation.inverse(permutation(places)).tolist() == places.tolist()


def test_it_never_changes() -> None:
    assert Permutation(10, 1)(np.arange(10)).tolist() == [7, 4, 9, 0, 2, 5, 1, 3, 6, 8]
    assert Permutation(10**9, 1)(np.arange(3)).tolist() == [450683061, 394126276, 700632935]


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
def test_every_order_of_a_few_is_as_likely(size: int) -> None:
    orders = Counter(tuple(Permutation(size, key * 7919)(np.arange(size)).tolist()) for key in range(4000))
    counts = [orders[order] for order in itertools.permutations(range(size))]
    assert stats.chisquare(counts).pvalue > UNLIKELY


@pytest.mark.parametrize("size", [7, 12, 63, 64, 65, 100])
def test_every_place_and_every_neighbour_is_as_likely(size: int) -> None:
    repeats = 3000
    shuffles = np.stack([Permutation(size, key * 7919)(np.arange(size)) for key in range(repeats)])
    at_place = np.stack([np.bincount(column, minlength=size) for column in shuffles.T])
    # Rows and columns of the table have fixed sums, which costs it 2 · size − 1 degrees of freedom.
    statistic = ((at_place - repeats / size) ** 2 / (repeats / size)).sum()
    assert stats.chi2.sf(statistic, (size - 1) ** 2) > UNLIKELY
    differences = np.bincount((np.diff(shuffles, axis=1) % size).ravel(), minlength=size)[1:]
    assert stats.chisquare(differences).pvalue > UNLIKELY


def test_a_large_shuffle_scatters_neighbours_evenly() -> None:
    size = 10**9 + 7
    numbers = Permutation(size, 3)(np.arange(200_000))
    assert stats.kstest(numbers / size, "uniform").pvalue > UNLIKELY
    assert stats.kstest(np.diff(numbers) % size / size, "uniform").pvalue > UNLIKELY
    pairs, _, _ = np.histogram2d(numbers[:-1], numbers[1:], bins=20, range=[[0, size], [0, size]])
    assert stats.chisquare(pairs.ravel()).pvalue > UNLIKELY


def test_two_keys_have_nothing_in_common() -> None:
    one, two = (Permutation(20_000, key)(np.arange(20_000)) for key in (1, 2))
    assert abs(stats.spearmanr(one, two).statistic) < 5 / np.sqrt(20_000)
    assert (one == two).sum() < 10, "one on average"
    together, _, _ = np.histogram2d(one, two, bins=20)
    assert stats.chisquare(together.ravel()).pvalue > UNLIKELY
