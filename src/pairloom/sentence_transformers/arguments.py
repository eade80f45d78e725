"""What callers pass to a model, checked and made plain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np
import torch

from pairloom.sentence_transformers.quantization import PRECISIONS
from pairloom.sentence_transformers.refusals import ArgumentError, UnsupportedError

Device = str | int | torch.device
# Of these the first that a model has is put before documents.
DOCUMENT_PROMPTS = ("document", "passage", "corpus")


def as_texts(inputs: object) -> tuple[list[str], bool]:
    """The texts, and whether one was given and not several; what is among several, the encoder checks.

    Raises:
        UnsupportedError: The inputs are no texts.
    """
    if isinstance(inputs, np.ndarray):
        inputs = inputs.tolist()
    if isinstance(inputs, str):
        return [inputs], True
    # A mapping would be several inputs of one item, and a set has no order in which embeddings could come back.
    if isinstance(inputs, Mapping | Set | bytes) or not isinstance(inputs, Iterable):
        raise UnsupportedError(
            f"{type(inputs).__name__} cannot be encoded; pairloom encodes a string or a list of them"
        )
    return list(inputs), False


def check_encoding(batch_size: int, output_value: str | None, precision: str | None, size: int | None) -> None:
    """Refuses values of `SentenceTransformer.encode`'s arguments that make no sense or are not supported.

    Raises:
        ArgumentError: A value makes no sense.
        UnsupportedError: Something else than a vector for each text is asked for.
    """
    if batch_size < 1:
        raise ArgumentError(f"batch_size is {batch_size}; it must be at least 1")
    if output_value != "sentence_embedding":
        raise UnsupportedError(
            f"output_value={output_value!r} is not supported; only 'sentence_embedding' is. "
            "pairloom.network.backbone.Backbone computes token vectors"
        )
    if precision is not None and precision not in PRECISIONS:
        raise ArgumentError(f"precision {precision!r} is not supported; these are: {', '.join(PRECISIONS)}")
    if size is not None and size < 1:
        raise ArgumentError(f"truncate_dim is {size}; it must be at least 1")


def take_task(options: Mapping[str, Any]) -> object:
    """What the texts are for, from the arguments of `SentenceTransformer.encode` that have no place of their own.

    Raises:
        TypeError: There is another such argument.
    """
    for name in options:
        if name != "task":
            raise TypeError(f"encode() got an unexpected keyword argument {name!r}")
    return options.get("task")


def device_name(device: Device) -> str:
    """As torch spells it; a number counts the GPUs."""
    return f"cuda:{device}" if isinstance(device, int) else str(device)


def merge_prompts(given: Mapping[str, str], stored: Mapping[str, str]) -> dict[str, str]:
    """The model's prompts under those that are given, and always one for queries and one for documents, be it empty.

    That there always is one keeps `encode_query` and `encode_document` from the default prompt.
    """
    return {"query": "", "document": "", **stored, **given}


def prompts_of_two(query: Mapping[str, str], document: Mapping[str, str]) -> dict[str, str]:
    """The prompts of two encoders under one roof: of the same name, each has those of its own task, and the first the others."""
    return {**document, **query, **{name: document[name] for name in DOCUMENT_PROMPTS if name in document}}
