"""The OpenVINO engine against transformers and the torch network, and what it promises to those who share it."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import AutoModel

from pairloom.encode.openvino_engine import OpenVINOEngine, pick_precision
from pairloom.encode.openvino_graph import quantize_rows
from pairloom.encode.openvino_inputs import few_tokens, few_widths, make_inputs, pooling_weights
from pairloom.encode.torch_engine import TorchEngine
from pairloom.errors import UsageError
from pairloom.models.heads import DENSE_ACTIVATIONS, Dense, Normalize, Pooling
from pairloom.models.model import Model
from pairloom.models.names import load_model
from pairloom.models.tokenizer import Tokens
from pairloom.network.encoder import EncoderNetwork
from pairloom.network.pooling import pool
from pairloom.recipe import PoolingMode
from tests.conftest import FAMILIES

MODES: tuple[PoolingMode, ...] = ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
Vectors = npt.NDArray[np.float32]


def some_tokens(lengths: list[int], *, seed: int = 0) -> Tokens:
    ids = np.random.default_rng(seed).integers(4, 40, sum(lengths)).astype(np.int32)
    return Tokens(ids, np.array(lengths), np.zeros(len(lengths), dtype=np.bool_))


def some_lengths(count: int = 30, longest: int = 60) -> list[int]:
    return [longest, *np.random.default_rng(1).integers(1, longest + 1, count - 1).tolist()]


def by_torch(model: Model, tokens: Tokens, *, skip_tokens: int = 0) -> Vectors:
    return TorchEngine(EncoderNetwork(model), device="cpu").embed(tokens, skip_tokens=skip_tokens)


def cosines(a: Vectors, b: Vectors) -> Vectors:
    return np.asarray((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))


@pytest.mark.parametrize("family", FAMILIES)
def test_token_vectors_equal_those_of_transformers(family: str, backbone_folder: Callable[[str], Path]) -> None:
    folder = backbone_folder(family)
    model = load_model(folder)
    tokens = some_tokens(some_lengths(longest=model.max_tokens))
    oracle = AutoModel.from_pretrained(folder).eval()
    found = OpenVINOEngine(model, precision="float32").embed(tokens)
    for row in range(len(tokens)):
        ids = torch.from_numpy(tokens.padded(np.array([row]), model.architecture.pad_token_id))
        with torch.inference_mode():
            theirs = oracle(input_ids=ids).last_hidden_state.mean(1).numpy()
        np.testing.assert_allclose(found[row : row + 1], theirs, atol=1e-5)


def test_a_padding_token_within_a_text_takes_no_position(backbone_folder: Callable[[str], Path]) -> None:
    for family in ("roberta", "mpnet"):
        folder = backbone_folder(family)
        model = load_model(folder)
        pad = model.architecture.pad_token_id
        tokens = Tokens(np.array([5, 6, pad, 7, 8, 9, 10], np.int32), np.array([5, 2]), np.zeros(2, np.bool_))
        with torch.inference_mode():
            oracle = AutoModel.from_pretrained(folder).eval()
            theirs = oracle(input_ids=torch.tensor([[5, 6, pad, 7, 8]]), attention_mask=torch.ones(1, 5))
        found = OpenVINOEngine(model, precision="float32").embed(tokens)
        np.testing.assert_allclose(found[:1], theirs.last_hidden_state.mean(1).numpy(), atol=1e-5)


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("modes", [*((mode,) for mode in MODES), ("cls", "max", "mean")], ids="+".join)
def test_every_pooling_equals_that_of_torch(
    modes: tuple[PoolingMode, ...], include_prompt: bool, model_folder: Path
) -> None:
    model = dataclasses.replace(load_model(model_folder), pooling=Pooling(modes, include_prompt), heads=())
    tokens = some_tokens(some_lengths())
    skip_tokens = 0 if include_prompt else 3
    found = OpenVINOEngine(model, precision="float32").embed(tokens, skip_tokens=skip_tokens)
    np.testing.assert_allclose(found, by_torch(model, tokens, skip_tokens=skip_tokens), rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("mode", MODES)
def test_pooling_weights_are_those_of_the_torch_network(mode: PoolingMode) -> None:
    dice = np.random.default_rng(2)
    hidden = dice.normal(size=(3, 7, 5)).astype(np.float32)
    taken = np.array([[0, 1, 1, 1, 0, 0, 0], [1] * 7, [0, 0, 0, 1, 0, 0, 0]], dtype=np.bool_)
    theirs = pool(torch.from_numpy(hidden), torch.from_numpy(taken), (mode,)).numpy()
    column = pooling_weights(taken, mode)[:, :, None]
    ours = (hidden + column).max(axis=1) if mode == "max" else (hidden * column).sum(axis=1)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("activation", sorted(DENSE_ACTIVATIONS.values()))
def test_dense_layers_and_normalisation_follow(activation: str, model_folder: Path) -> None:
    dice = np.random.default_rng(3)
    plain = load_model(model_folder)
    width = plain.architecture.hidden_size
    heads = (
        Dense(dice.normal(size=(24, width)).astype(np.float32), dice.normal(size=24).astype(np.float32), activation),
        Dense(dice.normal(size=(12, 24)).astype(np.float32), None, "identity"),
        Normalize(),
    )
    model = dataclasses.replace(plain, heads=heads, output_size=8)
    tokens = some_tokens(some_lengths(9))
    theirs = by_torch(model, tokens)
    assert theirs.shape == (9, 8)
    np.testing.assert_allclose(OpenVINOEngine(model, precision="float32").embed(tokens), theirs, atol=1e-5)
    # Half precision is for the backbone alone.
    assert cosines(OpenVINOEngine(model, precision="bfloat16").embed(tokens), theirs).min() > 0.999


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_less_precision_is_near(precision: str, family: str, backbone_folder: Callable[[str], Path]) -> None:
    model = load_model(backbone_folder(family))
    tokens = some_tokens(some_lengths())
    found = OpenVINOEngine(model, precision=precision).embed(tokens)  # type: ignore[arg-type]
    assert cosines(found, by_torch(model, tokens)).mean() > 0.997
    if precision == "int8":
        assert np.abs(found - by_torch(model, tokens)).max() > 1e-5, "or nothing was quantised"


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_a_vector_does_not_depend_on_its_batch_mates(
    family: str, precision: str, backbone_folder: Callable[[str], Path]
) -> None:
    engine = OpenVINOEngine(load_model(backbone_folder(family)), precision=precision)  # type: ignore[arg-type]
    lengths = [9, 9, 9, 33, 64, 2, 64, 17]
    tokens = some_tokens(lengths)
    together = engine.embed(tokens)
    ends = np.cumsum(lengths)
    for row, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        alone = engine.embed(Tokens(tokens.ids[end - length : end], np.array([length]), np.zeros(1, np.bool_)))
        # What rounding to bfloat16 makes of another order of sums; a text quantised with others would differ tenfold.
        np.testing.assert_allclose(alone[0], together[row], atol=1e-6 if precision == "float32" else 0.02)
        assert cosines(alone, together[row : row + 1])[0] > (0.9999999 if precision == "float32" else 0.9999)


def test_int8_rows_are_as_near_as_a_byte_allows() -> None:
    weight = np.random.default_rng(4).normal(size=(6, 50)).astype(np.float32)
    weight[2] = 0
    rows, scales = quantize_rows(weight)
    assert rows.dtype == np.int8
    assert np.abs(rows[[0, 1, 3]]).max(axis=1).tolist() == [127] * 3
    assert (np.abs(rows * scales - weight) <= scales / 2 * 1.001).all()
    assert not rows[2].any()


def test_only_the_first_token_of_the_last_layer_is_computed_for_cls(model_folder: Path) -> None:
    plain = load_model(model_folder)
    model = dataclasses.replace(plain, pooling=Pooling(("cls",)), heads=())
    for num_layers in (1, 2):
        small = dataclasses.replace(model, architecture=dataclasses.replace(model.architecture, num_layers=num_layers))
        tokens = some_tokens(some_lengths(12))
        # The torch network refuses weights of layers that it has not.
        left = {name: w for name, w in small.weights.items() if not name.startswith("layers.1") or num_layers == 2}
        small = dataclasses.replace(small, weights=left)
        np.testing.assert_allclose(
            OpenVINOEngine(small, precision="float32").embed(tokens), by_torch(small, tokens), atol=2e-6
        )


def test_several_threads_may_use_it_at_once(model_folder: Path) -> None:
    engine = OpenVINOEngine(load_model(model_folder), precision="float32", micro_batch_tokens=256)
    jobs = [some_tokens(some_lengths(count), seed=count) for count in (1, 2, 3, 40, 150, 1, 70, 5)]
    alone = [engine.embed(job) for job in jobs]
    found: dict[int, list[Vectors]] = {}

    def work(number: int) -> None:
        found[number] = [engine.embed(job) for job in jobs[number:] + jobs[:number]]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(len(jobs)):
        for ours, theirs in zip(found[number], alone[number:] + alone[:number], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_fault_in_one_micro_batch_is_raised_and_the_engine_goes_on(model_folder: Path) -> None:
    engine = OpenVINOEngine(load_model(model_folder), precision="float32", micro_batch_tokens=128)
    tokens = some_tokens([20] * 30)
    sound = engine.embed(tokens)
    beyond = dataclasses.replace(tokens, lengths=np.array([20] * 29 + [200]))  # more than there are
    with pytest.raises(IndexError):
        engine.embed(beyond)
    np.testing.assert_array_equal(engine.embed(tokens), sound)


def test_the_precision_is_what_the_processor_has(caplog: pytest.LogCaptureFixture) -> None:
    assert pick_precision(None, has_bfloat16=True) == "bfloat16"
    assert pick_precision(None, has_bfloat16=False) == "float32"
    assert pick_precision("int8", has_bfloat16=False) == "int8"
    with caplog.at_level(logging.WARNING, logger="pairloom"):
        assert pick_precision("bfloat16", has_bfloat16=False) == "float32"
    assert "does not multiply in bfloat16" in caplog.text
    with pytest.raises(UsageError, match="'float16' is for GPUs"):
        pick_precision("float16", has_bfloat16=True)


def test_shapes_are_few_and_padding_is_little() -> None:
    assert sorted({few_widths(longest) for longest in range(129)}) == [*range(4, 65, 4), *range(72, 129, 8)]
    numbers = np.arange(1, 5000)
    computed = np.array([few_tokens(number) for number in numbers.tolist()])
    assert len(set(computed[:1024])) == 16 + 24 + 48
    assert (computed >= numbers).all()
    assert (computed - numbers <= np.maximum(3, numbers / 9)).all()


def test_the_number_of_threads_can_be_set(model_folder: Path) -> None:
    one = OpenVINOEngine(load_model(model_folder), precision="float32", threads=1)
    tokens = some_tokens(some_lengths(60))
    np.testing.assert_allclose(one.embed(tokens), by_torch(load_model(model_folder), tokens), rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_a_micro_batch_of_any_shape_has_the_vectors_of_its_texts(
    family: str, threads: int, backbone_folder: Callable[[str], Path]
) -> None:
    model = load_model(backbone_folder(family))
    engine = OpenVINOEngine(model, precision="float32", threads=threads)
    assert engine.num_streams == threads
    tokens = some_tokens(some_lengths(31, longest=model.max_tokens))
    expected = engine.embed(tokens, skip_tokens=2)
    ends = np.cumsum(tokens.lengths)
    for count in (1, 2, 5, 7, 9, 13):
        for alone in (False, True):
            begin = 30 - count
            part = Tokens(
                tokens.ids[ends[begin] - tokens.lengths[begin] : ends[29]],
                tokens.lengths[begin:30],
                tokens.truncated[begin:30],
            )
            found = engine.embed_micro_batch(part, skip_tokens=2, alone=alone)
            np.testing.assert_allclose(found, expected[begin:30], atol=1e-5)


def test_micro_batches_side_by_side_and_alone(model_folder: Path) -> None:
    engine = OpenVINOEngine(load_model(model_folder), precision="float32", threads=2)
    jobs = [some_tokens(some_lengths(count), seed=count) for count in (1, 2, 3, 10, 17)]
    expected = [engine.embed(job) for job in jobs]
    found: dict[int, list[Vectors]] = {}

    def work(number: int) -> None:
        found[number] = [
            engine.embed_micro_batch(job, alone=(place + number) % 3 == 0) for place, job in enumerate(jobs)
        ]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(6):
        for ours, theirs in zip(found[number], expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_rectangle_is_never_wider_than_the_model_takes(model_folder: Path) -> None:
    model = dataclasses.replace(load_model(model_folder), max_tokens=59)
    inputs = make_inputs(model, some_tokens([59, 1]), np.array([0, 1]))
    assert inputs["spread"].shape == inputs["texts"].shape == (2, 59)
    inputs = make_inputs(model, some_tokens([57, 20, 30]), np.array([0, 1, 2]))
    assert inputs["spread"].shape == (2, 59)


@pytest.mark.parametrize("share_rows", [False, True])
def test_tokens_stand_where_the_rectangle_says(model_folder: Path, share_rows: bool) -> None:
    model = load_model(model_folder)
    tokens, rows = some_tokens([7, 3, 9, 5]), np.array([2, 0, 3])
    inputs = make_inputs(model, tokens, rows, num_rows=4, share_rows=share_rows)
    rectangle = tokens.padded(rows, model.architecture.pad_token_id, width=12)
    inside = inputs["pool_mean"][:3] > 0
    np.testing.assert_array_equal(inside.sum(1), [9, 7, 5])
    np.testing.assert_array_equal(inputs["ids"][inputs["texts"][:3]][inside], rectangle[inside])
    assert len(inputs["ids"]) == len(inputs["gathered"]) == few_tokens(21) == 24
    assert inputs["spread"].shape == ((1, 24) if share_rows else (4, 12))
    np.testing.assert_array_equal(inputs["spread"].ravel()[inputs["gathered"][:21]], np.arange(21))
    np.testing.assert_array_equal(inputs["positions"][:21], [*range(9), *range(7), *range(5)])
    text = np.repeat([0, 1, 2], [9, 7, 5])
    width = inputs["spread"].shape[1]
    row, column = np.divmod(inputs["gathered"][:21], width)
    for query in range(21):
        sees = inputs["closed"][row[query], 0, column[query] if share_rows else 0] == 0
        np.testing.assert_array_equal(np.flatnonzero(sees), np.sort(column[text == text[query]]))


@pytest.mark.parametrize("mode", ["mean", "cls"])
def test_a_vector_does_not_depend_on_what_fills_a_micro_batch(
    mode: PoolingMode, backbone_folder: Callable[[str], Path]
) -> None:
    for family in FAMILIES:
        model = dataclasses.replace(load_model(backbone_folder(family)), pooling=Pooling((mode,)))
        engine = OpenVINOEngine(model, precision="float32", threads=1)
        tokens = some_tokens([9, 4, 17, 2, 11])  # 43 tokens, and a sixth row
        together = engine.embed_micro_batch(tokens)
        assert np.isfinite(together).all()
        np.testing.assert_allclose(together, by_torch(model, tokens), atol=1e-5)
        many = some_tokens(np.random.default_rng(3).integers(1, 30, 40).tolist())
        assert len(make_inputs(model, many, np.arange(40))["spread"]) < 20  # rows that texts share
        np.testing.assert_allclose(engine.embed_micro_batch(many), by_torch(model, many), atol=1e-5)
