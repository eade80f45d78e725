"""A forecast for a person (a table, the panels of a picture) and for programs (JSON)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pairloom.pairs.forecast import HARDLY_SEEN, DatasetForecast, Forecast
from pairloom.plot import MOST_NAMED, Bars, Panel, Ranking
from pairloom.terminal import one_line

# A table of more datasets shows those with the largest and the smallest shares, and a line for the others.
_SHOWN_FIRST, _SHOWN_LAST = 20, 8
# Datasets that a remark names.
_NAMED = 4
_NAME_CHARACTERS = 80
_LEAST_NAME_WIDTH = 12


def to_json(forecast: Forecast) -> dict[str, Any]:
    """A forecast as JSON values, unrounded; datasets in the order of the configuration, what is unknown is null."""
    return {
        "steps": forecast.steps,
        "batch_size": forecast.batch_size,
        "steps_per_group": forecast.steps_per_group,
        "datasets_per_group": forecast.datasets_per_group,
        "ends_at": forecast.ends_at,
        "num_datasets": len(forecast.datasets),
        "weight": math.fsum(one.dataset.weight for one in forecast.datasets),
        "num_rows": sum(one.dataset.num_rows or 0 for one in forecast.datasets),
        "num_datasets_of_unknown_rows": len(_unknown(forecast.datasets)),
        "rows_drawn": math.fsum(one.rows_drawn for one in forecast.datasets),
        "repeat_limit": forecast.repeat_limit,
        "repeated": [one.dataset.name for one in forecast.repeated],
        "hardly_seen": [one.dataset.name for one in forecast.hardly_seen],
        "too_small": [one.dataset.name for one in forecast.datasets if not one.fits],
        "datasets": [
            {
                **vars(one.dataset),
                "columns": one.dataset.columns and list(one.dataset.columns),
                "share": one.share,
                "batches": one.batches,
                "rows_drawn": one.rows_drawn,
                "epochs": one.epochs,
                "runs_out_at": one.runs_out_at,
            }
            for one in forecast.datasets
        ],
    }


def render(forecast: Forecast, *, show_all: bool = False) -> Group:
    """A table, sorted by share, and below it what to think of, for ``Console.print``.

    Args:
        forecast: What to show.
        show_all: Whether a long table is shown whole.
    """
    datasets = _by_share(forecast)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("dataset", overflow="fold", min_width=_LEAST_NAME_WIDTH)
    for heading in ("share", "batches", "rows drawn", "rows", "epochs"):
        table.add_column(heading, justify="right", no_wrap=True)
    ending = _ending(datasets)

    def add(some: Sequence[DatasetForecast]) -> None:
        for one in some:
            table.add_row(Text(one_line(one.dataset.name.removesuffix(ending))), *_cells([one]))

    cut = not show_all and len(datasets) > _SHOWN_FIRST + _SHOWN_LAST + 1
    add(datasets[:_SHOWN_FIRST] if cut else datasets)
    if cut:
        others = datasets[_SHOWN_FIRST:-_SHOWN_LAST]
        table.add_row(Text(f"… {len(others):,} others (--all shows them)"), *_cells(others), style="dim")
        add(datasets[-_SHOWN_LAST:])
    table.add_row(Text("in all", style="bold"), *_cells(datasets))
    return Group(table, Text(), *_remarks(forecast))


def panels(forecast: Forecast) -> list[Panel]:
    """Shares of batches beside shares of rows, and epochs where some are known."""
    datasets = _by_share(forecast)
    named = datasets if len(datasets) <= MOST_NAMED else datasets[: MOST_NAMED - 1]
    others = datasets[len(named) :]
    groups = [[one] for one in named] + ([others] if others else [])
    ending = _ending(datasets)
    names = [one.dataset.name.removesuffix(ending) for one in named] + ([f"{len(others):,} others"] if others else [])
    series = {"share of batches": np.array([100 * math.fsum(one.share for one in group) for group in groups])}
    if in_all := _rows(datasets):
        rows = [_rows(group) for group in groups]
        series["share of rows"] = np.array([math.nan if one is None else 100 * one / in_all for one in rows])
    drawn: list[Panel] = [Bars("What is drawn, and what there is", "", names, series)]
    known = {one.dataset.name.removesuffix(ending): one.epochs for one in datasets if one.epochs}
    if known:
        marks = {1.0: "once", forecast.repeat_limit: f"{forecast.repeat_limit:g} times"}
        values = np.array(list(known.values()))
        drawn.append(Ranking("How often each row is drawn", "epochs", "datasets, ranked", list(known), values, marks))
    return drawn


def _ending(datasets: Sequence[DatasetForecast]) -> str:
    """What all names end in, from a dot on: of hundreds of files the table needs not repeat it."""
    backwards = [one.dataset.name[::-1] for one in datasets]
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(min(backwards), max(backwards), strict=False))
    common = "".join(character for character, _ in pairs)[::-1]
    ending = common[common.find(".") :] if "." in common else ""
    return ending if len(datasets) > 1 and len(ending) < min(map(len, backwards)) else ""


def _by_share(forecast: Forecast) -> list[DatasetForecast]:
    return sorted(forecast.datasets, key=lambda one: -one.share)


def _cells(datasets: Sequence[DatasetForecast]) -> tuple[str, ...]:
    """The numbers of a dataset, or of several together, as far as they are known."""
    known = [one for one in datasets if one.dataset.num_rows is not None]
    num_rows = sum(one.dataset.num_rows or 0 for one in known)
    epochs = _number(math.fsum(one.rows_drawn for one in known) / num_rows) if known else "?"
    return (
        _percent(math.fsum(one.share for one in datasets)),
        _number(math.fsum(one.batches for one in datasets)),
        _number(math.fsum(one.rows_drawn for one in datasets)),
        f"{num_rows:,}" if known else "?",
        epochs,
    )


def _remarks(forecast: Forecast) -> list[RenderableType]:
    datasets, remarks = forecast.datasets, _facts(forecast)
    if limited := [one for one in _unknown(datasets) if one.dataset.max_epochs is not None]:
        remarks.append(Text(f"rows unknown, so max_epochs was not applied: {_names(limited)}", style="yellow"))
    if small := [one for one in datasets if not one.fits]:
        span = "a batch" if forecast.steps_per_group == 1 else "a group of steps"
        remarks.append(Text(f"fewer rows than {span}, so training will refuse: {_names(small)}", style="red"))
    if forecast.ends_at is not None:
        remarks.append(Text(f"all run out after {_number(forecast.ends_at)} steps", style="red"))
    elif over := [one for one in datasets if one.runs_out_at is not None]:
        over.sort(key=lambda one: one.runs_out_at or 0)
        names = _names(over, lambda one: f"step {_number(one.runs_out_at or 0)}")
        remarks.append(Text(f"passed over once max_epochs are reached: {names}", style="dim"))
    if repeated := forecast.repeated:
        which = f"repeated more than {forecast.repeat_limit:g} times: {_count(repeated)}"
        share = _percent(math.fsum(one.share for one in repeated))
        names = _names(repeated, lambda one: _number(one.epochs or 0))
        remarks.append(Text(f"{which}, {share} of the batches: {names}", style="yellow"))
    if hardly := forecast.hardly_seen:
        which = f"hardly seen, less than a batch or {100 * HARDLY_SEEN:g} % of the rows: {_count(hardly)}"
        remarks.append(Text(f"{which}: {_names(hardly, _rarity)}", style="yellow"))
    return list(remarks)


def _facts(forecast: Forecast) -> list[Text]:
    weight = math.fsum(one.dataset.weight for one in forecast.datasets)
    weights = f"whose weights add up to {weight:,.0f}" if weight >= 1000 else f"whose weights add up to {weight:.6g}"
    lines = [f"{_count(forecast.datasets)}, {weights}; {forecast.steps:,} steps of {forecast.batch_size:,} pairs"]
    if (steps := forecast.steps_per_group) > 1:
        turns = forecast.datasets_per_group
        draws = "1 draw of a dataset" if turns == 1 else f"{turns} draws of a dataset, which take turns"
        lines.append(f"in groups of {steps} steps, in which no text comes twice; each from {draws}")
    if ending := _ending(forecast.datasets):
        lines.append(f"every name also ends in {one_line(ending)}")
    if unknown := _unknown(forecast.datasets):
        lines.append(f"the rows of {_count(unknown)} are unknown and left out of sums")
    return [Text(line, style="dim") for line in lines]


def _rarity(one: DatasetForecast) -> str:
    if one.epochs is None or one.batches < 1:
        return f"{_number(one.batches)} batches"
    return f"{_percent(one.epochs)} of its rows"


def _names(datasets: Sequence[DatasetForecast], note: Callable[[DatasetForecast], str] | None = None) -> str:
    """The first few names, each with a note in brackets."""
    names = [
        one_line(one.dataset.name, _NAME_CHARACTERS) + (f" ({note(one)})" if note else "") for one in datasets[:_NAMED]
    ]
    return ", ".join(names) + (f", … and {len(datasets) - _NAMED:,} more" if len(datasets) > _NAMED else "")


def _unknown(datasets: Sequence[DatasetForecast]) -> list[DatasetForecast]:
    return [one for one in datasets if one.dataset.num_rows is None]


def _rows(datasets: Sequence[DatasetForecast]) -> int | None:
    """Rows of those whose number is known; None if it is of none."""
    known = [one.dataset.num_rows for one in datasets if one.dataset.num_rows is not None]
    return sum(known) if known else None


def _count(datasets: Sequence[DatasetForecast]) -> str:
    return "1 dataset" if len(datasets) == 1 else f"{len(datasets):,} datasets"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _percent(share: float) -> str:
    return "< 0.01 %" if 0 < share < 0.00005 else f"{100 * share:.2f} %"
