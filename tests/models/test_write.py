"""Writing model folders, and reading them back with pairloom and with sentence-transformers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense as TheirDense
from sentence_transformers.base.modules import Normalize as TheirNormalize
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling as TheirPooling

from pairloom.encode.encoder import Encoder
from pairloom.models.heads import Dense, Head, Normalize, Pooling
from pairloom.models.model import Model
from pairloom.models.read import read_model
from pairloom.models.write import write_model
from pairloom.recipe import PoolingMode
from tests.conftest import FAMILIES

TEXTS = ["how do i brew coffee", "", "a", "the water is hot and the cup is cold " * 30, "what is a vector?"]


def with_heads(model: Model, modes: tuple[PoolingMode, ...], *, bias: bool) -> Model:
    dice = np.random.default_rng(0)
    dense = Dense(
        dice.normal(size=(12, 32 * len(modes))).astype(np.float32),
        dice.normal(size=12).astype(np.float32) if bias else None,
        "tanh",
    )
    heads: tuple[Head, ...] = (dense, Normalize())
    return dataclasses.replace(model, pooling=Pooling(modes), heads=heads, similarity="dot", max_tokens=50)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "modes",
    [("cls",), ("cls", "mean"), ("mean", "cls"), ("max", "lasttoken"), ("mean_sqrt_len_tokens",), ("weightedmean",)],
)
def test_what_is_written_loads_in_sentence_transformers_with_the_same_vectors(
    family: str, modes: tuple[PoolingMode, ...], backbone_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = with_heads(read_model(backbone_folder(family)), modes, bias=family != "mpnet")
    write_model(model, tmp_path, readme="# a model\n")
    back = read_model(tmp_path)
    assert back.fingerprint == model.fingerprint
    oracle = SentenceTransformer(str(tmp_path), device="cpu")
    assert oracle.similarity_fn_name == "dot"
    assert oracle.max_seq_length == 50
    np.testing.assert_allclose(Encoder(back, precision="float32").encode(TEXTS), oracle.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize("modes", ["mean", ["cls", "mean"], ["mean", "cls"]])
def test_the_newer_dialect_is_read(
    modes: str | list[str], backbone_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    backbone = Transformer(str(backbone_folder("distilbert")), max_seq_length=48)
    pooling = TheirPooling(32, pooling_mode=modes)
    dense = TheirDense(pooling.pooling_output_dimension, 20)
    oracle = SentenceTransformer(modules=[backbone, pooling, dense, TheirNormalize()], device="cpu")
    oracle.prompts = {"query": "what is ", "document": ""}
    oracle.save(str(tmp_path))
    encoder = Encoder(tmp_path, precision="float32")
    assert encoder.max_tokens == 48
    assert encoder.dimensions == 20
    np.testing.assert_allclose(encoder.encode(TEXTS), oracle.encode(TEXTS), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_query(TEXTS), oracle.encode_query(TEXTS), atol=1e-5)
    assert not np.allclose(encoder.encode_query(TEXTS), encoder.encode(TEXTS)), "the prompt counts"


def test_a_prompt_can_be_left_out_of_pooling(backbone_folder: Callable[[str], Path], tmp_path: Path) -> None:
    model = dataclasses.replace(
        read_model(backbone_folder("bert")), pooling=Pooling(("mean",), include_prompt=False), prompts={"query": "why "}
    )
    write_model(model, tmp_path, readme="")
    oracle = SentenceTransformer(str(tmp_path), device="cpu")
    texts = [text for text in TEXTS if text]
    np.testing.assert_allclose(
        Encoder(tmp_path, precision="float32").encode_query(texts), oracle.encode_query(texts), atol=1e-5
    )


def test_a_folder_from_sentence_transformers_and_its_copy_have_one_fingerprint(
    model_folder: Path, tmp_path: Path
) -> None:
    """The newer dialect of the same model is the same model."""
    SentenceTransformer(str(model_folder), device="cpu").save(str(tmp_path))
    assert read_model(tmp_path).fingerprint == read_model(model_folder).fingerprint


def test_a_pooler_of_the_base_is_kept(model_folder: Path, tmp_path: Path) -> None:
    model = read_model(model_folder)
    assert "pooler.dense.weight" in model.unread_weights
    write_model(model, tmp_path, readme="")
    assert read_model(tmp_path).unread_weights.keys() == model.unread_weights.keys()
