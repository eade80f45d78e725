"""The losses: by hand, and against a float64 transcription of what the published models were trained with."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import log_softmax

from pairloom.recipe import LossSection, Similarity
from pairloom.train.losses import in_batch_negatives_loss, symmetric_in_batch_negatives_loss
from pairloom.train.step import batch_loss

Array = npt.NDArray[np.float64]


def cross_entropy(scores: Array) -> float:
    return float(-np.mean([log_softmax(row)[number] for number, row in enumerate(scores)]))


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def unit(vectors: Array) -> Array:
    lengths: Array = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


def test_by_hand() -> None:
    anchors = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    candidates = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    # Anchor 0 scores 2, 0, 2 and anchor 1 scores 0, 2, 0 under scale 2.
    expected = (math.log(2 * math.exp(2) + 1) - 2 + math.log(2 + math.exp(2)) - 2) / 2
    assert in_batch_negatives_loss(anchors, candidates, scale=2.0).item() == pytest.approx(expected)


def test_equal_vectors_are_as_good_as_guessing() -> None:
    same = torch.ones(7, 3)
    assert in_batch_negatives_loss(same, same).item() == pytest.approx(math.log(7))
    assert symmetric_in_batch_negatives_loss(same, same).item() == pytest.approx(math.log(7))


@pytest.mark.parametrize(("similarity", "scale"), [("cosine", 20.0), ("dot", 1.0)])
@pytest.mark.parametrize("columns", [2, 3])
def test_equals_the_original_formula_in_float64(similarity: Similarity, scale: float, columns: int) -> None:
    vectors = draw(16 * columns, 24)
    prepared = unit(vectors) if similarity == "cosine" else vectors
    scores = prepared[:16] @ prepared[16:].T * scale
    expected = cross_entropy(scores) if columns == 3 else (cross_entropy(scores) + cross_entropy(scores.T)) / 2
    loss = batch_loss(torch.from_numpy(vectors), num_pairs=16, similarity=similarity, section=LossSection(scale=scale))
    assert loss.item() == pytest.approx(expected, rel=1e-10)


def test_one_way_when_asked() -> None:
    vectors = draw(8, 4)
    scores = unit(vectors)[:4] @ unit(vectors)[4:].T * 20
    section = LossSection(symmetric=False)
    loss = batch_loss(torch.from_numpy(vectors), num_pairs=4, similarity="cosine", section=section)
    assert loss.item() == pytest.approx(cross_entropy(scores))


def test_too_few_candidates() -> None:
    with pytest.raises(ValueError, match="3 anchors need as many candidates; there are 2"):
        in_batch_negatives_loss(torch.ones(3, 2), torch.ones(2, 2))
    with pytest.raises(ValueError, match="there are 4"):
        symmetric_in_batch_negatives_loss(torch.ones(3, 2), torch.ones(4, 2))
