"""Hits for a person at a terminal: score, name, metadata, and the text with the query's words marked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from pairloom.records import Hit
from pairloom.terminal import one_line, printable

_SHOWN_CHARACTERS = 400
_SHOWN_METADATA = 160
# Words of up to this many letters (the, how, ist, …) are in every text; marking them shows nothing.
_SHORT_WORD = 3
_MARKED = "bold yellow"


def render_hits(query: str, hits: Sequence[Hit]) -> Group:
    """A block a hit; texts are wrapped, cut after 400 characters around the first marked word.

    What a hit says to be highlighted is marked; of one that says nothing, the query's longer words.
    """
    blocks: list[RenderableType] = []
    for number, hit in enumerate(hits, start=1):
        blocks.append(
            Text.assemble((f"{number:>2}. ", "bold"), (f"{hit.score:.3f}", "green"), "  ", (printable(hit.id), "dim"))
        )
        if hit.metadata:
            blocks.append(Padding(Text(_metadata(hit.metadata), "dim"), (0, 0, 0, 4)))
        text = _mark_places(hit.text, hit.highlights) if hit.highlights else mark(query, hit.text)
        blocks.append(Padding(text, (0, 0, 1, 4)))
    return Group(*blocks)


def mark(query: str, text: str) -> Text:
    """The text with the query's longer words marked, and its middle shown if it is long."""
    words = {re.escape(word) for word in re.findall(r"\w+", query) if len(word) > _SHORT_WORD}
    pattern = (
        re.compile(rf"\b(?:{'|'.join(sorted(words, key=len, reverse=True))})\w*", re.IGNORECASE) if words else None
    )
    text = printable(text)
    found = pattern.search(text) if pattern is not None else None
    shown = _excerpt(Text(text), found.start() if found else None)
    if pattern is not None:
        shown.highlight_regex(pattern, _MARKED)
    return shown


def _mark_places(text: str, places: Sequence[tuple[int, int]]) -> Text:
    """The text with these places marked, and its middle shown if it is long."""
    shown = Text(printable(text))  # has as many characters as the text
    for begin, end in places:
        shown.stylize(_MARKED, begin, end)
    return _excerpt(shown, places[0][0])


def _excerpt(text: Text, place: int | None) -> Text:
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    begin = 0 if place is None else min(max(0, place - _SHOWN_CHARACTERS // 4), len(text) - _SHOWN_CHARACTERS)
    end = begin + _SHOWN_CHARACTERS
    begin = end - len(text.plain[begin:end].lstrip())
    excerpt = text[begin:end]
    excerpt.rstrip()
    return Text("… " if begin else "") + excerpt + Text(" …" if end < len(text) else "")


def _metadata(metadata: Mapping[str, Any]) -> str:
    return one_line(" · ".join(f"{name}: {_words(value)}" for name, value in metadata.items()), _SHOWN_METADATA)


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
