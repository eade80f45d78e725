"""Filters as Qdrant has them: whatever they let through there matches here."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from qdrant_client import models
from qdrant_client.local.payload_filters import check_filter

from pairloom.errors import UsageError
from pairloom.search.filters.conditions import check_fields, matches
from pairloom.search.filters.language import parse_filter
from pairloom.search.qdrant.filters import as_qdrant, facet_payload, payload_indexes
from tests.search.contract import FIELDS, FILTERS, METADATA


def lets_through(wanted: dict[str, Any], metadata: dict[str, Any]) -> bool:
    """As the client's imitation of a server has it, of what goes over the line."""
    condition = parse_filter(wanted)
    check_fields(condition, FIELDS)
    sent = models.Filter.model_validate_json(as_qdrant(condition).model_dump_json())
    payload = json.loads(json.dumps(facet_payload(metadata, FIELDS)))
    return check_filter(sent, payload, 0, {})


@settings(deadline=None, max_examples=500)
@given(FILTERS, METADATA)
def test_both_mean_the_same(wanted: dict[str, Any], metadata: dict[str, Any]) -> None:
    assert lets_through(wanted, metadata) == matches(parse_filter(wanted), metadata)


@pytest.mark.parametrize("bound", [2**53 + 1, 2**53 + 3, -(2**53) - 1, 2**63 - 1, -(2**63), 2**53, 7])
@pytest.mark.parametrize("operator", ["gt", "gte", "lt", "lte"])
def test_bounds_between_two_floats(bound: int, operator: str) -> None:
    near = [float(bound), float(bound) * (1 + 2**-52), float(bound) * (1 - 2**-52), 0.0]
    for value in near:
        wanted, metadata = {"year": {operator: bound}}, {"year": value}
        assert lets_through(wanted, metadata) == matches(parse_filter(wanted), metadata), value


def test_a_number_between_two_floats_equals_none() -> None:
    assert not lets_through({"year": 2**53 + 1}, {"year": float(2**53)})
    assert lets_through({"year": {"in": [2**53 + 1, 2**53]}}, {"year": float(2**53)})


def test_true_is_not_one() -> None:
    assert not lets_through({"year": 1}, {"year": True})
    assert not lets_through({"open": True}, {"open": 1})
    assert lets_through({"year": 1}, {"year": 1.0})


def test_numbers_and_strings_stay_apart() -> None:
    assert not lets_through({"year": 2020}, {"year": "2020"})
    assert not lets_through({"tag": "2020"}, {"tag": 2020})
    assert lets_through({"year": 0.1 + 0.2}, {"year": 0.30000000000000004})
    assert not lets_through({"year": 0.1 + 0.2}, {"year": 0.3})


def test_long_strings_are_told_apart() -> None:
    one, other = "x" * 300, "x" * 299 + "y"
    assert lets_through({"tag": one}, {"tag": one})
    assert not lets_through({"tag": one}, {"tag": other})
    kept = facet_payload({"tag": one}, FIELDS)["facets"]["tag"]["text"][0]
    assert not lets_through({"tag": kept}, {"tag": one})


def test_what_is_kept_beside_the_metadata() -> None:
    metadata = {"tag": ["a", "a", None, 3], "year": [1, 2.5], "open": False, "when": "2024-05-01T02:00+02:00", "other": 1,
                "author": {"name": "x"}}  # fmt: skip
    assert facet_payload(metadata, FIELDS) == {
        "facets": {
            "tag": {"text": ["a"]},
            "year": {"text": ["1", "2.5"], "number": [1.0, 2.5]},
            "open": {"boolean": [False]},
            "when": {"text": ["2024-05-01T02:00+02:00"], "instant": ["2024-05-01T00:00:00.000000Z"]},
            "author_2e_name": {"text": ["x"]},
        },
        "present": ["author.name", "open", "tag", "when", "year"],
    }
    assert facet_payload({}, FIELDS) == {"facets": {}, "present": []}


def test_a_field_exists_if_one_inside_it_does() -> None:
    fields: Any = {"author": "keyword", "author.name": "keyword"}
    assert facet_payload({"author": {"name": "x"}}, fields)["present"] == ["author", "author.name"]
    assert facet_payload({"author": {"name": None}}, fields)["present"] == []
    assert facet_payload({"authors": "x"}, fields)["present"] == []


def test_names_of_fields_stay_apart() -> None:
    fields: Any = dict.fromkeys(["a.b", "a_b", "a b", "a_2e_b", "ä", "", '"', "a[]", "A"], "keyword")
    indexes = payload_indexes(fields)
    assert len(indexes) == len(fields) + 1
    for field in fields:
        wanted = as_qdrant(parse_filter({"fields": {field: "x"}}))
        for other in fields:
            payload = facet_payload({other: "x"}, fields)
            assert check_filter(wanted, payload, 0, {}) == (field == other)


def test_all_that_is_asked_for_has_an_index() -> None:
    assert payload_indexes(FIELDS) == {
        "present": "keyword",
        "facets.tag.text": "keyword",
        "facets.year.text": "keyword",
        "facets.year.number": "float",
        "facets.open.boolean": "bool",
        "facets.when.text": "keyword",
        "facets.when.instant": "datetime",
        "facets.author_2e_name.text": "keyword",
    }


@settings(deadline=None, max_examples=200)
@given(FILTERS)
def test_nothing_else_is_asked_for(wanted: dict[str, Any]) -> None:
    def keys(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["key"]} if "key" in value else set()
            return own.union(*(keys(inner) for inner in value.values()))
        return set().union(*map(keys, value)) if isinstance(value, list) else set()

    assert keys(json.loads(as_qdrant(parse_filter(wanted)).model_dump_json())) <= set(payload_indexes(FIELDS))


@pytest.mark.parametrize(("metadata", "message"), [
    ({"year": 2**53 + 1}, r'"year" is 9007199254740993, which a Qdrant server can only compare as 9007199254740992'),
    ({"when": "0001-01-01T00:00+01:00"}, "not within the years 1 to 9999"),
    ({"when": "9999-12-31T23:59:59-01:00"}, "not within the years 1 to 9999"),
])  # fmt: skip
def test_what_a_server_cannot_compare_is_refused(metadata: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        facet_payload(metadata, FIELDS)
    assert facet_payload(metadata, {}) == {"facets": {}, "present": []}
