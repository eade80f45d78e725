"""What commands print: facts for a person on stderr, for a program on stdout, and what went wrong."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import typer
from rich.console import Console

from pairloom.terminal import short

# Texts and paths may hold square brackets: nothing that is printed is markup.
console = Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)

_SHOWN_CHARACTERS = 160


class ConsoleHandler(logging.Handler):
    """Notes go where progress goes, so that neither tears the other."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        console.print(prefix + record.getMessage())


def report(facts: dict[str, Any], as_json: bool, headline: str) -> None:
    if as_json:
        print_json(facts)
        return
    console.print(headline, style="bold")
    for name, value in facts.items():
        shown = short(value)
        if len(shown) > _SHOWN_CHARACTERS:
            shown = shown[:_SHOWN_CHARACTERS] + " … (--json shows all)"
        console.print(f"  {name.replace('_', ' ')}: {shown}")


def print_json(facts: Any) -> None:
    typer.echo(json.dumps(facts, indent=2, default=str))


def fail(message: str, exit_code: int) -> None:
    console.print(f"pairloom: {message}", style="red")
    sys.exit(exit_code)
