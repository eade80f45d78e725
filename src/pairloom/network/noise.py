"""Dropout (Srivastava et al. 2014) that can be repeated: what is dropped is a function of keys, not of a hidden state.

`KeyedNoise` computes each decision from the text's key, the place in the network, the token and the component. So a
text drops the same wherever it is computed: in whatever micro-batch, beside whatever texts, on whichever of however many
processes, in the first pass or when it is replayed. `DeviceNoise` leaves it to a GPU's own generator, which its
attention kernels have built in; it repeats for the same micro-batch and seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from pairloom.network.packed import Packed

# SplitMix64's mixer (Steele et al. 2014), as in `pairloom.pairs.counter_random`, on torch's signed numbers.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_ROUNDS = (30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64)
_LAST_SHIFT = 31
# Multipliers that keep the counters of tokens, heads and components apart; odd numbers without a pattern.
_TOKEN, _HEAD = 0xD6E8FEB86659FD93 - 2**64, 0xA0761D6478BD642F - 2**64
# Four decisions from a random number, of 15 bits each: the probability is met to within 2^-16.
_BITS = 15
_PER_NUMBER = 4
# Attention scores that are worked on at a time on a CPU (`benchmarks/dropout.py`).
_CACHED_SCORES = 2**19


@runtime_checkable
class Noise(Protocol):
    """What a forward pass in training asks of its dropout; ``site`` numbers the places in the network."""

    def add_dropped(
        self, values: Float[Tensor, "S H"], residual: Float[Tensor, "S H"] | None, *, probability: float, site: int
    ) -> Float[Tensor, "S H"]:
        """The residual plus the values, of which some are dropped and the others scaled up."""
        ...

    def attend(
        self,
        query: Float[Tensor, "B A T d"],
        key: Float[Tensor, "B A T d"],
        value: Float[Tensor, "B A T d"],
        bias: Float[Tensor, "#B #A #T T"] | None,
        *,
        probability: float,
        site: int,
    ) -> Float[Tensor, "B A T d"]:
        """Attention of which some weights are dropped and the others scaled up."""
        ...


class DeviceNoise:
    """Dropout by the device's own generator, which is seeded here.

    Args:
        seed: Of the micro-batch. A pass over the same micro-batch with the same seed drops the same.
    """

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)

    def add_dropped(self, values: Tensor, residual: Tensor | None, *, probability: float, site: int) -> Tensor:
        """See `Noise.add_dropped`."""
        dropped = functional.dropout(values, probability)
        return dropped if residual is None else residual + dropped

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, *, probability: float, site: int
    ) -> Tensor:
        """See `Noise.attend`."""
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=probability)


class KeyedNoise:
    """Dropout as a function of the texts' keys.

    Args:
        keys: A number for each text; texts with different keys drop independently.
        packed: The micro-batch.
    """

    def __init__(self, keys: Int[Tensor, "B"], packed: Packed) -> None:
        self._packed = packed
        self._tokens = mix(keys[packed.texts] + packed.positions * _TOKEN)

    @cached_property
    def _padded_tokens(self) -> Int[Tensor, "B T"]:
        return self._packed.pad(self._tokens)

    def add_dropped(self, values: Tensor, residual: Tensor | None, *, probability: float, site: int) -> Tensor:
        """See `Noise.add_dropped`."""
        if probability == 0:
            return values if residual is None else residual + values
        kept = keep_bits(self._tokens[:, None] + _site_key(site), values.shape[1], probability)
        dropped: Tensor = _AddDropped.apply(values, residual, kept, _scale(probability))  # type: ignore[no-untyped-call]
        return dropped

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, *, probability: float, site: int
    ) -> Tensor:
        """See `Noise.attend`."""
        if probability == 0 and (bias is None or bias.shape[2] == 1):
            return functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        # (For a bias that is trained torch has other kernels with a graph than without, and other last digits.)
        heads = torch.arange(query.shape[1], device=query.device) * _HEAD
        counters = self._padded_tokens[:, None, :, None] + (heads + _site_key(site))[:, None, None]
        mixed: Tensor = _AttendDropped.apply(query, key, value, bias, counters, probability)  # type: ignore[no-untyped-call]
        return mixed


def keep_bits(counters: Int[Tensor, "*rows 1"], count: int, probability: float) -> Int[Tensor, "*rows count"]:
    """Decisions for ``count`` components of each row: int16, all bits set where it is kept and none where dropped.

    As masks for ``bitwise_and``, these are faster than booleans on a CPU (``benchmarks/dropout.py``).
    """
    blocks = torch.arange(-(-count // _PER_NUMBER), device=counters.device) * _GOLDEN
    drawn = mix(counters + blocks).view(torch.int16)[..., :count]
    dropped = round(probability * 2**_BITS)
    # The upper 15 bits, as -2^14 … 2^14 - 1; shifted by as much as is dropped, the sign tells.
    signs = (drawn >> 1).add_(2 ** (_BITS - 1) - dropped).bitwise_right_shift_(15)
    return signs.bitwise_not_()


def mix(numbers: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """SplitMix64's mixer: a bijection of the 64-bit numbers in which each bit of the result depends on all bits."""
    numbers = numbers.clone()
    shifted = torch.empty_like(numbers)
    for shift, multiplier in _ROUNDS:
        numbers ^= _shift(numbers, shift, shifted)
        numbers *= multiplier
    numbers ^= _shift(numbers, _LAST_SHIFT, shifted)
    return numbers


def _shift(numbers: Tensor, shift: int, out: Tensor) -> Tensor:
    """Right, with zeros from the left, which torch's signed numbers do not have."""
    return torch.bitwise_right_shift(numbers, shift, out=out).bitwise_and_(2 ** (64 - shift) - 1)


def _site_key(site: int) -> int:
    """A far-away counter for each place in the network."""
    number = (site + 1) * (_GOLDEN % 2**64) % 2**64
    for shift, multiplier in _ROUNDS:
        number = (number ^ (number >> shift)) * (multiplier % 2**64) % 2**64
    number ^= number >> _LAST_SHIFT
    return number - 2**64 if number >= 2**63 else number


def _scale(probability: float) -> float:
    """What makes up for the dropped part, exactly as much as is dropped."""
    kept = 1 - round(probability * 2**_BITS) / 2**_BITS
    return 1 / kept if kept else 0.0


def _masked(values: Tensor, kept: Tensor) -> Tensor:
    """The values where kept, and zero elsewhere."""
    if values.dtype in (torch.bfloat16, torch.float16):
        return (values.contiguous().view(torch.int16) & kept).view(values.dtype)
    if values.dtype == torch.float32:
        return (values.contiguous().view(torch.int32) & kept.to(torch.int32)).view(values.dtype)
    return values * (kept != 0)  # float64, in tests


class _AddDropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, residual: Tensor | None, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.scale, ctx.dtype = scale, values.dtype
        masked = _masked(values, kept)
        if residual is None:
            return masked * scale
        return torch.add(residual, masked.to(residual.dtype), alpha=scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        (kept,) = ctx.saved_tensors
        values = _masked((gradient * ctx.scale).to(ctx.dtype), kept)
        return values, gradient if ctx.needs_input_grad[1] else None, None, None


class _AttendDropped(torch.autograd.Function):
    """Softmax attention with dropped weights, made for CPUs, where torch has no fused kernel with dropout.

    It goes through a few texts at a time, so that what it computes from the scores stays in the cache. Between the passes
    it keeps the weights, with the sign bit set where they are dropped: one tensor for two.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, counters: Tensor, probability: float
    ) -> Tensor:
        scale = _scale(probability)
        query, value = query * query.shape[-1] ** -0.5, value * scale
        num_texts, num_heads, width, _ = query.shape
        signed = query.new_empty(num_texts, num_heads, width, width)
        mixed = torch.empty_like(value)
        for part in _parts(num_texts, num_heads * width * width):
            scores = query[part] @ key[part].transpose(-1, -2)
            if bias is not None:
                scores += bias if len(bias) == 1 else bias[part]
            weights = torch.softmax(scores, dim=-1)
            signed[part] = _signed(weights, keep_bits(counters[part], width, probability))
            mixed[part] = signed[part].clamp(min=0) @ value[part]
        ctx.save_for_backward(query, key, value, signed)
        ctx.scale, ctx.bias_shape = scale, None if bias is None else bias.shape
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        query, key, value, signed = ctx.saved_tensors
        query_gradient, key_gradient, value_gradient = (torch.empty_like(query) for _ in range(3))
        wide = torch.promote_types(query.dtype, torch.float32)  # parts are added up
        bias_gradient = (
            torch.zeros(ctx.bias_shape, dtype=wide, device=query.device) if ctx.needs_input_grad[3] else None
        )
        for part in _parts(len(signed), signed[0].numel()):
            kept = signed[part].clamp(min=0)
            value_gradient[part] = kept.transpose(-1, -2) @ gradient[part]
            # Of the softmax: weight * (gradient of the weight - mean of the gradients under the weights).
            score_gradient = kept.mul_(gradient[part] @ value[part].transpose(-1, -2))
            means = score_gradient.sum(dim=-1, keepdim=True)
            score_gradient.addcmul_(signed[part].abs(), means, value=-1)
            query_gradient[part] = score_gradient @ key[part]
            key_gradient[part] = score_gradient.transpose(-1, -2) @ query[part]
            if bias_gradient is not None:
                where = bias_gradient if len(bias_gradient) == 1 else bias_gradient[part]
                where += score_gradient.sum_to_size(where.shape)
        if bias_gradient is not None:
            bias_gradient = bias_gradient.to(query.dtype)
        query_gradient *= query.shape[-1] ** -0.5
        value_gradient *= ctx.scale
        return query_gradient, key_gradient, value_gradient, bias_gradient, None, None


def _parts(num_texts: int, scores_a_text: int) -> Iterator[slice]:
    """Texts whose scores fit into the cache together; at least one."""
    count = max(1, _CACHED_SCORES // scores_a_text)
    for first in range(0, num_texts, count):
        yield slice(first, first + count)


def _signed(weights: Tensor, kept: Tensor) -> Tensor:
    """Weights, which are not negative, with the sign bit set where they are not kept."""
    if weights.dtype in (torch.bfloat16, torch.float16):
        return (weights.view(torch.int16) | (~kept & -(2**15))).view(weights.dtype)
    if weights.dtype == torch.float32:
        return (weights.view(torch.int32) | (~kept.to(torch.int32) & -(2**31))).view(weights.dtype)
    return torch.where(kept != 0, weights, -weights)
