"""What of a record becomes metadata: which fields, of which types, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairloom.errors import RecordError, UsageError
from pairloom.search.ingest.metadata import MetadataFields, read_field_types, read_metadata_fields
from pairloom.search.protocol import FieldType

ALL = MetadataFields()


def fault(fields: MetadataFields, rest: dict[str, Any]) -> str:
    with pytest.raises(RecordError) as caught:
        fields.of(rest)
    return str(caught.value)


def test_all_fields_keep_their_values() -> None:
    rest = {
        "tag": ["a", "b"],
        "year": 2021,
        "score": 1.5,
        "open": False,
        "author": {"name": "x", "age": None},
        "note": "",
    }
    assert ALL.of(rest) == rest


def test_null_is_left_out_and_so_is_what_is_no_number() -> None:
    assert ALL.of({"a": None, "b": float("nan"), "c": [1, float("nan")]}) == {"c": [1, None]}


def test_an_object_called_metadata_counts_as_its_fields() -> None:
    assert ALL.of({"tag": "x", "year": 1, "metadata": {"url": "u", "year": 2}}) == {"tag": "x", "url": "u", "year": 2}
    assert ALL.of({"metadata": "none"}) == {"metadata": "none"}
    assert ALL.of({"metadata": None}) == {}
    assert ALL.of({"metadata": {"metadata": {"a": 1}}}) == {"metadata": {"a": 1}}


def test_only_the_named_fields() -> None:
    rest = {"tag": "x", "year": 1, "author": {"name": "n", "age": 3}, "list": [{"a": 1}], "metadata": {"url": "u"}}
    fields = read_metadata_fields("tag, author.name ,url,list.0.a,nothing")
    assert fields.of(rest) == {"tag": "x", "author.name": "n", "url": "u", "list.0.a": 1}
    assert MetadataFields(("a.b",)).of({"a.b": 1, "a": {"b": 2}}) == {"a.b": 1}
    assert read_metadata_fields("none").of(rest) == {}
    assert read_metadata_fields(" none ") == MetadataFields(())
    assert read_metadata_fields(None) == ALL


def test_a_vector_is_metadata_only_if_it_is_asked_for() -> None:
    rest = {"vector": [0.5, 1.5], "tag": "x"}
    assert ALL.of(rest) == {"tag": "x"}
    assert MetadataFields(("vector",)).of(rest) == {"vector": [0.5, 1.5]}
    assert ALL.of({"vector": "north"}) == {"vector": "north"}


def test_numbers_that_json_has_not() -> None:
    assert fault(ALL, {"a": [float("inf")]}) == "field 'a' holds an infinite number"
    assert ALL.of({"a": np.float32(0.5)}) == {"a": 0.5}
    assert ALL.of({"a": Decimal("12.00"), "b": Decimal("0.10"), "c": Decimal("NaN")}) == {"a": 12, "b": 0.1}
    assert type(ALL.of({"a": Decimal(12)})["a"]) is int
    assert fault(ALL, {"a": b"x"}) == "field 'a' holds bytes, which metadata cannot"


def test_times_as_iso_8601_has_them() -> None:
    berlin = timezone(timedelta(hours=2))
    assert ALL.of(
        {
            "day": date(2021, 5, 3),
            "instant": datetime(2021, 5, 3, 12, 0, 0, 250, tzinfo=berlin),
            "no zone": datetime(2021, 5, 3, 12),
            "utc": datetime(2021, 5, 3, tzinfo=UTC),
            "time": time(1, 2, 3),
            "duration": timedelta(minutes=1, milliseconds=5),
        }
    ) == {
        "day": "2021-05-03",
        "instant": "2021-05-03T12:00:00.000250+02:00",
        "no zone": "2021-05-03T12:00:00+00:00",
        "utc": "2021-05-03T00:00:00+00:00",
        "time": "01:02:03",
        "duration": 60.005,
    }


def test_an_arrow_map_is_an_object() -> None:
    assert ALL.of({"a": [("k", 1), ("l", None)], "b": [("k", date(2021, 1, 1))]}) == {
        "a": {"k": 1, "l": None},
        "b": {"k": "2021-01-01"},
    }
    assert ALL.of({"a": [["k", 1]]}) == {"a": [["k", 1]]}


def test_half_a_character() -> None:
    said = "holds \\ud800, which is half of a character (a lone surrogate); --errors replace reads it as \ufffd"
    assert fault(ALL, {"a": {"b": ["x\ud800"]}}) == f"field 'a' {said}"
    assert fault(ALL, {"a\ud800": 1}) == said
    assert ALL.of({"a\ud800": {"b\ud800": "x\ud800"}}, "replace") == {"a\ufffd": {"b\ufffd": "x\ufffd"}}


@pytest.mark.parametrize("make", [lambda inner: [inner], lambda inner: {"a": inner}])
def test_depth_is_bounded(make: Any) -> None:
    value: Any = 1
    for _ in range(32):
        value = make(value)
    assert ALL.of({"a": value}) == {"a": value}
    for _ in range(5_000):
        value = make(value)
    assert fault(ALL, {"a": value}) == "field 'a' is nested more than 32 deep"


# Types


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("number", "2021", 2021),
        ("number", " -7 ", -7),
        ("number", "+1.50", 1.5),
        ("number", ".5e3", 500.0),
        ("number", 3, 3),
        ("number", 0.5, 0.5),
        ("number", ["1", 2, None, ""], [1, 2]),
        ("boolean", "true", True),
        ("boolean", "No", False),
        ("boolean", "1", True),
        ("boolean", " FALSE", False),
        ("boolean", True, True),
        ("keyword", "x ", "x "),
        ("keyword", "", ""),
        ("keyword", 12345, "12345"),
        ("datetime", "2021-05-03", "2021-05-03"),
        ("datetime", " 2021-05-03T12:00:00Z", "2021-05-03T12:00:00+00:00"),
        ("datetime", "2021-05-03 12:00", "2021-05-03T12:00:00+00:00"),
        ("datetime", "2021-05-03T12:00:00.5+02:00", "2021-05-03T12:00:00.500000+02:00"),
        ("datetime", "20210503", "2021-05-03T00:00:00+00:00"),
        ("datetime", datetime(2021, 5, 3), "2021-05-03T00:00:00+00:00"),
    ],
)
def test_a_value_becomes_what_its_field_holds(kind: FieldType, given: Any, expected: Any) -> None:
    found = MetadataFields(types={"a": kind}).of({"a": given})["a"]
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("kind", ["number", "boolean", "datetime"])
def test_an_empty_string_is_absent_where_it_can_be_nothing(kind: FieldType) -> None:
    assert MetadataFields(types={"a": kind}).of({"a": " ", "b": ""}) == {"b": ""}


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("number", "twenty", "field 'a' holds 'twenty', which is not a number such as 2021 or 1.5"),
        ("number", "1,5", "field 'a' holds '1,5', which is not"),
        ("number", "1_000", "field 'a' holds '1_000', which is not"),
        ("number", "nan", "field 'a' holds 'nan', which is not"),
        ("number", "1e999", "field 'a' holds '1e999', which is not"),
        ("number", "٣", "field 'a' holds '٣', which is not"),
        ("number", "9" * 5000, f"field 'a' holds '{'9' * 39} …, which is not"),
        ("number", True, "field 'a' holds True, which is not"),
        ("number", {"b": 1}, "field 'a' holds {'b': 1}, which is not"),
        ("number", ["1", "x"], "field 'a' holds 'x', which is not"),
        ("boolean", "maybe", "field 'a' holds 'maybe', which is not true or false"),
        ("boolean", 1, "field 'a' holds 1, which is not"),
        ("keyword", 1.5, "field 'a' holds 1.5, which is not a string"),
        ("keyword", True, "field 'a' holds True, which is not"),
        ("datetime", "3.5.2021", "field 'a' holds '3.5.2021', which is not a date such as 2021-05-03 or"),
        ("datetime", "2021-02-30", "field 'a' holds '2021-02-30', which is not"),
        ("datetime", 1620000000, "field 'a' holds 1620000000, which is not"),
    ],
)
def test_a_value_that_its_field_cannot_hold(kind: FieldType, given: Any, expected: str) -> None:
    said = fault(MetadataFields(types={"a": kind}), {"a": given})
    assert said.startswith(expected)
    assert "\n" not in said


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_json_stays_as_it_is(rest: dict[str, Any]) -> None:
    for name in ("metadata", "vector"):
        rest.pop(name, None)
    kept = ALL.of(rest)
    assert kept == {name: value for name, value in rest.items() if value is not None}
    assert json.loads(json.dumps(kept)) == kept


# Words of the command line


def test_names_and_types() -> None:
    assert read_metadata_fields("tag,year:number, a:b:keyword,when:datetime") == MetadataFields(
        ("tag", "year", "a:b", "when"), {"year": "number", "a:b": "keyword", "when": "datetime"}
    )
    assert read_field_types("tag:keyword,open:boolean") == {"tag": "keyword", "open": "boolean"}
    assert read_field_types(None) is None
    assert read_field_types("none") == {}
    assert read_metadata_fields("*") == ALL
    assert read_metadata_fields("year:number,*") == MetadataFields(None, {"year": "number"})
    merged = read_metadata_fields("year:number,zip").with_types({"year": "keyword", "zip": "keyword"})
    assert merged == MetadataFields(("year", "zip"), {"year": "number", "zip": "keyword"})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "--metadata '': give names with commas between them, such as tag,year:number"),
        ("a,,b", "--metadata 'a,,b': give names"),
        (":number", "--metadata ':number': give names"),
        ("year:nmber", "--metadata: what 'year' holds is keyword, number, boolean or datetime, not 'nmber'"),
        ("year:", "--metadata: what 'year' holds is keyword, number, boolean or datetime, not ''"),
        ("a,b,a:number", "--metadata: 'a' is named twice"),
    ],
)
def test_names_that_make_no_sense(words: str, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_metadata_fields(words)
    assert str(caught.value).startswith(expected)


def test_a_declared_field_needs_its_type() -> None:
    with pytest.raises(UsageError) as caught:
        read_field_types("tag:keyword,year")
    expected = "--fields: say what 'year' holds, such as year:keyword (or number, boolean or datetime)"
    assert str(caught.value) == expected
