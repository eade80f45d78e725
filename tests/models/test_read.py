"""Reading model folders: both dialects, bare backbones, and everything that can be wrong with one."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sentence_transformers import SentenceTransformer

from pairloom import Encoder
from pairloom.errors import ModelError
from pairloom.models.heads import Normalize, Pooling
from pairloom.models.read import read_model


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the small model that a test may break."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_model(folder)
    message = str(caught.value)
    assert str(folder) in message, "the message says where"
    assert "\n" not in message
    return message


def test_the_older_dialect(model_folder: Path) -> None:
    model = read_model(model_folder)
    assert model.dimensions == 32
    assert model.max_tokens == 64
    assert model.pooling == Pooling(("mean",))
    assert model.heads == (Normalize(),)
    assert model.normalized
    assert model.similarity == "cosine"


def test_a_bare_backbone_says_aloud_that_mean_pooling_is_assumed(
    backbone_folder: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="pairloom"):
        model = read_model(backbone_folder("mpnet"))
    assert "bare backbone" in caplog.text
    assert "mean pooling" in caplog.text
    assert model.pooling == Pooling(("mean",))
    assert model.max_tokens == 160, "the tokenizer's limit, within the positions"


def test_the_limit_never_exceeds_the_positions(folder: Path) -> None:
    edit(folder / "sentence_bert_config.json", max_seq_length=100_000)
    assert read_model(folder).max_tokens == 160


@pytest.mark.parametrize("stored", ["float16", "bfloat16"])
def test_half_precision_is_read_as_float32(folder: Path, stored: str) -> None:
    import torch
    from safetensors.torch import load_file as load_torch
    from safetensors.torch import save_file as save_torch

    file = folder / "model.safetensors"
    exact = load_torch(file)
    save_torch({name: tensor.to(getattr(torch, stored)) for name, tensor in exact.items()}, file)
    weights = read_model(folder).weights
    assert all(weight.dtype == np.float32 for weight in weights.values())
    rounded = exact["embeddings.word_embeddings.weight"].to(getattr(torch, stored)).float().numpy()
    np.testing.assert_array_equal(weights["embeddings.word.weight"], rounded)


def test_a_task_head_and_old_norm_names_are_understood(folder: Path) -> None:
    file = folder / "model.safetensors"
    plain = load_file(file)
    renamed = {
        "bert."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in plain.items()
    }
    save_file({**renamed, "cls.predictions.bias": np.zeros(4, dtype=np.float32)}, file)
    np.testing.assert_array_equal(
        read_model(folder).weights["embeddings.norm.weight"], plain["embeddings.LayerNorm.weight"]
    )


def test_the_fingerprint_follows_the_content(folder: Path, model_folder: Path) -> None:
    fingerprint = read_model(model_folder).fingerprint
    assert read_model(folder).fingerprint == fingerprint, "not the place"
    (folder / "README.md").write_text("another text")
    assert read_model(folder).fingerprint == fingerprint, "not the card"
    edit(folder / "sentence_bert_config.json", max_seq_length=63)
    assert read_model(folder).fingerprint != fingerprint, "but the limit"
    edit(folder / "sentence_bert_config.json", max_seq_length=64)
    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"][3, 3] += 1e-3
    save_file(tensors, folder / "model.safetensors")
    assert read_model(folder).fingerprint != fingerprint, "and any weight"


def test_no_such_folder(tmp_path: Path) -> None:
    assert "no such model folder" in refusal(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    message = refusal(folder)
    assert name in message
    assert "missing" in message


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json", "modules.json"]
)
def test_a_half_written_file_is_named(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    refusal_message = refusal_naming(folder, name)
    assert refusal_message


def refusal_naming(folder: Path, name: str) -> str:
    with pytest.raises(ModelError) as caught:
        read_model(folder)
    assert Path(name).name in str(caught.value)
    return str(caught.value)


def test_pickled_weights_are_refused_with_the_way_out(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = refusal(folder)
    assert "pytorch_model.bin" in message
    assert "safe_serialization" in message


def test_an_unknown_family_is_refused_with_those_that_are_known(folder: Path) -> None:
    edit(folder / "config.json", model_type="llama")
    message = refusal(folder)
    assert "'llama'" in message
    for known in ("bert", "roberta", "xlm-roberta", "distilbert", "mpnet"):
        assert known in message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"hidden_act": "silu"}, "activation 'silu' is not supported"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"is_decoder": True}, "decoder"),
        ({"hidden_size": "wide"}, "hidden size"),
        ({"num_attention_heads": 5}, "cannot be shared among 5 heads"),
        ({"num_hidden_layers": 3}, "has no weight encoder.layer.2"),
        ({"intermediate_size": 48}, "config.json asks for (48, 32)"),
        ({"vocab_size": 7}, "asks for (7, 32)"),
    ],
)
def test_a_configuration_that_cannot_be_right(folder: Path, change: dict[str, Any], expected: str) -> None:
    edit(folder / "config.json", **change)
    assert expected in refusal(folder)


def test_a_missing_key_is_named(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["hidden_size"]
    (folder / "config.json").write_text(json.dumps(config))
    assert "'hidden_size' is missing" in refusal(folder)


def test_a_tokenizer_of_another_model_is_noticed(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"].update({f"more{number}": 1000 + number for number in range(50)})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "do not belong together" in refusal(folder)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ({"type": "sentence_transformers.models.CNN", "path": "2_CNN"}, "'sentence_transformers.models.CNN'"),
        ({"type": "evil.code.Normalize", "path": "../../x"}, "leads out of the model folder"),
        ({"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}, "module 2 is Pooling"),
        ({"path": "1_Pooling"}, "modules.json: 2.type is missing"),
    ],
)
def test_a_module_that_is_not_supported(folder: Path, module: dict[str, Any], expected: str) -> None:
    modules = json.loads((folder / "modules.json").read_text())[:2]
    (folder / "modules.json").write_text(json.dumps([*modules, module]))
    message = refusal(folder)
    assert expected in message


def test_a_pooling_that_is_not_supported(folder: Path) -> None:
    edit(folder / "1_Pooling" / "config.json", pooling_mode="attention")
    message = refusal(folder)
    assert "'attention'" in message
    assert "weightedmean" in message, "it says what is supported"


def test_a_similarity_that_is_not_supported(folder: Path) -> None:
    edit(folder / "config_sentence_transformers.json", similarity_fn_name="manhattan")
    assert "'manhattan'" in refusal(folder)


def test_an_edited_card_and_a_foreign_manifest_do_no_harm(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"some": "other program"}')
    (folder / "README.md").write_text("edited")
    assert read_model(folder).dimensions == 32


def test_a_backbone_in_a_folder_of_its_own(folder: Path, model_folder: Path) -> None:
    (folder / "0_Transformer").mkdir()
    for file in list(folder.iterdir()):
        if file.is_file() and file.name not in ("modules.json", "config_sentence_transformers.json"):
            file.rename(folder / "0_Transformer" / file.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    assert read_model(folder).fingerprint == read_model(model_folder).fingerprint


def test_lower_case_is_that_of_sentence_transformers(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"] = None
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    edit(folder / "sentence_bert_config.json", do_lower_case=True)
    texts = ["HOW do I brew", "[MASK] coffee", "ΟΔΟΣ ΣΟΦΙΑΣ"]
    oracle = SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_allclose(Encoder(folder, precision="float32").encode(texts), oracle.encode(texts), atol=1e-5)


def test_vectors_are_cut_to_the_output_size(folder: Path) -> None:
    edit(folder / "config_sentence_transformers.json", truncate_dim=10)
    oracle = SentenceTransformer(str(folder), device="cpu", truncate_dim=10)
    encoder = Encoder(folder, precision="float32")
    assert encoder.dimensions == 10
    np.testing.assert_allclose(encoder.encode(["how"]), oracle.encode(["how"]), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("sentence_bert_config.json", {"query_length": 32}, "limits of their own for queries"),
        ("sentence_bert_config.json", {"max_seq_length": "64"}, 'max_seq_length must be a whole number, but is "64"'),
        ("sentence_bert_config.json", {"max_seq_length": 1}, "max_seq_length must be at least 3, but is 1"),
        ("sentence_bert_config.json", {"do_lower_case": "x"}, 'do_lower_case must be true or false, but is "x"'),
        ("config_sentence_transformers.json", {"truncate_dim": 0}, "truncate_dim"),
        ("config_sentence_transformers.json", {"prompts": ["query"]}, "prompts"),
        ("config_sentence_transformers.json", {"default_prompt_name": "q"}, "default prompt 'q'"),
        ("1_Pooling/config.json", {"pooling_mode": 3}, "pooling_mode"),
        ("1_Pooling/config.json", {"pooling_mode": []}, "pooling_mode"),
        ("config.json", {"model_type": ["bert"]}, "model family ['bert'] is not supported"),
        ("config.json", {"hidden_dropout_prob": 1.5}, "hidden dropout is 1.5"),
        ("config.json", {"num_hidden_layers": 10**9}, "num layers"),
        ("config.json", {"num_hidden_layers": 1}, "has more layers than the 1"),
        ("config.json", {"pad_token_id": 10**6}, "padding token is not in the vocabulary"),
    ],
)
def test_settings_of_the_wrong_kind_are_named(folder: Path, name: str, change: dict[str, Any], expected: str) -> None:
    edit(folder / name, **change)
    assert expected in refusal(folder)


@pytest.mark.parametrize("change", [{"use_residual": True}, {"module_input_name": "token_embeddings"}])
def test_a_dense_module_of_another_kind_is_refused(folder: Path, change: dict[str, Any]) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "3_Dense").mkdir()
    save_file({"linear.weight": np.eye(32, dtype=np.float32)}, folder / "3_Dense" / "model.safetensors")
    settings = {"in_features": 32, "out_features": 32, "bias": False}
    (folder / "3_Dense" / "config.json").write_text(json.dumps(settings))
    assert read_model(folder).dimensions == 32
    (folder / "3_Dense" / "config.json").write_text(json.dumps({**settings, **change}))
    assert "a Dense module" in refusal(folder)


def test_weights_that_are_no_numbers(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"][3, 3] = np.nan
    save_file(tensors, folder / "model.safetensors")
    assert "embeddings.word_embeddings.weight holds values that are not numbers" in refusal(folder)
