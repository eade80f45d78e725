"""Tokens/s, shares of the machine's rate, and latencies, as they are shown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks._encode_products import best_rate
from benchmarks._train_table import MIB, Figures, Rounds, rates, ratio

GIGA = 1e9


def show_speeds(measured: Rounds, *references: str, peaks: bool = False) -> None:
    """A line a contestant: tokens/s, how often those of each reference within a round, and the peak of its process."""
    width = max(map(len, measured))
    for name, runs in measured.items():
        found = rates(runs)
        if not found:
            print(f"  {name:{width}}  {runs[-1].get('failed', 'did not run')}", flush=True)
            continue
        line = f"  {name:{width}}  {statistics.median(found):10,.0f} tokens/s ({min(found):,.0f} to {max(found):,.0f})"
        for reference in references:
            if reference in measured and (times := ratio(runs, measured[reference])) is not None:
                line += f"  {times:5.2f}× {reference.split()[-1]}" if len(references) > 1 else f"  {times:5.2f}×"
        peak = max(run.get("peak_bytes", 0) for run in runs)
        print(line + (f"  peak {peak / MIB:,.0f} MiB" if peaks else ""), flush=True)


def show_products(products: Rounds) -> None:
    """The rate of each matrix product, by whom, in the round in which it was highest."""
    for name, runs in products.items():
        for precision in sorted({key for run in runs for key in run if key != "failed"}):
            shapes = runs[0].get(precision, {})
            best = {shape: max(run[precision][shape] for run in runs if precision in run) for shape in shapes}
            print(
                f"  {name}, {precision}: " + ", ".join(f"{shape} {rate / GIGA:,.0f}" for shape, rate in best.items()),
                "GFLOP/s",
            )
        for run in runs:
            if "failed" in run:
                print(f"  {name}: {run['failed']}")


def shares(runs: Sequence[Figures], products: Rounds, precision: str, flops: int) -> list[float]:
    """In each round: the encoder's operations a second over the most that any product reached in that round.

    Args:
        runs: Of a contestant, a round each.
        products: By whom they were computed, in the same rounds.
        precision: Of both.
        flops: Operations of a pass, padding not counted.
    """
    found = []
    for number, run in enumerate(runs):
        most = best_rate([answers[number] for answers in products.values()], precision)
        if most is not None and run.get("step_s"):
            found.append(flops / statistics.median(run["step_s"]) / most)
    return found


def show_share(name: str, found: list[float], runs: Sequence[Figures], flops: int) -> None:
    if not found:
        return
    own = statistics.median(flops / statistics.median(run["step_s"]) for run in runs if run.get("step_s"))
    print(f"  {name}: {own / GIGA:,.0f} GFLOP/s, {statistics.median(found):.0%} of the best product's rate", flush=True)
