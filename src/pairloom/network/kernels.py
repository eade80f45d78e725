"""Two operations for which torch's general form is slow: looking up rows, and attention over packed texts."""

from __future__ import annotations

import os
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from pairloom.models.architecture import Architecture
from pairloom.network.packed import Packed

_MAX_HEAD_SIZE, _HEAD_MULTIPLE = 256, 8  # of the flash kernels
_FLASH_CAPABILITY = (8, 0)  # Ampere

# With fewer, the layers of a micro-batch no longer share theirs; with more, memory grows (docs/log.md).
_NUM_KERNELS = "16"


def keep_few_kernels() -> None:
    """Has oneDNN, which multiplies half-precision matrices on CPUs, keep the kernels of the last few shapes only.

    Micro-batches of real texts hardly ever have the same shape twice: with the thousand kernels that it and torch's layer
    above it keep by default, memory grows for as long as new shapes come.
    Both read their limits before the first such product of the process; limits that the user has set stay.
    """
    for limit in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(limit, _NUM_KERNELS)


def look_up(table: Float[Tensor, "V H"], rows: Int[Tensor, "S"]) -> Float[Tensor, "S H"]:
    """Rows of a table. On a CPU the gradient is added to ``table.grad`` where it belongs.

    Torch's own backward pass makes a whole table of zeros for each micro-batch.

    The table must be a leaf there; `torch.autograd.grad` does not see its gradient, only ``backward`` does.
    """
    if table.device.type != "cpu" or not table.is_leaf or not (torch.is_grad_enabled() and table.requires_grad):
        return functional.embedding(rows, table)
    found: Tensor = _LookUp.apply(table, rows)  # type: ignore[no-untyped-call]
    return found


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor) -> Tensor:
        ctx.table, ctx.rows = table, rows
        return table.detach().index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        if ctx.table.grad is None:
            ctx.table.grad = torch.zeros_like(ctx.table)
        ctx.table.grad.index_add_(0, ctx.rows, gradient.to(ctx.table.dtype))
        return None, None


def takes_packed(device: torch.device, architecture: Architecture, dtype: torch.dtype) -> bool:
    """Whether attention can do without a rectangle: flash attention (Dao 2023) on a GPU, in half precision.

    It knows no relative bias. The type is that of queries, keys and values.
    """
    head_size = architecture.hidden_size // architecture.num_heads
    return (
        device.type == "cuda"
        and not architecture.relative_buckets
        and dtype in (torch.bfloat16, torch.float16)
        and head_size <= _MAX_HEAD_SIZE
        and head_size % _HEAD_MULTIPLE == 0
        and torch.cuda.get_device_capability(device) >= _FLASH_CAPABILITY
    )


def attend_packed(heads: Float[Tensor, "S 3 A d"], packed: Packed, probability: float) -> Float[Tensor, "S A d"]:
    """Attention within each of the packed texts; weights are dropped with the probability, by the device's generator."""
    query, key, value = heads.unbind(1)
    # The operator beneath `torch.nn.attention.varlen`, which itself has no dropout.
    mixed, *_ = torch.ops.aten._flash_attention_forward(
        query, key, value, packed.ends, packed.ends, packed.longest, packed.longest, probability, False, False
    )
    attended: Tensor = mixed
    return attended
