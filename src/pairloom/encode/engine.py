"""What computes: tokens in, vectors out. An engine knows nothing of texts, prompts or files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from pairloom.choices import Precision
from pairloom.errors import MissingExtraError, UsageError
from pairloom.models.model import Model
from pairloom.models.tokenizer import Tokens

EngineName = Literal["openvino", "torch"]

# What there is on machines with a GPU that torch can use: NVIDIA's and AMD's drivers.
_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


class Engine(Protocol):
    """Computes the vectors of tokenized texts. Several threads may use it at once."""

    precision: Precision
    num_streams: int
    """How many micro-batches are best computed side by side."""
    stream_tokens: int
    """Limit of the tokens of each of them, where somebody waits for every one."""

    def embed(self, tokens: Tokens, *, skip_tokens: int = 0) -> npt.NDArray[np.float32]:
        """The vectors [N, D] of N texts, in their order.

        Args:
            tokens: The texts, at least one.
            skip_tokens: Tokens at the beginning of each text that pooling leaves out.
        """
        ...

    def embed_micro_batch(
        self, tokens: Tokens, *, skip_tokens: int = 0, alone: bool = False
    ) -> npt.NDArray[np.float32]:
        """The vectors [N, D] of N texts that are computed as one micro-batch, whatever their number.

        Who calls it decides what is computed together; `num_streams` threads may do so side by side.

        Args:
            tokens: The texts, at least one.
            skip_tokens: Tokens at the beginning of each text that pooling leaves out.
            alone: Whether nothing else is computed meanwhile, so that it may have the whole machine.
        """
        ...


def make_engine(
    model: Model,
    *,
    name: EngineName | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    micro_batch_tokens: int | None = None,
) -> Engine:
    """The engine for a device: OpenVINO for a CPU and torch for the others.

    Args:
        model: What it computes.
        name: Which one, if not the usual one.
        device: By default a GPU if there is one, and torch is here to use it.
        precision: By default the fastest that keeps a cosine of 0.9995 to float32.
        threads: How many cores of a CPU to use.
        micro_batch_tokens: How many tokens are computed at once, about.

    Raises:
        UsageError: There is no such device, or it does not compute in this precision.
        MissingExtraError: It needs a package that is not installed.
    """
    if name is None:
        on_cpu = device == "cpu" or (device is None and not has_gpu())
        name = "openvino" if on_cpu and importlib.util.find_spec("openvino") else "torch"
    if name == "openvino":
        if device not in (None, "cpu"):
            raise UsageError(f"device {device!r} is computed on by torch; the engine openvino is for the CPU")
        from pairloom.encode.openvino_engine import OpenVINOEngine

        return OpenVINOEngine(model, precision=precision, threads=threads, micro_batch_tokens=micro_batch_tokens)
    if name != "torch":
        raise UsageError(f"engine {name!r} is not known; openvino and torch are")
    if not importlib.util.find_spec("torch"):
        raise MissingExtraError(
            f"computing on the device {device!r}" if device else "the engine torch", "torch", "torch"
        )
    from pairloom.encode.torch_engine import TorchEngine
    from pairloom.network.encoder import EncoderNetwork

    network = EncoderNetwork(model)
    return TorchEngine(network, device=device, precision=precision, micro_batch_tokens=micro_batch_tokens)


def has_gpu() -> bool:
    """Whether torch can use a GPU here; torch, which is slow to load, is asked only where there may be one."""
    likely = sys.platform == "darwin" or any(Path(driver).exists() for driver in _DRIVERS)
    if not likely or not importlib.util.find_spec("torch"):
        return False
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()
