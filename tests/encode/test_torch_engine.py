"""The torch engine: against transformers in each precision, what a vector must not depend on, threads, and little memory."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
import transformers

from pairloom.encode.torch_engine import PRECISIONS, TorchEngine, autocast, fastest_precision
from pairloom.errors import PairloomError, UsageError
from pairloom.models.heads import Dense, Normalize, Pooling
from pairloom.models.model import Model
from pairloom.models.read import read_model
from pairloom.models.tokenizer import Tokens
from pairloom.network import backbone
from pairloom.network.encoder import EncoderNetwork
from pairloom.network.packed import Packed, pack
from pairloom.recipe import PoolingMode, Precision
from tests.conftest import FAMILIES
from tests.network.texts import make_tokens

BackboneFolder = Callable[[str], Path]
LIMITS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
LENGTHS = (9, 1, 40, 17, 9, 2, 25, 9)
# Lowest cosine to transformers' float32. The networks are small and their weights ten times as wide as real ones'.
LOWEST_COSINE: dict[Precision, float] = {"float32": 1 - 1e-9, "bfloat16": 0.9997, "float16": 1 - 1e-5}
POOLINGS: tuple[PoolingMode, ...] = ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


def read(folder: Path, *modes: PoolingMode, **changes: Any) -> Model:
    return dataclasses.replace(read_model(folder), pooling=Pooling(modes or ("mean",)), **{"heads": (), **changes})


def engine(model: Model, precision: Precision = "float32", **options: Any) -> TorchEngine:
    return TorchEngine(EncoderNetwork(model), device="cpu", precision=precision, **options)


def pooled_by_hand(tokens: npt.NDArray[np.float64], mode: PoolingMode) -> npt.NDArray[np.float64]:
    places = np.arange(1, len(tokens) + 1)[:, None]
    pooled: dict[PoolingMode, npt.NDArray[np.float64]] = {
        "mean": tokens.mean(axis=0),
        "cls": tokens[0],
        "max": tokens.max(axis=0),
        "mean_sqrt_len_tokens": tokens.sum(axis=0) / len(tokens) ** 0.5,
        "weightedmean": (tokens * places).sum(axis=0) / places.sum(),
        "lasttoken": tokens[-1],
    }
    return pooled[mode]


def token_vectors_of_transformers(folder: Path, tokens: Tokens) -> list[npt.NDArray[np.float64]]:
    """Each text alone, so that nothing of padding is in them."""
    network = transformers.AutoModel.from_pretrained(folder).double().eval()
    texts = np.split(tokens.ids.astype(np.int64), np.cumsum(tokens.lengths)[:-1])
    with torch.inference_mode():
        return [network(input_ids=torch.from_numpy(text)[None]).last_hidden_state[0].numpy() for text in texts]


def cosines(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.asarray((a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_are_those_of_transformers_as_near_as_the_precision_is(
    family: str, precision: Precision, backbone_folder: BackboneFolder
) -> None:
    tokens = make_tokens(LENGTHS)
    theirs = token_vectors_of_transformers(backbone_folder(family), tokens)
    for mode in POOLINGS:
        expected = np.stack([pooled_by_hand(text, mode) for text in theirs])
        ours = engine(read(backbone_folder(family), mode), precision, micro_batch_tokens=64).embed(tokens)
        assert ours.dtype == np.float32
        assert cosines(ours, expected).min() > LOWEST_COSINE[precision], mode
        if precision == "float32":
            np.testing.assert_allclose(ours, expected, atol=2e-5, err_msg=mode)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_a_vector_does_not_depend_on_the_micro_batch(
    family: str, precision: Precision, backbone_folder: BackboneFolder
) -> None:
    tokens, model = make_tokens(LENGTHS), read(backbone_folder(family), heads=(Normalize(),))
    alone, some, together = (
        engine(model, precision, micro_batch_tokens=budget).embed(tokens) for budget in (1, 50, 999)
    )
    lowest = 1 - (1 - LOWEST_COSINE[precision]) / 4  # much nearer to each other than to float32
    assert cosines(alone, some).min() > lowest
    assert cosines(alone, together).min() > lowest


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_dense_layers_and_normalisation_stay_in_float32(precision: Precision, backbone_folder: BackboneFolder) -> None:
    tokens = make_tokens(LENGTHS)
    weight = np.random.default_rng(0).normal(size=(5, 32)).astype(np.float32)
    dense = Dense(weight, np.ones(5, dtype=np.float32), "identity")
    pooled = engine(read(backbone_folder("bert")), precision).embed(tokens)
    vectors = engine(read(backbone_folder("bert"), heads=(dense, Normalize())), precision).embed(tokens)
    expected = pooled.astype(np.float64) @ weight.T + 1
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_a_network_in_training_is_used_as_it_is_in_float32_and_copied_for_half_precision(
    backbone_folder: BackboneFolder,
) -> None:
    tokens, network = make_tokens(LENGTHS), EncoderNetwork(read(backbone_folder("bert")))
    exact, half = (TorchEngine(network, device="cpu", precision=precision) for precision in ("float32", "bfloat16"))
    before = exact.embed(tokens), half.embed(tokens)
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}
    assert all(weight.requires_grad for weight in network.parameters())
    with torch.no_grad():
        network.backbone.embeddings.word.weight.neg_()
    after = exact.embed(tokens), half.embed(tokens)
    assert np.abs(after[0] - before[0]).max() > 0.1
    np.testing.assert_array_equal(after[1], before[1])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_many_threads_get_what_one_would(family: str, precision: Precision, backbone_folder: BackboneFolder) -> None:
    one = engine(read(backbone_folder(family)), precision, micro_batch_tokens=64)
    calls = [(make_tokens(np.roll(LENGTHS, seed).tolist()[: seed % 8 + 1], seed=seed), seed % 3) for seed in range(24)]
    expected = [one.embed(tokens, skip_tokens=skip) for tokens, skip in calls]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda call: one.embed(call[0], skip_tokens=call[1]), calls * 4))
    for vectors, wanted in zip(found, expected * 4, strict=True):
        np.testing.assert_array_equal(vectors, wanted)


@pytest.mark.parametrize("packed_attention", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_host_never_waits_for_a_number_from_the_device(
    family: str, packed_attention: bool, backbone_folder: BackboneFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On torch's meta device there are shapes and no numbers: a forward pass that asked for one would fail."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # it does not know that device
    monkeypatch.setattr(torch, "autocast", lambda device, enabled: contextlib.nullcontext())
    monkeypatch.setattr(backbone, "takes_packed", lambda *_: packed_attention)
    network = EncoderNetwork(read(backbone_folder(family), *POOLINGS, heads=(Normalize(),))).to("meta")
    tokens, meta = make_tokens(LENGTHS), torch.device("meta")
    for rows in (np.array([0, 4, 7]), np.arange(len(tokens))):  # without padding and with it
        with torch.inference_mode():
            vectors = network(pack(tokens, rows, meta), skip_tokens=2)
        assert vectors.shape == (len(rows), 32 * len(POOLINGS))


class SmallMemory(EncoderNetwork):
    """Stands for a device on which two texts fit, and none of more than 30 tokens."""

    def forward(self, packed: Packed, *args: Any, **options: Any) -> torch.Tensor:
        if packed.num_texts > 2 or packed.longest > 30:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(packed, *args, **options)


def test_what_does_not_fit_into_memory_is_halved_until_it_does(backbone_folder: BackboneFolder) -> None:
    model, tokens = read(backbone_folder("mpnet")), make_tokens([9, 3, 12, 7, 30, 8, 8])
    small = TorchEngine(SmallMemory(model), device="cpu")
    np.testing.assert_allclose(small.embed(tokens), engine(model).embed(tokens), atol=1e-5)
    assert small.micro_batch_tokens < 7 * 30, "the next micro-batches begin smaller"


def test_a_text_that_does_not_fit_into_memory_is_refused_with_its_length(backbone_folder: BackboneFolder) -> None:
    small = TorchEngine(SmallMemory(read(backbone_folder("bert"))), device="cpu")
    with pytest.raises(PairloomError, match="cpu: not enough memory for a text of 40 tokens"):
        small.embed(make_tokens(LENGTHS))


def test_a_precision_that_torch_does_not_have_is_refused(backbone_folder: BackboneFolder) -> None:
    with pytest.raises(
        UsageError, match="torch encodes in float32, bfloat16, float16, not in int8; int8 is for processors"
    ):
        engine(read(backbone_folder("bert")), cast("Any", "int8"))


def test_the_fastest_precision_of_a_gpu_is_what_it_has_matrix_units_for(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {(6, 1): "float32", (7, 0): "float16", (7, 5): "float16", (8, 0): "bfloat16", (9, 0): "bfloat16"}
    for capability, precision in expected.items():
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, capability=capability: capability)
        assert fastest_precision(torch.device("cuda", 0)) == precision
    assert fastest_precision(torch.device("cpu")) == "float32"


def test_half_precision_on_a_cpu_keeps_few_kernels_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, backbone_folder: BackboneFolder
) -> None:
    network = EncoderNetwork(read(backbone_folder("bert")))
    starts: list[Callable[[Precision], object]] = [
        lambda precision: autocast(torch.device("cpu"), precision),
        lambda precision: TorchEngine(network, device="cpu", precision=precision),
    ]
    for start in starts:
        for limit in LIMITS:
            monkeypatch.setenv(limit, "7")  # so that it is as before afterwards
        monkeypatch.delenv(LIMITS[1])
        start("float32")
        assert LIMITS[1] not in os.environ
        start("bfloat16")
        assert (os.environ[LIMITS[0]], os.environ[LIMITS[1]]) == ("7", "16")


def test_a_micro_batch_has_the_vectors_of_its_texts(backbone_folder: BackboneFolder) -> None:
    made = engine(read(backbone_folder("bert")))
    tokens = make_tokens(LENGTHS)
    found = made.embed_micro_batch(tokens, skip_tokens=1)
    np.testing.assert_allclose(found, made.embed(tokens, skip_tokens=1), atol=1e-6)
    assert (made.num_streams, made.stream_tokens) == (1, made.micro_batch_tokens)
