"""Losses that are means of another loss: over the first components of vectors, and over what a reply goes with.

Shapes: N rows (anchors), R vectors of all columns, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from pairloom.train.losses import BatchLoss

_ODD = 0x1E3779B97F4A7C15  # an odd factor loses nothing of a 64-bit number


def matryoshka_loss(
    vectors: Float[Tensor, "R D"], dimensions: Sequence[int], loss: Callable[[Tensor], BatchLoss]
) -> BatchLoss:
    """The mean of a loss over vectors that are cut to their first components.

    Args:
        vectors: Of all columns; not normalised.
        dimensions: At least one, each at most D.
        loss: Gets the cut vectors. For cosine similarity it normalises them: a cut unit vector is none.

    Returns:
        Loss and rows are means over the dimensions; ``correct`` is that of the full vectors, whether D is among them or not.

    References:
        Kusupati et al. 2022, *Matryoshka Representation Learning*, equation 1, with equal weights. Their loss is the sum, as is
        that of sentence-transformers: ``len(dimensions)`` times as much. The mean keeps gradients as large as they are without.
    """
    parts = {count: loss(vectors[:, :count]) for count in dimensions}
    if (full := parts.get(vectors.shape[1])) is None:
        with torch.no_grad():
            full = loss(vectors)
    losses = torch.stack([part.loss for part in parts.values()])
    rows = torch.stack([part.rows for part in parts.values()])
    return BatchLoss(losses.mean(), rows.mean(dim=0), full.correct)


def multi_context_loss(
    positives: Float[Tensor, "N D"],
    past_contexts: Float[Tensor, "N D"],
    loss: Callable[[Tensor, Tensor | None], BatchLoss],
    *,
    normalize: bool,
    positive_keys: Int64[Tensor, "N"] | None = None,
    past_context_keys: Int64[Tensor, "N"] | None = None,
) -> BatchLoss:
    """The mean of three losses of replies: with what they answer, with what was said before that, and with both.

    Args:
        positives: What the anchors, which are the replies, answer.
        past_contexts: What was said before that.
        loss: Of the anchors with the candidates, and their keys, that it is given.
        normalize: Whether the mean of the two vectors is scaled to length 1, as it must be for cosine similarity. There the
            two have length 1 as well and count alike; for dot product the longer one counts for more.
        positive_keys: Equal for equal texts; with those of the past contexts, or neither.
        past_context_keys: The same. Both texts together are equal to others where both are.

    Returns:
        Loss and rows are means over the three; ``correct`` is that of both together, which know the most.

    References:
        Henderson et al. 2020, *ConveRT: Efficient and Accurate Conversational Representations from Transformers*, the
        multi-context model.
    """
    both = (positives + past_contexts) / 2
    if normalize:
        both = functional.normalize(both, dim=-1)
    keys_of_both = None
    if positive_keys is not None and past_context_keys is not None:
        # Keys are digests: that two such sums are equal by chance is as rare as that two digests are.
        keys_of_both = positive_keys * _ODD + past_context_keys
    parts = [
        loss(positives, positive_keys),
        loss(past_contexts, past_context_keys),
        loss(both, keys_of_both),
    ]
    return BatchLoss(
        torch.stack([part.loss for part in parts]).mean(),
        torch.stack([part.rows for part in parts]).mean(dim=0),
        parts[-1].correct,
    )
