"""What commands print: facts for a person on stderr, for a program on stdout, and what went wrong."""

from __future__ import annotations

import json
import logging
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from pairloom.terminal import short

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_SHOWN_CHARACTERS = 160


@cache
def _console() -> Console:
    from rich.console import Console  # only here, as who encodes a sentence prints nothing else

    # Texts and paths may hold square brackets: nothing that is printed is markup.
    return Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)


def say(line: str, *, style: str | None = None) -> None:
    """Prints a line for a person, on stderr."""
    _console().print(line, style=style)


def show(drawn: RenderableType, *, stderr: bool = False) -> None:
    """Prints a table or the like: as a result on stdout, or on stderr."""
    from rich.console import Console

    Console(stderr=stderr).print(drawn)


class ConsoleHandler(logging.Handler):
    """Notes go where progress goes, so that neither tears the other."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        say(prefix + record.getMessage())


def report(facts: dict[str, Any], as_json: bool, headline: str) -> None:
    """Prints what a stage found, for a person or for a program."""
    if as_json:
        print_json(facts)
        return
    say(headline, style="bold")
    for name, value in facts.items():
        shown = short(value)
        if len(shown) > _SHOWN_CHARACTERS:
            shown = shown[:_SHOWN_CHARACTERS] + " … (--json shows all)"
        say(f"  {name.replace('_', ' ')}: {shown}")


def print_json(facts: Any) -> None:
    """Prints facts for a program, on stdout."""
    sys.stdout.write(json.dumps(facts, indent=2, default=str) + "\n")


def fail(message: str, exit_code: int) -> None:
    """Ends the process with a sentence about what went wrong."""
    say(f"pairloom: {message}", style="red")
    sys.exit(exit_code)
