"""Vectors by torch: what GPUs use, and what training measures itself with."""

from __future__ import annotations

import copy
import threading

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pairloom.choices import Precision
from pairloom.encode.micro_batches import micro_batches
from pairloom.errors import PairloomError, UsageError
from pairloom.models.tokenizer import Tokens
from pairloom.network.encoder import EncoderNetwork
from pairloom.network.kernels import keep_few_kernels
from pairloom.network.packed import pack

# On two CPU cores 2,048 tokens were fastest (docs/log.md); a GPU wants to be filled.
_MICRO_BATCH_TOKENS = {"cpu": 2048, "cuda": 65_536}
PRECISIONS: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
# Of NVIDIA's GPUs: from here on there are matrix units for it.
_BFLOAT16_CAPABILITY, _FLOAT16_CAPABILITY = (8, 0), (7, 0)  # Ampere, Volta


class TorchEngine:
    """An `Engine` over an `EncoderNetwork`; several threads may use it at once.

    The host does not wait for a GPU between micro-batches: while one is computed, the next is laid out and handed over.
    The vectors stay there until the last one is known, and come back in one transfer.

    Args:
        network: In ``float32`` it is moved to ``device`` and used as it is, with whatever weights it has at the time. In
            another precision a copy is made, with the weights as they are now.
        device: A torch device; by default a GPU if there is one.
        precision: By default the fastest of the device that keeps a cosine of 0.9995 to float32. In ``bfloat16`` and ``float16`` the backbone's weights and token vectors are stored and multiplied so;
            sums within products, norms and attention, pooling, dense layers and the vectors are float32.
        micro_batch_tokens: Limit of (texts × longest of them) of what is computed at once; by default what suits the device.

    Raises:
        UsageError: There is no such device, or torch does not compute in the precision.
    """

    def __init__(
        self,
        network: EncoderNetwork,
        *,
        device: str | None = None,
        precision: Precision | None = None,
        micro_batch_tokens: int | None = None,
    ) -> None:
        self.device = pick_device(device)
        precision = precision or fastest_precision(self.device)
        if precision not in PRECISIONS:
            raise UsageError(
                f"torch encodes in {', '.join(PRECISIONS)}, not in {precision}; int8 is for processors, by OpenVINO"
            )
        self.precision: Precision = precision
        self._network = _prepare(network, self.device, PRECISIONS[precision])
        self.micro_batch_tokens = micro_batch_tokens or _MICRO_BATCH_TOKENS.get(self.device.type, 16_384)
        self.num_streams = 1
        self.stream_tokens = self.micro_batch_tokens
        self._turn = threading.Lock()

    def embed(self, tokens: Tokens, *, skip_tokens: int = 0) -> npt.NDArray[np.float32]:
        """See `Engine.embed`.

        Raises:
            PairloomError: A single text needs more memory than the device has.
        """
        assert len(tokens), "an engine is not asked for nothing"
        rows = list(micro_batches(tokens.lengths, self.micro_batch_tokens))
        with torch.inference_mode():
            computed = _to_host(torch.cat([self._forward(tokens, part, skip_tokens) for part in rows]))
        vectors = np.empty_like(computed)
        vectors[np.concatenate(rows)] = computed
        return vectors

    def embed_micro_batch(
        self, tokens: Tokens, *, skip_tokens: int = 0, alone: bool = False
    ) -> npt.NDArray[np.float32]:
        """See `Engine.embed_micro_batch`: it has the whole device in any case.

        Raises:
            PairloomError: A single text needs more memory than the device has.
        """
        with torch.inference_mode():
            return _to_host(self._forward(tokens, np.arange(len(tokens)), skip_tokens))

    def _forward(self, tokens: Tokens, rows: npt.NDArray[np.int64], skip_tokens: int) -> Tensor:
        """The vectors of a micro-batch, on the device; of one that does not fit into its memory, half by half."""
        packed = pack(tokens, rows, self.device)
        try:
            # One at a time: so memory holds the token vectors of one micro-batch, however many threads there are, and the
            # threads of a processor do not fight for its cores.
            with self._turn:
                vectors: Tensor = self._network(packed, skip_tokens=skip_tokens)
                return vectors
        except torch.OutOfMemoryError:
            pass  # and try again outside, where the exception no longer holds on to what was computed
        del packed
        if len(rows) == 1:
            raise PairloomError(
                f"{self.device}: not enough memory for a text of {tokens.lengths[rows[0]]:,} tokens; see what else uses the "
                "device, or encode on another one"
            )
        # The next micro-batches had better be smaller; and what is free in small pieces may serve as one.
        self.micro_batch_tokens = min(self.micro_batch_tokens, len(rows) * int(tokens.lengths[rows].max()) // 2)
        torch.cuda.empty_cache()
        return torch.cat([self._forward(tokens, part, skip_tokens) for part in np.array_split(rows, 2)])


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


def fastest_precision(device: torch.device) -> Precision:
    """What a GPU has matrix units for: bfloat16, which has the range of float32, or else float16; or else float32."""
    if device.type != "cuda":
        return "float32"
    capability = torch.cuda.get_device_capability(device)
    if capability >= _BFLOAT16_CAPABILITY:
        return "bfloat16"
    return "float16" if capability >= _FLOAT16_CAPABILITY else "float32"


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which a forward pass has the precision, while the weights stay in float32: for training."""
    if device.type == "cpu" and precision != "float32":
        keep_few_kernels()
    return torch.autocast(device.type, dtype=PRECISIONS[precision], enabled=precision != "float32")


def _prepare(network: EncoderNetwork, device: torch.device, dtype: torch.dtype) -> EncoderNetwork:
    """The network on the device; its backbone in the type, which the pooling and what follows it do not take."""
    if dtype == torch.float32:
        return network.to(device)
    if device.type == "cpu":
        keep_few_kernels()
    # A copy, because training goes on with the network; the backbone's weights are copied as what they become.
    known: dict[int, object] = {
        id(weight): nn.Parameter(weight.detach().to(device, dtype), requires_grad=False)
        for weight in network.backbone.parameters()
    }
    return copy.deepcopy(network, known).to(device)


def _to_host(vectors: Tensor) -> npt.NDArray[np.float32]:
    """The vectors in the host's memory, as soon as they are known.

    Through pinned memory, which a GPU fills by itself; and waiting for these vectors only, not for what other threads
    have handed over since.
    """
    if vectors.device.type != "cuda":
        return vectors.cpu().numpy()
    host = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
    host.copy_(vectors, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call, unused-ignore]
    copied.record(torch.cuda.current_stream(vectors.device))
    copied.synchronize()
    return host.numpy()
