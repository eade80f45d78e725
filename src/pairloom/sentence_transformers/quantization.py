"""Embeddings in a byte or a bit a component."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from pairloom.sentence_transformers.refusals import ArgumentError, UnsupportedError
from pairloom.sentence_transformers.tensors import Array, Embeddings, as_tensor

logger = logging.getLogger("pairloom")

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
# Below so many embeddings the smallest and largest value of a component say little about those to come.
_FEW = 100


def quantize_embeddings(
    embeddings: Embeddings,
    precision: str,
    ranges: Array | None = None,
    calibration_embeddings: Array | None = None,
) -> Any:
    """Rounds embeddings.

    Args:
        embeddings: Floats [N, D]; for bits, or with ranges, also one embedding [D].
        precision: ``float32``; ``int8`` or ``uint8``, where the range of each component is divided into 256 buckets;
            ``binary`` or ``ubinary``, where a bit says whether a component is above 0, eight in a byte, the first highest
            (signed bytes are 128 less).
        ranges: Smallest and largest value of each component, [2, D].
        calibration_embeddings: Embeddings whose smallest and largest values are taken if there are no ranges; by default
            those of ``embeddings`` themselves.

    Returns:
        An array [N, D], for bits [N, D / 8 rounded up]; an empty list of an empty list.

    Raises:
        ArgumentError: The precision is unknown, the embeddings are integers already, or one embedding is to give the ranges.
    """
    if isinstance(embeddings, list) and not embeddings:
        return []
    if precision not in PRECISIONS:
        raise ArgumentError(f"precision {precision!r} is not supported; these are: {', '.join(PRECISIONS)}")
    values = _as_array(embeddings)
    if values.dtype in (np.int8, np.uint8):
        raise ArgumentError(f"embeddings to quantize must be floats; these are {values.dtype} already")
    if values.ndim > 2:
        raise UnsupportedError("several vectors for each text cannot be quantized here; quantize a matrix at a time")
    if precision == "float32":
        return values.astype(np.float32)
    if precision in ("binary", "ubinary"):
        bits = np.packbits(values > 0, axis=-1)
        return bits if precision == "ubinary" else (bits ^ 0x80).view(np.int8)
    if not values.size:
        return values.astype(precision)
    if ranges is None:
        if calibration_embeddings is None:
            _check_number(values, precision)
            calibration_embeddings = values
        ranges = np.stack([calibration_embeddings.min(axis=0), calibration_embeddings.max(axis=0)])
    # Float32 whatever the ranges are, since a boundary between two buckets moves with the rounding.
    low, high = ranges.astype(np.float32)
    width = (high - low) / 255
    width[width == 0] = 1
    buckets = np.clip(np.floor((values - low) / width), 0, 255).astype(np.uint8)
    return buckets if precision == "uint8" else (buckets ^ 0x80).view(np.int8)


def _check_number(embeddings: Array, precision: str) -> None:
    if embeddings.ndim == 1 or len(embeddings) == 1:
        raise ArgumentError(
            f"{precision} needs the range of each component, which one embedding does not tell; quantize several at once, or "
            "give `ranges` or `calibration_embeddings` to quantize_embeddings"
        )
    if len(embeddings) < _FEW:
        logger.warning("%s ranges come from %d embeddings only; more make them steadier", precision, len(embeddings))


def _as_array(embeddings: Embeddings) -> Array:
    if isinstance(embeddings, np.ndarray):
        return embeddings
    if isinstance(embeddings, Sequence) and not isinstance(embeddings[0], Tensor):
        return np.array(embeddings)
    tensor = as_tensor(embeddings).detach().cpu()
    array: Array = (tensor.float() if tensor.dtype.is_floating_point and tensor.dtype.itemsize < 4 else tensor).numpy()
    return array
