"""Batches as most graphs compute them: each text padded to the longest one, and the padding computed like all else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pairloom.encode.openvino_inputs import make_inputs
from pairloom.models.tokenizer import Tokens

if TYPE_CHECKING:
    from pairloom.encode.openvino_engine import OpenVINOEngine
    from pairloom.models.model import Model

# Inputs that say which tokens there are and where they stand; the others say what is padding.
_OF_TOKENS = frozenset({"ids", "positions", "spread", "gathered", "texts"})


def embed_padded(engine: OpenVINOEngine, model: Model, tokens: Tokens) -> npt.NDArray[np.float32]:
    """Vectors [N, D] of N texts by the engine's own graph for all cores, as one padded rectangle."""
    pooled = engine._backbone(1)(padded_inputs(model, tokens))
    return engine._finish(pooled)[: len(tokens)]


def padded_inputs(model: Model, tokens: Tokens) -> dict[str, npt.NDArray[Any]]:
    """What `make_inputs` makes, with padding among the tokens that are computed; attention and pooling leave it out."""
    rows, width = np.arange(len(tokens)), int(tokens.lengths.max())
    ids = tokens.padded(rows, model.architecture.pad_token_id, width=width)
    lengths = np.full(len(tokens), width, tokens.lengths.dtype)
    whole = make_inputs(model, Tokens(ids.astype(np.int32).ravel(), lengths, tokens.truncated), rows, share_rows=False)
    left_out = make_inputs(model, tokens, rows, share_rows=False)
    return {name: (whole if name in _OF_TOKENS else left_out)[name] for name in whole}
