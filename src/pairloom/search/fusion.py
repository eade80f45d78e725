"""Several rankings become one, by the ranks alone: scores of different searches cannot be compared."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

CONSTANT = 60
"""The authors' choice: how little it means to be first instead of tenth."""


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[Key]], weights: Sequence[float] | None = None, constant: float = CONSTANT
) -> list[tuple[Key, float]]:
    """Ranks whatever stands in one of the rankings by the sum of ``weight / (constant + rank)`` over those it stands in.

    Args:
        rankings: Each best first, with nothing twice.
        weights: Of each ranking; by default 1. One of 0 takes it out.
        constant: Added to ranks, which begin at 1.

    Returns:
        Keys and scores, best first. Of equal ones comes first what the first ranking has first, then what the second has, and so
        on; so the same rankings always give the same.

    Raises:
        ValueError: There is not one weight for each ranking, or one is negative.

    References:
        Cormack, Clarke and Büttcher 2009, *Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods*,
        https://doi.org/10.1145/1571941.1572114; the weights are ours.
    """
    weights = [1.0] * len(rankings) if weights is None else weights
    if len(weights) != len(rankings) or any(weight < 0 for weight in weights):
        raise ValueError(f"{len(rankings)} rankings need as many weights, none below 0, not {list(weights)}")
    scores: dict[Key, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        if weight > 0:
            for rank, key in enumerate(ranking, start=1):
                scores[key] = scores.get(key, 0.0) + weight / (constant + rank)
    return sorted(scores.items(), key=lambda found: -found[1])  # stable: equal ones stay as they came in
