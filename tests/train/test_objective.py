"""The objective: what a recipe's loss section makes of the vectors of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import ValidationError
from scipy.special import log_softmax
from torch import Tensor
from torch.nn import functional

from pairloom.errors import RecipeError
from pairloom.recipe import LossSection, Similarity
from pairloom.train.losses import contrastive_loss
from pairloom.train.objective import batch_loss

Array = npt.NDArray[np.float64]


def cross_entropy(scores: Array) -> float:
    return float(-np.mean([log_softmax(row)[number] for number, row in enumerate(scores)]))


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def unit(vectors: Array) -> Array:
    lengths: Array = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


@pytest.mark.parametrize(("similarity", "scale"), [("cosine", 20.0), ("dot", 1.0)])
@pytest.mark.parametrize("columns", [2, 3])
def test_equals_the_original_formula_in_float64(similarity: Similarity, scale: float, columns: int) -> None:
    vectors = draw(16 * columns, 24)
    prepared = unit(vectors) if similarity == "cosine" else vectors
    scores = prepared[:16] @ prepared[16:].T * scale
    expected = cross_entropy(scores) if columns == 3 else (cross_entropy(scores) + cross_entropy(scores.T)) / 2
    result = batch_loss(
        torch.from_numpy(vectors), num_pairs=16, similarity=similarity, section=LossSection(scale=scale)
    )
    assert result.loss.item() == pytest.approx(expected, rel=1e-10)
    assert result.rows.mean().item() == pytest.approx(expected, rel=1e-10)
    assert result.correct.tolist() == (scores.argmax(axis=1) == np.arange(16)).tolist()


def test_one_way_when_asked() -> None:
    vectors = draw(8, 4)
    scores = unit(vectors)[:4] @ unit(vectors)[4:].T * 20
    section = LossSection(symmetric=False)
    result = batch_loss(torch.from_numpy(vectors), num_pairs=4, similarity="cosine", section=section)
    assert result.loss.item() == pytest.approx(cross_entropy(scores))


def test_a_scale_of_ones_own_replaces_that_of_the_section_and_gets_its_gradient() -> None:
    vectors = torch.from_numpy(draw(8, 4))
    section = LossSection(scale=20.0)
    logarithm = torch.tensor(1.1, dtype=torch.float64, requires_grad=True)

    def loss(logarithm: Tensor) -> Tensor:
        return batch_loss(vectors, num_pairs=4, similarity="dot", section=section, scale=logarithm.exp()).loss

    fixed = batch_loss(vectors, num_pairs=4, similarity="dot", section=LossSection(scale=float(np.exp(1.1))))
    assert loss(logarithm).item() == pytest.approx(fixed.loss.item())
    assert torch.autograd.gradcheck(loss, logarithm)


@pytest.mark.parametrize("columns", [2, 3])
def test_added_terms_go_where_the_section_says(columns: int) -> None:
    vectors = torch.from_numpy(draw(6 * columns, 5))
    for flags in ({"query_query": True}, {"document_document": True}, {"query_query": True, "document_document": True}):
        settings: dict[str, Any] = dict(flags)
        expected = contrastive_loss(vectors[:6], vectors[6:], scale=2.0, symmetric=columns == 2, **settings)
        section = LossSection(scale=2.0, **settings)
        result = batch_loss(vectors, num_pairs=6, similarity="dot", section=section)
        assert result.rows.equal(expected.rows)


def test_equal_texts_are_negatives_only_where_the_section_lets_them() -> None:
    vectors = torch.from_numpy(draw(12, 5))
    keys = torch.tensor([0, 1, 2, 3, 4, 5, 5, 7, 8, 9, 5, 11])
    call: dict[str, Any] = {"num_pairs": 4, "similarity": "cosine"}
    without = batch_loss(vectors, section=LossSection(), **call)
    assert batch_loss(vectors, section=LossSection(mask_false_negatives=False), text_keys=keys, **call).rows.equal(
        without.rows
    )
    # Positives 1 and 2 are the same text, and so is the negative of row 2.
    masked = batch_loss(vectors, section=LossSection(), text_keys=keys, **call).rows
    assert (masked < without.rows).tolist() == [False, True, True, False]
    assert masked[[0, 3]].equal(without.rows[[0, 3]])
    scores = functional.normalize(vectors[:4]) @ functional.normalize(vectors[4:]).T * 20
    assert masked[1].item() == pytest.approx(float(scores[1, [0, 1, 3, 4, 5, 7]].logsumexp(0) - scores[1, 1]))


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_matryoshka_cuts_first_and_normalises_after(similarity: Similarity) -> None:
    vectors = torch.from_numpy(draw(12, 8))
    section = LossSection(scale=3.0, matryoshka_dimensions=(2, 5, 8))
    call: dict[str, Any] = {"num_pairs": 6, "similarity": similarity}
    parts = [batch_loss(vectors[:, :count], section=LossSection(scale=3.0), **call) for count in (2, 5, 8)]
    result = batch_loss(vectors, section=section, **call)
    assert result.loss.item() == pytest.approx(sum(part.loss.item() for part in parts) / 3)
    torch.testing.assert_close(result.rows, (parts[0].rows + parts[1].rows + parts[2].rows) / 3)
    assert result.correct.equal(parts[2].correct)


def test_gradients_reach_the_vectors_in_their_own_precision() -> None:
    vectors = torch.from_numpy(draw(8, 4)).bfloat16().requires_grad_()
    section = LossSection(matryoshka_dimensions=(2, 4))
    result = batch_loss(vectors, num_pairs=4, similarity="cosine", section=section)
    result.loss.backward()  # type: ignore[no-untyped-call]
    assert result.rows.dtype == torch.float32
    assert vectors.grad is not None
    assert vectors.grad.norm() > 0


def test_more_dimensions_than_the_model_has() -> None:
    section = LossSection(matryoshka_dimensions=(2, 16))
    with pytest.raises(RecipeError, match=r"loss\.matryoshka_dimensions has 16, but the model's vectors have 4"):
        batch_loss(torch.ones(4, 4), num_pairs=2, similarity="cosine", section=section)


@pytest.mark.parametrize("dimensions", [(4, 2), (2, 2), (0, 2)])
def test_dimensions_must_rise_from_one(dimensions: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match=r"the smallest first|greater than or equal to 1"):
        LossSection(matryoshka_dimensions=dimensions)


def test_a_learnt_scale_starts_below_its_limit() -> None:
    with pytest.raises(ValidationError, match="scale is 101, but learn_scale keeps it at most 100"):
        LossSection(scale=101.0, learn_scale=True)
    assert LossSection(scale=101.0).scale == 101


@pytest.mark.parametrize(("similarity", "scale"), [("cosine", 20.0), ("dot", 1.0)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_past_contexts_equal_three_formulas_in_float64(similarity: Similarity, scale: float, symmetric: bool) -> None:
    vectors = draw(48, 24)
    prepared = unit(vectors) if similarity == "cosine" else vectors
    replies, contexts, past = prepared[:16], prepared[16:32], prepared[32:]
    both = (contexts + past) / 2
    if similarity == "cosine":
        both = unit(both)
    losses = []
    for candidates in (contexts, past, both):
        scores = replies @ candidates.T * scale
        losses.append((cross_entropy(scores) + cross_entropy(scores.T)) / 2 if symmetric else cross_entropy(scores))
    result = batch_loss(
        torch.from_numpy(vectors),
        num_pairs=16,
        similarity=similarity,
        section=LossSection(scale=scale, symmetric=symmetric),
        has_context=True,
    )
    assert result.loss.item() == pytest.approx(np.mean(losses), rel=1e-10)
    assert result.rows.mean().item() == pytest.approx(np.mean(losses), rel=1e-10)
    assert result.correct.tolist() == ((replies @ both.T).argmax(axis=1) == np.arange(16)).tolist()


@pytest.mark.parametrize("settings", [{}, {"query_query": True, "document_document": True}], ids=str)
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_gradients_of_past_contexts_pass_gradcheck(similarity: Similarity, settings: dict[str, Any]) -> None:
    section = LossSection(scale=2.0, matryoshka_dimensions=(2, 4), **settings)

    def loss(vectors: Tensor, scale: Tensor) -> Tensor:
        return batch_loss(
            vectors, num_pairs=5, similarity=similarity, section=section, scale=scale, has_context=True
        ).loss

    scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (torch.from_numpy(draw(15, 4)).requires_grad_(), scale))


def test_equal_texts_are_left_out_of_each_of_the_three_losses_by_what_it_compares() -> None:
    vectors = torch.from_numpy(draw(15, 6))
    digests = torch.from_numpy(np.random.default_rng(3).integers(-(2**63), 2**63 - 1, size=15))
    call: dict[str, Any] = {"num_pairs": 5, "similarity": "dot", "section": LossSection(scale=1.0, symmetric=False)}

    def saved(*same: tuple[int, int]) -> list[float]:
        """What each row's loss loses by texts that are the same: those of two places."""
        keys = digests.clone()
        for one, other in same:
            keys[one] = keys[other]
        masked = batch_loss(vectors, text_keys=keys, has_context=True, **call).rows
        return (batch_loss(vectors, text_keys=digests, has_context=True, **call).rows - masked).tolist()

    def expected(row: int, left_out: int, candidates: Tensor) -> float:
        scores = vectors[row] @ candidates.T
        kept = [number for number in range(5) if number != left_out]
        return float(scores.logsumexp(0) - scores[kept].logsumexp(0)) / 3

    contexts, past = vectors[5:10], vectors[10:]
    both = (contexts + past) / 2
    assert saved() == [0] * 5
    assert saved((7, 6)) == pytest.approx([0, expected(1, 2, contexts), expected(2, 1, contexts), 0, 0])
    assert saved((12, 11)) == pytest.approx([0, expected(1, 2, past), expected(2, 1, past), 0, 0])
    rows = [sum(expected(row, 3 - row, part) for part in (contexts, past, both)) for row in (1, 2)]
    assert saved((7, 6), (12, 11)) == pytest.approx([0, *rows, 0, 0])
    # What was said before row 4 is reply 0: it is no candidate of row 0.
    assert saved((14, 0)) == pytest.approx([expected(0, 4, past), 0, 0, 0, 0])
