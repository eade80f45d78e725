"""How much effort a search must make to find what an exact one finds: measured on the collection's own vectors.

Stand-ins for queries are made of the vectors themselves, in two ways, and each must reach the recall:

- vectors of the collection, which do not count as found by themselves: a new text like the others;
- vectors moved by a third of the difference between two others: a question is no document, it lies beside them, and differences
  between documents are the directions in which texts differ. (Noise in all directions would mostly lead to where no text is.)

Titles that ask for bodies of posts took about as much effort as the second kind, or a little less; vectors moved by a half took
several times as much. The first kind is easier (docs/log.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from pairloom.search.index.approximate import MOST_EFFORT, ApproximateSearch, Settings, Source
from pairloom.search.index.faiss_views import Positions, Vectors
from pairloom.search.index.flat_file import FlatFile, Mask
from pairloom.search.index.watch import Watch

# Of both kinds together. With 400 of them, whose standard error is larger, 384 was found where 192 is enough (docs/log.md).
NUM_QUERIES = 1_000
# See above.
MOVED = 0.35
# So many true neighbours are found: enough for the nearest 100, and for the nearest 10 where a fifth counts.
_DEPTH = 200
_SHARES = (0.5, 0.2)
_MASKED_EFFORTS = (1.0, 1.5, 2.0, 3.0, 4.0)
# So much effort that all are compared instead.
_NEVER = 99.0
_CANDIDATES = (1, 2, 4, 8, 15, 30, 50, 80)
_ENOUGH = 0.98
# Comparisons between two looks at whether to stop: less than a second.
_COMPARED_AT_ONCE = 20_000_000

Recalls = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Args:
        recall: Of the nearest 10, by the kind of stand-ins that finds fewer: with the settings, or with the greatest effort if
            there are none.
        settings: What reaches the target; None if nothing does.
        masked_recall: The same where only a share of the vectors counts, drawn by lot; by the share.
    """

    recall: float
    settings: Settings | None
    masked_recall: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """Stand-ins for queries, and what they find.

    Args:
        vectors: [S, D]; the first half are vectors of the collection.
        own: [S], where those are, -1 for the others.
        positions: [S, depth], the true neighbours, best first.
        scores: [S, depth].
    """

    vectors: Vectors
    own: Positions
    positions: Positions
    scores: Vectors


def calibrate(
    flat: FlatFile,
    source: Source,
    *,
    target_recall: float,
    live: Mask | None = None,
    num_queries: int = NUM_QUERIES,
    watch: Watch | None = None,
) -> Calibration:
    """Finds the least effort with which a source reaches a recall of the nearest 10, and of the nearest 100.

    The mean must lie above the target by its standard error, so that the true recall hardly ever lies below it.

    Args:
        flat: The vectors.
        source: What finds candidates among them.
        target_recall: Which share of the true neighbours must be found.
        live: [n], which vectors count at all; by default all.
        num_queries: Stand-ins for queries, of both kinds together.
        watch: Looked at between steps.
    """
    watch = watch or Watch()
    sample = draw_sample(flat, num_queries=num_queries, live=live, watch=watch.part(0.0, 0.5))
    trial = _Trial(flat, source, sample, live, target_recall, watch)
    watch.at(0.5)
    candidates_10 = trial.candidates(10)
    effort_10, recall = trial.effort(10, candidates_10)
    watch.at(0.7)
    if effort_10 is None:
        return Calibration(recall, None)
    candidates_100 = trial.candidates(100)
    effort_100, _ = trial.effort(100, candidates_100, least=effort_10)
    watch.at(0.9)
    # Where the nearest 100 are not found, whoever asks for so many is answered exactly.
    settings = Settings(effort_10, effort_100 or MOST_EFFORT, candidates_10, candidates_100)
    return Calibration(recall, *trial.masked(settings))


def draw_sample(
    flat: FlatFile,
    *,
    num_queries: int,
    live: Mask | None = None,
    moved: float = MOVED,
    seed: int = 0,
    watch: Watch | None = None,
) -> Sample:
    """Stand-ins for queries, and what an exact search finds for them.

    Args:
        flat: The vectors.
        num_queries: Of both kinds together.
        live: [n], which vectors count at all; by default all.
        moved: By which part of a difference those of the second kind are moved.
        seed: Of the draw.
        watch: Looked at between steps.
    """
    watch = watch or Watch()
    dice = np.random.default_rng(seed)
    whole = np.arange(len(flat)) if live is None else np.flatnonzero(live)
    half = max(1, min(num_queries // 2, len(whole)))
    own = dice.choice(whole, half, replace=False)
    begin_at, one, other = (flat.vectors(dice.choice(whole, half)) for _ in range(3))
    vectors = np.concatenate([flat.vectors(own), begin_at + np.float32(moved) * (one - other)])
    step = max(1, _COMPARED_AT_ONCE // len(flat))
    found = []
    for begin in range(0, len(vectors), step):
        watch.at(begin / len(vectors))
        found.append(flat.search(vectors[begin : begin + step], min(_DEPTH, len(whole)), live))
    positions, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Sample(vectors, np.concatenate([own, np.full(half, -1)]), positions, scores)


def recalls(search: ApproximateSearch, sample: Sample, k: int, allowed: Mask | None = None) -> Recalls:
    """Which share of its true neighbours each stand-in finds, [S].

    A vector that is as similar as the ``k``-th is as good as it: of equal texts any will do. Stand-ins for which there are not
    candidates enough would be answered exactly, which finds all and takes long: where that is not rare, they count as failures.
    """
    counts = np.ones(sample.positions.shape, np.bool_) if allowed is None else allowed[sample.positions]
    first = np.argsort(~counts, axis=1, kind="stable")[:, :k]
    true = np.take_along_axis(counts, first, 1)
    true_positions, true_scores = (np.take_along_axis(values, first, 1) for values in (sample.positions, sample.scores))
    least = np.where(true, true_scores, np.inf).min(axis=1, keepdims=True)
    own = sample.own[:, None]
    positions, scores, enough = search.attempt(sample.vectors, k, allowed)
    found = (scores >= least - np.abs(least) * 1e-6) & (positions >= 0) & (positions != own)
    # Where it takes a place, there is one less for others.
    own_has_place = (true & (true_positions == own)).any(axis=1) | ((positions == own) & (own >= 0)).any(axis=1)
    expected = true.sum(axis=1) - own_has_place
    shares = np.where(expected, np.minimum(1.0, found.sum(axis=1) / np.maximum(expected, 1)), 1.0)
    return np.where(~enough, float(enough.mean() > _ENOUGH), shares)


def of_the_worse_half(values: Recalls) -> tuple[float, float]:
    """The lower mean of the two kinds of stand-ins, and the lower mean less its standard error."""
    halves = np.array_split(values, 2)
    means = [float(half.mean()) for half in halves]
    return min(means), min(
        mean - float(half.std()) / len(half) ** 0.5 for mean, half in zip(means, halves, strict=True)
    )


class _Trial:
    """Tries efforts until one is enough."""

    def __init__(
        self, flat: FlatFile, source: Source, sample: Sample, live: Mask | None, target: float, watch: Watch
    ) -> None:
        self.flat, self.source, self.sample, self.live, self.target, self.watch = (
            flat,
            source,
            sample,
            live,
            target,
            watch,
        )

    def candidates(self, k: int) -> int:
        """How many candidates hold the nearest ``k``, if no effort is spared; half of what may be missed is left for less."""
        target = (1 + self.target) / 2
        effort = self.source.efforts[-1]
        choices = [factor * k for factor in _CANDIDATES if factor <= self.source.most_candidates]
        for count in choices[:-1]:
            if self._measured(Settings(effort, effort, count, count), k)[1] >= target:
                return count
        return choices[-1]

    def effort(self, k: int, candidates: int, least: int = 0) -> tuple[int | None, float]:
        """The least effort that finds the nearest ``k``, from ``least`` on, and the recall with it, or with the greatest if none does.

        Between the last one that the source names and that is not enough, and the next one, it is found to an eighth.
        """
        recall, too_little = 0.0, None
        for effort in sorted({max(effort, least) for effort in self.source.efforts}):
            recall, is_enough = self._tried(effort, k, candidates)
            if is_enough:
                break
            too_little = effort
        else:
            return None, recall
        while too_little is not None and effort - too_little > max(1, too_little // 8):
            middle = (too_little + effort) // 2
            found, is_enough = self._tried(middle, k, candidates)
            if is_enough:
                effort, recall = middle, found
            else:
                too_little = middle
        return effort, recall

    def _tried(self, effort: int, k: int, candidates: int) -> tuple[float, bool]:
        recall, surely = self._measured(Settings(effort, effort, candidates, candidates), k)
        return recall, surely >= self.target

    def masked(self, settings: Settings) -> tuple[Settings, dict[str, float]]:
        """The settings with which the nearest 10 are found where a share of the vectors counts, and those recalls."""
        dice = np.random.default_rng(1)
        live = np.ones(len(self.flat), np.bool_) if self.live is None else self.live
        masks = {share: live & (dice.random(len(self.flat)) < share) for share in _SHARES}
        measured: dict[str, float] = {}
        for factor in _MASKED_EFFORTS:
            settings = replace(settings, masked_effort=factor)
            results = {share: self._masked(settings, mask) for share, mask in masks.items()}
            measured = {str(share): recall for share, (recall, _) in results.items()}
            if all(surely >= self.target for _, surely in results.values()):
                return settings, measured
        return replace(settings, masked_effort=_NEVER), measured

    def _masked(self, settings: Settings, mask: Mask) -> tuple[float, float]:
        plan = ApproximateSearch(self.flat, self.source, settings).plan(10, int(np.count_nonzero(mask)))
        if plan.effort > 2 * self.source.efforts[-1]:  # such a search compares with all: to try it would take very long
            return 1.0, 1.0
        return self._measured(settings, 10, mask)

    def _measured(self, settings: Settings, k: int, allowed: Mask | None = None) -> tuple[float, float]:
        self.watch.look()
        search = ApproximateSearch(self.flat, self.source, settings)
        return of_the_worse_half(recalls(search, self.sample, k, self.live if allowed is None else allowed))
