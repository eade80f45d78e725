"""Evaluations for programs (JSON) and for people (a table)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pairloom.evaluate.bootstrap import LEVEL
from pairloom.evaluate.evaluation import Comparison, Evaluation

# The longest metric, " Recall@100"; with the other columns it makes 79. Longer names of tasks are folded.
_NAME_WIDTH = 11


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as JSON values: all metrics as fractions, unrounded, intervals as ``[low, high]``."""
    return {
        "task": evaluation.task,
        "kind": evaluation.kind,
        **evaluation.counts,
        "similarity": evaluation.similarity,
        "metrics": {
            name: {"value": measurement.value, "interval": list(measurement.interval)}
            | _comparison_to_json(measurement.comparison)
            for name, measurement in evaluation.metrics.items()
        },
        "bootstrap": {"level": LEVEL, "resamples": evaluation.num_resamples, "seed": evaluation.seed},
        "remarks": list(evaluation.remarks),
        "warnings": list(evaluation.warnings),
    }


def _comparison_to_json(comparison: Comparison | None) -> dict[str, Any]:
    if comparison is None:
        return {}
    return {
        "baseline": comparison.baseline,
        "difference": comparison.difference,
        "difference_interval": list(comparison.interval),
        "clear": comparison.is_clear,
    }


def render(evaluations: Sequence[Evaluation]) -> Group:
    """All evaluations as one table of at most 80 columns, and below it what was measured, for ``Console.print``.

    Each task has a row with its name, then a row a metric. Columns for the baseline appear where some evaluation has
    one. The last says ``better`` or ``worse`` if the 95 % interval of the change leaves 0 out, ``unclear`` otherwise.
    """
    compared = any(measurement.comparison for evaluation in evaluations for measurement in evaluation.metrics.values())
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold", max_width=_NAME_WIDTH)
    for heading in ("value", "95 % interval", *(("baseline", "change", "95 % interval") if compared else ())):
        table.add_column(heading, justify="right", no_wrap=True)
    if compared:
        table.add_column("", no_wrap=True)
    for evaluation in evaluations:
        table.add_row(Text(evaluation.task, style="bold"))
        for name, measurement in evaluation.metrics.items():
            comparison = _comparison_cells(measurement.comparison) if compared else ()
            table.add_row(f" {name}", f"{measurement.value:.4f}", _range(measurement.interval, ".4f"), *comparison)
    return Group(table, Text(), *map(_note, evaluations))


def _comparison_cells(comparison: Comparison | None) -> tuple[str | Text, ...]:
    if comparison is None:
        return ()
    verdict = Text("unclear", style="dim")
    if comparison.is_clear:
        verdict = Text("better", style="green") if comparison.interval[0] > 0 else Text("worse", style="red")
    change, change_interval = f"{comparison.difference:+.4f}", _range(comparison.interval, "+.4f")
    return f"{comparison.baseline:.4f}", change, change_interval, verdict


def _range(interval: tuple[float, float], form: str) -> str:
    return "…".join(format(end, form) for end in interval)


def _note(evaluation: Evaluation) -> Text:
    counts = ", ".join(f"{count:,} {name}" for name, count in evaluation.counts.items())
    return Text("; ".join((f"{evaluation.task}: {counts}", *evaluation.remarks)), style="dim")
