"""Search by comparing with a few candidates only, as surely as was measured, and the choice between that and comparing with all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np

from pairloom.json_types import Bounds
from pairloom.search.index.faiss_views import Positions, Vectors
from pairloom.search.index.flat_file import FlatFile, Found, Mask, num_wanted

MOST_EFFORT = 1 << 20
_Effort = Annotated[int, Bounds(least=1, below=MOST_EFFORT + 1)]
_Factor = Annotated[float, Bounds(least=1.0, below=100.0)]


class Source(Protocol):
    """What finds candidates: a graph or lists of an inverted file."""

    def nearest(self, queries: Vectors, count: int, effort: int) -> tuple[Positions, Vectors | None]:
        """What is about the nearest to each query [Q, D].

        Returns:
            Positions [Q, ``count``], best first, -1 where there are no more; and their scores, if they are those that the flat file
            gives.
        """
        ...

    @property
    def efforts(self) -> Sequence[int]:
        """The efforts worth trying, rising."""
        ...

    @property
    def most_candidates(self) -> int:
        """For so many times ``k`` candidates, at most, it has to be asked: once if it compares as exactly as the flat file."""
        ...

    @property
    def rows_per_effort(self) -> float:
        """What one more in effort costs: as much time as comparing with so many vectors in an exact search."""
        ...


@dataclass(frozen=True)
class Settings:
    """What it takes to find enough of the nearest 10 and the nearest 100, as measured.

    Args:
        effort_10: Of the source: efSearch of a graph, lists that are looked into of an inverted file.
        effort_100: The same for 100.
        candidates_10: That many are compared exactly.
        candidates_100: The same for 100.
        masked_effort: Where only some vectors count: the effort for the nearest k / share, times this.
    """

    effort_10: _Effort
    effort_100: _Effort
    candidates_10: _Effort
    candidates_100: _Effort
    masked_effort: _Factor = 1.0

    def effort(self, k: float) -> float:
        """The effort for the nearest ``k``."""
        return _on_curve(k, self.effort_10, self.effort_100)

    def candidates(self, k: int, share: float = 1.0) -> int:
        """The number of candidates for the nearest ``k`` of those that count.

        The nearest ``k`` where only a share counts are among the nearest ``k / share`` of all, which short codes tell apart
        less well than the first ones; of the candidates for these, the share counts.
        """
        least, of_all = (_on_line(nearest, self.candidates_10, self.candidates_100) for nearest in (k, k / share))
        return max(k, math.ceil(max(least, of_all * share) - 1e-6))


@dataclass(frozen=True)
class Plan:
    """How candidates are looked for.

    Args:
        effort: Of the source.
        wanted: It is asked for so many.
        needed: So many of them must count, or the query is answered exactly: what counts lies elsewhere.
    """

    effort: int
    wanted: int
    needed: int


class ApproximateSearch:
    """Exact scores of the best among candidates. Threads may share it.

    Where not all vectors count, more candidates are asked for and those that do not count are passed over, so that one sees
    how many of the neighbours of a query count. If they are far fewer than of all vectors (the filter and the query are about
    different things), the nearest that count lie further off than was looked, and the query is answered exactly.

    Args:
        flat: The vectors.
        source: What finds candidates.
        settings: How much it takes.
    """

    def __init__(self, flat: FlatFile, source: Source, settings: Settings) -> None:
        self.flat, self.source, self.settings = flat, source, settings

    def plan(self, k: int, count: int) -> Plan:
        """How to find the nearest ``k`` of ``count`` vectors that count."""
        share = count / len(self.flat)
        masked = 1 + (self.settings.masked_effort - 1) * min(1.0, 2 * (1 - share))
        needed = min(self.settings.candidates(k, share), count)
        wanted = min(num_wanted(needed, share), len(self.flat))
        return Plan(math.ceil(self.settings.effort(k / share) * masked), wanted, needed)

    def is_faster(self, k: int, count: int) -> bool:
        """Whether it takes less time than comparing with all vectors that count."""
        if count <= k:
            return False
        plan = self.plan(k, count)
        # Picking a vector takes twice the time of comparing with it.
        exact = count * (1 if count == len(self.flat) else 2)
        return plan.effort * self.source.rows_per_effort + 2 * plan.needed < min(exact, len(self.flat))

    def search(self, queries: Vectors, k: int, allowed: Mask | None = None) -> Found:
        """As `FlatFile.search`, but some of the nearest may be missed."""
        positions, scores, enough = self.attempt(queries, k, allowed)
        if not enough.all():
            positions[~enough], scores[~enough] = self.flat.search(queries[~enough], k, allowed)
        return positions, scores

    def attempt(self, queries: Vectors, k: int, allowed: Mask | None = None) -> tuple[Positions, Vectors, Mask]:
        """The best among candidates, and for which queries, [Q], there were candidates enough; for others there is nothing."""
        count = len(self.flat) if allowed is None else int(np.count_nonzero(allowed))
        positions = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        if not count or not len(queries) or not k:
            return positions, scores, np.ones(len(queries), np.bool_)
        plan = self.plan(k, count)
        found, known = self.source.nearest(queries, plan.wanted, plan.effort)
        counts = found >= 0
        if allowed is not None:
            counts &= allowed[found]
        enough: Mask = counts.sum(axis=1) >= (min(k, count) if allowed is None else plan.needed)
        for row in np.flatnonzero(enough):
            candidates = found[row, counts[row]][: plan.needed]
            if known is None:
                best = self.flat.among(queries[row], np.sort(candidates), k)
            else:
                best = _best(candidates, known[row, counts[row]][: plan.needed], k)
            positions[row, : len(best[0])], scores[row, : len(best[0])] = best
        return positions, scores, enough


def _best(positions: Positions, scores: Vectors, k: int) -> Found:
    """The ``k`` best, of equal scores the smaller position first."""
    order = np.lexsort((positions, -scores))[:k]
    return positions[order], scores[order]


def _on_curve(k: float, at_10: float, at_100: float) -> float:
    """A power of ``k`` that goes through both points; up to 10 the first, from 100 on in proportion."""
    if not 10 < k < 100:
        return _on_line(k, at_10, at_100)
    return at_10 * math.pow(max(at_10, at_100) / at_10, math.log10(k / 10))


def _on_line(k: float, at_10: float, at_100: float) -> float:
    """A line through both points; up to 10 the first, from 100 on in proportion."""
    last = max(at_10, at_100)
    if k <= 10:
        return at_10
    return last * k / 100 if k >= 100 else at_10 + (last - at_10) * (k - 10) / 90
