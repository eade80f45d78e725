"""In-batch negatives: pure functions of vectors."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def in_batch_negatives_loss(
    anchors: Float[Tensor, "N D"], candidates: Float[Tensor, "M D"], *, scale: float = 20.0
) -> Float[Tensor, ""]:
    """Cross-entropy of each anchor against its own positive among all candidates.

    Candidate ``i`` is the positive of anchor ``i``; every other candidate, hard negatives of any row included, is its
    negative. Also called InfoNCE or multiple negatives ranking loss.

    Args:
        anchors: Normalised for cosine similarity, as they are for dot product.
        candidates: The positives in the order of the anchors, then any hard negatives.
        scale: Multiplies the similarities.

    Returns:
        Mean over anchors, in nats.

    Raises:
        ValueError: There are fewer candidates than anchors.

    References:
        Henderson et al. 2017, *Efficient Natural Language Response Suggestion for Smart Reply*, section 4.4.
        van den Oord et al. 2018, *Representation Learning with Contrastive Predictive Coding*.
    """
    if len(candidates) < len(anchors):
        raise ValueError(f"{len(anchors)} anchors need as many candidates; there are {len(candidates)}")
    scores = anchors @ candidates.T * scale
    return functional.cross_entropy(scores, torch.arange(len(anchors), device=scores.device))


def symmetric_in_batch_negatives_loss(
    anchors: Float[Tensor, "N D"], positives: Float[Tensor, "M D"], *, scale: float = 20.0
) -> Float[Tensor, ""]:
    """The mean of `in_batch_negatives_loss` in both directions: anchors find positives, positives find anchors.

    Args:
        anchors: Normalised for cosine similarity, as they are for dot product.
        positives: In the order of the anchors.
        scale: Multiplies the similarities.

    Returns:
        Mean over both directions, in nats.

    Raises:
        ValueError: M differs from N.

    References:
        Radford et al. 2021, *Learning Transferable Visual Models From Natural Language Supervision*, figure 3.
    """
    if len(positives) != len(anchors):
        raise ValueError(f"{len(anchors)} anchors need as many positives; there are {len(positives)}")
    scores = anchors @ positives.T * scale
    targets = torch.arange(len(anchors), device=scores.device)
    return (functional.cross_entropy(scores, targets) + functional.cross_entropy(scores.T, targets)) / 2
