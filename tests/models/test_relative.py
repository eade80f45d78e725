"""The buckets of MPNet's relative bias, against transformers."""

from __future__ import annotations

import numpy as np
import torch
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from pairloom.models.relative import relative_buckets


def test_they_equal_those_of_transformers_at_every_distance() -> None:
    distances = np.arange(-3000, 3001)
    theirs = MPNetEncoder.relative_position_bucket(torch.from_numpy(-distances), num_buckets=32)
    np.testing.assert_array_equal(relative_buckets(distances, 32, 128), theirs.numpy())


def test_by_hand() -> None:
    buckets = relative_buckets(np.array([[0, 3, -3, 199, -199]]), 32, 128)
    assert buckets.tolist() == [[0, 3, 16 + 3, 15, 16 + 15]], "near ones have a bucket each, the far share the last"
