"""Dropout on a CPU: torch's own, booleans made from keys, and the bit masks that training uses."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pairloom.models.tokenizer import Tokens
from pairloom.network.noise import KeyedNoise, keep_bits
from pairloom.network.packed import Packed, pack

PROBABILITY, NUM_HEADS, HEAD_SIZE = 0.1, 12, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=128, help="of each text")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    packed = texts(options.texts, options.tokens)
    print(
        f"{options.texts} texts of {options.tokens} tokens, {torch.get_num_threads()} threads; ms, forward and backward"
    )
    for dtype in (torch.float32, torch.bfloat16):
        for name, contestants in {
            "residual + dropout": of_tokens(packed, dtype),
            "attention with dropout": of_attention(packed, dtype),
        }.items():
            times = alternate(contestants, options.rounds)
            own = statistics.median(times["keyed, bits"])
            print(f"{str(dtype).removeprefix('torch.')}, {name}")
            for contestant, seconds in times.items():
                median = statistics.median(seconds)
                print(f"  {contestant:<18} {median * 1000:8.2f}  {median / own:5.2f}×")


def texts(count: int, length: int) -> Packed:
    lengths = np.full(count, length)
    tokens = Tokens(np.zeros(lengths.sum(), dtype=np.int32), lengths, np.zeros(count, dtype=np.bool_))
    return pack(tokens, np.arange(count), torch.device("cpu"))


def of_tokens(packed: Packed, dtype: torch.dtype) -> dict[str, Callable[[], None]]:
    values, residual = (
        torch.randn(len(packed.ids), NUM_HEADS * HEAD_SIZE, dtype=kind, requires_grad=True)
        for kind in (dtype, torch.float32)
    )
    keys = torch.arange(packed.num_texts)

    def both_ways(forward: Callable[[], Tensor]) -> Callable[[], None]:
        return lambda: torch.autograd.backward(forward().sum())

    def booleans() -> Tensor:
        kept = keep_bits(keys[packed.texts][:, None], values.shape[1], PROBABILITY) != 0
        return residual + values * kept / (1 - PROBABILITY)

    def bits() -> Tensor:
        return KeyedNoise(keys, packed).add_dropped(values, residual, probability=PROBABILITY, site=1)

    return {
        "torch": both_ways(lambda: residual + functional.dropout(values, PROBABILITY)),
        "keyed, booleans": both_ways(booleans),
        "keyed, bits": both_ways(bits),
    }


def of_attention(packed: Packed, dtype: torch.dtype) -> dict[str, Callable[[], None]]:
    shape = packed.num_texts, NUM_HEADS, packed.width, HEAD_SIZE
    query, key, value = (torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3))
    keys = torch.arange(packed.num_texts)

    def torchs() -> None:
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=PROBABILITY)
        torch.autograd.backward(mixed.sum())

    def bits() -> None:
        mixed = KeyedNoise(keys, packed).attend(query, key, value, None, probability=PROBABILITY, site=1)
        torch.autograd.backward(mixed.sum())

    return {"torch": torchs, "keyed, bits": bits}


def alternate(contestants: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(rounds + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if round_:  # the first warms up
                times[name].append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main()
