"""How metadata is stored for filtering: each value of each document is a row of a B-tree, sorted by field and value.

The functions here never begin, commit or roll back: they are part of whatever their caller does to its documents.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from pairloom.errors import UsageError
from pairloom.search.filters.values import Scalar, instant, place, scalar, shown, values_of

FacetKind = Literal["boolean", "number", "text", "digest", "instant"]

MAX_DEPTH = 16
"""So many objects and lists of metadata may lie in each other."""
MAX_VALUES = 10_000
"""So many values a document's metadata may have; what is null or empty counts, too."""
MAX_CHARACTERS = 1 << 20
"""So many characters its strings and names may have together."""
MAX_FIELD_CHARACTERS = 1_000
"""So many characters the names that lead to a value may have, joined by dots."""

CODES: Mapping[FacetKind, int] = {"boolean": 0, "number": 1, "text": 2, "digest": 3, "instant": 4}
"""Kinds as the table has them; an instant stands beside its text, and is the last."""

_DIRECT_CHARACTERS = 256
_CREATE_FIELDS = "CREATE TABLE facet_fields(field INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)"
# No type for value: it would convert numbers. Of booleans, numbers, texts and blobs each keeps its own.
_CREATE_FACETS = (
    "CREATE TABLE facets(field INTEGER NOT NULL, kind INTEGER NOT NULL, value NOT NULL, row INTEGER NOT NULL, "
    "PRIMARY KEY(field, kind, value, row)) WITHOUT ROWID"
)
_DROP = ("DROP TABLE IF EXISTS facets", "DROP TABLE IF EXISTS facet_fields")
_INSERT = "INSERT INTO facets(field, kind, value, row) VALUES (?, ?, ?, ?)"
_DELETE = "DELETE FROM facets WHERE field = ? AND kind = ? AND value = ? AND row = ?"
_INSERT_FIELD = "INSERT INTO facet_fields(name) VALUES (?)"
_FIELD = "SELECT field FROM facet_fields WHERE name = ?"
_FIELDS_BENEATH = "SELECT field FROM facet_fields WHERE name = ? OR (name >= ? AND name < ?)"


class Facet(NamedTuple):
    """A value by which a document is found.

    Args:
        field: The names that lead to it, joined by dots.
        kind: What it is; of a long string its digest, and a string that is a date is an instant, too.
        value: As SQLite has it: booleans are 0 and 1, instants microseconds since 1970.
    """

    field: str
    kind: FacetKind
    value: int | float | str | bytes


def facets(metadata: Mapping[str, Any]) -> Iterator[Facet]:
    """The facets of metadata that `check_metadata` lets through, each once."""
    seen: set[Facet] = set()
    for field, value in values_of(metadata):
        facet = facet_of(field, scalar(value))
        if facet in seen:
            continue
        seen.add(facet)
        yield facet
        if isinstance(value, str) and (when := instant(value)) is not None:
            dated = Facet(field, "instant", when)
            if dated not in seen:
                seen.add(dated)
                yield dated


def facet_of(field: str, value: Scalar) -> Facet:
    """As which facet a value of a field is found."""
    held = value.value
    if isinstance(held, str):
        if len(held) > _DIRECT_CHARACTERS:
            return Facet(field, "digest", hashlib.sha256(held.encode()).digest())
        return Facet(field, "text", held)
    if isinstance(held, bool):
        return Facet(field, "boolean", int(held))
    return Facet(field, "number", held)


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Checks that metadata is what JSON can hold, and not too much of it.

    Raises:
        UsageError: It is not; the sentence says where.
    """
    if not isinstance(metadata, Mapping):
        raise UsageError(f"metadata is {shown(metadata)}; it must be an object")
    num_characters = 0
    for num_values, characters in enumerate(_check(dict(metadata), (), 0)):  # the first is the whole
        num_characters += characters
        if num_values > MAX_VALUES:
            raise UsageError(f"metadata has more than {MAX_VALUES:,} values")
        if num_characters > MAX_CHARACTERS:
            raise UsageError(f"metadata has more than {MAX_CHARACTERS:,} characters")


def create_facets(connection: sqlite3.Connection) -> None:
    """Makes the tables."""
    for statement in (_CREATE_FIELDS, _CREATE_FACETS):
        connection.execute(statement)


def drop_facets(connection: sqlite3.Connection) -> None:
    """Drops the tables, if they are there."""
    for statement in _DROP:
        connection.execute(statement)


def insert_facets(connection: sqlite3.Connection, documents: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
    """Makes documents be found by their metadata.

    Args:
        connection: To the database.
        documents: The row and the metadata of each, a block at a time; `check_metadata` lets them through.
    """
    found = [(facet, row) for row, metadata in documents for facet in facets(metadata)]
    fields = {name: _new_field(connection, name) for name in dict.fromkeys(facet.field for facet, _ in found)}
    # In the order of the B-tree, whose pages are then each visited once.
    connection.executemany(
        _INSERT, sorted((fields[name], CODES[kind], value, row) for (name, kind, value), row in found)
    )


def delete_facets(connection: sqlite3.Connection, documents: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
    """Takes back what `insert_facets` did, given the same rows and metadata."""
    found = [(facet, row) for row, metadata in documents for facet in facets(metadata)]
    numbers = {name: field_number(connection, name) for name in {facet.field for facet, _ in found}}
    fields = {name: number for name, number in numbers.items() if number is not None}
    connection.executemany(
        _DELETE,
        sorted((fields[name], CODES[kind], value, row) for (name, kind, value), row in found if name in fields),
    )


def field_number(connection: sqlite3.Connection, name: str) -> int | None:
    """The number of a field; None if no document ever had it."""
    found = connection.execute(_FIELD, (name,)).fetchone()
    return None if found is None else int(found[0])


def fields_beneath(connection: sqlite3.Connection, name: str) -> list[int]:
    """The numbers of a field and of all fields inside it."""
    # The slash is the character after the dot.
    return [number for (number,) in connection.execute(_FIELDS_BENEATH, (name, f"{name}.", f"{name}/"))]


def _new_field(connection: sqlite3.Connection, name: str) -> int:
    known = field_number(connection, name)
    if known is not None:
        return known
    made = connection.execute(_INSERT_FIELD, (name,)).lastrowid
    assert made is not None
    return made


def _check(value: Any, steps: tuple[str | int, ...], num_characters: int) -> Iterator[int]:
    """Yields the characters of each value here and beneath, together with those of the names that lead to it."""
    if isinstance(value, dict | list | tuple) and len(steps) >= MAX_DEPTH:
        raise _fault(steps, f"is nested too deep; at most {MAX_DEPTH} objects and lists may lie in each other")
    match value:
        case dict():
            yield num_characters
            for name, inner in value.items():
                length = num_characters + len(_checked_name(name, num_characters, steps))
                yield from _check(inner, (*steps, name), length + 1)
        case list() | tuple():
            yield num_characters
            for number, inner in enumerate(value):
                yield from _check(inner, (*steps, number), num_characters)
        case None:
            yield num_characters
        case _:
            try:
                held = scalar(value).value
            except ValueError as error:
                raise _fault(steps, str(error)) from None
            yield num_characters + (len(held) if isinstance(held, str) else 0)


def _checked_name(name: object, num_characters: int, steps: tuple[str | int, ...]) -> str:
    if not isinstance(name, str):
        raise _fault(steps, f"has the name {shown(name)}; names are strings")
    if num_characters + len(name) > MAX_FIELD_CHARACTERS:
        raise _fault(
            steps,
            f"has a name too long; the names that lead to a value have at most {MAX_FIELD_CHARACTERS:,} characters",
        )
    try:
        scalar(name)
    except ValueError as error:
        raise _fault(steps, f"has the name {shown(name)}, which {error}") from None
    return name


def _fault(steps: tuple[str | int, ...], message: str) -> UsageError:
    return UsageError(f"{place('metadata', steps)} {message}")
