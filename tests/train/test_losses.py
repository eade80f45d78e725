"""The losses: by hand, against a naive form under autograd, against sentence-transformers, and what they hold in memory."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.util import cos_sim, dot_score
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from pairloom.train.losses import contrastive_loss

FLAGS = ("symmetric", "query_query", "document_document")
VARIANTS = [dict(zip(FLAGS, values, strict=True)) for values in itertools.product((False, True), repeat=3)]
DIRECTIONS = {"symmetric": "doc_to_query", "query_query": "query_to_query", "document_document": "doc_to_doc"}


def draw(count: int, dimensions: int = 6, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def draw_keys(count: int, *, kinds: int, seed: int = 7) -> Tensor:
    return torch.randint(-kinds, kinds, (count,), generator=torch.Generator().manual_seed(seed)) * 2**55


def naive(
    anchors: Tensor,
    candidates: Tensor,
    *,
    scale: float | Tensor,
    symmetric: bool,
    query_query: bool,
    document_document: bool,
    anchor_keys: Tensor | None = None,
    candidate_keys: Tensor | None = None,
) -> Tensor:
    """Rows' losses, with full matrices and loops in place of tricks."""
    count = len(anchors)
    positives = candidates[:count]
    if anchor_keys is None or candidate_keys is None:
        anchor_keys = torch.arange(count)
        candidate_keys = torch.arange(count, count + len(candidates))
    losses = []
    for row in range(count):
        same = {int(anchor_keys[row]), int(candidate_keys[row])}
        anchor_takes_part = [number == row or int(anchor_keys[number]) not in same for number in range(count)]
        takes_part = [number == row or int(key) not in same for number, key in enumerate(candidate_keys)]
        terms = {"forward": anchors[row] @ candidates[takes_part].T}
        if symmetric:
            terms["symmetric"] = positives[row] @ anchors[anchor_takes_part].T
        anchor_takes_part[row] = False
        if query_query:
            terms["query_query"] = anchors[row] @ anchors[anchor_takes_part].T
        if document_document:
            others = [part and number % count != row for number, part in enumerate(takes_part)]
            terms["document_document"] = positives[row] @ candidates[others].T
        own = anchors[row] @ positives[row] * scale
        if query_query or document_document:
            losses.append((torch.cat(list(terms.values())) * scale).logsumexp(0) - own)
        else:
            losses.append(torch.stack([(term * scale).logsumexp(0) - own for term in terms.values()]).mean())
    return torch.stack(losses)


def test_by_hand() -> None:
    anchors = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    candidates = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    # Anchor 0 scores 2, 0, 2 and anchor 1 scores 0, 2, 0 under scale 2.
    rows = [math.log(2 * math.exp(2) + 1) - 2, math.log(2 + math.exp(2)) - 2]
    result = contrastive_loss(anchors, candidates, scale=2.0)
    assert result.rows.tolist() == pytest.approx(rows)
    assert result.loss.item() == pytest.approx(sum(rows) / 2)
    assert result.correct.tolist() == [False, True]
    assert contrastive_loss(anchors, candidates, scale=2.0).loss.item() == pytest.approx(sum(rows) / 2)


def test_a_repeated_text_is_left_out_by_hand() -> None:
    anchors = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    candidates = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    # The negative is the text of positive 0: row 0 is rid of it, row 1 is not.
    result = contrastive_loss(
        anchors, candidates, scale=2.0, anchor_keys=torch.tensor([1, 2]), candidate_keys=torch.tensor([3, 4, 3])
    )
    assert result.rows.tolist() == pytest.approx([math.log(math.exp(2) + 1) - 2, math.log(2 + math.exp(2)) - 2])
    assert result.correct.tolist() == [True, True]


def test_equal_vectors_are_as_good_as_guessing_and_never_correct() -> None:
    same = torch.full((7, 4), 0.5)
    assert contrastive_loss(same, same, scale=20.0).loss.item() == pytest.approx(math.log(7))
    assert contrastive_loss(same, same, scale=20.0, symmetric=True).loss.item() == pytest.approx(math.log(7))
    assert not contrastive_loss(same, same, scale=1.0).correct.any()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("with_keys", [False, True])
@pytest.mark.parametrize("num_negatives", [0, 5, 3])
def test_gradients_pass_gradcheck(variant: dict[str, bool], with_keys: bool, num_negatives: int) -> None:
    anchors, candidates = draw(5, 3), draw(5 + num_negatives, 3, seed=1)
    keys = {}
    if with_keys:
        keys = {"anchor_keys": draw_keys(5, kinds=3), "candidate_keys": draw_keys(5 + num_negatives, kinds=3, seed=8)}

    def loss(anchors: Tensor, candidates: Tensor, scale: Tensor) -> Tensor:
        settings: dict[str, Any] = {**variant, **keys}
        return contrastive_loss(anchors, candidates, scale=scale, block_elements=30, **settings).loss

    leaves = (
        anchors.requires_grad_(),
        candidates.requires_grad_(),
        torch.tensor(1.5, dtype=torch.float64).requires_grad_(),
    )
    assert torch.autograd.gradcheck(loss, leaves)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize(("count", "num_negatives"), [(2, 0), (7, 7), (33, 33), (40, 80), (50, 0)])
@pytest.mark.parametrize("with_keys", [False, True])
def test_equals_the_naive_form(variant: dict[str, bool], count: int, num_negatives: int, with_keys: bool) -> None:
    settings: dict[str, Any] = dict(variant)
    if with_keys:
        settings["anchor_keys"] = draw_keys(count, kinds=count)
        settings["candidate_keys"] = draw_keys(count + num_negatives, kinds=count, seed=8)
    for cosine, value in ((True, 20.0), (False, 1.0)):
        vectors = draw(2 * count + num_negatives)
        vectors = (functional.normalize(vectors) if cosine else vectors).requires_grad_()
        scale = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        expected_rows = naive(vectors[:count], vectors[count:], scale=scale, **settings)
        expected = torch.autograd.grad(expected_rows.mean(), (vectors, scale))
        for block_elements in (1, 7 * count, 10**9):
            result = contrastive_loss(
                vectors[:count], vectors[count:], scale=scale, block_elements=block_elements, **settings
            )
            torch.testing.assert_close(result.rows, expected_rows.detach(), rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(result.loss, expected_rows.mean(), rtol=1e-10, atol=1e-10)
            gradients = torch.autograd.grad(result.loss, (vectors, scale))
            torch.testing.assert_close(gradients, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_float32_is_near_float64(variant: dict[str, bool]) -> None:
    exact = functional.normalize(draw(600, 24)).requires_grad_()
    single = exact.detach().float().requires_grad_()
    expected = contrastive_loss(exact[:200], exact[200:], **variant)  # type: ignore[arg-type]
    result = contrastive_loss(single[:200], single[200:], block_elements=9000, **variant)  # type: ignore[arg-type]
    expected.loss.backward()  # type: ignore[no-untyped-call]
    result.loss.backward()  # type: ignore[no-untyped-call]
    assert exact.grad is not None
    assert single.grad is not None
    assert single.grad.dtype == torch.float32
    assert result.loss.item() == pytest.approx(expected.loss.item(), rel=1e-5)
    assert (single.grad - exact.grad).norm() < 1e-5 * exact.grad.norm()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("similarity", [cos_sim, dot_score])
@pytest.mark.parametrize("num_columns", [2, 3, 4])
def test_equals_sentence_transformers(variant: dict[str, bool], similarity: Any, num_columns: int) -> None:
    joint = variant["query_query"] or variant["document_document"]
    theirs = MultipleNegativesRankingLoss(
        torch.nn.Identity(),
        scale=3.0,
        similarity_fct=similarity,
        directions=("query_to_doc", *(DIRECTIONS[flag] for flag in FLAGS if variant[flag])),
        partition_mode="joint" if joint else "per_direction",
    )
    vectors = draw(11 * num_columns).requires_grad_()
    expected = theirs.compute_loss_from_embeddings(list(vectors.chunk(num_columns)), torch.empty(0))
    prepared = functional.normalize(vectors) if similarity is cos_sim else vectors
    result = contrastive_loss(prepared[:11], prepared[11:], scale=3.0, block_elements=100, **variant)  # type: ignore[arg-type]
    assert result.loss.item() == pytest.approx(expected.item(), rel=1e-10)
    torch.testing.assert_close(
        torch.autograd.grad(result.loss, vectors), torch.autograd.grad(expected, vectors), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_huge_scores_neither_overflow_nor_lose_their_gradient(variant: dict[str, bool]) -> None:
    anchors = torch.tensor([[300.0, 0.0], [0.0, 300.0], [1.0, 0.0]], requires_grad=True)
    candidates = torch.tensor([[0.0, 300.0], [300.0, 0.0], [1.0, 1.0]], requires_grad=True)
    result = contrastive_loss(anchors, candidates, scale=1.0, **variant)  # type: ignore[arg-type]
    exact = contrastive_loss(anchors.double(), candidates.double(), scale=1.0, **variant)  # type: ignore[arg-type]
    assert result.rows.tolist() == pytest.approx(exact.rows.tolist())
    assert torch.autograd.grad(result.loss, anchors)[0].isfinite().all()
    assert result.loss.item() > 20_000


def test_correct_counts_those_that_beat_all_others() -> None:
    vectors = draw(90, 4)
    vectors[30:60] += vectors[:30]
    vectors = functional.normalize(vectors)
    expected = (vectors[:30] @ vectors[30:].T).argmax(dim=1) == torch.arange(30)
    assert 0 < expected.sum() < 30
    for variant in VARIANTS:
        result = contrastive_loss(vectors[:30], vectors[30:], block_elements=200, **variant)  # type: ignore[arg-type]
        assert result.correct.equal(expected)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_different_keys_change_nothing(variant: dict[str, bool]) -> None:
    vectors = draw(30)
    settings: dict[str, Any] = {"scale": 1.0, **variant}
    without = contrastive_loss(vectors[:10], vectors[10:], **settings)
    settings |= {"anchor_keys": torch.arange(10), "candidate_keys": torch.arange(10, 30)}
    assert contrastive_loss(vectors[:10], vectors[10:], **settings).rows.equal(without.rows)


def test_autocast_changes_nothing_and_half_precision_is_computed_in_single() -> None:
    vectors = functional.normalize(draw(40, 16, dtype=torch.float32)).requires_grad_()
    plain = contrastive_loss(vectors[:20], vectors[20:], symmetric=True)
    with torch.autocast("cpu", torch.bfloat16):
        cast = contrastive_loss(vectors[:20], vectors[20:], symmetric=True)
    assert cast.rows.equal(plain.rows)
    assert torch.autograd.grad(cast.loss, vectors)[0].equal(torch.autograd.grad(plain.loss, vectors)[0])
    half = vectors.detach().bfloat16().requires_grad_()
    result = contrastive_loss(half[:20], half[20:], symmetric=True)
    assert result.rows.dtype == torch.float32
    assert result.rows.equal(contrastive_loss(half[:20].float(), half[20:].float(), symmetric=True).rows)
    assert torch.autograd.grad(result.loss, half)[0].dtype == torch.bfloat16


def test_the_gradient_follows_what_the_loss_is_multiplied_by() -> None:
    vectors = draw(20).requires_grad_()
    once = torch.autograd.grad(contrastive_loss(vectors[:10], vectors[10:]).loss, vectors)[0]
    thrice = torch.autograd.grad(contrastive_loss(vectors[:10], vectors[10:]).loss * 3, vectors)[0]
    torch.testing.assert_close(thrice, 3 * once)


class LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the most elements that an operation gave out."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(tensor, Tensor):
                self.num_elements = max(self.num_elements, tensor.numel())
        return made


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("with_keys", [False, True])
def test_no_more_scores_than_a_block_exist_at_a_time(variant: dict[str, bool], with_keys: bool) -> None:
    vectors = draw(1500, 4).requires_grad_()
    settings: dict[str, Any] = dict(variant)
    if with_keys:
        settings |= {"anchor_keys": draw_keys(500, kinds=100), "candidate_keys": draw_keys(1000, kinds=100)}
    with LargestTensor() as largest:
        contrastive_loss(vectors[:500], vectors[500:], block_elements=12_000, **settings).loss.backward()  # type: ignore[no-untyped-call]
    # The matrix of scores has 500,000 elements, the vectors 6,000.
    assert 5_000 < largest.num_elements <= 12_000


def test_without_gradients_only_the_loss_is_computed() -> None:
    vectors = draw(40).requires_grad_()
    result = contrastive_loss(vectors[:20], vectors[20:])
    with torch.no_grad():
        evaluated = contrastive_loss(vectors[:20], vectors[20:])
    assert evaluated.rows.equal(result.rows)
    assert not evaluated.loss.requires_grad
    assert result.loss.requires_grad
    assert not result.rows.requires_grad


def test_faults_of_the_caller() -> None:
    with pytest.raises(ValueError, match="3 anchors need as many candidates; there are 2"):
        contrastive_loss(torch.ones(3, 2), torch.ones(2, 2))
    with pytest.raises(ValueError, match="keys are given of anchors and candidates, or of neither"):
        contrastive_loss(torch.ones(3, 2), torch.ones(3, 2), anchor_keys=torch.arange(3))
