"""Names of files, datasets and tasks, made safe where a model card has them: they may hold anything."""

from __future__ import annotations

import json
import re

from pairloom.terminal import one_line, printable

# What Markdown, GitHub's and the hub's, could take for mark-up in the middle of a line.
_MARKUP = re.compile(r"([\\`*_\[\]<>|~&$#])")
_NAME_CHARACTERS = 120


def plain(text: str) -> str:
    """A text that Markdown shows as it is, in one line; also in a table."""
    return _MARKUP.sub(r"\\\1", one_line(text, _NAME_CHARACTERS))


def code(text: str, *, in_table: bool = False) -> str:
    """A text in the type of code, in one line."""
    line = one_line(text, _NAME_CHARACTERS)
    fence = "`"
    while fence in line:
        fence += "`"
    padded = f" {line} " if line.startswith("`") or line.endswith("`") or not line else line
    # Inside a table a bar ends the cell, even in code.
    return f"{fence}{padded.replace('|', chr(92) + '|') if in_table else padded}{fence}"


def fenced(content: str, language: str) -> str:
    """Lines of code that nothing in them can end."""
    fence = "```"
    while fence in content:
        fence += "`"
    return f"{fence}{language}\n{printable(content).rstrip()}\n{fence}"


def quoted(text: str) -> str:
    """A text as a Python literal: in one line, and in ASCII if it holds what cannot be seen."""
    # JSON's strings are Python's, as long as no character is written as two halves.
    return json.dumps(text, ensure_ascii=False) if text.isprintable() else ascii(text)


def table(headings: list[str], rows: list[list[str]]) -> str:
    """A table; headings that begin with ``>`` stand over numbers. Cells must be safe already."""
    rule = ["---:" if heading.startswith(">") else "---" for heading in headings]
    lines = [[heading.removeprefix(">") for heading in headings], rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def slug(text: str) -> str:
    """A name in small letters, digits and underscores, as identifiers of metrics are."""
    return re.sub(r"[^a-z0-9.-]+", "_", text.lower()).strip("_") or "unknown"
