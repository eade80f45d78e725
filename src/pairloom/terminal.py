"""What data holds, made fit to be shown to a person: no control characters, and no more than can be taken in."""

from __future__ import annotations

import re
from typing import Any

_SHOWN_ITEMS = 4
# A text may hold what a terminal would obey. Tabs and line ends are kept.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """The text without control characters and halves of surrogate pairs; tabs and line ends are kept."""
    return _CONTROL.sub(" ", text.encode("utf-8", "replace").decode())


def one_line(text: str, max_characters: int | None = None) -> str:
    """The text in one line, white space folded, and cut with a mark if it is longer."""
    line = " ".join(printable(text).split())
    return line if max_characters is None or len(line) <= max_characters else line[:max_characters].rstrip() + " …"


def short(value: Any) -> str:
    """A JSON value as words: whole numbers with separators, the first few items of a list, nested names after each other."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {short(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, list):
        more = f"; … ({len(value)})" if len(value) > _SHOWN_ITEMS else ""
        return "; ".join(short(inner) for inner in value[:_SHOWN_ITEMS]) + more
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
