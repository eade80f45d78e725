"""The part ``latency``: calls with one text."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Sequence

import numpy as np

from benchmarks._encode_apart import Apart
from benchmarks._encode_bench import INSTALLED, THEIRS, Bench, Worker
from benchmarks._encode_texts import corpus, texts_of_length
from benchmarks._train_table import Figures, Rounds

NUM_TOKENS = 12
_NUM_TEXTS = 64
CALLERS = (1, 8)


def latency(bench: Bench) -> None:
    """Calls with one text of 12 tokens, from one thread and from eight at once."""
    texts = corpus("short", texts_of_length(bench.model, NUM_TOKENS, _NUM_TEXTS), bench.model)
    assert set(texts.lengths.tolist()) == {NUM_TOKENS}
    with contextlib.ExitStack() as stack:
        sides: dict[str, Apart] = {
            INSTALLED: bench.theirs(stack, texts),
            f"{THEIRS}, bfloat16": bench.theirs(stack, texts, precision="bfloat16"),
            **bench.ours(stack, texts),
        }
        for callers in CALLERS:
            print(f"  {callers} calling thread{'s' if callers > 1 else ''}", flush=True)
            given = {"corpus": texts.name, "callers": callers, "calls": bench.options.calls}
            workers: dict[str, Worker] = {name: (apart, "latency", given) for name, apart in sides.items()}
            show_latencies(bench.alternate(workers), INSTALLED)


def show_latencies(measured: Rounds, reference: str) -> None:
    """A line a contestant: p50 and p99 over all rounds, calls a second; and how many times lower its p50 is in a round."""
    width = max(map(len, measured))
    for name, runs in measured.items():
        ran = [run for run in runs if run.get("calls_s")]
        if not ran:
            print(f"  {name:{width}}  {runs[-1].get('failed', 'did not run')}", flush=True)
            continue
        middle, late = 1000 * np.quantile([seconds for run in ran for seconds in run["calls_s"]], [0.5, 0.99])
        rate = statistics.median(len(run["calls_s"]) / run["wall_s"] for run in ran)
        line = f"  {name:{width}}  p50 {middle:7.2f} ms  p99 {late:7.2f} ms  {rate:6,.0f} calls/s"
        if (times := latency_ratio(runs, measured[reference])) is not None:
            line += f"  p50 {times:5.2f}× lower"
        print(line, flush=True)


def latency_ratio(runs: Sequence[Figures], reference: Sequence[Figures]) -> float | None:
    """The median over rounds of how many times lower the p50 is than the reference's; None if one of them never ran."""
    ratios = [
        statistics.median(beside["calls_s"]) / statistics.median(own["calls_s"])
        for own, beside in zip(runs, reference, strict=True)
        if own.get("calls_s") and beside.get("calls_s")
    ]
    return statistics.median(ratios) if ratios else None
