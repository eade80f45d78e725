"""Training on a GPU with random weights of true sizes: rates, utilisation and memory beside sentence-transformers'.

It needs no network, no model and no data: tokens are random, their numbers a text those of real titles and bodies.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks._train_agreement import differences, ours_on, transformers_on
from benchmarks._train_device import (
    Contestant,
    Texts,
    nominal_rate,
    product_rate,
    random_texts,
    run_steps,
    training_flops,
)
from benchmarks._train_models import VOCABULARY, Size, make_model, without_dropout, word_tokenizer
from benchmarks._train_table import Figures, Rounds, alternate, fastest, show
from benchmarks._train_trial import Side
from pairloom.models.read import read_model

OURS: Side = "pairloom"
THEIRS: Side = "sentence-transformers"
SIZES = {
    "mpnet-base": Size("mpnet", 12, 768, VOCABULARY["mpnet"]),
    "distilbert-base": Size("distilbert", 6, 768, VOCABULARY["distilbert"]),
    "minilm-l6": Size("bert", 6, 384, VOCABULARY["bert"]),
}
TOY_SIZES = {
    "mpnet-base": Size("mpnet", 2, 64, 200),
    "distilbert-base": Size("distilbert", 2, 64, 200),
    "minilm-l6": Size("bert", 2, 64, 200),
}
# How graphs are kept: none, so that all is computed again; or all of them.
REPLAYED: dict[str, Any] = {"graph_memory_mib": 0}
KEPT: dict[str, Any] = {"graph_memory_mib": 2**20}
# Of what `differences` tells. Float32 sums in another order; bfloat16 has 8 bits of precision.
TOLERANCES = {
    "transformers": {"vectors": 1e-4, "gradient": 1e-3, "loss": 1e-4},
    "bfloat16": {"one minus cosine": 0.01, "gradient": 0.1},
    "replayed": {"gradient": 1e-4, "loss": 1e-5},
    "replayed, bfloat16, dropout": {"gradient": 1e-2, "loss": 1e-3},
}


class Bench:
    """What all parts share: options, device, random models, and what goes into the JSON."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.device = torch.device("cuda" if torch.cuda.is_available() and not options.toy else "cpu")
        self.sizes = TOY_SIZES if options.toy else SIZES
        self.limits = (8, 24) if options.toy else (64, 250)
        self.rival = missing_rival()
        self.results: Figures = {}
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        self.rate, self.nominal = product_rate(self.device, 256 if options.toy else 8192), nominal_rate(name)
        self.results["device"] = {
            "name": name, "torch": torch.__version__, "bfloat16_flops_per_s": self.rate, "nominal": self.nominal
        }  # fmt: skip
        sheet = f", nominal {self.nominal / 1e12:,.0f}" if self.nominal else ""
        print(f"{name}, torch {torch.__version__}; bfloat16 products {self.rate / 1e12:,.2f} TFLOP/s{sheet}")

    def model(self, name: str, *, spread: float = 0.02) -> Path:
        """The folder of a random model, which is made when it is first asked for."""
        path = self.folder / f"{name}-{spread}"
        if not path.exists():
            size = self.sizes[name]
            tokenizer = word_tokenizer(size.family, size.vocabulary_size)
            make_model(path, size, tokenizer, max_tokens=self.limits[1], spread=spread)
        return path

    def texts(self, path: Path, num_pairs: int, count: int, *, seed: int = 0) -> list[Texts]:
        model = read_model(path)
        return [random_texts(model, num_pairs, seed=seed + number, limits=self.limits) for number in range(count)]

    def ours(self, **train: Any) -> Contestant:
        return Contestant(OURS, {**self.options.set, **train})

    def race(self, name: str, contestants: dict[str, Contestant], batches: list[Texts], warm_up: list[Texts]) -> Rounds:
        """Lets them take turns, prints what they measured, and notes it."""
        if self.rival is not None:
            print(f"  {THEIRS} is left out: {self.rival}")
            contestants = {key: one for key, one in contestants.items() if one.side == OURS}
        path = self.model(name)
        model = read_model(path)
        flops = statistics.mean(training_flops(model.architecture, texts, model.dimensions) for texts in batches)
        measured = alternate(
            {key: partial(run_steps, one, path, batches, warm_up, self.device) for key, one in contestants.items()},
            self.options.rounds,
        )
        num_tokens = statistics.mean(int(texts.tokens.lengths.sum()) for texts in batches)
        print(
            f"  {name}, {batches[0].num_pairs:,} pairs of {num_tokens / batches[0].num_pairs:.0f} tokens, {flops:.2e} FLOPs a step"
        )
        for run in (run for runs in measured.values() for run in runs if run.get("step_s")):
            per_s = flops / statistics.median(run["step_s"])
            run |= {"flops_per_s": per_s, "utilisation": per_s / self.rate}
            if self.nominal:
                run["nominal_utilisation"] = per_s / self.nominal
        show(measured, fastest(measured, THEIRS), used)
        return measured


def used(run: Figures) -> str:
    """How much of the device's rate went into the model."""
    text = f"{run['flops_per_s'] / 1e12:,.1f} TFLOP/s, {run['utilisation']:.1%} of what products reach"
    nominal = f", {run['nominal_utilisation']:.1%} of nominal" if "nominal_utilisation" in run else ""
    return f"{text}{nominal}; attention: {run['attention']}"


def missing_rival() -> str | None:
    """What of the rival is not installed."""
    missing = [name for name in ("sentence_transformers", "accelerate") if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


def agreement(bench: Bench) -> None:
    """Vectors and gradients: against transformers on padded batches; bfloat16 against float32; replayed against kept."""
    for name in bench.sizes:
        path = bench.model(name, spread=0.05)
        rated = read_model(path)
        still, (texts,) = without_dropout(rated), bench.texts(path, bench.options.agreement_pairs, 1)
        # Several micro-batches, so that there is something to replay.
        small = {"micro_batch_tokens": max(32, int(texts.tokens.lengths.sum()) // 8)}
        exact = ours_on(still, texts, bench.device, train=small)
        pairs = {
            "transformers": (exact, transformers_on(path, still, texts, bench.device)),
            "bfloat16": (ours_on(still, texts, bench.device, train=small, precision="bfloat16"), exact),
            "replayed": tuple(
                ours_on(still, texts, bench.device, train={**small, **graphs}) for graphs in (REPLAYED, KEPT)
            ),
            "replayed, bfloat16, dropout": tuple(
                ours_on(rated, texts, bench.device, train={**small, **graphs}, precision="bfloat16")
                for graphs in (REPLAYED, KEPT)
            ),
        }
        for what, (one, other) in pairs.items():
            found = differences(one, other)
            found["one minus cosine"] = 1 - found.pop("cosine")
            beyond = [key for key, limit in TOLERANCES[what].items() if not found[key] <= limit]
            bench.results.setdefault("agreement", {}).setdefault(name, {})[what] = {**found, "beyond": beyond}
            shown = ", ".join(f"{key} {value:.1e}" for key, value in found.items())
            verdict = f"; BEYOND TOLERANCE: {', '.join(beyond)}" if beyond else ""
            print(f"  {name}, {what}: {shown}{verdict}", flush=True)


def step(bench: Bench) -> None:
    """Batches that fit without caching, three models."""
    for name in bench.options.model or bench.sizes:
        path = bench.model(name)
        batches = bench.texts(path, bench.options.batch_size, bench.options.steps)
        contestants = {
            f"{THEIRS}, not cached": Contestant(THEIRS),
            f"{THEIRS}, cached {bench.options.mini_batch[0]}": Contestant(
                THEIRS, mini_batch=bench.options.mini_batch[0]
            ),
            f"{OURS}, automatic": bench.ours(),
            f"{OURS}, all replayed": bench.ours(**REPLAYED),
        }
        bench.results.setdefault("step", {})[name] = bench.race(name, contestants, batches, batches[:2])


def large(bench: Bench) -> None:
    """Batches that need gradient caching, for one model."""
    name = (bench.options.model or ["mpnet-base"])[0]
    path = bench.model(name)
    batches = bench.texts(path, bench.options.large, bench.options.large_steps, seed=100)
    # Smaller, because it is to warm up and not to wait.
    warm_up = bench.texts(path, bench.options.batch_size, 2, seed=200)
    contestants: dict[str, Contestant] = {
        f"{THEIRS}, cached {size}": Contestant(THEIRS, mini_batch=size) for size in bench.options.mini_batch
    }
    contestants |= {f"{OURS}, automatic": bench.ours(), f"{OURS}, all replayed": bench.ours(**REPLAYED)}
    bench.results.setdefault("large", {})[name] = bench.race(name, contestants, batches, warm_up)


PARTS: dict[str, Callable[[Bench], None]] = {"agreement": agreement, "step": step, "large": large}


def main() -> None:
    options = read_options()
    logging.getLogger("pairloom").setLevel(logging.ERROR)  # random models begin as bare backbones, as is known
    if not torch.cuda.is_available() and not options.toy:
        print("needs a GPU; --toy runs all of it at toy size on the CPU")
        return
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder))
        for name in options.part or PARTS:
            print(f"{name}: {(PARTS[name].__doc__ or '').splitlines()[0]}", flush=True)
            PARTS[name](bench)
            if options.out is not None:
                options.out.write_text(json.dumps(bench.results, indent=1) + "\n")
    if any(found["beyond"] for model in bench.results.get("agreement", {}).values() for found in model.values()):
        sys.exit("something is beyond tolerance")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="one part, repeatable; default: all")
    parser.add_argument("--model", action="append", choices=SIZES, help="of the parts step and large, repeatable")
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=4, help="timed steps of a run")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--large", type=int, default=16_384, help="batch size of the part large")
    parser.add_argument("--large-steps", type=int, default=2)
    parser.add_argument(
        "--mini-batch", type=int, nargs="+", default=[512, 128], help="of sentence-transformers' cached loss"
    )
    parser.add_argument("--agreement-pairs", type=int, default=64)
    parser.add_argument(
        "--set", type=assignment, action="append", default=[], help="KEY=VALUE of pairloom's [train], repeatable"
    )
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    parser.add_argument("--toy", action="store_true", help="tiny models on the CPU: only to see it work")
    options = parser.parse_args()
    options.set = {"micro_batch_tokens": 65_536, **dict(options.set)}
    if options.toy:
        small = {
            "batch_size": 8,
            "steps": 2,
            "rounds": 1,
            "large": 32,
            "large_steps": 1,
            "mini_batch": [4],
            "agreement_pairs": 6,
        }
        for name, value in small.items():
            setattr(options, name, value)
        options.set["micro_batch_tokens"] = 128
    return options


def assignment(text: str) -> tuple[str, Any]:
    """``key=value``; the value is a number if it looks like one."""
    key, _, value = text.partition("=")
    return key, int(value) if value.isdigit() else value


if __name__ == "__main__":
    main()
