"""Random token numbers for tests that need texts of certain lengths and no words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pairloom.models.tokenizer import Tokens
from pairloom.network.packed import Packed, pack

CPU = torch.device("cpu")


def make_tokens(lengths: Sequence[int], *, seed: int = 0, vocabulary_size: int = 40) -> Tokens:
    """Texts of these lengths, without special tokens."""
    sizes = np.array(lengths, dtype=np.int64)
    ids = np.random.default_rng(seed).integers(4, vocabulary_size, size=int(sizes.sum()), dtype=np.int32)
    return Tokens(ids, sizes, np.zeros(len(sizes), dtype=np.bool_))


def make_packed(lengths: Sequence[int], *, seed: int = 0) -> Packed:
    """The same as one micro-batch."""
    return pack(make_tokens(lengths, seed=seed), np.arange(len(lengths)), CPU)
