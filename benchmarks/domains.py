"""One model adapted to several domains, each measured on all of them, beside sentence-transformers' trainer on the same batches.

Which side goes first changes from domain to domain. A side is timed from its first step to its last, so loading and
saving do not count.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import platform
import random
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from benchmarks._train_pairs import MODEL, TextPair, distinct_pairs, held_out_task, write_pairs
from benchmarks._train_trial import Side, Trial, run_apart
from benchmarks.train import PRECISIONS, SIDES, assignment, missing_rival
from pairloom import Encoder
from pairloom.evaluate.evaluation import Evaluation, evaluate
from pairloom.evaluate.report import render, to_json
from pairloom.evaluate.tasks import Task, read_task
from pairloom.pairs.shards import Shards
from pairloom.recipe import Precision, load_sources
from pairloom.sources.prepare import prepare

SHUFFLE_SEED = 0


@dataclass(frozen=True)
class Domain:
    """Pairs of one kind: those to train on, and those that are held out as a task."""

    name: str
    shards: Path
    num_pairs: int
    task: Task


def main() -> None:
    options = read_options()
    if not options.dumps and not options.pairs:
        print("needs pairs: --pairs NAME=FILE, repeatable, and --dumps FOLDER of Stack Exchange sites")
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        domains = [open_domain(folder, domain, pairs, options) for domain, pairs in read_domains(folder, options)]
        tasks = [domain.task for domain in domains] + [read_task(path) for path in options.task]
        print(f"{MODEL}, unchanged:", flush=True)
        before = measure(Encoder(MODEL, device="cpu", precision="float32"), tasks)
        figures = {"unchanged": [to_json(one) for one in before]}
        sides = [side for side in SIDES if side == "pairloom" or missing_rival() is None]
        for number, domain in enumerate(domains):
            print(f"\n{domain.name}: {domain.num_pairs:,} pairs", flush=True)
            order = sides if number % 2 else sides[::-1]
            models = {side: adapt(folder / f"{domain.name}-{side}", domain, side, options) for side in order}
            after: dict[str, list[Evaluation]] = {}
            for side in sides:
                print(f"\nadapted to {domain.name} by {side}, beside the unchanged model:", flush=True)
                after[side] = measure(Encoder(models[side], device="cpu", precision="float32"), tasks, before)
                figures[f"{domain.name}, {side}"] = [to_json(one) for one in after[side]]
            if len(sides) == 2:
                print(f"\nadapted to {domain.name} by pairloom, beside {SIDES[0]}:", flush=True)
                both = measure(Encoder(models["pairloom"], device="cpu", precision="float32"), tasks, after[SIDES[0]])
                figures[f"{domain.name}, pairloom beside {SIDES[0]}"] = [to_json(one) for one in both]
        if options.out:
            options.out.write_text(json.dumps(figures, indent=2), encoding="utf-8")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dumps", type=Path, nargs="*", default=[], help="Stack Exchange sites: one domain")
    parser.add_argument(
        "--pairs", action="append", default=[], metavar="NAME=FILE", help="a domain; jsonl[.gz] of pairs"
    )
    parser.add_argument("--task", type=Path, action="append", default=[], help="a further evaluation task, repeatable")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--precision", choices=PRECISIONS, default="bfloat16", help="of both sides")
    parser.add_argument("--held-out", type=int, nargs=2, default=(300, 1000), metavar=("QUERIES", "DOCUMENTS"))
    parser.add_argument("--set", type=assignment, action="append", default=[], help="KEY=VALUE of pairloom's [train]")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    return parser.parse_args()


def read_domains(folder: Path, options: argparse.Namespace) -> list[tuple[str, list[TextPair]]]:
    """The pairs of each domain, no text twice, in a random order: dumps are sorted by date."""
    domains = []
    if options.dumps:
        path = folder / "stack-exchange"
        inputs = [str(dump) for dump in options.dumps]
        prepare("stackexchange", inputs, "title-body", path, settings=load_sources(), show_progress=False)
        seen: set[str] = set()
        pairs = []
        for row in Shards(path):
            if seen.isdisjoint((row.anchor, row.positive)):
                seen.update((row.anchor, row.positive))
                pairs.append((row.anchor, row.positive))
        domains.append(("Stack Exchange", pairs))
    for assigned in options.pairs:
        name, _, file = assigned.partition("=")
        domains.append((name, distinct_pairs(Path(file), 10**9)))
    for _, pairs in domains:
        random.Random(SHUFFLE_SEED).shuffle(pairs)
    return domains


def open_domain(folder: Path, name: str, pairs: list[TextPair], options: argparse.Namespace) -> Domain:
    """Holds out the first pairs, and writes the others as shards."""
    num_queries, num_documents = options.held_out
    task = dataclasses.replace(held_out_task(pairs[:num_documents], num_queries), name=f"{name}, held out")
    rest = pairs[num_documents:]
    return Domain(name, write_pairs(folder / f"{name}-pairs", rest), len(rest), task)


def adapt(out: Path, domain: Domain, side: Side, options: argparse.Namespace) -> str:
    """Trains one side on the domain, and prints how long it took; gives the folder of the model."""
    precision: Precision = options.precision
    trial = Trial(
        side,
        MODEL,
        str(domain.shards),
        options.batch_size,
        options.steps - 1,
        warm_up=1,
        max_tokens=options.max_tokens,
        precision=precision,
        learning_rate=options.learning_rate,
        train=dict(options.set) if side == "pairloom" else {},
        same_batches=True,
        save=str(out),
    )
    figures = run_apart(trial)
    if "failed" in figures:
        raise SystemExit(f"{side}: {figures['failed']}")
    seconds = figures["step_s"]
    print(
        f"  {side}: {sum(seconds):,.0f} s for {len(seconds)} steps of {options.batch_size} pairs, {precision}; median "
        f"{options.batch_size / statistics.median(seconds):,.2f} pairs/s",
        flush=True,
    )
    return str(out)


def measure(encoder: Encoder, tasks: Sequence[Task], before: Sequence[Evaluation] | None = None) -> list[Evaluation]:
    """Evaluates on all tasks, prints the table, and gives the evaluations."""
    found = [
        evaluate(encoder, task, baseline=reference) for task, reference in itertools.zip_longest(tasks, before or ())
    ]
    Console(width=100).print(render(found))
    return found


if __name__ == "__main__":
    main()
