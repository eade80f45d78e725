"""More rows than there are real texts: copies of the real ones, each moved a little by itself.

A copy is ``normalise(v + sigma * noise)``. The noise is normal with the covariance of the real vectors, scaled to a mean
square length of 1, so that copies lie where texts lie and not in all directions. Sigma is chosen on a random part of the
real vectors: grown by the same factor to the size of the whole, it has to have the neighbours that the whole really has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks._search_rows import Vectors
from pairloom.encode.similarity import normalize, top_k

BLOCK_ROWS = 32_768
NEIGHBOURS = 10
# Of rows and of questions at which neighbours are looked.
_SAMPLE = 500
_STEPS = 14
# Copies beyond it are nearly all noise.
_LARGEST_SIGMA = 4.0
# Of a copy's words, but at least one: texts that are the same would leave rankings to chance.
ALTERED_WORDS = 0.2
_POOL_WORDS = 1_000_000


@dataclass(frozen=True)
class Growth:
    """How rows are added to the real ones.

    Args:
        factor: How many times as many there are to be.
        sigma: How far copies are moved, the length of a vector being 1.
        copy_similarity: Median cosine of a copy and its original.
        share_of_nearest: The distance between them, as a share of the distance between a real text and the nearest other
            one (medians).
        neighbours: Median over rows of the mean similarity to the ten nearest others: of the real rows, and of the part
            that was grown to their number.
        found: Median similarity of what is found at ranks 1, 10 and 100 for a question, of both.
    """

    factor: float
    sigma: float
    copy_similarity: float
    share_of_nearest: float
    neighbours: tuple[float, float]
    found: tuple[tuple[float, ...], tuple[float, ...]]

    def describe(self) -> str:
        ranks = " ".join(f"{own:.3f}/{real:.3f}" for real, own in zip(*self.found, strict=True))
        real, grown = self.neighbours
        return (
            f"copies: sigma {self.sigma:.3f}, cosine {self.copy_similarity:.3f} to their original, which is "
            f"{self.share_of_nearest:.0%} of the distance to the nearest real neighbour; a part grown {self.factor:.1f}-fold "
            f"to the size of the whole, beside the whole: ten nearest neighbours {grown:.3f}/{real:.3f}, found at ranks "
            f"1, 10, 100: {ranks}"
        )

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def spread(vectors: Vectors) -> Vectors:
    """The [D, D] by which white noise is multiplied to have the covariance of ``vectors``, with a trace of 1."""
    centred = vectors - vectors.mean(axis=0)
    values, directions = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    values = np.maximum(values, 0)
    return np.asarray((directions * np.sqrt(values / values.sum())).T, dtype=np.float32)


def copies(real: Vectors, root: Vectors, sigma: float, begin: int, end: int, seed: int = 0) -> Iterator[Vectors]:
    """The rows from ``begin`` to ``end`` of a set whose first rows are ``real``; row ``i`` is a copy of row ``i % N``.

    Args:
        real: [N, D], normalised.
        root: Of `spread`.
        sigma: See above.
        begin: Not below N, unless the copies are to stand beside the set.
        end: Not included.
        seed: Another one makes other copies of the same rows.
    """
    for first in range(begin, end, BLOCK_ROWS):
        originals = real[np.arange(first, min(end, first + BLOCK_ROWS)) % len(real)]
        dice = np.random.default_rng([seed, first])
        noise = dice.standard_normal(originals.shape, dtype=np.float32) @ root
        yield normalize(originals + np.float32(sigma) * noise)


def choose(real: Vectors, questions: Vectors, size: int) -> Growth:
    """Finds sigma for growing ``real`` [N, D] to ``size`` rows, by halving the range in which it lies.

    The larger sigma, the less similar the neighbours: without noise they are the same text, with much of it strangers.
    """
    factor = size / len(real)
    dice = np.random.default_rng(0)
    part = real[dice.permutation(len(real))[: max(NEIGHBOURS + 1, round(len(real) / factor))]]
    root, sample = spread(part), dice.permutation(len(real))[:_SAMPLE]

    def grown(sigma: float) -> Vectors:
        return np.concatenate([part, *copies(part, root, sigma, len(part), len(real))])

    wanted = neighbourhood(real, sample)
    low, high = 0.0, _LARGEST_SIGMA
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if neighbourhood(grown(middle), sample) > wanted else (low, middle)
    sigma = (low + high) / 2
    made = grown(sigma)
    moved = np.arange(len(part), len(real))
    similarity = float(np.median(np.einsum("nd,nd->n", made[moved], part[moved % len(part)])))
    nearest = float(np.median(top_k(real[sample], real, 2, "dot")[1][:, 1]))
    return Growth(
        factor,
        sigma,
        similarity,
        float(distance(similarity) / distance(nearest)),
        (wanted, neighbourhood(made, sample)),
        (ranks(questions[:_SAMPLE], real), ranks(questions[:_SAMPLE], made)),
    )


def distance(similarity: float) -> float:
    """Between two vectors of length 1."""
    return float(np.sqrt(max(0.0, 2 - 2 * similarity)))


def neighbourhood(vectors: Vectors, sample: npt.NDArray[np.int64]) -> float:
    """The median over rows of the mean similarity to the ten nearest others."""
    _, scores = top_k(vectors[sample], vectors, NEIGHBOURS + 1, "dot")
    return float(np.median(scores[:, 1:].mean(axis=1)))


def ranks(questions: Vectors, vectors: Vectors) -> tuple[float, ...]:
    """Median similarity of what is found at ranks 1, 10 and 100 (or the last, if there are fewer)."""
    _, scores = top_k(questions, vectors, 100, "dot")
    return tuple(float(np.median(scores[:, min(rank, scores.shape[1]) - 1])) for rank in (1, 10, 100))


def altered(texts: Sequence[str], begin: int, end: int, seed: int = 0) -> Iterator[str]:
    """The texts of the same rows as `copies`: the original's with a fifth of its words replaced.

    Words come from the texts themselves, each as often as it stands in them: documents stay as long as they were, and every
    word is in as large a share of them, which is what a search for words takes its time for.
    """
    pool: list[str] = []
    for text in texts:
        pool += text.split()
        if len(pool) >= _POOL_WORDS:
            break
    dice = np.random.default_rng([seed, begin])
    for row in range(begin, end):
        words = texts[row % len(texts)].split()
        chances = dice.random(len(words))
        places = np.flatnonzero((chances < ALTERED_WORDS) | (chances == chances.min())).tolist()
        for place, word in zip(places, dice.integers(len(pool), size=len(places)).tolist(), strict=True):
            words[place] = pool[word]
        yield " ".join(words)
