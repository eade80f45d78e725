"""Batches as most graphs compute them: each text padded to the longest one, and the padding computed like all else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pairloom.encode.openvino_inputs import make_inputs, pooling_weights
from pairloom.models.tokenizer import Tokens

if TYPE_CHECKING:
    from pairloom.encode.openvino_engine import OpenVINOEngine
    from pairloom.models.model import Model

# What the graph adds to scores of attention where there is padding.
_FAR_BELOW = np.float32(-1e30)


def embed_padded(engine: OpenVINOEngine, model: Model, tokens: Tokens) -> npt.NDArray[np.float32]:
    """Vectors [N, D] of N texts by the engine's own graph for all cores, as one padded rectangle."""
    pooled = engine._backbone(1)(padded_inputs(model, tokens))
    return engine._finish(pooled)[: len(tokens)]


def padded_inputs(model: Model, tokens: Tokens) -> dict[str, npt.NDArray[Any]]:
    """What `make_inputs` makes, with padding among the tokens that are computed; attention and pooling leave it out."""
    lengths, rows = tokens.lengths, np.arange(len(tokens))
    width = int(lengths.max())
    there = np.arange(width) < lengths[:, None]
    ids = np.full(there.shape, model.architecture.pad_token_id, tokens.ids.dtype)
    ids[there] = tokens.ids
    whole = Tokens(ids.ravel(), np.full(len(tokens), width, lengths.dtype), tokens.truncated)
    inputs: dict[str, npt.NDArray[Any]] = dict(make_inputs(model, whole, rows, share_rows=False))
    closed = inputs["closed"].copy()
    closed[:, 0, 0, :width] = np.where(there, np.float32(0), _FAR_BELOW)
    inputs["closed"] = closed
    if model.pooling.first_only:
        return inputs | {"padding": closed}
    taken = closed[:, 0, 0] == 0
    return inputs | {f"pool_{mode}": pooling_weights(taken, mode) for mode in model.pooling.modes}
