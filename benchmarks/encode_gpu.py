"""Encoding on a GPU with random weights of true sizes: rates, utilisation and memory beside sentence-transformers'.

It needs no network, no model and no data: texts are random words, each one token, as many as real texts have.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import logging
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch

from benchmarks._encode_device import (
    Contestant,
    Workload,
    make_random_model,
    make_workload,
    open_ours,
    run,
    tune,
)
from benchmarks._train_device import nominal_rate, product_rate
from benchmarks._train_lengths import draw_lengths
from benchmarks._train_table import Figures, alternate, rates, show
from benchmarks._train_trial import Side
from benchmarks.train_gpu import SIZES, TOY_SIZES
from pairloom.models.model import Model
from pairloom.models.read import read_model
from pairloom.models.tokenizer import Tokens
from pairloom.network import backbone
from pairloom.network.kernels import takes_packed
from pairloom.recipe import Precision
from pairloom.train.flops import model_flops

OURS: Side = "pairloom"
THEIRS: Side = "sentence-transformers"
HALVES: tuple[Precision, ...] = ("bfloat16", "float16")
# Tokens of every text, or as titles and bodies of Reddit have, half of each, cut at 256.
LENGTHS = ("12", "128", "512", "mix")
_MIX_MAX_TOKENS = 256
# Of what `differences` tells. Float32 sums in another order; bfloat16 has 8 bits of precision, float16 has 11.
TOLERANCES = {
    "transformers": {"vectors": 1e-4, "error": 1e-3},
    "bfloat16": {"one minus cosine": 0.01, "error": 0.1},
    "float16": {"one minus cosine": 0.001, "error": 0.02},
    "packed": {"one minus cosine": 0.01, "error": 0.1},
    "alone": {"one minus cosine": 0.01, "error": 0.1},
}


class Bench:
    """What all parts share: options, device, random models, and what goes into the JSON."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.device = torch.device("cuda" if torch.cuda.is_available() and not options.toy else "cpu")
        self.sizes = TOY_SIZES if options.toy else SIZES
        self.max_tokens = 64 if options.toy else 512
        self.has_rival = importlib.util.find_spec("sentence_transformers") is not None
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        self.rate, self.nominal = product_rate(self.device, 256 if options.toy else 8192), nominal_rate(name)
        self.results: Figures = {
            "device": {
                "name": name,
                "torch": torch.__version__,
                "bfloat16_flops_per_s": self.rate,
                "nominal": self.nominal,
            }
        }
        sheet = f", nominal {self.nominal / 1e12:,.0f}" if self.nominal else ""
        print(f"{name}, torch {torch.__version__}; bfloat16 products {self.rate / 1e12:,.2f} TFLOP/s{sheet}")

    def model(self, name: str, *, spread: float = 0.02) -> Path:
        """The folder of a random model, which is made when it is first asked for."""
        path = self.folder / f"{name}-{spread}"
        if not path.exists():
            make_random_model(path, self.sizes[name], max_tokens=self.max_tokens, spread=spread)
        return path

    def workload(self, name: str, model: Model, lengths: str, num_tokens: int) -> Workload:
        return make_workload(model, self.sizes[name].family, make_lengths(lengths, num_tokens, self.max_tokens))


def make_lengths(name: str, num_tokens: int, max_tokens: int) -> npt.NDArray[np.int64]:
    """Lengths of texts that have about so many tokens together."""
    if name != "mix":
        length = min(int(name), max_tokens)
        return np.full(max(1, num_tokens // length), length)
    random, limit = np.random.default_rng(0), min(_MIX_MAX_TOKENS, max_tokens)
    drawn = draw_lengths(max(1, num_tokens), anchor_max_tokens=limit, positive_max_tokens=limit, random=random)
    drawn = random.permutation(drawn)  # titles and bodies among each other
    return drawn[: max(1, int(np.searchsorted(drawn.cumsum(), num_tokens)))]


def agreement(bench: Bench) -> None:
    """Vectors: against transformers on a padded batch; half precision; packed attention against padded; texts alone."""
    for name in bench.sizes:
        path = bench.model(name, spread=0.05)
        model = read_model(path)
        tokens = bench.workload(name, model, "mix", bench.options.agreement_tokens).tokens
        precisions: tuple[Precision, ...] = ("float32", *HALVES)
        exact, *halves = (open_ours(model, bench.device, precision).embed(tokens) for precision in precisions)
        pairs = {"transformers": (exact, vectors_of_transformers(path, model, tokens, bench.device))}
        pairs |= {precision: (half, exact) for precision, half in zip(HALVES, halves, strict=True)}
        if takes_packed(bench.device, model.architecture, torch.bfloat16):
            with mock.patch.object(backbone, "takes_packed", return_value=False):
                pairs["packed"] = halves[0], open_ours(model, bench.device, "bfloat16").embed(tokens)
        pairs["alone"] = halves[0], embed_alone(model, tokens, bench.device, "bfloat16")
        for what, (one, other) in pairs.items():
            found = differences(one, other)
            beyond = [key for key, limit in TOLERANCES[what].items() if not found[key] <= limit]
            bench.results.setdefault("agreement", {}).setdefault(name, {})[what] = {**found, "beyond": beyond}
            shown = ", ".join(f"{key} {value:.1e}" for key, value in found.items())
            verdict = f"; BEYOND TOLERANCE: {', '.join(beyond)}" if beyond else ""
            print(f"  {name}, {what}: {shown}{verdict}", flush=True)


def embed_alone(model: Model, tokens: Tokens, device: torch.device, precision: Precision) -> npt.NDArray[np.float32]:
    """Each text in a call of its own."""
    engine = open_ours(model, device, precision)
    texts = np.split(tokens.ids, np.cumsum(tokens.lengths)[:-1])
    parts = (Tokens(text, np.array([len(text)]), np.zeros(1, dtype=np.bool_)) for text in texts)
    return np.concatenate([engine.embed(part) for part in parts])


def vectors_of_transformers(
    folder: Path, model: Model, tokens: Tokens, device: torch.device
) -> npt.NDArray[np.float32]:
    """By transformers' own network, on the padded batch, with its plain attention; pooling and norm written out."""
    import transformers

    network = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").to(device).eval()
    ids = torch.from_numpy(tokens.padded(np.arange(len(tokens)), model.architecture.pad_token_id)).to(device)
    lengths = torch.from_numpy(tokens.lengths).to(device)
    inside = torch.arange(ids.shape[1], device=device) < lengths[:, None]
    with torch.inference_mode():
        hidden = network(input_ids=ids, attention_mask=inside.long()).last_hidden_state
        pooled = (hidden * inside[..., None]).sum(dim=1)
        return (pooled / pooled.norm(dim=1, keepdim=True)).cpu().numpy()  # type: ignore[no-any-return]


def differences(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> dict[str, float]:
    """How far two sets of vectors are apart: ``vectors``, the largest difference of a component; ``one minus cosine``, the
    largest of a text; ``mean one minus cosine``; ``error``, the length of all differences over that of what tells the
    texts from each other."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return {
        "vectors": float(np.abs(a - b).max()),
        "one minus cosine": float(1 - cosines.min()),
        "mean one minus cosine": float(1 - cosines.mean()),
        "error": float(np.linalg.norm(a - b) / np.linalg.norm(b - b.mean(axis=0))),
    }


def encode(bench: Bench) -> None:
    """Texts/s and tokens/s of three models by length, from texts to vectors and from tokens to vectors."""
    for name in bench.options.model or bench.sizes:
        path = bench.model(name)
        model = read_model(path)
        for lengths in bench.options.lengths:
            workload = bench.workload(name, model, lengths, bench.options.tokens)
            bench.results.setdefault("encode", {}).setdefault(name, {})[lengths] = race(
                bench, name, path, workload, lengths
            )


def race(bench: Bench, name: str, path: Path, workload: Workload, lengths: str) -> Figures:
    """Tunes the rival on a part of the texts, lets all take turns, and prints what they measured."""
    options = bench.options
    flops = model_flops(read_model(path).architecture, workload.tokens.lengths)
    num_texts, num_tokens = len(workload.texts), workload.num_tokens
    each = "a mix of lengths" if lengths == "mix" else f"{lengths} tokens each"
    print(f"  {name}, {num_texts:,} texts, {each}: {num_tokens:,} tokens, {flops:.2e} FLOPs", flush=True)
    contestants = {f"{OURS}, {precision}": Contestant(OURS, precision) for precision in HALVES}
    given = {
        f"{OURS}, tokens given": Contestant(OURS, tokenize=False),
        f"{OURS}, tokens given, two threads": Contestant(OURS, tokenize=False, threads=2),
    }
    tuning: list[Figures] = []
    if bench.has_rival:
        part = workload.first(max(num_texts // 4, min(num_texts, max(options.batch_size))))
        best, tuning = tune(
            path, part, bench.device, batch_sizes=options.batch_size, largest_batch_tokens=options.largest_batch_tokens
        )
        print(f"  {THEIRS} at its best: {best.attention}, batches of {best.batch_size}", flush=True)
        contestants[f"{THEIRS}, best"] = best
        if options.compile:
            contestants[f"{THEIRS}, best, compiled"] = dataclasses.replace(best, compiled=True)
        given[f"{THEIRS}, tokens given"] = dataclasses.replace(best, tokenize=False)
    else:
        print(f"  {THEIRS} is left out: it is not installed")
    found: Figures = {"num_texts": num_texts, "num_tokens": num_tokens, "flops": flops, "tuning": tuning}
    for what, group in (("texts", contestants), ("tokens", given)):
        measured = alternate(
            {
                key: partial(run, one, path, workload, bench.device, repeats=options.repeats)
                for key, one in group.items()
            },
            options.rounds,
        )
        for one in (one for runs in measured.values() for one in runs if one.get("step_s")):
            seconds = statistics.median(one["step_s"])
            one |= {
                "texts_per_s": num_texts / seconds,
                "tokens_per_s": num_tokens / seconds,
                "utilisation": flops / seconds / bench.rate,
            }
        theirs = {key: runs for key, runs in measured.items() if key.startswith(THEIRS) and rates(runs)}
        fastest = max(theirs, key=lambda key: statistics.median(rates(theirs[key])), default=None)
        show(measured, fastest, used, unit="texts")
        found[what] = measured
    return found


def used(one: Figures) -> str:
    """How many tokens that is, and how much of the device's rate went into the model."""
    return f"{one['tokens_per_s']:12,.0f} tokens/s, {one['utilisation']:.1%} of what products reach"


PARTS: dict[str, Callable[[Bench], None]] = {"agreement": agreement, "encode": encode}


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
            try:
                PARTS[name](bench)
            finally:  # what is measured is kept, whatever comes after it
                if options.out is not None:
                    options.out.write_text(json.dumps(bench.results, indent=1) + "\n")
    if any(found["beyond"] for model in bench.results.get("agreement", {}).values() for found in model.values()):
        sys.exit("something is beyond tolerance")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="one part, repeatable; default: all")
    parser.add_argument("--model", action="append", choices=SIZES, help="of the part encode, repeatable")
    parser.add_argument("--lengths", nargs="+", choices=LENGTHS, default=list(LENGTHS), help="tokens a text")
    parser.add_argument("--tokens", type=int, default=2**20, help="in all texts of a length together")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2, help="timed passes over the texts in a round")
    parser.add_argument(
        "--batch-size",
        type=int,
        nargs="+",
        default=[32, 128, 512, 2048],
        help="that sentence-transformers may choose from",
    )
    parser.add_argument("--largest-batch-tokens", type=int, default=2**18, help="of a batch, padded")
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also sentence-transformers by torch.compile",
    )
    parser.add_argument("--agreement-tokens", type=int, default=8192)
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    parser.add_argument("--toy", action="store_true", help="tiny models on the CPU: only to see it work")
    options = parser.parse_args()
    if options.toy:
        options.lengths, options.tokens, options.agreement_tokens = ["12", "mix"], 256, 256
        options.rounds, options.repeats, options.batch_size, options.compile = 1, 1, [4, 16], False
    return options


if __name__ == "__main__":
    main()
