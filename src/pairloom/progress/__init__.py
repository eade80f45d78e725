"""Progress of long work, on stderr: how far, how fast, how long still.

On a terminal a live bar; elsewhere (a log file, CI) a plain line now and then. What draws is imported when there is something
to draw.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN_LINE_EVERY_S = 20.0


class Meter:
    """What the working code talks to. A quiet one swallows everything."""

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Reports ``amount`` more done; ``note`` replaces what stands behind the bar."""


class _Lines(Meter):
    def __init__(self, console: Console, description: str, total: float | None, unit: str) -> None:
        self._console, self._description, self._total, self._unit = console, description, total, unit
        self._done, self._start = 0.0, time.monotonic()
        self._next = self._start + _PLAIN_LINE_EVERY_S

    def advance(self, amount: float = 1, note: str = "") -> None:
        self._done += amount
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _PLAIN_LINE_EVERY_S
        speed = self._done / (now - self._start)
        line = f"{self._description}: {_amount(self._done, self._unit)}"
        if self._total:
            left = (self._total - self._done) / speed if speed else 0.0
            line += f" of {_amount(self._total, self._unit)}, {rate_text(speed, self._unit)}/s, {left:,.0f} s left"
        else:
            line += f", {rate_text(speed, self._unit)}/s"
        self._console.print(f"{line} {note}".rstrip(), highlight=False, markup=False, soft_wrap=True)


@contextmanager
def meter(description: str, *, total: float | None = None, unit: str = "", show: bool = True) -> Iterator[Meter]:
    """Shows progress while the block runs.

    Args:
        description: What is being done.
        total: How much there is to do, if known.
        unit: What is counted: ``texts``, ``steps``, ``bytes``.
        show: Whether to show anything at all.
    """
    if not show:
        yield Meter()
        return
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console, description, total, unit)
        return
    from pairloom.progress.bar import bar

    with bar(console, description, total, unit) as progress:
        yield progress


def rate_text(value: float, unit: str) -> str:
    """So many of a unit, with as many digits as mean something."""
    if unit == "bytes":
        return f"{value / 1e6:,.1f} MB"
    return f"{value:,.0f} {unit}" if value >= 10 else f"{value:.2g} {unit}"


def _amount(value: float, unit: str) -> str:
    return f"{value / 1e6:,.0f} MB" if unit == "bytes" else f"{value:,.0f} {unit}"
