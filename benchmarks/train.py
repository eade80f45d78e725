"""Training on a CPU beside sentence-transformers' own trainer and losses: rates, memory, and what is learnt.

Each run is a process of its own; contestants take turns, and ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks._train_agreement import first_step
from benchmarks._train_models import VOCABULARY, Family, Size, make_model, real_tokenizer
from benchmarks._train_pairs import MODEL, TextPair, distinct_pairs, held_out_task, write_pairs
from benchmarks._train_table import MIB, Figures, Rounds, alternate, fastest, show, show_ratio
from benchmarks._train_trial import Side, Trial, run, run_apart
from pairloom import Encoder
from pairloom.evaluate.evaluation import evaluate
from pairloom.evaluate.report import render
from pairloom.evaluate.tasks import read_task
from pairloom.models.names import find_model
from pairloom.recipe import Precision

OURS: Side = "pairloom"
THEIRS: Side = "sentence-transformers"
SIDES: tuple[Side, ...] = (THEIRS, OURS)
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
# Graphs of so many MiB are kept; with none, each micro-batch is computed again for its backward pass.
REPLAY: dict[str, Any] = {"graph_memory_mib": 0}
HELD_OUT_QUERIES, HELD_OUT_DOCUMENTS = 500, 2_000
LOSS_TOLERANCE = 1e-4
# Beyond so many pairs a step takes so long that what the first one does once does not count, if its graphs are not kept.
# Those that are kept take gigabytes, which the system has to find in the first step.
MOST_WITH_WARM_UP = 512


class Bench:
    """What all parts share: options, pairs, and a folder."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.start: Callable[[Trial], Figures] = run if options.toy else run_apart
        self.rival = missing_rival()
        self.model: str = str(toy_model(folder / "toy")) if options.toy else MODEL
        self._shards: dict[int, Path] = {}

    def shards(self, num_pairs: int) -> Path | None:
        """Shards of exactly so many pairs, after those that are held out; None, and a word, if there are too few."""
        if num_pairs not in self._shards:
            kept = self.held_out()
            pairs = distinct_pairs(self.options.pairs, len(kept) + num_pairs)[len(kept) :]
            if len(pairs) < num_pairs:
                print(f"  left out: needs {num_pairs:,} pairs, and there are {len(pairs):,}; give more with --pairs")
                return None
            self._shards[num_pairs] = write_pairs(self.folder / f"pairs-{num_pairs}", pairs)
        return self._shards[num_pairs]

    def held_out(self) -> list[TextPair]:
        return distinct_pairs(self.options.pairs, 40 if self.options.toy else HELD_OUT_DOCUMENTS)

    def trial(
        self, *, model: str | None = None, batch_size: int | None = None, steps: int | None = None
    ) -> Trial | None:
        """What contestants of a part have in common: each trains once on each pair of shards made for it."""
        batch_size = batch_size or self.options.batch_size
        steps = steps or self.options.steps
        shards = self.shards(batch_size * (steps + 1))
        if shards is None:
            return None
        return Trial(
            OURS,
            model or self.model,
            str(shards),
            batch_size,
            steps,
            max_tokens=self.options.max_tokens,
            train=self.options.set,
        )

    def alternate(self, trials: dict[str, Trial]) -> Rounds:
        """Runs them in rounds; those of the rival only if it is here."""
        if self.rival is not None:
            print(f"  {THEIRS} is left out: {self.rival}")
            trials = {name: trial for name, trial in trials.items() if trial.side == OURS}
        return alternate({name: partial(self.start, trial) for name, trial in trials.items()}, self.options.rounds)

    def agree(self, trial: Trial) -> None:
        """Prints the first step's loss and gradient norm of both sides, on the same batch and without dropout."""
        if self.rival is not None:
            return
        ours, theirs = first_step(trial)
        word = "agree" if abs(ours.loss - theirs.loss) < LOSS_TOLERANCE else "DO NOT AGREE"
        print(
            f"  first step without dropout: loss {ours.loss:.6f} and {theirs.loss:.6f}, gradient norm "
            f"{ours.gradient_norm:.5f} and {theirs.gradient_norm:.5f}: they {word}",
            flush=True,
        )


def missing_rival() -> str | None:
    """What of the rival is not installed."""
    needed = ("sentence_transformers", "datasets", "accelerate")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(missing)} (the extra `bench`)" if missing else None


def toy_model(path: Path) -> Path:
    letters = [
        *"abcdefghijklmnopqrstuvwxyz0123456789",
        *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789"),
    ]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters]
    size = Size("bert", 2, 32, len(vocabulary))
    return make_model(path, size, real_tokenizer("bert", vocabulary), max_tokens=64, spread=0.2)


def replayed(trial: Trial) -> Trial:
    """The trial with no graph kept."""
    warm_up = 1 if trial.batch_size <= MOST_WITH_WARM_UP else 0
    return dataclasses.replace(trial, warm_up=warm_up, train={**trial.train, **REPLAY})


def both_sides(common: Trial) -> dict[str, Trial]:
    """Each side at each precision."""
    return {
        f"{side}, {precision}": dataclasses.replace(
            common, side=side, precision=precision, train=common.train if side == OURS else {}
        )
        for precision in PRECISIONS
        for side in SIDES
    }


def show_both(measured: Rounds) -> None:
    show(measured, f"{THEIRS}, float32" if f"{THEIRS}, float32" in measured else None)
    for precision in PRECISIONS:
        show_ratio(measured, f"{OURS}, {precision}", f"{THEIRS}, {precision}")
    show_ratio(measured, f"{OURS}, bfloat16", f"{THEIRS}, float32")


def main_part(bench: Bench) -> None:
    """Each side as its users run it, in both precisions."""
    if (common := bench.trial()) is not None:
        bench.agree(common)
        show_both(bench.alternate(both_sides(common)))


def families(bench: Bench) -> None:
    """The same for random networks of other families, with half the steps."""
    for family in ("mpnet", "distilbert"):
        path = make_family(bench.folder / family, family)
        if (common := bench.trial(model=str(path), steps=max(1, bench.options.steps // 2))) is not None:
            print(f"  {family}, 6 layers of 384, random weights", flush=True)
            bench.agree(common)
            show_both(bench.alternate(both_sides(common)))


def make_family(path: Path, family: Family) -> Path:
    """A small random network with a real vocabulary."""
    vocabulary = (find_model(MODEL) / "vocab.txt").read_text(encoding="utf-8").splitlines()
    size = Size(family, 6, 384, VOCABULARY[family])
    return make_model(path, size, real_tokenizer(family, vocabulary), max_tokens=256)


def cached(bench: Bench) -> None:
    """Large batches: gradient caching on both sides; then pairloom with as many graphs as fit."""
    common = bench.trial(batch_size=bench.options.large, steps=bench.options.large_steps)
    if common is None:
        return
    bench.agree(dataclasses.replace(common, mini_batch=bench.options.mini_batch[0]))
    for precision in PRECISIONS:
        ours = dataclasses.replace(common, precision=precision)
        trials = {
            f"{THEIRS}, {precision}, mini-batch {size}": dataclasses.replace(
                ours, side=THEIRS, mini_batch=size, train={}
            )
            for size in bench.options.mini_batch
        }
        first = next(iter(trials))  # the loss as it is by default
        trials |= {
            f"{OURS}, {precision}, all replayed": replayed(ours),
            f"{OURS}, {precision}, automatic": ours,
        }
        measured = bench.alternate(trials)
        show(measured, fastest(measured, THEIRS))
        show_ratio(measured, f"{OURS}, {precision}, automatic", first)


def growth(bench: Bench) -> None:
    """Rate and memory by batch size."""
    for batch_size in bench.options.growth:
        steps = max(1, min(bench.options.steps, bench.options.large // batch_size))
        common = bench.trial(batch_size=batch_size, steps=steps)
        if common is None:
            continue
        common = dataclasses.replace(common, precision=bench.options.precision)
        trials = {"all replayed": replayed(common), "automatic": common}
        chosen = {f"{batch_size:,} pairs, {name}": trials[name] for name in bench.options.graphs or trials}
        show(bench.alternate(chosen), more=beyond_start)


def memory(bench: Bench) -> None:
    """Peak memory at one and at four times the large batch, all micro-batches replayed, which must be the same.

    Both go through as many pairs, so that what a process gathers in time (a fragmented heap) does not look like the batch's.
    """
    peaks = []
    for times in (1, 4):
        batch_size = times * bench.options.large
        common = bench.trial(batch_size=batch_size, steps=8 // times)
        if common is None:
            return
        figures = bench.start(replayed(dataclasses.replace(common, precision=bench.options.precision)))
        show({f"{batch_size:,} pairs, all replayed": [figures]}, more=beyond_start)
        peaks.append(figures.get("peak_bytes", 0))
    print(f"  four times the batch: {(peaks[1] - peaks[0]) / MIB:+,.0f} MiB")


def beyond_start(figures: Figures) -> str:
    return (
        f"{(figures['peak_bytes'] - figures['start_bytes']) / MIB:,.0f} MiB beyond what lay there before the first step"
    )


def quality(bench: Bench) -> None:
    """What both have learnt after as many steps on the same batches; the last one is the first one's baseline."""
    if bench.rival is not None:
        print(f"  left out: {bench.rival}")
        return
    common = bench.trial(steps=bench.options.quality_steps)
    if common is None:
        return
    common = dataclasses.replace(common, warm_up=0)  # nothing is timed
    pairs = bench.held_out()
    tasks = [held_out_task(pairs, min(len(pairs), HELD_OUT_QUERIES)), *map(read_task, bench.options.task)]
    for seed in range(bench.options.seeds):
        folders = {side: str(bench.folder / f"{side}-{seed}") for side in SIDES}
        for side in SIDES:
            train = common.train if side == OURS else {}
            trial = dataclasses.replace(common, seed=seed, save=folders[side], same_batches=True, train=train)
            figures = bench.start(dataclasses.replace(trial, side=side))
            if "failed" in figures:
                sys.exit(f"{side}: {figures['failed']}")
        base, ours, theirs = (
            Encoder(path, device="cpu", precision="float32") for path in (common.model, folders[OURS], folders[THEIRS])
        )
        for who, model, beside in (
            ("sentence-transformers, beside the untrained model", theirs, base),
            ("pairloom, beside the untrained model", ours, base),
            ("pairloom, beside sentence-transformers", ours, theirs),
        ):
            print(f"  seed {seed}, {common.all_steps} steps of {common.batch_size}: {who}", flush=True)
            Console(width=100).print(render([evaluate(model, task, baseline=beside) for task in tasks]))


PARTS: dict[str, Callable[[Bench], None]] = {
    "main": main_part,
    "quality": quality,
    "cached": cached,
    "families": families,
    "growth": growth,
    "memory": memory,
}


def main() -> None:
    options = read_options()
    logging.getLogger("pairloom").setLevel(logging.ERROR)  # random models begin as bare backbones, as is known
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, torch {torch.__version__}", end=""
    )
    print(f" with {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder))
        for name in options.part or PARTS:
            print(f"{name}: {(PARTS[name].__doc__ or '').splitlines()[0]}", flush=True)
            PARTS[name](bench)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="one part, repeatable; default: all")
    parser.add_argument("--pairs", type=Path, help="jsonl[.gz] of pairs; default: docstrings of this environment")
    parser.add_argument("--steps", type=int, default=4, help="timed steps of a run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--large", type=int, default=1024, help="batch size of the parts cached and memory")
    parser.add_argument("--large-steps", type=int, default=2)
    parser.add_argument(
        "--mini-batch", type=int, nargs="+", default=[32, 128], help="of sentence-transformers' cached loss"
    )
    parser.add_argument("--growth", type=int, nargs="+", default=[128, 512, 2048, 8192])
    parser.add_argument(
        "--graphs", action="append", choices=("all replayed", "automatic"), help="of the part growth; default: both"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of the parts growth and memory")
    parser.add_argument("--quality-steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=1, help="of the part quality")
    parser.add_argument("--task", type=Path, action="append", default=[], help="of the part quality, repeatable")
    parser.add_argument(
        "--set", type=assignment, action="append", default=[], help="KEY=VALUE of pairloom's [train], repeatable"
    )
    parser.add_argument(
        "--toy", action="store_true", help="a tiny model, everything in one process: only to see it work"
    )
    options = parser.parse_args()
    options.set = dict(options.set)
    if options.toy:
        small = {"steps": 2, "rounds": 1, "batch_size": 8, "max_tokens": 32, "large": 16, "large_steps": 1}
        for name, value in {**small, "growth": [8, 16], "mini_batch": [4], "quality_steps": 3}.items():
            setattr(options, name, value)
    return options


def assignment(text: str) -> tuple[str, Any]:
    """``key=value``; the value is a number if it looks like one."""
    key, _, value = text.partition("=")
    return key, int(value) if value.isdigit() else value


if __name__ == "__main__":
    main()
