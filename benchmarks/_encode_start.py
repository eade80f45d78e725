"""The part ``start``: from the start of a process to the vector of one sentence, in a fresh process each time."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks._encode_bench import Bench
from benchmarks._train_table import Figures, Rounds, alternate

SENTENCE = "Where do the birds go when it rains all day?"
_OURS = """
import sys, numpy
from pairloom import Encoder
numpy.save(sys.argv[2], Encoder(sys.argv[1], device="cpu").encode([sys.stdin.read()]))
"""
_THEIRS = """
import sys, numpy
from sentence_transformers import SentenceTransformer
numpy.save(sys.argv[2], SentenceTransformer(sys.argv[1], device="cpu").encode([sys.stdin.read()]))
"""
ENCODE = "pairloom encode MODEL -"
ENCODER = "pairloom: Encoder(MODEL).encode"
RIVAL = "sentence-transformers: SentenceTransformer(MODEL).encode"
VECTORS = (ENCODE, ENCODER, RIVAL)


def commands(model: Path) -> dict[str, list[str]]:
    """What is started, by name; ``OUT`` in a command stands for a place that is new each time."""
    python = sys.executable
    return {
        "python alone": [python, "-c", "pass"],
        "import numpy": [python, "-c", "import numpy"],
        "import pairloom": [python, "-c", "import pairloom"],
        ENCODE: [python, "-m", "pairloom", "encode", str(model), "-", "--out", "OUT", "--quiet"],
        ENCODER: [python, "-c", _OURS, str(model), "OUT"],
        "import sentence_transformers": [python, "-c", "import sentence_transformers"],
        RIVAL: [python, "-c", _THEIRS, str(model), "OUT"],
    }


def started(command: list[str], folder: Path) -> Figures:
    """Seconds until the process has ended; the sentence comes on stdin, the vector goes into a file."""
    out = folder / f"{time.monotonic_ns()}"
    words = [str(out) if word == "OUT" else word for word in command]
    begin = time.perf_counter()
    done = subprocess.run(words, input=SENTENCE, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
        return {"failed": f"failed ({done.returncode}): {last[:300]}"}
    return {"start_s": seconds}


def start(bench: Bench) -> None:
    """From the start of a process to the vector of one sentence, with the files in the system's cache."""
    run = {name: partial(started, command, bench.folder) for name, command in commands(bench.path).items()}
    alternate(run, 1)  # reads the files into the cache
    show_starts(alternate(run, bench.options.rounds))


def show_starts(measured: Rounds) -> None:
    """A line a command: seconds, and how many times longer the rival takes to its vector, within a round."""
    width = max(map(len, measured))
    for name, runs in measured.items():
        seconds = [run["start_s"] for run in runs if "start_s" in run]
        if not seconds:
            print(f"  {name:{width}}  {runs[-1]['failed']}", flush=True)
            continue
        line = f"  {name:{width}}  {statistics.median(seconds):6.3f} s ({min(seconds):.3f} to {max(seconds):.3f})"
        both = zip(runs, measured[RIVAL], strict=True)
        ratios = [other["start_s"] / own["start_s"] for own, other in both if "start_s" in own and "start_s" in other]
        if ratios and name in VECTORS:
            line += f"  {statistics.median(ratios):5.2f}×"
        print(line, flush=True)
