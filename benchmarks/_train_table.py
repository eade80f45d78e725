"""Figures of contestants in alternating rounds, and how they are shown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Figures = dict[str, Any]
# By contestant, what it measured in each round.
Rounds = dict[str, list[Figures]]
MIB = 2**20


def alternate(contestants: Mapping[str, Callable[[], Figures]], rounds: int) -> Rounds:
    """Lets each contestant run once a round, so that what else the machine does falls on all of them."""
    measured: Rounds = {name: [] for name in contestants}
    for number in range(rounds):
        for name, run in contestants.items():
            print(f"  round {number + 1} of {rounds}: {name} ...", flush=True)
            measured[name].append(run())
    return measured


def rates(runs: Sequence[Figures]) -> list[float]:
    """Pairs or texts/s of each round, by the median of its steps; nothing for runs that failed."""
    return [run["batch_size"] / statistics.median(run["step_s"]) for run in runs if run.get("step_s")]


def ratio(one: Sequence[Figures], other: Sequence[Figures]) -> float | None:
    """The median over rounds of the ratio of the two rates within a round; None if one of them never ran."""
    both = [(own, beside) for own, beside in zip(one, other, strict=True) if own.get("step_s") and beside.get("step_s")]
    ratios = [
        own / beside for own, beside in zip(rates([b[0] for b in both]), rates([b[1] for b in both]), strict=True)
    ]
    return statistics.median(ratios) if ratios else None


def fastest(measured: Rounds, side: str) -> str | None:
    """Of the contestants whose name begins so, the one with the highest median rate: to be compared with the best."""
    ran = {
        name: statistics.median(rates(runs)) for name, runs in measured.items() if name.startswith(side) and rates(runs)
    }
    return max(ran, key=lambda name: ran[name], default=None)


def show(
    measured: Rounds,
    reference: str | None = None,
    more: Callable[[Figures], str] | None = None,
    *,
    unit: str = "pairs",
) -> None:
    """Prints a line a contestant.

    Args:
        measured: By contestant.
        reference: What the others are compared with; by default nothing.
        more: Further figures of a run, as text; shown of the last one.
        unit: What is counted.
    """
    width = max(map(len, measured))
    for name, runs in measured.items():
        if not rates(runs):
            print(f"  {name:{width}}  {runs[-1].get('failed', 'did not run')}")
            continue
        found = rates(runs)
        line = f"  {name:{width}}  {statistics.median(found):10,.2f} {unit}/s ({min(found):,.2f} to {max(found):,.2f})"
        if reference is not None and (times := ratio(runs, measured[reference])) is not None:
            line += f"  {times:6.2f}×"
        peaks = [run["peak_bytes"] for run in runs if run.get("peak_bytes")]
        if peaks:
            line += f"  peak {statistics.median(peaks) / MIB:8,.0f} MiB"
        print(line + (f"  {more(runs[-1])}" if more else ""), flush=True)


def show_ratio(measured: Rounds, one: str, other: str) -> None:
    """Prints how often the one's rate the other's is."""
    if one in measured and other in measured and (times := ratio(measured[one], measured[other])) is not None:
        print(f"  {one} / {other}: {times:.2f}×", flush=True)
