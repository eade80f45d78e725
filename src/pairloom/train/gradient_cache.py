"""Batches of any size in bounded memory, exactly: gradient caching over micro-batches, for as much as does not fit.

The loss of a batch needs the vectors of all its texts at once, but not their graphs. So the texts are embedded in
micro-batches; those whose graphs fit into memory keep them, the others are embedded without. The loss is computed
from the vectors alone, and its gradient with respect to them is taken back through the graphs: those that were kept,
and then, one after another, those that are built again by a second pass with the same dropout.

References: Gao et al. 2021, *Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup*, which computes
every micro-batch twice; here it is only those that must be. Since both ways go through the micro-batches in the same
order with the same numbers, the gradients do not depend on how many were kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from pairloom.encode.micro_batches import micro_batches
from pairloom.encode.torch_engine import PRECISIONS, autocast
from pairloom.errors import TrainingError
from pairloom.models.tokenizer import Tokens
from pairloom.network.encoder import EncoderNetwork
from pairloom.network.kernels import takes_packed
from pairloom.network.noise import DeviceNoise, KeyedNoise, Noise
from pairloom.network.packed import Packed, num_padding, pack
from pairloom.recipe import Precision


class GradientCache:
    """The two passes over a batch's texts.

    Call `embed`, and then `backward` with the gradient of the vectors that it returned.

    Args:
        network: Gets gradients added to its parameters.
        tokens: R texts.
        keys: uint64 [R]: from which each text's dropout follows.
        device: Where to compute.
        precision: Of both passes.
        micro_batch_tokens: Limit of (texts × longest of them) in a micro-batch.
        graph_memory_bytes: For the graphs that are kept; 0: every micro-batch is computed twice.
    """

    def __init__(
        self,
        network: EncoderNetwork,
        tokens: Tokens,
        keys: npt.NDArray[np.uint64],
        *,
        device: torch.device,
        precision: Precision,
        micro_batch_tokens: int,
        graph_memory_bytes: int,
    ) -> None:
        self._network, self._tokens, self._keys = network, tokens, keys
        self._device, self._precision = device, precision
        self._graph_memory_bytes = graph_memory_bytes
        self._rows = list(micro_batches(tokens.lengths, micro_batch_tokens))
        self._kept: list[Tensor] = []
        self._num_kept = 0
        self._graphs = _Graphs(network, device)

    @property
    def num_graph_bytes(self) -> int:
        """Of the graphs that were kept."""
        return self._graphs.num_bytes

    @property
    def num_replayed_tokens(self) -> int:
        """Tokens of the micro-batches whose graph was not kept."""
        return sum(int(self._tokens.lengths[rows].sum()) for rows in self._rows[self._num_kept :])

    @property
    def num_padding(self) -> int:
        """Places without a token in attention's rectangles, where it has any."""
        if takes_packed(self._device, self._network.backbone.architecture, PRECISIONS[self._precision]):
            return 0
        return sum(num_padding(self._tokens.lengths[rows]) for rows in self._rows)

    def embed(self) -> Float[Tensor, "R D"]:
        """The vectors, float32, in the order of the texts and without a graph.

        Raises:
            TrainingError: There is not enough memory.
        """
        parts: list[Tensor] = []
        # One context for all: so the weights are cast once.
        with autocast(self._device, self._precision):
            bytes_a_token = 0.0  # at most so many: attention takes less of shorter texts, and they get shorter
            for rows in self._rows:
                before, num_tokens = self._graphs.num_bytes, int(self._tokens.lengths[rows].sum())
                if self._graph_memory_bytes == 0 or before + bytes_a_token * num_tokens > self._graph_memory_bytes:
                    break
                with self._enough_memory(rows), self._graphs:
                    self._kept.append(self._forward(rows))
                bytes_a_token = max(bytes_a_token, (self._graphs.num_bytes - before) / num_tokens)
                parts.append(self._kept[-1].detach())
        self._num_kept = len(self._kept)
        with autocast(self._device, self._precision), torch.no_grad():
            for rows in self._rows[self._num_kept :]:
                with self._enough_memory(rows):
                    parts.append(self._forward(rows))
        vectors = torch.empty(len(self._tokens), parts[0].shape[1], device=self._device)
        return vectors.index_copy_(0, _indices(np.concatenate(self._rows), self._device), torch.cat(parts))

    def backward(self, gradient: Float[Tensor, "R D"]) -> None:
        """Adds the gradients of the parameters to what they hold.

        Args:
            gradient: Of the vectors.

        Raises:
            TrainingError: There is not enough memory.
        """
        with autocast(self._device, self._precision):
            for number, rows in enumerate(self._rows):
                with self._enough_memory(rows):
                    vectors = self._kept.pop(0) if number < self._num_kept else self._forward(rows)
                    with torch.autocast(self._device.type, enabled=False):
                        torch.autograd.backward(vectors, gradient[_indices(rows, self._device)])
                del vectors  # and its graph, before the next one is built

    def _enough_memory(self, rows: npt.NDArray[np.int64]) -> AbstractContextManager[None]:
        return enough_memory(
            f"a micro-batch of {len(rows):,} texts of up to {int(self._tokens.lengths[rows].max()):,} tokens",
            "lower train.micro_batch_tokens, or train.graph_memory_mib, which is the memory for the graphs of a batch, or "
            "set train.checkpoint_layers",
        )

    def _forward(self, rows: npt.NDArray[np.int64]) -> Float[Tensor, "B D"]:
        packed = pack(self._tokens, rows, self._device)
        vectors: Tensor = self._network(packed, make_noise(self._keys[rows], packed)).float()
        return vectors


def make_noise(keys: npt.NDArray[np.uint64], packed: Packed) -> Noise:
    """Dropout of a micro-batch: of each text by itself on a CPU, of the micro-batch elsewhere."""
    if packed.ids.device.type == "cpu":
        return KeyedNoise(torch.from_numpy(keys.view(np.int64)), packed)
    return DeviceNoise(int(keys[0] >> np.uint64(1)))


class _Graphs:
    """Counts the bytes that forward passes keep for their backward passes, once where several keep the same.

    Each pass is a context, and its graph must live as long as the count.
    """

    def __init__(self, network: EncoderNetwork, device: torch.device) -> None:
        self.num_bytes = 0
        self._device = device
        self._seen = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._count, lambda tensor: tensor)

    def __enter__(self) -> None:
        if self._device.type == "cuda":
            self.num_bytes -= torch.cuda.memory_allocated(self._device)
        else:
            self._hooks.__enter__()

    def __exit__(self, *exception: object) -> None:
        if self._device.type == "cuda":
            self.num_bytes += torch.cuda.memory_allocated(self._device)
        else:
            self._hooks.__exit__(*exception)

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.num_bytes += storage.nbytes()
        # Not the tensor itself: a node that saves its own result would keep itself alive, if no backward pass comes.
        return tensor.detach()


@contextmanager
def enough_memory(what: str, advice: str) -> Iterator[None]:
    """Says what memory ran out for, and what to do.

    Raises:
        TrainingError: It ran out in the block.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and "can't allocate memory" not in str(error):
            raise
        raise TrainingError(f"out of memory in {what}; {advice}") from None


def _indices(rows: npt.NDArray[np.int64] | Sequence[int], device: torch.device) -> Tensor:
    return torch.as_tensor(rows, dtype=torch.int64).to(device, non_blocking=True)
