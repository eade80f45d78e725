"""The loss of the published models, written down once more in float64, against what a faithful recipe trains with.

Both were computed on eight cores, each of which embedded its share of the batch, gathered the vectors of all, and scored the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pairloom.recipe import LossSection, Similarity, parse_recipe
from pairloom.train.objective import batch_loss

Array = npt.NDArray[np.float64]

NUM_PAIRS, NUM_CORES, NUM_COMPONENTS = 16, 8, 6
# Cosine of mean vectors, and dot product of first tokens.
KINDS: list[tuple[Similarity, float]] = [("cosine", 20.0), ("dot", 1.0)]


def cross_entropy(scores: Array, labels: npt.NDArray[np.int64]) -> float:
    """Mean over the rows of log Σ exp(scores) − scores[label]."""
    highest = scores.max(axis=1)
    denominators = highest + np.log(np.exp(scores - highest[:, None]).sum(axis=1))
    return float(np.mean(denominators - scores[np.arange(len(scores)), labels]))


def pair_loss(anchors: Array, positives: Array, scale: float) -> float:
    """S = A·Bᵀ × scale; (CE(S) + CE(Sᵀ)) / 2."""
    scores = anchors @ positives.T * scale
    labels = np.arange(len(scores))
    return (cross_entropy(scores, labels) + cross_entropy(scores.T, labels)) / 2


def triplet_loss(anchors: Array, positives: Array, negatives: Array, scale: float) -> float:
    """One way, B × 2B: the hard negative of each row serves all rows."""
    scores = anchors @ np.concatenate([positives, negatives]).T * scale
    return cross_entropy(scores, np.arange(len(scores)))


def embedded(vectors: Array, similarity: Similarity) -> Array:
    """What leaves the network: of length 1 for cosine."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if similarity == "cosine" else vectors


def original(columns: list[Array], similarity: Similarity, scale: float) -> float:
    """The loss of a batch from the vectors of its anchors, positives and, in triplets, negatives."""
    formula: Callable[..., float] = pair_loss if len(columns) == 2 else triplet_loss
    return formula(*(embedded(column, similarity) for column in columns), scale)


def on_cores(columns: list[Array], similarity: Similarity, scale: float) -> list[float]:
    """The loss that each core computes: shares are embedded apart and gathered column by column."""
    shares = [np.array_split(column, NUM_CORES) for column in columns]
    losses = []
    for _ in range(NUM_CORES):
        gathered = [np.concatenate([embedded(share, similarity) for share in column]) for column in shares]
        formula: Callable[..., float] = pair_loss if len(columns) == 2 else triplet_loss
        losses.append(formula(*gathered, scale))
    return losses


def differences(columns: list[Array], similarity: Similarity, scale: float, *, step: float = 1e-5) -> Array:
    """The gradient by central differences: an error of the order of step², of rounding over step."""
    gradients = []
    for column in columns:
        gradient = np.empty_like(column)
        for place in np.ndindex(column.shape):
            before = column[place]
            ends = []
            for there in (before + step, before - step):
                column[place] = there
                ends.append(original(columns, similarity, scale))
            column[place] = before
            gradient[place] = (ends[0] - ends[1]) / (2 * step)
        gradients.append(gradient)
    return np.concatenate(gradients)


def draw(num_columns: int, *, seed: int) -> list[Array]:
    return list(np.random.default_rng(seed).normal(size=(num_columns, NUM_PAIRS, NUM_COMPONENTS)))


def faithful(scale: float, **loss: Any) -> LossSection:
    raw = {
        "faithful": True,
        "model": {"base": "base"},
        "data": {"datasets": [{"shards": "pairs"}]},
        "loss": {"scale": scale, **loss},
        "train": {"steps": 1000},
    }
    return parse_recipe(raw, where="test").loss


@pytest.mark.parametrize(("similarity", "scale"), KINDS)
@pytest.mark.parametrize("num_columns", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_loss_and_gradient_are_those_of_the_original_formula(
    similarity: Similarity, scale: float, num_columns: int, seed: int
) -> None:
    columns = draw(num_columns, seed=seed)
    vectors = torch.from_numpy(np.concatenate(columns)).requires_grad_()
    result = batch_loss(vectors, num_pairs=NUM_PAIRS, similarity=similarity, section=faithful(scale))
    assert result.loss.item() == pytest.approx(original(columns, similarity, scale), rel=1e-12)
    result.loss.backward()  # type: ignore[no-untyped-call]
    assert vectors.grad is not None
    np.testing.assert_allclose(vectors.grad.numpy(), differences(columns, similarity, scale), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("similarity", "scale"), KINDS)
@pytest.mark.parametrize("num_columns", [2, 3])
def test_each_of_eight_cores_had_the_loss_of_the_whole_batch(
    similarity: Similarity, scale: float, num_columns: int
) -> None:
    columns = draw(num_columns, seed=7)
    vectors = torch.from_numpy(np.concatenate(columns))
    result = batch_loss(vectors, num_pairs=NUM_PAIRS, similarity=similarity, section=faithful(scale))
    assert on_cores(columns, similarity, scale) == pytest.approx([result.loss.item()] * NUM_CORES, rel=1e-12)


@pytest.mark.parametrize("num_columns", [2, 3])
def test_equal_texts_were_negatives_and_are_none_by_default(num_columns: int) -> None:
    columns = draw(num_columns, seed=3)
    columns[1][5] = columns[1][2]
    keys = torch.arange(num_columns * NUM_PAIRS)
    keys[NUM_PAIRS + 5] = keys[NUM_PAIRS + 2]
    vectors = torch.from_numpy(np.concatenate(columns))
    call: dict[str, Any] = {"num_pairs": NUM_PAIRS, "similarity": "cosine", "text_keys": keys}
    expected = original(columns, "cosine", 2.0)
    assert batch_loss(vectors, section=faithful(2.0), **call).loss.item() == pytest.approx(expected, rel=1e-12)
    for better in (LossSection(scale=2.0), faithful(2.0, mask_false_negatives=True)):
        assert batch_loss(vectors, section=better, **call).loss.item() < expected - 1e-3


def test_by_hand() -> None:
    """Two pairs, at right angles, under scale 2: each row has a score of 2 and one of 0."""
    anchors = np.eye(2)
    assert pair_loss(anchors, anchors, 2.0) == pytest.approx(np.log(1 + np.exp(-2)))
    assert triplet_loss(anchors, anchors, anchors, 2.0) == pytest.approx(np.log(2 + 2 * np.exp(-2)))
    assert pair_loss(np.array([[1.0], [0.0]]), np.array([[2.0], [1.0]]), 1.0) == pytest.approx(
        # Rows (2, 1) and (0, 0); columns (2, 0) and (1, 0).
        (np.log(1 + np.exp(-1)) + np.log(2) + np.log(1 + np.exp(-2)) + np.log(1 + np.exp(1))) / 4
    )
