"""Which field of a record, or column of a table, holds the text, which its id, and which are wanted besides.

The rules are the same for all formats.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pairloom.errors import InputError, RecordError
from pairloom.files import Errors

ID_FIELDS = ("_id", "id")
"""Where a text's id is looked for, if nothing else is said."""

METADATA_FIELD = "metadata"
"""A field that may hold others, as in BEIR's corpora."""

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
        rest: Which other fields or columns are wanted, None for all others. A name that is none is looked for in
            `METADATA_FIELD`, and dots in it lead inwards.
    """

    field: str | None = None
    id_field: str | None = None
    errors: Errors = "strict"
    rest: tuple[str, ...] | None = ()


class Record(NamedTuple):
    """A text as it stands in a file.

    Args:
        number: Of its line, from 1, or of its row, from 0.
        id: Its id; None if it has none but its number.
        text: The text.
        rest: What is wanted besides. Of lines of JSON it may be more.
    """

    number: int
    id: str | None
    text: str
    rest: Mapping[str, Any]


NOTHING: Mapping[str, Any] = {}
"""The rest of a record that has none."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table that are read.

    Args:
        text: That of the text.
        title: That of what is put before it.
        id: That of the id; None for the number of the line or row.
        rest: What is wanted besides.
    """

    text: str
    title: str | None
    id: str | None
    rest: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Each of them once."""
        return list(dict.fromkeys(name for name in (self.id, self.title, self.text, *self.rest) if name is not None))


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
    if wanted.rest is None:
        rest = tuple(name for name in names if name and name not in (text, title, found))
    else:
        rest = tuple(dict.fromkeys(_column_with(name, names) for name in wanted.rest))
    columns = Columns(text, title, found, rest)
    for name in columns.names:
        if names.count(name) == 1:
            continue
        if name in names:
            raise InputError(f"has two columns {name!r}; rename one", path, line)
        option = "--id-field" if name == columns.id else "--metadata" if name in columns.rest else "--field"
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
    if text.isascii():
        return text
    try:
        return whole_characters(text, errors)
    except RecordError as fault:
        raise InputError(str(fault), path, line) from None


def whole_characters(text: str, errors: Errors) -> str:
    """Like `well_formed`; raises `RecordError`."""
    if text.isascii() or not (half := _LONE_SURROGATE.search(text)):
        return text
    if errors == "replace":
        return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
    raise RecordError(f"holds \\u{ord(half[0]):04x}, which is half of a character (a lone surrogate){ERRORS_ADVICE}")


def _column_with(name: str, names: Sequence[str]) -> str:
    """The column in which a field is found: its own, that of its first part, or that which holds others."""
    return next((one for one in (name, name.partition(".")[0], METADATA_FIELD) if one in names), name)


def _shortened(name: str) -> str:
    """A file without a header has texts where names should be."""
    name = " ".join(name.split())
    return name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}…"
