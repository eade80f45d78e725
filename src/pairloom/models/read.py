"""Reading model folders in the sentence-transformers layout, in both of its dialects.

The newer dialect (from 5.4) spells module classes and pooling differently and keeps the limit of tokens with the
tokenizer.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path, PurePosixPath
from typing import Any, cast

from pairloom.artifacts import MANIFEST, read_manifest
from pairloom.errors import ModelError
from pairloom.models.architecture import Architecture
from pairloom.models.families import family_of, read_architecture
from pairloom.models.heads import DENSE_ACTIVATIONS, POOLING_FLAGS, Dense, Head, Normalize, Pooling
from pairloom.models.model import Model
from pairloom.models.weights import read_backbone, read_tensors
from pairloom.recipe import PoolingMode, Similarity

logger = logging.getLogger("pairloom")

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
)
_UNSAFE_WEIGHTS = ("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack")


def read_model(path: Path, name: str | None = None) -> Model:
    """Reads a model folder, or a bare backbone, for which mean pooling is assumed and said aloud.

    Args:
        path: The folder.
        name: What to call it; by default the path.

    Raises:
        ModelError: A file is missing, damaged, contradicts another, or asks for what is not supported.
    """
    if not path.is_dir():
        raise ModelError(f"{path}: no such model folder")
    if (path / MANIFEST).is_file():
        read_manifest(path)
    config = _read_object(path / "config.json")
    architecture = read_architecture(config, path / "config.json")
    family = family_of(config, path / "config.json")
    _refuse_unsafe(path)
    weights, unread = read_backbone(path / "model.safetensors", family, architecture)
    pooling, heads = _read_modules(path, architecture)
    sentence = _read_object(path / "sentence_bert_config.json", required=False)
    extra = _read_object(path / "config_sentence_transformers.json", required=False)
    model = Model(
        name=name or str(path),
        architecture=architecture,
        config=config,
        weights=weights,
        unread_weights=unread,
        tokenizer_files=_read_tokenizer_files(path),
        max_tokens=_max_tokens(path, sentence, architecture),
        lower_case=bool(sentence.get("do_lower_case", False)),
        pooling=pooling,
        heads=heads,
        similarity=_similarity(extra, path),
        prompts=extra.get("prompts") or {},
        default_prompt=extra.get("default_prompt_name"),
        output_size=extra.get("truncate_dim"),
        has_modules=(path / "modules.json").is_file(),
    )
    if (known := model.tokenizer().vocabulary_size) > architecture.vocabulary_size:
        raise ModelError(
            f"{path}: tokenizer.json knows {known:,} tokens, but the weights have only "
            f"{architecture.vocabulary_size:,}; they do not belong together"
        )
    return model


def _read_modules(path: Path, architecture: Architecture) -> tuple[Pooling, tuple[Head, ...]]:
    if not (path / "modules.json").is_file():
        logger.warning("%s is a bare backbone (it has no modules.json): mean pooling is assumed", path)
        return Pooling(("mean",)), ()
    entries = _read_json(path / "modules.json")
    pooling: Pooling | None = None
    heads: list[Head] = []
    size = architecture.hidden_size
    for number, (name, folder) in enumerate(_module_list(entries, path)):
        if (name == "Transformer") != (number == 0) or (name == "Pooling") != (number == 1):
            raise ModelError(
                f"{path / 'modules.json'}: module {number} is {name}; supported are Transformer, then Pooling, "
                "then Dense and Normalize in any order"
            )
        if name == "Pooling":
            pooling = _read_pooling(folder, architecture)
            size *= len(pooling.modes)
        elif name == "Dense":
            dense = _read_dense(folder, size)
            heads.append(dense)
            size = dense.weight.shape[0]
        elif name == "Normalize":
            heads.append(Normalize())
    if pooling is None:
        raise ModelError(f"{path / 'modules.json'}: has no Pooling module, so it makes no sentence vectors")
    return pooling, tuple(heads)


def _module_list(entries: Any, path: Path) -> list[tuple[str, Path]]:
    """Each module's class (the last part of its name: the dialects differ in the rest) and folder."""
    known = ("Transformer", "Pooling", "Dense", "Normalize")
    modules = []
    try:
        for entry in entries:
            name, folder = str(entry["type"]).rsplit(".", 1)[-1], PurePosixPath(str(entry["path"]))
            if folder.is_absolute() or ".." in folder.parts:
                raise ModelError(f"{path / 'modules.json'}: the path {str(folder)!r} leads out of the model folder")
            if name == "Transformer" and folder.parts:
                raise ModelError(f"{path / 'modules.json'}: a backbone in a folder of its own is not supported")
            if name not in known:
                raise ModelError(
                    f"{path / 'modules.json'}: module {entry['type']!r} is not supported; these are: {', '.join(known)}"
                )
            modules.append((name, path / folder))
    except (TypeError, KeyError):
        raise ModelError(f"{path / 'modules.json'}: not a list of modules with type and path") from None
    return modules


def _read_pooling(path: Path, architecture: Architecture) -> Pooling:
    file = path / "config.json"
    config = _read_object(file)
    if "pooling_mode" in config:
        given = config["pooling_mode"]
        modes = (given,) if isinstance(given, str) else tuple(given)
    else:
        modes = tuple(mode for flag, mode in POOLING_FLAGS.items() if config.get(flag)) or ("mean",)
    for mode in modes:
        if mode not in POOLING_FLAGS.values():
            raise ModelError(
                f"{file}: pooling {mode!r} is not supported; these are: {', '.join(POOLING_FLAGS.values())}"
            )
    size = config.get("word_embedding_dimension", config.get("embedding_dimension", architecture.hidden_size))
    if size != architecture.hidden_size:
        raise ModelError(f"{file}: pools vectors of {size}, but the backbone's have {architecture.hidden_size}")
    return Pooling(cast("tuple[PoolingMode, ...]", modes), bool(config.get("include_prompt", True)))


def _read_dense(path: Path, size: int) -> Dense:
    file = path / "config.json"
    config = _read_object(file)
    if config.get("module_input_name", "sentence_embedding") != "sentence_embedding":
        raise ModelError(f"{file}: a Dense module on {config['module_input_name']} is not supported")
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if activation not in DENSE_ACTIVATIONS:
        known = ", ".join(DENSE_ACTIVATIONS)
        raise ModelError(f"{file}: activation {activation!r} is not supported; these are: {known}")
    if not (path / "model.safetensors").exists():
        _refuse_unsafe(path)
    tensors = read_tensors(path / "model.safetensors")
    weight, bias = tensors.get("linear.weight"), tensors.get("linear.bias")
    if weight is None or weight.ndim != 2 or weight.shape[1] != size:
        found = "none" if weight is None else f"one of shape {weight.shape}"
        raise ModelError(f"{path / 'model.safetensors'}: linear.weight must take vectors of {size}; it has {found}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ModelError(f"{path / 'model.safetensors'}: linear.bias and linear.weight do not belong together")
    return Dense(weight, bias, DENSE_ACTIVATIONS[activation])


def _read_tokenizer_files(path: Path) -> dict[str, bytes]:
    if not (path / "tokenizer.json").is_file():
        raise ModelError(
            f"{path / 'tokenizer.json'}: missing; load the model once with transformers and save it, which writes the file"
        )
    return {name: (path / name).read_bytes() for name in _TOKENIZER_FILES if (path / name).is_file()}


def _max_tokens(path: Path, sentence: dict[str, Any], architecture: Architecture) -> int:
    limit = sentence.get("max_seq_length")
    if limit is None:
        limit = _read_object(path / "tokenizer_config.json", required=False).get("model_max_length")
    if limit is None:
        return architecture.max_tokens
    # Tokenizers without a limit say so with a number like 1e30.
    if isinstance(limit, bool) or not isinstance(limit, int | float) or limit < 1:
        raise ModelError(f"{path}: a limit of {limit!r} tokens cannot be right")
    return min(int(limit), architecture.max_tokens)


def _similarity(extra: dict[str, Any], path: Path) -> Similarity:
    name = extra.get("similarity_fn_name") or "cosine"
    if name not in ("cosine", "dot"):
        raise ModelError(f"{path}: similarity {name!r} is not supported; cosine and dot are")
    return cast("Similarity", name)


def _refuse_unsafe(path: Path) -> None:
    if (path / "model.safetensors").is_file():
        return
    if (path / "model.safetensors.index.json").is_file():
        raise ModelError(f"{path}: weights in several files are not supported; save the model as one model.safetensors")
    for name in _UNSAFE_WEIGHTS:
        if (path / name).is_file():
            raise ModelError(
                f"{path}: has its weights only as {name}, which pairloom does not open because such files can carry "
                "code; load it once with transformers and save it with safe_serialization=True"
            )
    raise ModelError(f"{path / 'model.safetensors'}: missing, so the model folder is not whole")


def _read_object(path: Path, *, required: bool = True) -> dict[str, Any]:
    if not required and not path.exists():
        return {}
    content = _read_json(path)
    if not isinstance(content, dict):
        raise ModelError(f"{path}: must hold a JSON object")
    return content


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{path}: missing, so {path.parent} is not a whole model folder") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not JSON ({error})") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
