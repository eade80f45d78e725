"""What the torch engine asks of the process it runs in."""

from __future__ import annotations

import os

import pytest
import torch

from pairloom.encode.torch_engine import autocast

LIMITS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")


def test_half_precision_on_a_cpu_keeps_few_kernels_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for limit in LIMITS:
        monkeypatch.setenv(limit, "7")  # so that it is as before afterwards
    monkeypatch.delenv(LIMITS[1])
    autocast(torch.device("cpu"), "float32")
    assert LIMITS[1] not in os.environ
    autocast(torch.device("cpu"), "bfloat16")
    assert (os.environ[LIMITS[0]], os.environ[LIMITS[1]]) == ("7", "16")
