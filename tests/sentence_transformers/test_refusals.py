"""What is not supported says so, in one sentence with what to do instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pairloom.errors import ModelError, UsageError
from pairloom.sentence_transformers import SentenceTransformer
from tests.sentence_transformers.conftest import EncoderFolder


@pytest.fixture(scope="module")
def folder(encoder_folder: EncoderFolder) -> Path:
    return encoder_folder("bert")


@pytest.fixture(scope="module")
def model(folder: Path) -> SentenceTransformer:
    return SentenceTransformer(folder, device="cpu")


@pytest.mark.parametrize(
    ("options", "instead"),
    [
        ({"trust_remote_code": True}, "code from a model folder is never run"),
        ({"backend": "onnx"}, "use sentence-transformers for ONNX and OpenVINO"),
        ({"backend": "openvino"}, "use sentence-transformers for ONNX and OpenVINO"),
        ({"modules": [torch.nn.Identity()]}, "a model is read from a folder"),
        ({"revision": "main"}, "snapshot_download"),
        ({"cache_folder": "/somewhere"}, "HF_HUB_CACHE"),
        ({"local_files_only": True}, "HF_HUB_OFFLINE=1"),
        ({"token": "secret"}, "hf auth login"),
        ({"use_auth_token": True}, "hf auth login"),
        ({"model_kwargs": {"torch_dtype": "bfloat16"}}, "precision='bfloat16'"),
        ({"processor_kwargs": {"padding_side": "left"}}, "model.max_seq_length"),
        ({"tokenizer_kwargs": {"padding_side": "left"}}, "model.max_seq_length"),
        ({"config_kwargs": {"hidden_act": "relu"}}, "as the folder has it"),
        ({"model_card_data": "a card"}, "README.md"),
    ],
    ids=str,
)
def test_options_of_the_constructor(folder: Path, options: dict[str, Any], instead: str) -> None:
    (name,) = options
    with pytest.raises(NotImplementedError, match=instead) as caught:
        SentenceTransformer(folder, **options)
    assert isinstance(caught.value, UsageError)
    assert str(caught.value).startswith(f"{name}=")
    assert "\n" not in str(caught.value)


def test_a_token_is_not_repeated_in_the_sentence(folder: Path) -> None:
    for name in ("token", "use_auth_token"):
        secret: dict[str, Any] = {name: "hf_secret"}
        with pytest.raises(NotImplementedError) as caught:
            SentenceTransformer(folder, **secret)
        assert "hf_secret" not in str(caught.value)


def test_options_that_ask_for_nothing(folder: Path) -> None:
    neutral: dict[str, Any] = {
        "modules": None,
        "cache_folder": None,
        "trust_remote_code": False,
        "revision": None,
        "local_files_only": False,
        "token": False,
        "model_kwargs": {},
        "backend": "torch",
    }
    assert SentenceTransformer(folder, **neutral).encode("a").shape == (32,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output_value": "token_embeddings"}, "only 'sentence_embedding' is"),
        ({"output_value": None}, "only 'sentence_embedding' is"),
        ({"pool": {"input": None}}, "pool with several processes is not supported: .*a process for each device"),
        ({"device": ["cpu", "cpu"]}, "device with several processes is not supported"),
        ({"chunk_size": 10}, "chunk_size with several processes is not supported"),
    ],
)
def test_arguments_of_encode(model: SentenceTransformer, arguments: dict[str, Any], message: str) -> None:
    for method in (model.encode, model.encode_query, model.encode_document):
        with pytest.raises(NotImplementedError, match=message):
            method(["a"], **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"precision": "float16"}, "precision 'float16' is not supported"),
        ({"truncate_dim": 0}, "truncate_dim is 0"),
        ({"truncate_dim": -3}, "truncate_dim is -3"),
    ],
)
def test_arguments_without_sense(model: SentenceTransformer, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.encode(["a"], **arguments)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"text": "a", "image": "b"}, "dict cannot be encoded; pairloom encodes a string or a list of them"),
        ({"a", "b"}, "set cannot be encoded"),
        (b"bytes", "bytes cannot be encoded"),
        (None, "NoneType cannot be encoded"),
        (7, "int cannot be encoded"),
        (object(), "object cannot be encoded"),
        (["a", None], "text 1 is NoneType, not a string"),
        ([("a", "pair")], "text 0 is tuple, not a string"),
        ([{"text": "a"}], "text 0 is dict, not a string"),
        (np.zeros((2, 3)), "text 0 is list, not a string"),
        (torch.zeros(2, 3), "text 0 is Tensor, not a string"),
        (np.array([["a", "b"]]), "text 0 is list, not a string"),
    ],
)
def test_inputs_that_are_no_texts(model: SentenceTransformer, inputs: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        model.encode(inputs)


@pytest.mark.parametrize("name", ["fit", "start_multi_process_pool", "encode_multi_process", "half", "push_to_hub"])
def test_methods(model: SentenceTransformer, name: str) -> None:
    with pytest.raises(UsageError, match=rf"SentenceTransformer\.{name} is not supported: \w+"):
        getattr(model, name)
    assert not hasattr(model, name)


def test_other_types_of_numbers(model: SentenceTransformer) -> None:
    with pytest.raises(UsageError, match="weights are float32 here"):
        model.to(torch.bfloat16)


def test_names_that_nobody_knows(folder: Path, model: SentenceTransformer) -> None:
    with pytest.raises(AttributeError, match="'SentenceTransformer' object has no attribute 'enocde'"):
        _ = model.enocde
    with pytest.raises(TypeError, match="unexpected keyword argument 'devcie'"):
        SentenceTransformer(folder, devcie="cpu")
    misspelt: dict[str, Any] = {"normalise": True}
    for method in (model.encode, model.encode_query, model.encode_document):
        with pytest.raises(TypeError, match="unexpected keyword argument 'normalise'"):
            method(["a"], **misspelt)


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json: missing"):
        SentenceTransformer(tmp_path)
