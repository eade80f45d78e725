"""Vectors by torch: what GPUs use, and what training measures itself with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from pairloom.choices import Precision
from pairloom.encode.micro_batches import micro_batches
from pairloom.errors import UsageError
from pairloom.models.tokenizer import Tokens
from pairloom.network.encoder import EncoderNetwork
from pairloom.network.kernels import keep_few_kernels
from pairloom.network.packed import pack

# On two CPU cores 2,048 tokens were fastest (docs/log.md); a GPU wants to be filled.
_MICRO_BATCH_TOKENS = {"cpu": 2048, "cuda": 65_536}
PRECISIONS: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TorchEngine:
    """An `Engine` over an `EncoderNetwork`.

    Args:
        network: Moved to ``device``.
        device: A torch device; by default a GPU if there is one.
        precision: Under ``bfloat16`` matrix products and attention are computed in it; weights, norms, pooling and the
            vectors are float32.
    """

    def __init__(
        self, network: EncoderNetwork, *, device: str | None = None, precision: Precision | None = None
    ) -> None:
        self.device = pick_device(device)
        self.precision: Precision = precision or "float32"
        self._network = network.to(self.device)
        self._max_tokens = _MICRO_BATCH_TOKENS.get(self.device.type, 16_384)

    def embed(self, tokens: Tokens, *, skip_tokens: int = 0) -> npt.NDArray[np.float32]:
        """See `Engine.embed`."""
        vectors: npt.NDArray[np.float32] | None = None
        with torch.inference_mode(), autocast(self.device, self.precision):
            for rows in micro_batches(tokens.lengths, self._max_tokens):
                part = self._network(pack(tokens, rows, self.device), skip_tokens=skip_tokens)
                if vectors is None:
                    vectors = np.empty((len(tokens), part.shape[1]), dtype=np.float32)
                vectors[rows] = part.float().cpu().numpy()
        assert vectors is not None, "an engine is not asked for nothing"
        return vectors


def pick_device(name: str | None) -> torch.device:
    """The named device, or the best one here.

    Raises:
        UsageError: There is no such device.
    """
    if name is None:
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    try:
        device = torch.device(name)
        if device.type == "meta":  # computes shapes only
            raise RuntimeError
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UsageError(f"device {name!r} is not available here") from None
    return device


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which a forward pass has the precision."""
    if device.type == "cpu" and precision == "bfloat16":
        keep_few_kernels()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
