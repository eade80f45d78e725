"""Reading model folders in the sentence-transformers layout, in both of its dialects.

The newer dialect (from 5.4) spells module classes and pooling differently and keeps the limit of tokens with the
tokenizer.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import cast

from pairloom.choices import PoolingMode, Similarity
from pairloom.errors import ModelError
from pairloom.models.architecture import Architecture
from pairloom.models.families import family_of, read_architecture
from pairloom.models.heads import DENSE_ACTIVATIONS, POOLING_FLAGS, Dense, Head, Normalize, Pooling
from pairloom.models.lower_case import lower_case_conflict
from pairloom.models.model import Model
from pairloom.models.settings import (
    DenseSettings,
    EncoderSettings,
    ModuleEntry,
    PoolingSettings,
    SentenceSettings,
    TokenizerSettings,
    read_object,
    read_settings,
)
from pairloom.models.weights import read_backbone, read_tensors

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
# A folder with both is a model of two encoders, and each of them is a model folder like any other.
QUERY_FOLDER, DOCUMENT_FOLDER = "Q", "A"
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
    if is_dual(path):
        halves = f", or one of them: {path / QUERY_FOLDER} or {path / DOCUMENT_FOLDER}" if _has_halves(path) else ""
        raise ModelError(
            f"{name or path}: is two encoders, one for queries and one for documents; use DualEncoder{halves}"
        )
    return build_model(path, _read_modules(path), name or str(path))


def is_dual(path: Path) -> bool:
    """Whether a folder holds two encoders: in ``Q`` and ``A``, or as a Router of sentence-transformers."""
    return _has_halves(path) or has_router(path)


def whole_of(path: Path) -> Path | None:
    """The folder of two encoders of which this is one half, if it is."""
    return path.parent if path.name in (QUERY_FOLDER, DOCUMENT_FOLDER) and _has_halves(path.parent) else None


def has_router(path: Path) -> bool:
    """Whether the first module of a folder is a Router; a ``modules.json`` that cannot be read is no reason to think so."""
    try:
        entries = read_settings(path / "modules.json", list[ModuleEntry])
    except ModelError:
        return False
    return bool(entries) and entries[0].class_name == "Router"


def _has_halves(path: Path) -> bool:
    return all((path / half / "modules.json").is_file() for half in (QUERY_FOLDER, DOCUMENT_FOLDER))


def build_model(path: Path, modules: list[tuple[str, Path]], name: str) -> Model:
    """Reads what is in the folders of a model's modules.

    Args:
        path: The model's folder, which has the settings of the whole.
        modules: Class and folder of each, in the order that `check_order` asks for; none for a bare backbone.
        name: What to call the model.

    Raises:
        ModelError: As `read_model` does.
    """
    backbone = modules[0][1] if modules else path
    config = read_object(backbone / "config.json")
    architecture = read_architecture(config, backbone / "config.json")
    family = family_of(config, backbone / "config.json")
    _refuse_unsafe(backbone)
    weights, unread = read_backbone(backbone / "model.safetensors", family, architecture)
    pooling, heads = _read_heads(modules, architecture)
    sentence = _sentence_settings(backbone)
    settings = read_settings(path / "config_sentence_transformers.json", EncoderSettings, required=False)
    model = Model(
        name=name,
        architecture=architecture,
        config=config,
        weights=weights,
        unread_weights=unread,
        tokenizer_files=_read_tokenizer_files(backbone),
        max_tokens=_max_tokens(backbone, sentence, architecture),
        lower_case=sentence.do_lower_case,
        pooling=pooling,
        heads=heads,
        similarity=_similarity(settings, path),
        prompts={name: text or "" for name, text in (settings.prompts or {}).items()},
        default_prompt=settings.default_prompt_name,
        output_size=settings.truncate_dim,
        has_modules=bool(modules),
    )
    if model.default_prompt is not None and model.default_prompt not in model.prompts:
        raise ModelError(f"{path}: its default prompt {model.default_prompt!r} is not one of its prompts")
    if (known := model.tokenizer().vocabulary_size) > architecture.vocabulary_size:
        raise ModelError(
            f"{path}: tokenizer.json knows {known:,} tokens, but the weights have only "
            f"{architecture.vocabulary_size:,}; they do not belong together"
        )
    if not model.lower_case and (conflict := lower_case_conflict(model.tokenizer_files)):
        logger.warning("%s: %s", backbone, conflict)
    return model


def _read_modules(path: Path) -> list[tuple[str, Path]]:
    """Each module's class and folder; none for a bare backbone."""
    if not os.path.lexists(path / "modules.json"):
        logger.warning("%s is a bare backbone (it has no modules.json): mean pooling is assumed", path)
        return []
    file = path / "modules.json"
    modules = find_modules(read_settings(file, list[ModuleEntry]), file)
    check_order(modules, file)
    return modules


def check_order(modules: list[tuple[str, Path]], file: Path) -> None:
    """Raises `ModelError`, which names the file, unless it is Transformer, Pooling, and then Dense and Normalize."""
    for number, (name, _) in enumerate(modules):
        if (name == "Transformer") != (number == 0) or (name == "Pooling") != (number == 1):
            raise ModelError(
                f"{file}: module {number} is {name}; supported are Transformer, then Pooling, "
                "then Dense and Normalize in any order"
            )
    if len(modules) < 2:
        raise ModelError(f"{file}: has no Pooling module, so it makes no sentence vectors")


def _read_heads(modules: list[tuple[str, Path]], architecture: Architecture) -> tuple[Pooling, tuple[Head, ...]]:
    if not modules:
        return Pooling(("mean",)), ()
    pooling = _read_pooling(modules[1][1], architecture)
    size = architecture.hidden_size * len(pooling.modes)
    heads: list[Head] = []
    for name, folder in modules[2:]:
        if name == "Normalize":
            heads.append(Normalize())
        else:
            dense = _read_dense(folder, size)
            heads.append(dense)
            size = dense.weight.shape[0]
    return pooling, tuple(heads)


def find_modules(entries: Iterable[ModuleEntry], file: Path) -> list[tuple[str, Path]]:
    """Each module's class and folder.

    Args:
        entries: Of ``modules.json`` or the like.
        file: In which they stand, and beside which the folders lie.

    Raises:
        ModelError: A module is not supported, or its folder lies elsewhere.
    """
    known = ("Transformer", "Pooling", "Dense", "Normalize")
    modules = []
    for entry in entries:
        folder = PurePosixPath(entry.path)
        if folder.is_absolute() or ".." in folder.parts:
            raise ModelError(f"{file}: the path {entry.path!r} leads out of the model folder")
        if entry.class_name not in known:
            raise ModelError(f"{file}: module {entry.type!r} is not supported; these are: {', '.join(known)}")
        modules.append((entry.class_name, file.parent / folder))
    return modules


def _read_pooling(path: Path, architecture: Architecture) -> Pooling:
    file = path / "config.json"
    settings = read_settings(file, PoolingSettings)
    if settings.pooling_mode is None:
        modes = tuple(mode for flag, mode in POOLING_FLAGS.items() if getattr(settings, flag)) or ("mean",)
    else:
        given = settings.pooling_mode
        modes = cast("tuple[PoolingMode, ...]", (given,) if isinstance(given, str) else tuple(given))
        if not modes:
            raise ModelError(f"{file}: pooling_mode is an empty list; it must name at least one way of pooling")
    for mode in modes:
        if mode not in POOLING_FLAGS.values():
            raise ModelError(
                f"{file}: pooling {mode!r} is not supported; these are: {', '.join(POOLING_FLAGS.values())}"
            )
    size = settings.word_embedding_dimension or settings.embedding_dimension or architecture.hidden_size
    if size != architecture.hidden_size:
        raise ModelError(f"{file}: pools vectors of {size}, but the backbone's have {architecture.hidden_size}")
    return Pooling(modes, settings.include_prompt)


def _read_dense(path: Path, size: int) -> Dense:
    file = path / "config.json"
    settings = read_settings(file, DenseSettings)
    if settings.module_input_name != "sentence_embedding" or settings.module_output_name not in (
        None,
        "sentence_embedding",
    ):
        raise ModelError(f"{file}: a Dense module on anything but the sentence's vector is not supported")
    if settings.use_residual:
        raise ModelError(f"{file}: a Dense module with a residual is not supported")
    activation = settings.activation_function
    if activation not in DENSE_ACTIVATIONS:
        known = ", ".join(DENSE_ACTIVATIONS)
        raise ModelError(f"{file}: activation {activation!r} is not supported; these are: {known}")
    if not (path / "model.safetensors").exists():
        _refuse_unsafe(path)
    tensors = read_tensors(path / "model.safetensors")
    weight, bias = tensors.get("linear.weight"), tensors.get("linear.bias")
    if weight is None or weight.ndim != 2 or weight.shape[1] != size or not weight.size:
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


def _sentence_settings(path: Path) -> SentenceSettings:
    settings = read_settings(path / "sentence_bert_config.json", SentenceSettings, required=False)
    if settings.query_length is not None or settings.document_length is not None:
        raise ModelError(
            f"{path / 'sentence_bert_config.json'}: limits of their own for queries and documents are not supported"
        )
    return settings


def _max_tokens(path: Path, sentence: SentenceSettings, architecture: Architecture) -> int:
    limit = sentence.max_seq_length
    if limit is None:
        tokenizer = read_settings(path / "tokenizer_config.json", TokenizerSettings, required=False)
        limit = int(min(tokenizer.model_max_length or architecture.max_tokens, architecture.max_tokens))
    return min(limit, architecture.max_tokens)


def _similarity(settings: EncoderSettings, path: Path) -> Similarity:
    name = settings.similarity_fn_name or "cosine"
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
    raise ModelError(
        f"{path / 'model.safetensors'}: missing; pairloom reads safetensors only (if the model is published as "
        "pytorch_model.bin, load it once with transformers and save it)"
    )
