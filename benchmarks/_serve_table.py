"""Latencies and requests/s, as they are shown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks._search_table import latency
from benchmarks._train_table import Figures, Rounds, rates, ratio


def show_served(measured: Rounds, *references: str, unit: str = "requests") -> None:
    """A line a contestant: p50 and p99 over all rounds, requests/s, those beside each reference's within a round, and how many
    processors the server and the load had."""
    width = max(map(len, measured))
    for name, runs in measured.items():
        ran = [run for run in runs if run.get("step_s")]
        if not ran:
            print(f"  {name:{width}}  {runs[-1].get('failed', 'did not run')}", flush=True)
            continue
        found = rates(ran)
        line = f"  {name:{width}}  {latency(ran) if 'calls_s' in ran[0] else ' ' * 32}"
        line += f"  {statistics.median(found):9,.1f} {unit}/s ({min(found):,.1f} to {max(found):,.1f})"
        for reference in references:
            if reference != name and reference in measured and (times := ratio(runs, measured[reference])) is not None:
                line += f"  {times:6.3f}× {reference}"
        print(f"{line}  {processors(ran)}{failures(ran)}", flush=True)


def processors(runs: Sequence[Figures]) -> str:
    """How many processors were busy, by the median of the rounds."""
    parts = []
    for what, key in (("server", "server_cpu_s"), ("of it the loop", "loop_cpu_s"), ("load", "load_cpu_s")):
        shares = [run[key] / sum(run["step_s"]) for run in runs if key in run]
        parts += [f"{what} {statistics.median(shares):.2f}"] if shares else []
    return f"processors: {', '.join(parts)}" if parts else ""


def failures(runs: Sequence[Figures]) -> str:
    """What was not answered well, over all rounds."""
    total: dict[str, int] = {}
    for run in runs:
        for status, count in run.get("statuses", {}).items():
            if status != "200":
                total[status] = total.get(status, 0) + count
    return "".join(f"  {status}: {count:,}" for status, count in sorted(total.items()))
