"""What stands in the fields of metadata, counted by SQL and by hand."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from pairloom.search.filters.facets import create_facets, delete_facets, insert_facets
from pairloom.search.filters.frequent import frequent_values


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(":memory:")
    create_facets(opened)
    yield opened
    opened.close()


def put(connection: sqlite3.Connection, *metadata: dict[str, Any]) -> None:
    insert_facets(connection, list(enumerate(metadata, start=1)))


@pytest.mark.parametrize(("values", "type_"), [
    (["a", "b", 3], "keyword"),
    ([1, 2.5, "a"], "number"),
    ([True, False, True], "boolean"),
    (["2020-01-01", "2021-05-03T12:00Z"], "datetime"),
    (["2020-01-01", "soon"], "keyword"),
    ([["2020-01-01", "2021-01-01"], "2022-01-01"], "datetime"),
])  # fmt: skip
def test_a_field_is_what_most_of_its_values_are(connection: sqlite3.Connection, values: list[Any], type_: str) -> None:
    put(connection, *({"field": value} for value in values))
    (field,) = frequent_values(connection, None, 20, 20)
    assert (field.name, field.type) == ("field", type_)


def test_values_are_those_that_most_documents_have(connection: sqlite3.Connection) -> None:
    documents = [{"tag": [f"t{number % divisor}" for divisor in (2, 3, 7)]} for number in range(50)]
    put(connection, *documents)
    counted = Counter(tag for document in documents for tag in set(document["tag"]))
    (field,) = frequent_values(connection, None, 20, 4)
    assert list(field.values) == sorted(counted.items(), key=lambda one: (-one[1], one[0]))[:4]


def test_fields_come_in_the_order_in_which_they_were_seen_and_no_more_than_wanted(
    connection: sqlite3.Connection,
) -> None:
    put(connection, *({f"f{number:02}": number} for number in range(30)))
    delete_facets(connection, [(3, {"f02": 2})])
    assert [field.name for field in frequent_values(connection, None, 4, 20)] == ["f00", "f01", "f03", "f04"]


def test_only_declared_fields_are_told_of_if_some_are(connection: sqlite3.Connection) -> None:
    put(connection, {"a": 1, "b": "x", "c": True}, {"a": "one"})
    found = frequent_values(connection, {"b": "keyword", "none": "number", "a": "keyword"}, 20, 20)
    assert [(field.name, field.type, field.values) for field in found] == [
        ("b", "keyword", (("x", 1),)),
        ("a", "keyword", (("one", 1),)),
    ]


def test_a_field_of_long_strings_has_nothing_to_be_shown(connection: sqlite3.Connection) -> None:
    put(connection, {"long": "x" * 1000, "short": "y"})
    assert [field.name for field in frequent_values(connection, None, 20, 20)] == ["short"]
