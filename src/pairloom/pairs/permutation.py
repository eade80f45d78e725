"""A shuffle that is never written down: the place of a row in it is computed.

A permutation of the numbers below n, however large n is, takes no memory and no time to make: it is a small cipher
whose messages are exactly these numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pairloom.pairs.counter_random import Numbers, mix, random_numbers

MAX_SIZE = 2**48
# Four rounds look random to whoever sees few of the numbers (Luby & Rackoff 1988). A small domain is seen whole and
# needs more of them; the tests count every order of a few rows, and every pair of neighbours of some more.
_ROUNDS = 8
_ROUNDS_IF_SMALL = 24
_SMALL = 64
_32 = np.uint64(32)


class Permutation:
    """A pseudorandom permutation of the numbers 0 … size − 1.

    A number is split into two digits, below ``a`` and ``b`` with ``a · b ≥ size`` as small as possible, and a Feistel
    network adds to each digit in turn a keyed function of the other. What comes out at ``size`` or above is put
    through it again until it is below (cycle walking). With digits of k bits each, as is usual, up to three of four
    numbers would have to walk; with these, a few of a million.

    Such a network makes even permutations only, so half of the keys exchange the numbers 0 and 1 at the end.

    Args:
        size: From 1 to `MAX_SIZE`.
        key: 64 bits: another key, another permutation.

    References: Black & Rogaway 2002, Ciphers with arbitrary finite domains (the network and the walk).
    """

    def __init__(self, size: int, key: int) -> None:
        if not 1 <= size <= MAX_SIZE:
            raise ValueError(f"size must be in [1, {MAX_SIZE}], got {size}")
        self.size = size
        larger = math.isqrt(size - 1) + 1
        self._digits = np.uint64(larger), np.uint64(-(-size // larger))
        rounds = _ROUNDS_IF_SMALL if size <= _SMALL else _ROUNDS
        *self._keys, last = random_numbers(key, np.arange(rounds + 1, dtype=np.uint64))
        self._exchanges = bool(size > 1 and last >> np.uint64(63))

    def __call__(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which number stands at each of some places.

        Args:
            places: int64 ``[n]``, each in [0, size).

        Returns:
            int64 ``[n]``.
        """
        return self._exchange(self._walk(places, self._encipher))

    def inverse(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """At which place each of some numbers stands: int64 ``[n]``."""
        return self._walk(self._exchange(numbers), self._decipher)

    def _exchange(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(numbers < 2, 1 - numbers, numbers) if self._exchanges else numbers

    def _walk(self, numbers: NDArray[np.int64], once: Callable[[Numbers], Numbers]) -> NDArray[np.int64]:
        result = once(np.asarray(numbers).astype(np.uint64))
        size = np.uint64(self.size)
        while len(outside := np.flatnonzero(result >= size)):
            result[outside] = once(result[outside])
        return result.astype(np.int64)

    def _encipher(self, numbers: Numbers) -> Numbers:
        digits: list[Numbers] = list(np.divmod(numbers, self._digits[1]))
        for number, key in enumerate(self._keys):
            which = number % 2
            modulus = self._digits[which]
            moved = digits[which] + _scatter(digits[1 - which], key, modulus)
            digits[which] = np.where(moved >= modulus, moved - modulus, moved)
        return digits[0] * self._digits[1] + digits[1]

    def _decipher(self, numbers: Numbers) -> Numbers:
        digits: list[Numbers] = list(np.divmod(numbers, self._digits[1]))
        for number, key in reversed(list(enumerate(self._keys))):
            which = number % 2
            modulus = self._digits[which]
            moved = digits[which] + modulus - _scatter(digits[1 - which], key, modulus)
            digits[which] = np.where(moved >= modulus, moved - modulus, moved)
        return digits[0] * self._digits[1] + digits[1]


def _scatter(digit: Numbers, key: np.uint64, modulus: np.uint64) -> Numbers:
    """A random function of a digit, below ``modulus`` (which is at most 2^24)."""
    return (mix(digit + key) >> _32) * modulus >> _32
