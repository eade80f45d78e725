"""How much a run computes, and how much the machine could: floating-point operations, two for a multiply-add."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from pairloom.models.architecture import Architecture
from pairloom.models.heads import Dense, Head
from pairloom.recipe import Precision

TRAINING_FORWARDS = 3
"""A training step's cost in forward passes: the backward pass computes each product's gradient for both of its factors.
Passes that are computed a second time to save memory are not counted, so that a run is not called faster for doing more
work (Chowdhery et al. 2022, *PaLM*, appendix B)."""

# From small to large: a slow machine runs out of time before it comes to those that would take it seconds.
_CPU_SIZES = (256, 512, 1024, 1536)
_CPU_SECONDS_A_SIZE = 0.25
_CUDA_SIZE, _GPU_SIZE = 8192, 4096
_GPU_REPEATS = 10


def model_flops(architecture: Architecture, lengths: npt.NDArray[np.integer], heads: Sequence[Head] = ()) -> int:
    """The operations of one forward pass over texts, padding aside; a training step has `TRAINING_FORWARDS` times as many.

    Counted are the matrix products: query, key, value and output, attention scores and the mixing by them, feed-forward,
    and dense layers after the pooling. Norms, activations, pooling and tables are left out, as is usual.

    Args:
        architecture: The backbone.
        lengths: Tokens of each text, [N].
        heads: What follows the backbone.
    """
    hidden, inner = architecture.hidden_size, architecture.feed_forward_size
    lengths = np.asarray(lengths, dtype=np.int64)
    num_tokens, num_scores = int(lengths.sum()), int(lengths @ lengths)
    multiply_adds_a_layer = num_tokens * (4 * hidden * hidden + 2 * hidden * inner) + num_scores * 2 * hidden
    multiply_adds_of_heads = len(lengths) * sum(head.weight.size for head in heads if isinstance(head, Dense))
    return 2 * (architecture.num_layers * multiply_adds_a_layer + multiply_adds_of_heads)


def measure_matmul_rate(device: torch.device, precision: Precision) -> float:
    """The most operations a second that the device reaches in a large matrix product: what utilisation is a share of.

    A CPU computes with as many threads as torch uses now; it is measured for about a second, a GPU for less.

    Args:
        device: Where to compute.
        precision: Of the factors. (In ``float32`` CUDA computes as `torch.get_float32_matmul_precision` says.)
    """
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    with torch.inference_mode():
        if device.type == "cpu":
            return _cpu_rate(dtype)
        size = _CUDA_SIZE if device.type == "cuda" else _GPU_SIZE
        product = _product(size, dtype, device)
        for _ in range(2):  # the first calls choose a kernel and raise the clock
            product()
        seconds = _cuda_seconds(product) if device.type == "cuda" else _seconds(product, device)
    return 2.0 * size**3 * _GPU_REPEATS / seconds


def _cpu_rate(dtype: torch.dtype) -> float:
    best = 0.0
    for size in _CPU_SIZES:
        if best and 2 * size**3 / best > _CPU_SECONDS_A_SIZE:
            break
        product = _product(size, dtype, torch.device("cpu"))
        end = time.perf_counter() + _CPU_SECONDS_A_SIZE
        while (start := time.perf_counter()) < end:
            product()
            best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def _product(size: int, dtype: torch.dtype, device: torch.device) -> Callable[[], None]:
    # A generator of its own: the run's random numbers stay as they are. Factors of zeros would need less power.
    dice = torch.Generator(device).manual_seed(0)
    one, other, out = (torch.randn(size, size, generator=dice, device=device, dtype=dtype) for _ in range(3))

    def product() -> None:
        torch.mm(one, other, out=out)

    return product


def _cuda_seconds(product: Callable[[], None]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call, unused-ignore]
    # (of the current device: `pairloom.train.world` makes it the right one)
    start.record()  # type: ignore[no-untyped-call, unused-ignore]
    for _ in range(_GPU_REPEATS):
        product()
    end.record()  # type: ignore[no-untyped-call, unused-ignore]
    end.synchronize()  # type: ignore[no-untyped-call, unused-ignore]
    return float(start.elapsed_time(end)) / 1000


def _seconds(product: Callable[[], None], device: torch.device) -> float:
    module = torch.get_device_module(device)
    module.synchronize()
    start = time.perf_counter()
    for _ in range(_GPU_REPEATS):
        product()
    module.synchronize()
    return time.perf_counter() - start
