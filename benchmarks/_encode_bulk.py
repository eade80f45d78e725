"""The part ``bulk``: very many short texts by the command line, its memory, and what three times kill -9 leave of it."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks._encode_bench import Bench
from benchmarks._encode_texts import random_model, single_words, write_short_texts
from benchmarks._encode_watch import MANIFEST, Watched, course, differing, watch
from benchmarks._train_table import MIB
from pairloom.models.names import load_model

# After so many texts memory is to stay as it is.
BEGINNING_TEXTS = 100_000
_NUM_KILLS = 3


def bulk(bench: Bench) -> None:
    """A file of very many short texts by the command line: memory, and the same bytes after three times kill -9."""
    options = bench.options
    work = (options.work or bench.folder / "bulk").resolve()
    work.mkdir(parents=True, exist_ok=True)
    if any(work.iterdir()):
        sys.exit(f"{work} is not empty: what an earlier run left there would be taken up")
    path = bench.path if options.toy or options.real else small_model(bench.folder / "small")
    source = write_short_texts(work / "texts.txt", single_words(load_model(path)), options.count)
    print(f"  {options.count:,} texts, {source.stat().st_size / MIB:,.0f} MiB, model {path.name}", flush=True)
    whole, killed = work / "unbroken", work / "killed"
    run = partial(watch, source=source, messages=work / "messages.txt", every_s=options.every)
    command = partial(encode_command, path, source, options.precision)
    unbroken = finished(run(command(whole)))
    print(f"  unbroken: {unbroken.seconds:,.1f} s, {options.count / unbroken.seconds:,.0f} texts/s", flush=True)
    show_memory(unbroken, min(0.5, BEGINNING_TEXTS / options.count))
    seconds = 0.0
    for share in kill_shares(options.seed):
        broken = run(command(killed), kill_after_s=share * unbroken.reading_s)
        seconds += broken.seconds
        if broken.exit_code >= 0:
            sys.exit(f"  it was to be killed, and ended before ({broken.exit_code}): {broken.messages[-500:]}")
        reader = max((glance.share for glance in broken.glances), default=0.0)
        print(f"  killed after {broken.seconds:,.1f} s, its reader at {reader:.0%}", flush=True)
    end = finished(run(command(killed)))
    seconds += end.seconds
    print(
        f"  finished after {end.seconds:,.1f} s more; all four runs: {seconds / unbroken.seconds:.2f} × the unbroken one's time"
    )
    show_differences(whole, killed)


def small_model(path: Path) -> Path:
    """So small that what is measured is everything but the model."""
    return random_model(path, "bert", layers=1, width=32, max_tokens=64)


def encode_command(model: Path, source: Path, precision: str | None, out: Path) -> list[str]:
    """The same command begins a job and goes on with it."""
    words = ["encode", str(model), str(source), "--out", str(out), "--quiet"]
    return [sys.executable, "-m", "pairloom", *words, *(["--precision", precision] if precision else [])]


def kill_shares(seed: int) -> Iterator[float]:
    """After which share of the unbroken run's time each run is killed: together never all of it."""
    dice = random.Random(seed)
    return (dice.uniform(0.05, 0.3) for _ in range(_NUM_KILLS))


def finished(run: Watched) -> Watched:
    """The run, if it did what it should."""
    if run.exit_code:
        sys.exit(f"pairloom encode failed ({run.exit_code}): {run.messages.strip()[-500:]}")
    return run


def show_memory(run: Watched, beginning: float) -> None:
    """The peak, and how memory went on after a share of the input."""
    print(f"  peak {run.peak_bytes / MIB:,.0f} MiB", flush=True)
    later = [glance for glance in run.glances if glance.share >= beginning]
    if not later:
        print("  too few glances at memory: take more texts, or a smaller --every")
        return
    for what, values in (
        ("resident memory", [glance.resident_bytes for glance in later]),
        ("of it no file's", [glance.own_bytes for glance in later]),
    ):
        found = course(values)
        print(
            f"  {what} after {beginning:.0%} of the input: {found.middle_bytes / MIB:,.0f} MiB (−{found.below:.1%} "
            f"+{found.above:.1%}, {found.num_glances} glances); the last tenth {found.growth:+.1%} beside the first",
            flush=True,
        )


def show_differences(one: Path, other: Path) -> None:
    """Files, and facts of the manifest, that are not the same."""
    found = differing(one, other)
    facts = [name for name in found if name.startswith(f"{MANIFEST}:")]
    files = [name for name in found if name not in facts]
    print(
        f"  files that differ: {', '.join(files) or 'none'}; in the manifest: {', '.join(facts) or 'nothing'}",
        flush=True,
    )
