"""What computes: tokens in, vectors out. An engine knows nothing of texts, prompts or files."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from pairloom.choices import Precision
from pairloom.models.model import Model
from pairloom.models.tokenizer import Tokens


class Engine(Protocol):
    """Computes the vectors of tokenized texts."""

    def embed(self, tokens: Tokens, *, skip_tokens: int = 0) -> npt.NDArray[np.float32]:
        """The vectors [N, D] of N texts, in their order.

        Args:
            tokens: The texts.
            skip_tokens: Tokens at the beginning of each text that pooling leaves out.
        """
        ...


def make_engine(model: Model, *, device: str | None, precision: Precision) -> Engine:
    """The engine for a device: torch, on a GPU if there is one and nothing else is asked for."""
    from pairloom.encode.torch_engine import TorchEngine
    from pairloom.network.encoder import EncoderNetwork

    return TorchEngine(EncoderNetwork(model), device=device, precision=precision)
