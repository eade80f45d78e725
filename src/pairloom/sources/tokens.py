"""Tokens of a treebank tokenizer, put together into text again."""

from __future__ import annotations

import re
from collections.abc import Iterable

_CLOSING = r"[,.;:?!%)\]}]|''|'|'(?:s|S|re|ve|ll|d|m)|n't"
_BEFORE_CLOSING = re.compile(rf" (?=(?:{_CLOSING})(?: |$))")
_AFTER_OPENING = re.compile(r"(?<![^ ])([(\[{$£€]|``) ")
_QUOTES = re.compile(r"``|''")


def untokenize(tokens: Iterable[str]) -> str:
    """Joins tokens with the spaces that a text would have: ``( 1984 ) , he 's`` becomes ``(1984), he's``.

    Opening and closing quotation marks, which a treebank writes in pairs, become plain ones. What stands between two
    tokens in other places, such as a hyphen with spaces around it, cannot be known and stays.
    """
    text = _AFTER_OPENING.sub(r"\1", _BEFORE_CLOSING.sub("", " ".join(tokens)))
    return _QUOTES.sub('"', text)
