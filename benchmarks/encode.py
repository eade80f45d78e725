"""Encoding on a CPU beside sentence-transformers' own: rates, agreement, bulk jobs, latency and start.

Contestants take turns, each in a process of its own that stays loaded, on the same number of threads; ratios are taken
within a round. Tokens are counted without padding.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks._encode_agreement import agreement_part
from benchmarks._encode_bench import CHOICES, PRECISIONS, Bench
from benchmarks._encode_bulk import bulk
from benchmarks._encode_latency import latency
from benchmarks._encode_speed import batches, budgets, families, main_part
from benchmarks._encode_start import start
from benchmarks._train_pairs import MODEL

PARTS: dict[str, Callable[[Bench], None]] = {
    "main": main_part,
    "batches": batches,
    "budgets": budgets,
    "agreement": agreement_part,
    "families": families,
    "bulk": bulk,
    "latency": latency,
    "start": start,
}
LIBRARIES = ("openvino", "torch", "sentence-transformers", "transformers", "tokenizers")


def main() -> None:
    options = read_options()
    logging.getLogger("pairloom").setLevel(logging.ERROR)  # random models begin as bare backbones, as is known
    print(
        f"{processor()}, {os.cpu_count()} processors, {options.threads} threads; "
        + ", ".join(map(installed, LIBRARIES))
    )
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder).resolve())
        for name in options.part or PARTS:
            print(f"{name}: {(PARTS[name].__doc__ or '').splitlines()[0]}", flush=True)
            PARTS[name](bench)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="one part, repeatable; default: all")
    parser.add_argument(
        "--model", default=MODEL, help="a folder or a name; mean pooling and normalisation for `agreement`"
    )
    parser.add_argument(
        "--pairs", type=Path, help="jsonl[.gz] of [title, body]; default: docstrings of this environment"
    )
    parser.add_argument("--corpus", action="append", choices=("bodies", "titles", "mixed"), help="repeatable")
    parser.add_argument("--texts", type=int, default=500, help="bodies; of titles there are four times as many")
    parser.add_argument("--family-texts", type=int, default=64, help="bodies, of the part families")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of every contestant")
    parser.add_argument("--engine", choices=CHOICES, default="openvino", help="pairloom's")
    parser.add_argument("--no-tuning", action="store_true", help="of the part main: only the rival as installed")
    parser.add_argument("--no-compile", action="store_true", help="do not try torch.compile, which needs a compiler")
    parser.add_argument("--tuning-texts", type=int, default=256, help="with which the rival's settings are found")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[8, 16, 32, 64, 128], help="tried for the rival")
    parser.add_argument("--budget", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096, 8192, 16_384])
    parser.add_argument("--task", type=Path, action="append", default=[], help="of the part agreement, repeatable")
    parser.add_argument("--calls", type=int, default=400, help="of the part latency: a round")
    parser.add_argument("--count", type=int, default=2_000_000, help="of the part bulk: texts")
    parser.add_argument("--real", action="store_true", help="of the part bulk: --model, not a small random one")
    parser.add_argument("--precision", choices=PRECISIONS, help="of the part bulk; default: the command line's")
    parser.add_argument("--every", type=float, default=1.0, help="of the part bulk: seconds between glances at memory")
    parser.add_argument("--seed", type=int, default=0, help="of the part bulk: when it is killed")
    parser.add_argument(
        "--work", type=Path, help="of the part bulk: a folder for its files, which stay; default: one that goes"
    )
    parser.add_argument("--toy", action="store_true", help="a tiny model and few texts: only to see it work")
    options = parser.parse_args()
    if options.toy:
        small = {
            "texts": 24,
            "family_texts": 8,
            "rounds": 1,
            "threads": 1,
            "tuning_texts": 8,
            "batch_size": [4, 8],
            "no_compile": True,
        }
        for name, value in {**small, "budget": [64, 256], "calls": 16, "count": 20_000, "every": 0.05}.items():
            setattr(options, name, value)
    return options


def processor() -> str:
    """The model of the processor, as far as the system says it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def installed(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return f"no {library}"


if __name__ == "__main__":
    main()
