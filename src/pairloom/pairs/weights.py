"""Weights of datasets from their numbers of rows. Only the ratios of weights matter: they say who is drawn how often."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction


def equal(num_rows: Sequence[int]) -> list[float]:
    """Every dataset is drawn as often as any other, so that small ones are repeated most."""
    return [1.0] * len(num_rows)


def proportional(num_rows: Sequence[int]) -> list[float]:
    """Every row is drawn as often as any other, so that large datasets drown the small ones."""
    return power(num_rows, 1.0)


def power(num_rows: Sequence[int], alpha: float) -> list[float]:
    """``n^alpha``: between `equal`, which is alpha = 0, and `proportional`, alpha = 1.

    References:
        Conneau et al. 2020 (XLM-R), whose languages are drawn with alpha 0.3.
    """
    return [float(rows) ** alpha for rows in num_rows]


def capped(
    num_rows: Sequence[int], divisors: Sequence[float], *, total: int = 10_000, cap: int = 1_000_000
) -> list[float]:
    """The weights of the published models: proportional up to a cap, each divided by a number chosen by hand.

    ``ceil(total · min(n, cap) / Σ_j min(n_j, cap) / divisor)``, computed without rounding errors. Because of the
    ceiling the smallest datasets get somewhat more than their part.

    Args:
        num_rows: Of each dataset, at least 1.
        divisors: For each dataset; above 1 makes it rarer.
        total: What the weights would add up to without divisors and ceilings.
        cap: Rows above it do not count.

    Returns:
        Whole numbers, at least 1.
    """
    counted = [min(rows, cap) for rows in num_rows]
    in_all = sum(counted)
    return [
        float(math.ceil(Fraction(total * rows, in_all) / Fraction(divisor)))
        for rows, divisor in zip(counted, divisors, strict=True)
    ]
