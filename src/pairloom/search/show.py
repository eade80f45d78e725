"""Hits for a person at a terminal: score, name, and the text with the query's words marked."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from pairloom.records import Hit
from pairloom.terminal import printable

_SHOWN_CHARACTERS = 400
# Words of up to this many letters (the, how, ist, …) are in every text; marking them shows nothing.
_SHORT_WORD = 3


def render_hits(query: str, hits: Sequence[Hit]) -> Group:
    """A block a hit; texts are wrapped, cut after 400 characters around the first marked word."""
    blocks: list[RenderableType] = []
    for number, hit in enumerate(hits, start=1):
        blocks.append(
            Text.assemble((f"{number:>2}. ", "bold"), (f"{hit.score:.3f}", "green"), "  ", (printable(hit.id), "dim"))
        )
        blocks.append(Padding(mark(query, hit.text), (0, 0, 1, 4)))
    return Group(*blocks)


def mark(query: str, text: str) -> Text:
    """The text with the query's longer words marked, and its middle shown if it is long."""
    words = {re.escape(word) for word in re.findall(r"\w+", query) if len(word) > _SHORT_WORD}
    pattern = (
        re.compile(rf"\b(?:{'|'.join(sorted(words, key=len, reverse=True))})\w*", re.IGNORECASE) if words else None
    )
    shown = Text(_excerpt(printable(text), pattern))
    if pattern is not None:
        shown.highlight_regex(pattern, "bold yellow")
    return shown


def _excerpt(text: str, pattern: re.Pattern[str] | None) -> str:
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    found = pattern.search(text) if pattern is not None else None
    begin = 0 if found is None else min(max(0, found.start() - _SHOWN_CHARACTERS // 4), len(text) - _SHOWN_CHARACTERS)
    end = begin + _SHOWN_CHARACTERS
    return ("… " if begin else "") + text[begin:end].strip() + (" …" if end < len(text) else "")
