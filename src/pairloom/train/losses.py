"""In-batch negatives: pure functions of vectors, exact and in bounded memory.

The scores of a large batch are many more than its vectors: 65,536 pairs have four billion. Only a block of rows is held at a time, and
its share of the gradient is computed while it is there, so that nothing but vectors is kept for the backward pass.

Shapes: N rows (anchors), M candidates, D dimensions. Candidate ``i < N`` is the positive of anchor ``i``; candidates from N on are hard
negatives, and candidate ``c`` belongs to row ``c % N``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_ELEMENTS = 2**22
"""Scores in a block. Smaller blocks make slower matrix products, and larger ones gain little (`benchmarks.loss`)."""


@dataclass(frozen=True)
class BatchLoss:
    """The loss of a batch, and how its rows fared.

    Args:
        loss: Mean over the rows, in nats, with its graph.
        rows: The loss of each row, without a graph.
        correct: Whether no candidate that takes part scores as high for the anchor as its own positive.
    """

    loss: Float[Tensor, ""]
    rows: Float[Tensor, "N"]
    correct: Bool[Tensor, "N"]


def contrastive_loss(
    anchors: Float[Tensor, "N D"],
    candidates: Float[Tensor, "M D"],
    *,
    scale: float | Float[Tensor, ""] = 20.0,
    symmetric: bool = False,
    query_query: bool = False,
    document_document: bool = False,
    anchor_keys: Int64[Tensor, "N"] | None = None,
    candidate_keys: Int64[Tensor, "M"] | None = None,
    block_elements: int = BLOCK_ELEMENTS,
) -> BatchLoss:
    """Cross-entropy of each anchor against its own positive among all candidates, and what may be added to it.

    The loss and its gradients are exact; they are computed in float32 whatever autocast says, or in float64 if the vectors are. Each
    summation has a fixed order. There is no second derivative.

    Args:
        anchors: Normalised for cosine similarity, as they are for dot product.
        candidates: The positives in the order of the anchors, then any hard negatives; every row's negatives serve all rows.
        scale: Multiplies the similarities; a tensor gets its gradient.
        symmetric: Each positive must find its anchor among all anchors, too. The two directions have a softmax each, and the loss is
            their mean, unless terms are added.
        query_query: Adds the other anchors to the denominator of each row. All terms then share one denominator, those of
            ``symmetric`` included: the improved contrastive loss is made of all four.
        document_document: Adds the scores of each positive with all candidates that are not of its row; in the same way.
        anchor_keys: Equal for equal texts. What belongs to another row (or is a negative) and whose text is that of a row's anchor
            or positive is left out of the row's denominators, in each of the terms.
        candidate_keys: The same of the candidates.
        block_elements: Scores that are held at a time, about (two such blocks with ``symmetric``); at least a row is.

    Raises:
        ValueError: There are fewer candidates than anchors, or keys of one kind only.

    References:
        Henderson et al. 2017, *Efficient Natural Language Response Suggestion for Smart Reply*, section 4.4.
        van den Oord et al. 2018, *Representation Learning with Contrastive Predictive Coding*.
        Radford et al. 2021, *Learning Transferable Visual Models From Natural Language Supervision*, figure 3 (symmetric).
        Li et al. 2023, *Towards General Text Embeddings with Multi-stage Contrastive Learning*, the improved contrastive loss
        (the added terms; the own pair's score is in the denominator once for each direction, as there).
    """
    if len(candidates) < len(anchors):
        raise ValueError(f"{len(anchors)} anchors need as many candidates; there are {len(candidates)}")
    if (anchor_keys is None) != (candidate_keys is None):
        raise ValueError("keys are given of anchors and candidates, or of neither")
    keys = None
    if anchor_keys is not None and candidate_keys is not None:
        ordered = torch.cat([anchor_keys, candidate_keys]).sort().values
        # Many batches have no text twice; then there is nothing to compare.
        keys = (anchor_keys, candidate_keys) if bool((ordered[1:] == ordered[:-1]).any()) else None
    dtype = torch.float64 if anchors.dtype == torch.float64 else torch.float32
    if isinstance(scale, Tensor):
        scale = scale.to(anchors.device, dtype)
    else:
        scale = torch.full((), scale, dtype=dtype, device=anchors.device)
    inputs = anchors.to(dtype), candidates.to(dtype), scale
    with_gradients = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    terms = _Terms(symmetric, query_query, document_document, keys, block_elements, with_gradients)
    with torch.autocast(anchors.device.type, enabled=False):
        return BatchLoss(*_ContrastiveLoss.apply(*inputs, terms))  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class _Terms:
    """What goes into the denominators, and how much of it at a time."""

    symmetric: bool
    query_query: bool
    document_document: bool
    keys: tuple[Tensor, Tensor] | None
    block_elements: int
    with_gradients: bool

    @property
    def one_denominator(self) -> bool:
        """Whether each row has one, or one each way."""
        return self.query_query or self.document_document or not self.symmetric

    def blocks(self, num_rows: int, width: int) -> Iterator[slice]:
        """Ranges of rows that have about ``block_elements`` scores."""
        step = max(1, self.block_elements // width)
        return (slice(start, min(start + step, num_rows)) for start in range(0, num_rows, step))


class _ContrastiveLoss(torch.autograd.Function):
    """Makes the gradients together with the loss: the scores are there then, and need not be made again."""

    @staticmethod
    def forward(
        ctx: Any, anchors: Tensor, candidates: Tensor, scale: Tensor, terms: _Terms
    ) -> tuple[Tensor, Tensor, Tensor]:
        num_rows = len(anchors)
        # In units of scale / N, until they are whole.
        gradients = torch.zeros_like(anchors), torch.zeros_like(candidates)
        solve = _one_denominator if terms.one_denominator else _one_denominator_each_way
        rows, correct = solve(anchors, candidates, scale, terms, gradients)
        if terms.with_gradients:
            of_anchors, of_candidates = gradients
            of_anchors.sub_(candidates[:num_rows]).mul_(scale / num_rows)
            of_candidates[:num_rows] -= anchors
            of_candidates.mul_(scale / num_rows)
            # Euler's theorem: vectors act by the scores only, and each score is a product of two of them and scale.
            of_scale = ((anchors * of_anchors).sum() + (candidates * of_candidates).sum()) / (2 * scale)
            ctx.save_for_backward(of_anchors, of_candidates, of_scale)
        ctx.mark_non_differentiable(rows, correct)
        return rows.mean(), rows, correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        return *(upstream * gradient for gradient in ctx.saved_tensors), None


@dataclass(frozen=True)
class _Term:
    """Scores of one kind: each row's left vector with all right vectors.

    Args:
        left: One vector a row, [N, D].
        right: The vectors of all rows, [W, D]; vector ``w`` belongs to row ``w % N``.
        left_gradient: What is known of it so far, without the numerator's part.
        right_gradient: Likewise.
        right_keys: [W], or None: nothing is left out for its text.
        with_own: Whether a row's score with its first right vector takes part; otherwise none of the row's own does.
    """

    left: Tensor
    right: Tensor
    left_gradient: Tensor
    right_gradient: Tensor
    right_keys: Tensor | None
    with_own: bool

    def scores(self, rows: slice, terms: _Terms, scale: Tensor) -> Tensor:
        """[B, W]; what is left out is -inf."""
        scores = (self.left[rows] * scale) @ self.right.T
        if terms.keys is not None and self.right_keys is not None:
            _leave_out(scores, rows, _repeated(terms.keys, rows, self.right_keys))
        if not self.with_own:
            for start in range(0, len(self.right), len(self.left)):
                scores[:, start : start + len(self.left)].diagonal(rows.start).fill_(-torch.inf)
        return scores


def _one_denominator(
    anchors: Tensor, candidates: Tensor, scale: Tensor, terms: _Terms, gradients: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Rows' losses, and which are correct; adds the denominators' part to the gradients."""
    num_rows = len(anchors)
    of_anchors, of_candidates = gradients
    positives, of_positives = candidates[:num_rows], of_candidates[:num_rows]
    anchor_keys, candidate_keys = terms.keys or (None, None)
    parts = [_Term(anchors, candidates, of_anchors, of_candidates, candidate_keys, with_own=True)]
    if terms.symmetric:
        parts.append(_Term(positives, anchors, of_positives, of_anchors, anchor_keys, with_own=True))
    if terms.query_query:
        parts.append(_Term(anchors, anchors, of_anchors, of_anchors, anchor_keys, with_own=False))
    if terms.document_document:
        parts.append(_Term(positives, candidates, of_positives, of_candidates, candidate_keys, with_own=False))

    losses, correct = anchors.new_empty(num_rows), anchors.new_empty(num_rows, dtype=torch.bool)
    for rows in terms.blocks(num_rows, sum(len(part.right) for part in parts)):
        blocks = [part.scores(rows, terms, scale) for part in parts]
        own, others = _own_and_best_other(blocks[0], rows)
        highest = torch.stack([own, others, *(block.amax(dim=1) for block in blocks[1:])]).amax(dim=0)
        # From here on a block has exponentials. Dividing them by their sum is left to the vectors, which are fewer.
        sums = torch.stack([block.sub_(highest.unsqueeze(1)).exp_().sum(dim=1) for block in blocks]).sum(dim=0)
        losses[rows], correct[rows] = sums.log() + (highest - own), own > others
        if terms.with_gradients:
            for part, block in zip(parts, blocks, strict=True):
                part.left_gradient[rows] += (block @ part.right).div_(sums.unsqueeze(1))
                part.right_gradient.addmm_(block.T, part.left[rows] / sums.unsqueeze(1))
    return losses, correct


def _one_denominator_each_way(
    anchors: Tensor, candidates: Tensor, scale: Tensor, terms: _Terms, gradients: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """As `_one_denominator`. The way back has its sums down the columns, and they are known only after all rows.

    So the scores are made twice, unless they are one block. To treat each way as rows would take more products.
    """
    num_rows = len(anchors)
    of_anchors, of_candidates = gradients
    across, own = anchors.new_empty(num_rows), anchors.new_empty(num_rows)
    down = anchors.new_full((num_rows,), -torch.inf)
    correct = anchors.new_empty(num_rows, dtype=torch.bool)
    blocks = list(terms.blocks(num_rows, len(candidates)))
    for rows in blocks:
        forth, back = _scores_both_ways(anchors, candidates, scale, terms, rows)
        down = torch.logaddexp(down, back.logsumexp(dim=0))
        own[rows], others = _own_and_best_other(forth, rows)
        correct[rows] = own[rows] > others
        across[rows] = forth.logsumexp(dim=1)
    if terms.with_gradients:
        for rows in blocks:
            if len(blocks) > 1:
                forth, back = _scores_both_ways(anchors, candidates, scale, terms, rows)
            weights_back = (back - down).exp_()
            weights = forth.sub_(across[rows].unsqueeze(1)).exp_()
            weights[:, :num_rows] += weights_back
            of_anchors[rows] = (weights @ candidates).div_(2)
            of_candidates.addmm_(weights.T, anchors[rows], alpha=0.5)
    return (across + down) / 2 - own, correct


def _scores_both_ways(
    anchors: Tensor, candidates: Tensor, scale: Tensor, terms: _Terms, rows: slice
) -> tuple[Tensor, Tensor]:
    """[B, M] as the anchors see them, and [B, N] as the positives do; the same memory if nothing is left out."""
    forth = (anchors[rows] * scale) @ candidates.T
    back = forth[:, : len(anchors)]
    if terms.keys is not None:
        anchor_keys, candidate_keys = terms.keys
        back = back.clone()
        _leave_out(back, rows, _repeated(terms.keys, slice(None), anchor_keys[rows]).T)
        _leave_out(forth, rows, _repeated(terms.keys, rows, candidate_keys))
    return forth, back


def _repeated(keys: tuple[Tensor, Tensor], rows: slice, others: Tensor) -> Tensor:
    """[B, W]: whether another text is the same as a row's anchor or positive."""
    anchor_keys, candidate_keys = keys
    positive_keys = candidate_keys[: len(anchor_keys)]
    return (anchor_keys[rows].unsqueeze(1) == others) | (positive_keys[rows].unsqueeze(1) == others)


def _leave_out(scores: Tensor, rows: slice, where: Tensor) -> None:
    """Sets scores to -inf, but for each row's own."""
    diagonal = scores.diagonal(rows.start)
    own = diagonal.clone()
    scores.masked_fill_(where, -torch.inf)
    diagonal.copy_(own)


def _own_and_best_other(scores: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
    """Each row's score with its own positive, and the highest with another candidate."""
    diagonal = scores.diagonal(rows.start)
    own = diagonal.clone()
    diagonal.fill_(-torch.inf)
    others = scores.amax(dim=1)
    diagonal.copy_(own)
    return own, others
