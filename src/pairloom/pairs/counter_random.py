"""Random numbers without a state: a number is a function of a key and of counters, so any of them is had at once.

A key is made of a seed and of words that say what the numbers are for. Streams with different keys have nothing to do
with each other. The numbers are whole 64-bit numbers made by whole-number arithmetic alone, so they are the same on
every machine; and they must never change between versions, because the order of training data follows from them.

References: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3 (the idea of counters); Steele et al. 2014,
Fast splittable pseudorandom number generators (SplitMix64, whose mixer is used).
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)
_32 = np.uint64(32)
_LOW_32 = np.uint64(0xFFFFFFFF)


def stream_key(seed: int, *words: str | int) -> int:
    """The 64-bit key of a stream.

    Args:
        seed: Any whole number.
        words: What the stream is for; ``("rows", "a", 1)`` and ``("rows", "a1")`` are different streams.
    """
    content = json.dumps([seed, *words], ensure_ascii=True).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def random_numbers(key: int, counters: Numbers, lane: int = 0) -> Numbers:
    """Random 64-bit numbers, one for each counter.

    Args:
        key: From `stream_key`.
        counters: uint64, of any shape; equal counters give equal numbers.
        lane: A second counter: another lane, other numbers.

    Returns:
        uint64, of the shape of ``counters``.
    """
    # Twice the mixer, with the lane between: once alone lets two keys run through the same numbers, only shifted.
    inner = mix(counters * _GOLDEN + np.uint64(key))
    return mix(inner + np.uint64((lane * int(_GOLDEN) + (key ^ 0xA5A5A5A5A5A5A5A5)) % 2**64))


def mix(numbers: Numbers) -> Numbers:
    """A bijection of the 64-bit numbers in which each bit of the result depends on all bits."""
    numbers = (numbers ^ (numbers >> _SHIFTS[0])) * _MULTIPLIERS[0]
    numbers ^= numbers >> _SHIFTS[1]
    numbers *= _MULTIPLIERS[1]
    numbers ^= numbers >> _SHIFTS[2]
    return numbers


def below(numbers: Numbers, limits: Numbers | np.uint64) -> Numbers:
    """Brings random 64-bit numbers below limits, as ``floor(number · limit / 2^64)``, without rounding.

    Values differ in probability by less than ``2^-64``.
    """
    # The upper half of the 128-bit product, from four products of 32-bit halves.
    high, low = numbers >> _32, numbers & _LOW_32
    limit_high, limit_low = limits >> _32, limits & _LOW_32
    middle = high * limit_low + (low * limit_low >> _32)
    result: Numbers = high * limit_high + (middle >> _32) + (low * limit_high + (middle & _LOW_32) >> _32)
    return result
