"""Which field of a record, or column of a table, holds the text and which its id; the same rules for all formats."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pairloom.errors import InputError
from pairloom.files import Errors

ID_FIELDS = ("_id", "id")
"""Where a text's id is looked for, if nothing else is said."""

ERRORS_ADVICE = "; --errors replace reads it as \N{REPLACEMENT CHARACTER}"

# JSON can name half of a character ("\ud800"), which no encoding can write and no tokenizer can read.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_SHOWN_COLUMNS, _SHOWN_CHARACTERS = 12, 40


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a record or row.

    Args:
        field: What holds the text; None for ``text``, with ``title`` before it.
        id_field: What holds the id; None for `ID_FIELDS`, or else the number of the line or row.
        errors: What becomes of text that is no Unicode.
    """

    field: str | None = None
    id_field: str | None = None
    errors: Errors = "strict"


@dataclass(frozen=True)
class Columns:
    """The columns of a table that are read.

    Args:
        text: That of the text.
        title: That of what is put before it.
        id: That of the id; None for the number of the line or row.
    """

    text: str
    title: str | None
    id: str | None

    @property
    def names(self) -> list[str]:
        """Each of them once."""
        return list(dict.fromkeys(name for name in (self.id, self.title, self.text) if name is not None))


def choose_columns(names: Sequence[str], wanted: Wanted, path: Path | str, line: int | None = None) -> Columns:
    """Finds what is wanted among the columns of a table.

    Args:
        names: Of all columns.
        wanted: What is wanted.
        path: Of the table, for messages.
        line: Where its header stands, for messages.

    Raises:
        InputError: A column is not there, or there are two of its name.
    """
    text = wanted.field or "text"
    title = "title" if wanted.field is None and "title" in names else None
    found = wanted.id_field or next((name for name in ID_FIELDS if name in names), None)
    columns = Columns(text, title, found)
    for name in columns.names:
        if names.count(name) == 1:
            continue
        if name in names:
            raise InputError(f"has two columns {name!r}; rename one", path, line)
        option = "--id-field" if name == columns.id else "--field"
        shown = ", ".join(_shortened(one) for one in names[:_SHOWN_COLUMNS]) + (", …" if names[_SHOWN_COLUMNS:] else "")
        raise InputError(f"has no column {name!r}; it has {shown}; name another one with {option}", path, line)
    return columns


def joined(title: str | None, text: str) -> str:
    """A title, a space and a text, as in BEIR's corpora."""
    return f"{title or ''} {text}".strip()


def well_formed(text: str, errors: Errors, path: Path | str, line: int) -> str:
    """The text as it is, or with U+FFFD for halves of characters that JSON can name and nothing can write.

    Raises:
        InputError: It has such halves, and ``errors`` is strict.
    """
    if text.isascii() or not (half := _LONE_SURROGATE.search(text)):
        return text
    if errors == "replace":
        return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
    fault = f"holds \\u{ord(half[0]):04x}, which is half of a character (a lone surrogate)"
    raise InputError(fault + ERRORS_ADVICE, path, line)


def _shortened(name: str) -> str:
    """A file without a header has texts where names should be."""
    name = " ".join(name.split())
    return name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}…"
