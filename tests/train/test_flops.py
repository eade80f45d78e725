from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pairloom.models.architecture import Architecture
from pairloom.models.heads import Dense, Normalize, Pooling
from pairloom.models.read import read_model
from pairloom.models.tokenizer import Tokens
from pairloom.network.encoder import EncoderNetwork
from pairloom.network.packed import pack
from pairloom.train.flops import TRAINING_FORWARDS, measure_matmul_rate, model_flops

from ..conftest import FAMILIES

TINY = Architecture(
    family="bert",
    vocabulary_size=7,
    hidden_size=2,
    num_layers=3,
    num_heads=1,
    feed_forward_size=5,
    activation="gelu",
    num_positions=16,
    position_offset=0,
    num_token_types=0,
    relative_buckets=0,
    relative_max_distance=0,
    pad_token_id=0,
    norm_epsilon=1e-5,
    hidden_dropout=0.0,
    attention_output_dropout=0.0,
    attention_dropout=0.0,
)


def test_flops_by_hand() -> None:
    # A text of 4: qkv 4×2×6, output 4×2×2, scores and mixing 2×(4×4×2), up and down 2×(4×2×5) multiply-adds.
    one = 2 * 3 * (48 + 16 + 64 + 80)
    assert model_flops(TINY, np.array([4])) == one
    assert model_flops(TINY, np.array([4, 4])) == 2 * one
    assert model_flops(TINY, np.array([8])) == 2 * one + 2 * 3 * 2 * 64
    assert model_flops(TINY, np.array([], dtype=np.int64)) == 0
    dense = Dense(np.zeros((3, 2), dtype=np.float32), None, "tanh")
    assert model_flops(TINY, np.array([4, 4]), (dense, Normalize())) == 2 * one + 2 * 2 * 6


def test_a_corpus_of_small_numbers_does_not_overflow() -> None:
    lengths = np.full(100_000, 512, dtype=np.int16)
    assert model_flops(TINY, lengths) == 100_000 * model_flops(TINY, np.array([512]))


@pytest.mark.parametrize("family", FAMILIES)
def test_torch_counts_the_same(family: str, backbone_folder: Callable[[str], Path]) -> None:
    # Pooling by the first token is no product; the other modes' are left out on purpose.
    dense = Dense(np.full((24, 32), 0.1, dtype=np.float32), np.zeros(24, dtype=np.float32), "tanh")
    base = read_model(backbone_folder(family))
    model = dataclasses.replace(base, pooling=Pooling(("cls",)), heads=(dense, Normalize()))
    network = EncoderNetwork(model)
    tokens = Tokens(np.full(33, 7, dtype=np.int32), np.full(3, 11), np.zeros(3, dtype=np.bool_))
    packed = pack(tokens, np.arange(3), torch.device("cpu"))
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            vectors = network(packed)
        with FlopCounterMode(display=False) as backward:
            vectors.sum().backward()
    counted = model_flops(model.architecture, np.full(3, 11), model.heads)
    assert forward.get_total_flops() == counted
    assert forward.get_total_flops() + backward.get_total_flops() == TRAINING_FORWARDS * counted


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_machine_computes_and_random_numbers_stay(precision: str) -> None:
    before = torch.get_rng_state()
    rate = measure_matmul_rate(torch.device("cpu"), precision)  # type: ignore[arg-type]
    assert 1e6 < rate < 1e16
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_computes() -> None:
    rates = [measure_matmul_rate(torch.device("cuda"), precision) for precision in ("float32", "bfloat16")]
    assert 1e11 < rates[0] < rates[1] < 1e17
