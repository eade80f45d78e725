"""A shards folder for a person: tables for a terminal, and the panels of a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pairloom.pairs.statistics import PERCENTILES, Lengths, Statistics
from pairloom.plot import Distributions
from pairloom.terminal import one_line, short

_SHOWN_CHARACTERS = 300
_SHOWN_FILES = 10
_SHOWN_PLACES = 10


def render(facts: Mapping[str, Any], statistics: Statistics) -> Group:
    """Facts, drops, origins, lengths and random rows, for ``Console.print``.

    Args:
        facts: Of the manifest, and what else is known of the folder. What has no table of its own is one line each.
        statistics: What `describe` found.
    """
    tables = {"dropped": _drops(facts, statistics), "origins": _origins(facts), "broken": _broken(facts)}
    shown = {name: table for name, table in tables.items() if table is not None}
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column(overflow="fold")
    for name, value in facts.items():
        if name not in shown and value is not None:
            lines.add_row(*_words(name, value))
    return Group(lines, *shown.values(), _lengths(statistics), _remark(statistics), _samples(statistics))


def panels(statistics: Statistics) -> list[Distributions]:
    """The distributions of lengths as panels of a picture: characters, and tokens where they are known."""

    def series(columns: Mapping[str, Lengths]) -> dict[str, Any]:
        return {column: (lengths.values, lengths.counts) for column, lengths in columns.items()}

    drawn = [Distributions("Length in characters", "characters", series(statistics.characters))]
    if statistics.tokens is not None:
        tokens = statistics.tokens
        label = f"tokens of {one_line(tokens.model, 40)}, {_which_rows(statistics)}"
        drawn.append(Distributions("Length in tokens", label, series(tokens.columns), marks=tokens.limits))
    return drawn


def _words(name: str, value: Any) -> tuple[Text, Text]:
    if isinstance(value, dict):
        value = {inner.removeprefix("num_"): content for inner, content in value.items()}
    return Text(one_line(name.replace("_", " "))), Text(one_line(short(value), _SHOWN_CHARACTERS))


def _table(title: str, *headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column(title, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _below(content: RenderableType) -> Padding:
    return Padding(content, (1, 0, 0, 0))


def _drops(facts: Mapping[str, Any], statistics: Statistics) -> RenderableType | None:
    dropped = facts.get("dropped")
    if not isinstance(dropped, dict) or not dropped or not all(isinstance(count, int) for count in dropped.values()):
        return None
    num_records = facts.get("num_records")
    if not isinstance(num_records, int) or num_records < 1:
        num_records = statistics.num_rows + sum(dropped.values())
    table = _table("dropped", "records", "share")
    for reason, count in sorted(dropped.items(), key=lambda item: -item[1]):
        table.add_row(Text(one_line(reason)), f"{count:,}", _percent(count / num_records))
    num_dropped = sum(dropped.values())
    table.add_row(Text("in all", style="bold"), f"{num_dropped:,}", _percent(num_dropped / num_records))
    return _below(table)


def _origins(facts: Mapping[str, Any]) -> RenderableType | None:
    origins = facts.get("origins")
    if not isinstance(origins, list) or not origins or not all(_is_file(origin) for origin in origins):
        return None
    table = _table("made from", "bytes")
    for origin in origins[:_SHOWN_FILES]:
        table.add_row(Text(one_line(origin["name"])), f"{origin['bytes']:,}")
    if len(origins) > _SHOWN_FILES:
        rest = origins[_SHOWN_FILES:]
        more = Text(f"… and {len(rest):,} more (--json shows all)", style="dim")
        table.add_row(more, f"{sum(origin['bytes'] for origin in rest):,}")
    return _below(table)


def _is_file(origin: Any) -> bool:
    return isinstance(origin, dict) and isinstance(origin.get("name"), str) and isinstance(origin.get("bytes"), int)


def _broken(facts: Mapping[str, Any]) -> RenderableType | None:
    broken = facts.get("broken")
    if not isinstance(broken, dict) or not isinstance(broken.get("count"), int):
        return None
    lines = [Text(f"broken records: {broken['count']:,}", style="yellow" if broken["count"] else "")]
    places = broken.get("places")
    if isinstance(places, list):
        lines += [Text("  " + one_line(str(place), _SHOWN_CHARACTERS)) for place in places[:_SHOWN_PLACES]]
        if len(places) > _SHOWN_PLACES:
            lines.append(Text(f"  … and {len(places) - _SHOWN_PLACES:,} more (--json shows all)", style="dim"))
    return _below(Group(*lines))


def _lengths(statistics: Statistics) -> RenderableType:
    columns = [(f"{column}\ncharacters", lengths) for column, lengths in statistics.characters.items()]
    tokens = statistics.tokens
    if tokens is not None:
        columns += [(f"{column}\ntokens", lengths) for column, lengths in tokens.columns.items()]
    table = _table("length", *(heading for heading, _ in columns))
    facts = [lengths.to_json() for _, lengths in columns]
    labels = {"min": "min", **{f"p{percent}": f"{percent} %" for percent in PERCENTILES}, "p50": "median", "max": "max"}
    for name, label in labels.items():
        table.add_row(label, *(f"{fact[name]:,}" for fact in facts))
    table.add_row("mean", *(f"{fact['mean']:,.1f}" for fact in facts))
    if tokens is not None:
        empty = [""] * len(statistics.characters)
        for limit in tokens.limits:
            shares = (_percent(lengths.share_above(limit)) for lengths in tokens.columns.values())
            table.add_row(f"over {limit:,}", *empty, *shares)
    return _below(table)


def _remark(statistics: Statistics) -> RenderableType:
    tokens = statistics.tokens
    if tokens is None:
        return Text("no lengths in tokens: name the model whose tokens are to be counted with --model", style="dim")
    return Text(
        f"tokens of {one_line(tokens.model, _SHOWN_CHARACTERS)} in {_which_rows(statistics)}, special ones included, "
        f"nothing cut; the model itself cuts at {tokens.max_tokens:,}",
        style="dim",
    )


def _which_rows(statistics: Statistics) -> str:
    assert statistics.tokens is not None
    num_rows = statistics.tokens.num_rows
    return "all rows" if num_rows == statistics.num_rows else f"{num_rows:,} rows drawn by chance"


def _samples(statistics: Statistics) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for sample in statistics.samples:
        grid.add_row(Text(f"row {sample['row']:,}", style="bold not dim"), "")
        for column in statistics.characters:
            grid.add_row(column, Text(one_line(sample[column], _SHOWN_CHARACTERS)))
    title = Text(f"{len(statistics.samples):,} rows drawn by chance (seed {statistics.seed})", style="bold")
    return _below(Group(title, grid))


def _percent(share: float) -> str:
    return "< 0.1 %" if 0 < share < 0.001 else f"{100 * share:.1f} %"
