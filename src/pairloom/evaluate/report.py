"""Evaluations for programs (JSON) and for people (a table)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pairloom.evaluate.bootstrap import LEVEL
from pairloom.evaluate.evaluation import Comparison, Evaluation, Measurement
from pairloom.evaluate.tuning import METRIC, Tuning, Weights

# The longest metric, " Recall@100"; with the other columns it makes 79. Longer names of tasks are folded.
_NAME_WIDTH = 11


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as JSON values: all metrics as fractions, unrounded, intervals as ``[low, high]``."""
    return {
        "task": evaluation.task,
        "kind": evaluation.kind,
        **({} if evaluation.mode is None else {"mode": evaluation.mode}),
        **evaluation.counts,
        "similarity": evaluation.similarity,
        "metrics": {name: _measurement_to_json(measurement) for name, measurement in evaluation.metrics.items()},
        "bootstrap": {"level": LEVEL, "resamples": evaluation.num_resamples, "seed": evaluation.seed},
        "remarks": list(evaluation.remarks),
        "warnings": list(evaluation.warnings),
    }


def tuning_to_json(tuning: Tuning) -> dict[str, Any]:
    """A tuning as JSON values; numbers are nDCG@10, and ``baseline`` is what the weights until now give."""
    return {
        "task": tuning.task,
        "metric": METRIC,
        "before": tuning.before._asdict(),
        "weights": tuning.weights._asdict(),
        "grid": [{"words": words, "value": value} for words, value in tuning.grid.items()],
        "queries": {"found_on": tuning.num_queries[0], "held_out": tuning.num_queries[1]},
        "held_out": _measurement_to_json(tuning.held_out),
        "held_out_alone": dict(tuning.alone),
        "folds": _measurement_to_json(tuning.folds) | {"words": list(tuning.fold_weights)},
        "better": tuning.is_better,
        "bootstrap": {"level": LEVEL, "resamples": tuning.num_resamples, "seed": tuning.seed},
        "remarks": list(tuning.remarks),
    }


def _measurement_to_json(measurement: Measurement) -> dict[str, Any]:
    facts: dict[str, Any] = {"value": measurement.value, "interval": list(measurement.interval)}
    comparison = measurement.comparison
    if comparison is None:
        return facts
    return facts | {
        "baseline": comparison.baseline,
        "difference": comparison.difference,
        "difference_interval": list(comparison.interval),
        "clear": comparison.is_clear,
    }


def render(evaluations: Sequence[Evaluation]) -> Group:
    """All evaluations as one table of at most 80 columns, and below it what was measured, for ``Console.print``.

    Each task has a row with its name (and by what was searched), then a row a metric. Columns for the baseline appear
    where some evaluation has one. The last says ``better`` or ``worse`` if the 95 % interval of the change leaves 0 out,
    ``unclear`` otherwise.
    """
    compared = any(measurement.comparison for evaluation in evaluations for measurement in evaluation.metrics.values())
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold", max_width=_NAME_WIDTH)
    for heading in ("value", "95 % interval", *(("baseline", "change", "95 % interval") if compared else ())):
        table.add_column(heading, justify="right", no_wrap=True)
    if compared:
        table.add_column("", no_wrap=True)
    for evaluation in evaluations:
        heading = evaluation.task if evaluation.mode is None else f"{evaluation.task} {evaluation.mode}"
        table.add_row(Text(heading, style="bold"))
        for name, measurement in evaluation.metrics.items():
            comparison = _comparison_cells(measurement.comparison) if compared else ()
            table.add_row(f" {name}", f"{measurement.value:.4f}", _range(measurement.interval, ".4f"), *comparison)
    return Group(table, Text(), *(Text(note, style="dim") for note in dict.fromkeys(map(_note, evaluations))))


def render_tuning(tuning: Tuning) -> Group:
    """A tuning as some lines: what was found, how it did where it was not found, and what became of it."""
    found_on, held_out = tuning.num_queries
    low, high = min(tuning.fold_weights), max(tuning.fold_weights)
    range_text = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    lines = [
        Text(f"{tuning.task}: weights of a hybrid search, by {METRIC}", style="bold"),
        Text(f"  best on {found_on:,} queries: {_weights(tuning.weights)} (until now: {_weights(tuning.before)})"),
        Text.assemble(f"  on the other {held_out:,}: ", *_sentence(tuning.held_out)),
        Text("    " + ", ".join(f"{mode} alone {value:.4f}" for mode, value in tuning.alone.items())),
        Text.assemble(
            f"  on all {found_on + held_out:,}, each fifth by what is best on the rest (words {range_text}): ",
            *_sentence(tuning.folds),
        ),
        *(Text(f"  {remark}", style="dim") for remark in tuning.remarks),
        Text(
            f"The collection now searches with {_weights(tuning.weights)}."
            if tuning.is_better
            else f"The weights stay as they were, {_weights(tuning.before)}: "
            + (
                "no others are better."
                if tuning.weights == tuning.before
                else "on the other queries the new ones are not better."
            )
        ),
    ]
    return Group(*lines)


def _weights(weights: Weights) -> str:
    return f"vector {weights.vector:.2g}, words {weights.words:.2g}"


def _sentence(measurement: Measurement) -> tuple[str | Text, ...]:
    value = f"{measurement.value:.4f} ({_range(measurement.interval, '.4f')})"
    if measurement.comparison is None:
        return (value,)
    beside, change, change_interval, verdict = _comparison_cells(measurement.comparison)
    return (f"{value}, until now {beside}: {change} ({change_interval}), ", verdict)


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


def _note(evaluation: Evaluation) -> str:
    counts = ", ".join(f"{count:,} {name}" for name, count in evaluation.counts.items())
    return "; ".join((f"{evaluation.task}: {counts}", *evaluation.remarks))
