"""What stands in the fields of metadata, and how often: from this people choose what to filter by."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping

from pairloom.search.filters.facets import CODES, FacetKind, field_number
from pairloom.search.protocol import FieldType, FieldValues

_FIELDS = "SELECT field, name FROM facet_fields ORDER BY field"
_KINDS = "SELECT kind, count(*) FROM facets WHERE field = ? GROUP BY kind"
_VALUES = """
SELECT value, count(*) AS number FROM facets WHERE field = ? AND kind = ? GROUP BY value ORDER BY number DESC, value LIMIT ?
"""
# A date is shown as it was written.
_SHOWN: Mapping[FieldType, FacetKind] = {
    "keyword": "text",
    "number": "number",
    "boolean": "boolean",
    "datetime": "text",
}


def frequent_values(
    connection: sqlite3.Connection, declared: Mapping[str, FieldType] | None, max_fields: int, max_values: int
) -> list[FieldValues]:
    """The fields in which something stands that can be shown, and the most frequent values of each.

    Every value of these fields is counted, so it takes the longer the more documents there are.

    Args:
        connection: To the database, in a transaction.
        declared: The fields that may be filtered by, if not all may.
        max_fields: So many fields: of the declared ones the first, or else those that were seen first.
        max_values: So many values of each.
    """
    found: list[FieldValues] = []
    for number, name, type_ in _fields(connection, declared):
        if len(found) == max_fields:
            break
        counts: dict[int, int] = dict(connection.execute(_KINDS, (number,)))
        if not counts:  # the documents that had it are gone
            continue
        held = type_ or _most(counts)
        values = connection.execute(_VALUES, (number, CODES[_SHOWN[held]], max_values)).fetchall()
        if held == "boolean":
            values = [(bool(value), count) for value, count in values]
        if values:  # and not long strings only
            found.append(FieldValues(name, held, tuple(values)))
    return found


def _fields(
    connection: sqlite3.Connection, declared: Mapping[str, FieldType] | None
) -> Iterator[tuple[int, str, FieldType | None]]:
    if declared is None:
        yield from ((number, name, None) for number, name in connection.execute(_FIELDS).fetchall())
        return
    for name, type_ in declared.items():
        if (number := field_number(connection, name)) is not None:
            yield number, name, type_


def _most(counts: Mapping[int, int]) -> FieldType:
    """What most values of a field are. Strings are dates if all of them are."""
    strings = counts.get(CODES["text"], 0) + counts.get(CODES["digest"], 0)
    types: dict[FieldType, int] = {
        "keyword": strings,
        "number": counts.get(CODES["number"], 0),
        "boolean": counts.get(CODES["boolean"], 0),
    }
    most = max(types, key=types.__getitem__)
    return "datetime" if most == "keyword" and counts.get(CODES["instant"], 0) == strings else most
