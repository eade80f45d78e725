"""Pooling: by hand, as an invariant, and against sentence-transformers."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from sentence_transformers.sentence_transformer.modules import Pooling

from pairloom.network.pooling import pool
from pairloom.recipe import PoolingMode

MODES: tuple[PoolingMode, ...] = get_args(PoolingMode)


def test_by_hand() -> None:
    tokens = torch.tensor([[[1.0, 4.0], [3.0, 2.0], [99.0, 99.0]]])
    taken = torch.tensor([[True, True, False]])
    expected = {
        "mean": [2.0, 3.0],
        "cls": [1.0, 4.0],
        "max": [3.0, 4.0],
        "mean_sqrt_len_tokens": [4 / 2**0.5, 6 / 2**0.5],
        "weightedmean": [(1 + 2 * 3) / 3, (4 + 2 * 2) / 3],
        "lasttoken": [3.0, 2.0],
    }
    for mode in MODES:
        torch.testing.assert_close(pool(tokens, taken, (mode,)), torch.tensor([expected[mode]]))


@pytest.mark.parametrize("mode", MODES)
def test_padding_does_not_matter(mode: PoolingMode) -> None:
    tokens = torch.randn(3, 5, 8)
    taken = torch.arange(5) < torch.tensor([5, 2, 1])[:, None]
    other = torch.where(taken.unsqueeze(-1), tokens, 1e4)
    torch.testing.assert_close(pool(tokens, taken, (mode,)), pool(other, taken, (mode,)))


@pytest.mark.parametrize("modes", [*((mode,) for mode in MODES), ("cls", "mean"), ("mean", "max", "lasttoken")])
@pytest.mark.parametrize("skip", [0, 2])
def test_equals_sentence_transformers(modes: tuple[PoolingMode, ...], skip: int) -> None:
    tokens = torch.randn(4, 9, 8)
    inside = torch.arange(9) < torch.tensor([9, 3, 5, 8])[:, None]
    oracle = Pooling(8, pooling_mode=modes, include_prompt=False)
    features = {"token_embeddings": tokens, "attention_mask": inside.long(), "prompt_length": skip}
    taken = inside & (torch.arange(9) >= skip)
    torch.testing.assert_close(pool(tokens, taken, modes), oracle(features)["sentence_embedding"])
