"""Losses that are means of others: by hand, and against sentence-transformers."""

from __future__ import annotations

import math

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss, MultipleNegativesRankingLoss
from torch import Tensor
from torch.nn import functional

from pairloom.train.losses import BatchLoss, contrastive_loss
from pairloom.train.mean_losses import matryoshka_loss, multi_context_loss
from tests.train.test_losses import draw


def cosine_loss(vectors: Tensor) -> BatchLoss:
    anchors, candidates = functional.normalize(vectors).chunk(2)
    return contrastive_loss(anchors, candidates, symmetric=True)


class GivenVectors(torch.nn.Module):
    """Stands for a model: the features are its output."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return dict(features)

    def get_embedding_dimension(self) -> int:
        return 12


def test_matryoshka_equals_sentence_transformers_over_the_number_of_dimensions() -> None:
    model = GivenVectors()
    theirs = MatryoshkaLoss(
        model,
        MultipleNegativesRankingLoss(
            model, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
        ),
        [3, 6, 12],
    )
    vectors = draw(20, 12).requires_grad_()
    anchors, positives = vectors.chunk(2)
    expected = theirs([{"sentence_embedding": anchors}, {"sentence_embedding": positives}], torch.empty(0)) / 3
    result = matryoshka_loss(vectors, (3, 6, 12), cosine_loss)
    assert result.loss.item() == pytest.approx(expected.item(), rel=1e-10)
    assert result.rows.mean().item() == pytest.approx(expected.item(), rel=1e-10)
    torch.testing.assert_close(torch.autograd.grad(result.loss, vectors), torch.autograd.grad(expected, vectors))


@pytest.mark.parametrize("dimensions", [(2,), (2, 12), (12,)])
def test_matryoshka_is_correct_as_the_full_vectors_are(dimensions: tuple[int, ...]) -> None:
    vectors = draw(40, 12)
    vectors[20:] = vectors[:20] + 0.7 * vectors[20:]
    expected = cosine_loss(vectors).correct
    assert not expected.equal(cosine_loss(vectors[:, :2]).correct)
    assert matryoshka_loss(vectors, dimensions, cosine_loss).correct.equal(expected)


def test_three_losses_of_a_reply_by_hand() -> None:
    axes = torch.eye(2)
    keys: list[Tensor | None] = []

    def loss(candidates: Tensor, its_keys: Tensor | None) -> BatchLoss:
        keys.append(its_keys)
        return contrastive_loss(axes, candidates, scale=2.0)

    # Each reply is what it answers; what was said before is the other one; their mean is as near to both replies.
    result = multi_context_loss(axes, axes.flip(0), loss, normalize=False)
    parts = [math.log(math.exp(2) + 1) - 2, math.log(1 + math.exp(2)), math.log(2)]
    assert result.rows.tolist() == pytest.approx([sum(parts) / 3] * 2)
    assert result.loss.item() == pytest.approx(sum(parts) / 3)
    assert result.correct.tolist() == [False, False]
    assert keys == [None] * 3


def test_the_mean_of_two_contexts_gets_length_one_where_lengths_do_not_count() -> None:
    seen: list[Tensor] = []

    def loss(candidates: Tensor, keys: Tensor | None) -> BatchLoss:
        seen.append(candidates)
        return contrastive_loss(torch.eye(2), candidates)

    positives, past = torch.eye(2), torch.tensor([[0.0, 1.0], [0.0, -1.0]])
    multi_context_loss(positives, past, loss, normalize=True)
    multi_context_loss(positives, past, loss, normalize=False)
    half = math.sqrt(0.5)
    torch.testing.assert_close(seen[2], torch.tensor([[half, half], [0.0, 0.0]]))
    torch.testing.assert_close(seen[5], torch.tensor([[0.5, 0.5], [0.0, 0.0]]))


def test_two_contexts_together_are_those_of_another_row_only_if_both_are() -> None:
    found: list[Tensor] = []

    def loss(candidates: Tensor, keys: Tensor | None) -> BatchLoss:
        assert keys is not None
        found.append(keys)
        return contrastive_loss(torch.eye(4), candidates)

    digests = torch.randint(-(2**63), 2**63 - 1, (4,), generator=torch.Generator().manual_seed(0))
    positives, past = digests[[0, 0, 1, 0]], digests[[2, 2, 2, 3]]
    multi_context_loss(
        torch.eye(4), torch.eye(4), loss, normalize=True, positive_keys=positives, past_context_keys=past
    )
    of_positives, of_past, of_both = found
    assert of_positives.equal(positives)
    assert of_past.equal(past)
    assert (of_both[:, None] == of_both).tolist() == [
        [True, True, False, False],
        [True, True, False, False],
        [False, False, True, False],
        [False, False, False, True],
    ]
    assert not torch.isin(of_both, digests).any()
