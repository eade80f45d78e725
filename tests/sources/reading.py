"""Reads pairs through a view without preparing shards: every broken record is an error, joins are made in memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pairloom.errors import InputError, RecordError
from pairloom.recipe import SourcesSection
from pairloom.records import Pair
from pairloom.sources.formats import InputFile
from pairloom.sources.pieces import Task, line_number, open_piece, plan
from pairloom.sources.source import Intake, Keyed, Source


def read_view(
    source: Source, *inputs: Path | str, view: str | None = None, **settings: Any
) -> tuple[list[Pair], Counter[str]]:
    """The raw pairs of a view, and what it dropped."""
    default = getattr(SourcesSection(), source.name.replace("-", "_"))
    section = type(default)(**settings)
    chosen = source.view(view)
    intake = Intake()
    items: list[Pair | Keyed] = []
    for number, file in enumerate(source.find([str(name) for name in inputs], chosen.name, section)):
        for task in plan(number, file, lambda _: None):
            items += _read(task, file, chosen.read, section, intake)
    for join in chosen.joins:
        groups: dict[int, list[Keyed]] = defaultdict(list)
        for item in items:
            if isinstance(item, Keyed):
                groups[item.key].append(item)
        pairs = [item for item in items if isinstance(item, Pair)]
        items = [*pairs, *(item for key in sorted(groups) for item in join(groups[key], section, intake))]
    assert all(isinstance(item, Pair) for item in items)
    return [item for item in items if isinstance(item, Pair)], intake.dropped


def _read(task: Task, file: InputFile, read: Any, section: Any, intake: Intake) -> Iterable[Pair | Keyed]:
    def broken(number: int, fault: str) -> None:
        raise InputError(fault, file.path, line_number(task, file, number))

    items: list[Pair | Keyed] = []
    with open_piece(task, file, broken, lambda _: None) as piece:
        for number, record in file.format.read(piece):
            try:
                items += read(record, file, section, intake)
            except RecordError as error:
                broken(number, str(error))
    return items
