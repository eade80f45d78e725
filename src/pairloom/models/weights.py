"""Weights under canonical names (`Architecture.weight_shapes`), from and to safetensors files.

Everything is float32 in memory, whatever the file holds: a model that was saved in half precision is not computed
in half precision by accident.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pairloom.errors import ModelError
from pairloom.models.architecture import Architecture
from pairloom.models.families import Family

Array = npt.NDArray[np.float32]
Weights = dict[str, Array]

# A safetensors file is the length of its header, the header in JSON, and the tensors' bytes.
_LENGTH_BYTES = 8
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
# Of a backbone's file, what no sentence encoder reads but other programs expect to find again.
_KEPT_UNREAD = ("pooler.dense.weight", "pooler.dense.bias")


def read_tensors(path: Path) -> dict[str, Array]:
    """The floating-point tensors of a safetensors file as float32; those that are so in the file share one buffer.

    Raises:
        ModelError: The file is missing, cut, or not safetensors.
    """
    if not path.is_file():
        raise ModelError(f"{path}: missing")
    try:
        with safe_open(path, framework="numpy"):
            pass  # checks that the header is sound and describes every byte of the file
        # One large read is faster than one of each tensor. A memory map would be faster still, but end the process when
        # somebody writes the file anew.
        content = np.fromfile(path, dtype=np.uint8)
        begin = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES].tobytes(), "little")
        header: dict[str, Any] = json.loads(content[_LENGTH_BYTES:begin].tobytes())
        return {
            name: _float32(content[begin:][slice(*entry["data_offsets"])], entry["dtype"]).reshape(entry["shape"])
            for name, entry in header.items()
            if name != "__metadata__" and entry["dtype"] in ("BF16", *_TYPES)
        }
    except (SafetensorError, ValueError) as error:
        raise ModelError(f"{path}: not a whole safetensors file ({error}); fetch it again") from None


def _float32(content: npt.NDArray[np.uint8], kind: str) -> Array:
    if kind == "BF16":  # NumPy has none: its 16 bits are the upper half of a float32
        return (content.view("<u2").astype(np.uint32) << 16).view(np.float32)
    values = content.view(_TYPES[kind]).astype(np.float32, copy=False)
    return np.require(values, requirements="A")  # a file need not align its tensors


def read_backbone(path: Path, family: Family, architecture: Architecture) -> tuple[Weights, dict[str, Array]]:
    """Reads a backbone's weights.

    Args:
        path: ``model.safetensors``, of the bare encoder or of one with a task head (whose head is left out).
        family: How the file names them.
        architecture: What must be there.

    Returns:
        The canonical weights, and tensors that are not read but belong to the file (a pooler).

    Raises:
        ModelError: A weight is missing, not finite, or has another shape than the configuration says.
    """
    # Checkpoints converted from TensorFlow call a layer norm's weights gamma and beta.
    stored = {
        key.removeprefix(family.prefix).replace(".gamma", ".weight").replace(".beta", ".bias"): tensor
        for key, tensor in read_tensors(path).items()
    }
    shapes = dict(architecture.weight_shapes())
    weights: Weights = {}
    for canonical, key in family.keys(architecture):
        if key not in stored:
            raise ModelError(f"{path}: has no weight {key}, which a {family.name} model of this configuration needs")
        if stored[key].shape != shapes[canonical]:
            raise ModelError(
                f"{path}: {key} has shape {stored[key].shape}, but config.json asks for {shapes[canonical]}"
            )
        if not np.isfinite(stored[key]).all():
            raise ModelError(f"{path}: {key} holds values that are not numbers; the file is damaged")
        weights[canonical] = stored[key]
    beyond = dataclasses.replace(architecture, num_layers=architecture.num_layers + 1)
    if any(key in stored for canonical, key in family.keys(beyond) if canonical not in shapes):
        raise ModelError(f"{path}: has more layers than the {architecture.num_layers} that config.json asks for")
    return weights, {key: stored[key] for key in _KEPT_UNREAD if key in stored}


def write_backbone(
    path: Path, family: Family, architecture: Architecture, weights: Weights, unread: dict[str, Array]
) -> None:
    """Writes a backbone under its family's own names."""
    write_tensors(path, {key: weights[canonical] for canonical, key in family.keys(architecture)} | unread)


def write_tensors(path: Path, tensors: dict[str, Array]) -> None:
    """Writes a safetensors file; a full disk is an `OSError` like any other."""
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    path.write_bytes(save(contiguous, metadata={"format": "pt"}))
