"""``pairloom prepare --list``: the sources and their views."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pairloom.cli.output import print_json
from pairloom.sources import SOURCES


def list_sources(as_json: bool) -> None:
    """Prints what can be prepared, for a person or for a program."""
    if as_json:
        print_json(
            [
                {
                    "source": source.name,
                    "description": source.description,
                    "input": source.inputs,
                    "licence": source.licence,
                    "citation": source.citation,
                    "views": {
                        view.name: {"description": view.description, "num_published": view.num_published}
                        for view in source.views
                    },
                }
                for source in SOURCES.values()
            ]
        )
        return
    out = Console(markup=False, highlight=False)
    for source in SOURCES.values():
        out.print(Text.assemble((source.name, "bold"), f": {source.description}"))
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(justify="right", no_wrap=True)
        grid.add_column()
        for view in source.views:
            grid.add_row(f"  {view.name}", f"{view.num_published:,}" if view.num_published else "", view.description)
        out.print(grid)
        out.print(f"  INPUT: {source.inputs}. Licence: {source.licence}", style="dim", soft_wrap=True)
    out.print("Numbers are the pairs that the cards of the published models count.", soft_wrap=True)
