"""Embeddings as callers have them (tensors, arrays, lists of either or of numbers) as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pairloom.sentence_transformers.refusals import UnsupportedError

Array = npt.NDArray[Any]
Embeddings = Tensor | Array | Sequence[Any]


def as_tensor(embeddings: Embeddings) -> Tensor:
    """A tensor of the same values; of an array that may be written to, and of a tensor, without a copy.

    Raises:
        UnsupportedError: The embeddings are sparse.
    """
    if isinstance(embeddings, Tensor):
        if embeddings.layout != torch.strided:
            raise UnsupportedError("sparse embeddings are not supported; pass embeddings.to_dense()")
        return embeddings
    if isinstance(embeddings, np.ndarray):
        # Torch shares memory only with arrays that it could write to and whose strides are not negative.
        shared = embeddings.flags.writeable and min(embeddings.strides, default=0) >= 0
        return torch.from_numpy(embeddings if shared else embeddings.copy())
    if embeddings and all(isinstance(row, Tensor) for row in embeddings):
        return torch.stack([as_tensor(row) for row in embeddings])
    if embeddings and all(isinstance(row, np.ndarray) for row in embeddings):
        return torch.from_numpy(np.stack(embeddings))
    return torch.tensor(embeddings)


def as_floats(embeddings: Embeddings) -> Tensor:
    """As `as_tensor`, and half precision as float32, in which nearby scores are not rounded to the same number."""
    tensor = as_tensor(embeddings)
    half = tensor.is_floating_point() and torch.finfo(tensor.dtype).bits < 32
    return tensor.float() if half else tensor


def as_rows(embeddings: Embeddings) -> Tensor:
    """As `as_floats`, [N, D]; a single vector [D] is one row."""
    tensor = as_floats(embeddings)
    return tensor[None] if tensor.ndim == 1 else tensor


def sliceable(embeddings: Embeddings) -> Tensor | Array:
    """Rows [N, D] of which a part can be made a tensor at a time: an array stays what it is, so one on disk stays there."""
    kept = embeddings if isinstance(embeddings, np.ndarray) else as_tensor(embeddings)
    return kept[None] if kept.ndim == 1 else kept


def normalize_embeddings(embeddings: Embeddings) -> Tensor:
    """Scales each vector of [..., D] to length 1; a zero vector stays zero."""
    return functional.normalize(as_tensor(embeddings), dim=-1)


@overload
def truncate_embeddings(embeddings: Tensor, truncate_dim: int | None) -> Tensor: ...


@overload
def truncate_embeddings(embeddings: Array, truncate_dim: int | None) -> Array: ...


def truncate_embeddings(embeddings: Tensor | Array, truncate_dim: int | None) -> Tensor | Array:
    """The first ``truncate_dim`` components of each vector of [..., D]; all of them if it is None."""
    return embeddings[..., :truncate_dim]
