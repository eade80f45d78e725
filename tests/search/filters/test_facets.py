"""How metadata is stored for filtering, and what metadata may be."""

from __future__ import annotations

import datetime
import hashlib
import math
import sqlite3
import types
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.errors import UsageError
from pairloom.search.filters.facets import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_FIELD_CHARACTERS,
    MAX_VALUES,
    Facet,
    check_metadata,
    create_facets,
    delete_facets,
    drop_facets,
    facets,
    insert_facets,
)
from tests.search import drawn_filters


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    create_facets(connection)
    yield connection
    connection.close()


def stored(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """All that the tables hold, with the types that SQLite gives it."""
    return connection.execute(
        "SELECT name, kind, value, typeof(value), row FROM facets JOIN facet_fields USING (field) "
        "ORDER BY name, kind, value, row"
    ).fetchall()


def test_facets_by_hand() -> None:
    metadata = {
        "tag": ["a", "b", "a", ["b", "c"]],
        "year": 2020.0,
        "price": 0.5,
        "open": True,
        "day": "1970-01-02",
        "author": {"name": "Ada", "born": None, "numbers": [1, 1.0, True]},
        "none": [None, [], {}],
        "a.b": 1,
        "a": {"b": [1, 2]},
    }
    assert list(facets(metadata)) == [
        Facet("tag", "text", "a"),
        Facet("tag", "text", "b"),
        Facet("tag", "text", "c"),
        Facet("year", "number", 2020),
        Facet("price", "number", 0.5),
        Facet("open", "boolean", 1),
        Facet("day", "text", "1970-01-02"),
        Facet("day", "instant", 86_400_000_000),
        Facet("author.name", "text", "Ada"),
        Facet("author.numbers", "number", 1),
        Facet("author.numbers", "boolean", 1),
        Facet("a.b", "number", 1),
        Facet("a.b", "number", 2),
    ]
    assert not list(facets({}))


def test_two_names_of_an_instant_are_one_facet() -> None:
    found = list(facets({"day": ["1970-01-01", "1970-01-01T00:00Z"]}))
    assert [facet.kind for facet in found] == ["text", "instant", "text"]


def test_long_strings_are_stored_by_their_digest(connection: sqlite3.Connection) -> None:
    long = "\N{LATIN SMALL LETTER E WITH ACUTE}" * 257
    digest = hashlib.sha256(long.encode()).digest()
    assert list(facets({"a": [long[:256], long]})) == [Facet("a", "text", long[:256]), Facet("a", "digest", digest)]
    insert_facets(connection, [(1, {"a": [long[:256], long]})])
    assert stored(connection) == [("a", 2, long[:256], "text", 1), ("a", 3, digest, "blob", 1)]


def test_each_value_keeps_its_type(connection: sqlite3.Connection) -> None:
    metadata = {"v": ["1", 1, 1.5, True, "1970-01-01", 2**63 - 1, -(2**63), 1e300, "a\0b", ""]}
    insert_facets(connection, [(7, metadata)])
    assert [row[1:4] for row in stored(connection)] == [
        (0, 1, "integer"),
        (1, -(2**63), "integer"),
        (1, 1, "integer"),
        (1, 1.5, "real"),
        (1, 2**63 - 1, "integer"),
        (1, 1e300, "real"),
        (2, "", "text"),
        (2, "1", "text"),
        (2, "1970-01-01", "text"),
        (2, "a\0b", "text"),
        (4, 0, "integer"),
    ]


def test_names_and_values_are_no_sql(connection: sqlite3.Connection) -> None:
    nasty = "x'); DROP TABLE facets; --"
    insert_facets(connection, [(1, {nasty: nasty, '"': "'"})])
    assert [(row[0], row[2]) for row in stored(connection)] == [('"', "'"), (nasty, nasty)]


@settings(deadline=None)
@given(documents=st.lists(drawn_filters.metadata, max_size=5), data=st.data())
def test_what_is_deleted_leaves_what_was_there_without_it(documents: list[dict[str, Any]], data: st.DataObject) -> None:
    for metadata in documents:
        check_metadata(metadata)
    rows = list(enumerate(documents))
    kept = [row for row in rows if data.draw(st.booleans())]
    deleted = [row for row in rows if row not in kept]
    with closing(sqlite3.connect(":memory:")) as connection, closing(sqlite3.connect(":memory:")) as other:
        create_facets(connection)
        create_facets(other)
        insert_facets(connection, rows)
        delete_facets(connection, deleted)
        insert_facets(other, kept)
        assert stored(connection) == stored(other)


def test_blocks_come_one_after_another(connection: sqlite3.Connection) -> None:
    insert_facets(connection, [(1, {"a": 1}), (2, {"b": 1})])
    insert_facets(connection, [(3, {"b": 1, "c": 1})])
    insert_facets(connection, [])
    delete_facets(connection, [(2, {"b": 1}), (4, {"never": 1})])
    assert [(row[0], row[4]) for row in stored(connection)] == [("a", 1), ("b", 3), ("c", 3)]


def test_everything_happens_in_the_callers_transaction(connection: sqlite3.Connection) -> None:
    insert_facets(connection, [(1, {"a": 1})])
    before = stored(connection)
    connection.execute("BEGIN")
    insert_facets(connection, [(2, {"a": 1, "new": 1})])
    delete_facets(connection, [(1, {"a": 1})])
    drop_facets(connection)
    create_facets(connection)
    assert not stored(connection)
    assert connection.in_transaction
    connection.execute("ROLLBACK")
    assert stored(connection) == before


def test_dropped_tables_are_gone_and_may_be_dropped_again(connection: sqlite3.Connection) -> None:
    insert_facets(connection, [(1, {"a": 1})])
    drop_facets(connection)
    drop_facets(connection)
    assert not connection.execute("SELECT name FROM sqlite_master").fetchall()


def test_a_row_is_not_inserted_twice(connection: sqlite3.Connection) -> None:
    insert_facets(connection, [(1, {"a": 1})])
    with pytest.raises(sqlite3.IntegrityError):
        insert_facets(connection, [(1, {"a": 1.0})])


# What metadata may be.


def nested(depth: int) -> dict[str, Any]:
    value: Any = "x"
    for number in range(depth - 1):
        value = [value] if number % 2 else {"a": value}
    return {"a": value}


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"a": None, "b": [], "c": {}, "": "", "größe": (1, 2)},
        {"a": [True, 2**63 - 1, -(2**63), 1e308, "\N{PILE OF POO}", "\0"]},
        types.MappingProxyType({"a": 1}),
        nested(MAX_DEPTH),
        {"a": [None] * (MAX_VALUES - 1)},
        {"a" * MAX_FIELD_CHARACTERS: 1},
        {"a": "x" * (MAX_CHARACTERS - 2)},
    ],
)
def test_metadata_that_may_be(metadata: dict[str, Any]) -> None:
    check_metadata(metadata)
    list(facets(metadata))


TOO_DEEP = "is nested too deep; at most 16 objects and lists may lie in each other"


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ([], "metadata is a list; it must be an object"),
        (None, "metadata is null; it must be an object"),
        ({1: 2}, "metadata has the name 1; names are strings"),
        ({"a": {None: 2}}, "metadata.a has the name null; names are strings"),
        ({"a": math.nan}, "metadata.a is NaN, which JSON does not have"),
        ({"a": [1, -math.inf]}, "metadata.a[1] is -Infinity, which JSON does not have"),
        ({"a": {"b": 2**63}}, "metadata.a.b is a whole number beyond 64 bits; write it as a string"),
        ({"a": -(2**63) - 1}, "metadata.a is a whole number beyond 64 bits; write it as a string"),
        ({"a": 10**5000}, "metadata.a is a whole number beyond 64 bits; write it as a string"),
        ({"a": "x\udc00"}, "metadata.a holds \\udc00, which is half of a character (a lone surrogate)"),
        (
            {"a": {"\ud800": 1}},
            'metadata.a has the name "?", which holds \\ud800, which is half of a character (a lone surrogate)',
        ),
        (
            {"a": datetime.date(2020, 1, 31)},
            "metadata.a is a Python date; it must be a string (dates, too), a number, true or false",
        ),
        ({"a": b"x"}, "metadata.a is a Python bytes; it must be a string (dates, too), a number, true or false"),
        ({"a b": {1, 2}}, 'metadata["a b"] is a Python set; it must be a string (dates, too), a number, true or false'),
        (
            {"a": types.MappingProxyType({})},
            "metadata.a is an object; it must be a string (dates, too), a number, true or false",
        ),
        ({"a": [None] * MAX_VALUES}, "metadata has more than 10,000 values"),
        ({"a": "x" * MAX_CHARACTERS}, "metadata has more than 1,048,576 characters"),
        ({str(number) * 200: [0] * 9 for number in range(100, 1000)}, "metadata has more than 1,048,576 characters"),
        (
            {"a": {"b" * 999: 1}},
            "metadata.a has a name too long; the names that lead to a value have at most 1,000 characters",
        ),
    ],
)
def test_metadata_that_may_not_be_is_refused_with_its_place(metadata: Any, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_metadata(metadata)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
def test_metadata_that_is_nested_too_deep_is_refused(depth: int) -> None:
    with pytest.raises(UsageError, match=TOO_DEEP) as caught:
        check_metadata(nested(depth))
    assert len(str(caught.value)) < 250


def test_metadata_that_holds_itself_is_refused() -> None:
    metadata: dict[str, Any] = {}
    metadata["me"] = metadata
    with pytest.raises(UsageError, match=TOO_DEEP):
        check_metadata(metadata)


def test_a_million_values_are_refused() -> None:
    with pytest.raises(UsageError, match="metadata has more than 10,000 values"):
        check_metadata({"a": [[], *range(1_000_000)]})
