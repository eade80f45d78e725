"""The loss stage of contrastive training: from vectors to the loss and the gradient of the vectors, in alternating rounds.

Rivals are the loss stage of sentence-transformers' CachedMultipleNegativesRankingLoss (embedding is left out of all), and plain
autograd over the whole matrix of scores.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from sentence_transformers import __version__ as their_version
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
from torch import Tensor
from torch.nn import functional

from pairloom.recipe import LossSection
from pairloom.train.losses import BLOCK_ELEMENTS, contrastive_loss
from pairloom.train.objective import batch_loss

SCALE = 20.0
OURS = "pairloom"
BLOCKS = tuple(2**power for power in range(17, 25))

Run = Callable[[], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=4096)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    vectors = draw(arguments.pairs, arguments.dimensions)
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"sentence-transformers {their_version}; {arguments.pairs:,} pairs of {arguments.dimensions} dimensions, float32"
    )
    # The positive of each second pair is that of its neighbour, so that there is something to leave out.
    keys = torch.arange(len(vectors))
    keys[arguments.pairs + 1 :: 2] = keys[arguments.pairs : -1 : 2].clone()
    for symmetric in (False, True):
        print("both ways" if symmetric else "one way")
        contestants: dict[str, Run] = {
            OURS: partial(ours, vectors, symmetric),
            "sentence-transformers, 32": partial(theirs, vectors, symmetric, 32),
            "sentence-transformers, 512": partial(theirs, vectors, symmetric, 512),
            "plain autograd": partial(plain, vectors, symmetric),
        }
        reference = plain(vectors.double(), symmetric)
        for name, run in contestants.items():
            error = ((run() - reference).norm() / reference.norm()).item()
            assert error < 1e-5, f"{name}: gradient is off by {error:.1e}"
        contestants[f"{OURS}, repeated texts"] = partial(ours, vectors, symmetric, keys)
        contestants["three matrix products"] = partial(products, vectors)
        report(alternate(contestants, arguments.rounds))
    print("one way, by scores in a block")
    by_block: dict[str, Run] = {f"{size:,}": partial(blocks_of, vectors, size) for size in BLOCKS}
    report(alternate(by_block, arguments.rounds), reference=f"{BLOCKS[-1]:,}")


def draw(num_pairs: int, dimensions: int) -> Tensor:
    """Anchors, then positives that are near them, of lengths as mean pooling makes them: anything but 1."""
    dice = torch.Generator().manual_seed(0)
    anchors = torch.randn(num_pairs, dimensions, generator=dice)
    positives = anchors + 2 * torch.randn(num_pairs, dimensions, generator=dice)
    return torch.cat([anchors, positives]) / 10


def ours(vectors: Tensor, symmetric: bool, keys: Tensor | None = None) -> Tensor:
    """The gradient by the function that training calls."""
    leaf = vectors.clone().requires_grad_()
    section = LossSection(scale=SCALE, symmetric=symmetric)
    loss = batch_loss(leaf, num_pairs=len(leaf) // 2, similarity="cosine", section=section, text_keys=keys).loss
    return torch.autograd.grad(loss, leaf)[0]


def blocks_of(vectors: Tensor, block_elements: int) -> Tensor:
    leaf = vectors.clone().requires_grad_()
    anchors, positives = functional.normalize(leaf, dim=-1).chunk(2)
    loss = contrastive_loss(anchors, positives, scale=SCALE, block_elements=block_elements).loss
    return torch.autograd.grad(loss, leaf)[0]


def theirs(vectors: Tensor, symmetric: bool, mini_batch_size: int) -> Tensor:
    """The second of the three steps of their cached loss, on cached embeddings, which come in mini-batches."""
    directions = ("query_to_doc", "doc_to_query") if symmetric else ("query_to_doc",)
    loss = CachedMultipleNegativesRankingLoss(
        torch.nn.Sequential(torch.nn.Identity()),
        scale=SCALE,
        mini_batch_size=mini_batch_size,
        directions=directions,
        partition_mode="per_direction" if symmetric else "joint",
    )
    starts = range(0, len(vectors) // 2, mini_batch_size)
    cache = [
        [column[start : start + mini_batch_size].clone().requires_grad_() for start in starts]
        for column in vectors.chunk(2)
    ]
    loss.calculate_loss(cache, with_backward=True)
    return torch.cat([part.grad for column in cache for part in column if part.grad is not None])


def plain(vectors: Tensor, symmetric: bool) -> Tensor:
    leaf = vectors.clone().requires_grad_()
    anchors, positives = functional.normalize(leaf, dim=-1).chunk(2)
    scores = anchors @ positives.T * SCALE
    targets = torch.arange(len(scores))
    loss = functional.cross_entropy(scores, targets)
    if symmetric:
        loss = (loss + functional.cross_entropy(scores.T, targets)) / 2
    return torch.autograd.grad(loss, leaf)[0]


def products(vectors: Tensor) -> Tensor:
    """What no exact rewrite can do without: the scores, and the weights with the vectors of each side."""
    anchors, positives = vectors.chunk(2)
    made = torch.zeros_like(vectors)
    of_anchors, of_positives = made.chunk(2)
    step = max(1, BLOCK_ELEMENTS // len(positives))
    for start in range(0, len(anchors), step):
        rows = slice(start, start + step)
        scores = anchors[rows] @ positives.T
        torch.mm(scores, positives, out=of_anchors[rows])
        of_positives.addmm_(scores.T, anchors[rows])
    return made


def alternate(contestants: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def report(seconds: dict[str, list[float]], reference: str = OURS) -> None:
    for name, measured in seconds.items():
        ratios = [own / other for own, other in zip(measured, seconds[reference], strict=True)]
        print(
            f"{name:28} {statistics.median(measured):7.3f} s  {statistics.median(ratios):5.2f}× "
            f"({min(ratios):.2f}…{max(ratios):.2f}) the time of {reference}"
        )


if __name__ == "__main__":
    main()
