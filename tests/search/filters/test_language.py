"""What filters mean, which of them are equal, and what is said of those that mean nothing."""

from __future__ import annotations

import datetime
import enum
import json
import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.errors import UsageError
from pairloom.search.filters.conditions import And, Equals, Exists, In, Not, Or, Range
from pairloom.search.filters.language import (
    MAX_CONDITIONS,
    MAX_DEPTH,
    check_fields,
    fields_of,
    leaves,
    matches,
    parse_filter,
)
from pairloom.search.filters.language import read_filter as read
from pairloom.search.filters.values import Scalar, instant
from pairloom.search.protocol import FieldType
from tests.search import drawn_filters

PYTHON = Scalar("text", "python")
DAY = 86_400 * 1_000_000
SENTENCE_OF_OBJECTS = "an object here has in, or exists, or bounds (gt or gte, lt or lte)"
DATES = 'a date of ISO 8601, such as "2020-01-31" or "2020-01-31T12:30:00Z"'


def own(name: str) -> str:
    return f'; a field of that name is written {{"fields": {{"{name}": …}}}}'


@pytest.mark.parametrize(
    ("value", "condition"),
    [
        ({"tag": "python"}, Equals("tag", PYTHON)),
        ({"open": True}, Equals("open", Scalar("boolean", True))),
        ({"n": 1.0}, Equals("n", Scalar("number", 1))),
        ({"author.name": "x"}, Equals("author.name", Scalar("text", "x"))),
        ({"tag": {"in": ["python"]}}, Equals("tag", PYTHON)),
        (
            {"tag": {"in": ["python", 1, 1.0, True, "python"]}},
            In("tag", (Scalar("boolean", True), Scalar("number", 1), PYTHON)),
        ),
        ({"n": {"gte": 2020, "lt": 2022.5}}, Range("n", "number", gte=2020, lt=2022.5)),
        ({"n": {"gt": 2020, "lte": 2022.0}}, Range("n", "number", gt=2020, lte=2022)),
        ({"day": {"gt": "1970-01-02"}}, Range("day", "instant", gt=DAY)),
        ({"day": {"lte": "1970-01-02T01:00+01:00"}}, Range("day", "instant", lte=DAY)),
        ({"author": {"exists": True}}, Exists("author")),
        ({"author": {"exists": False}}, Not(Exists("author"))),
        ({"not": {"author": {"exists": False}}}, Exists("author")),
        ({"not": {"not": {"tag": "python"}}}, Equals("tag", PYTHON)),
        ({"and": [{"tag": "python"}]}, Equals("tag", PYTHON)),
        ({"or": [{"tag": "python"}, {"and": [{"tag": "python"}]}]}, Equals("tag", PYTHON)),
        ({"tag": "python", "a": {"exists": True}}, And((Equals("tag", PYTHON), Exists("a")))),
        ({"or": [{"tag": "python"}, {"a": {"exists": True}}]}, Or((Equals("tag", PYTHON), Exists("a")))),
        ({"fields": {"and": "python"}}, Equals("and", PYTHON)),
        ({"fields": {"fields": "python"}}, Equals("fields", PYTHON)),
        ({"$where": "python"}, Equals("$where", PYTHON)),
        ({"": "python"}, Equals("", PYTHON)),
    ],
)
def test_conditions_by_hand(value: dict[str, Any], condition: object) -> None:
    assert parse_filter(value) == condition


def test_filters_that_mean_the_same_are_equal_and_hash_alike() -> None:
    same: list[dict[str, Any]] = [
        {"a": 1, "b": {"in": ["x", "y"]}, "c": {"gt": "2020-01-31"}},
        {"c": {"gt": "2020-01-31T01:00:00+01:00"}, "b": {"in": ["y", "x", "x"]}, "a": 1.0},
        {"and": [{"a": 1}, {"and": [{"b": {"in": ["x", "y"]}}, {"c": {"gt": "2020-01-31T00:00Z"}}]}, {"a": 1}]},
        {"not": {"not": {"fields": {"a": 1, "b": {"in": ["x", "y"]}}, "c": {"gt": "2020-01-31"}}}},
    ]
    assert len({parse_filter(one) for one in same}) == 1


def test_filters_that_python_would_take_for_equal_are_not() -> None:
    different: list[dict[str, Any]] = [{"a": 1}, {"a": True}, {"a": "1"}, {"a": {"in": [1, True]}}, {"a": {"gte": 1}}]
    assert len({parse_filter(one) for one in different}) == 5


@settings(deadline=None)
@given(value=drawn_filters.filters, seed=st.integers(0, 99))
def test_the_order_in_a_filter_does_not_matter(value: dict[str, Any], seed: int) -> None:
    dice = random.Random(seed)

    def shuffled(one: Any) -> Any:
        if isinstance(one, dict):
            return {name: shuffled(inner) for name, inner in dice.sample(list(one.items()), len(one))}
        return dice.sample([shuffled(inner) for inner in one], len(one)) if isinstance(one, list) else one

    assert parse_filter(shuffled(value)) == parse_filter(value)
    assert repr(parse_filter(shuffled(value))) == repr(parse_filter(value))


def test_kinds_of_strings_and_numbers_are_strings_and_numbers() -> None:
    class Tag(enum.StrEnum):
        SNAKE = "python"

    value, plain = {"tag": Tag.SNAKE, "n": np.float64(1)}, {"tag": "python", "n": 1}
    assert parse_filter(value) == parse_filter(plain)
    assert repr(parse_filter(value)) == repr(parse_filter(plain))
    assert matches(parse_filter(plain), value)


def test_fields_and_leaves() -> None:
    condition = parse_filter({"or": [{"b": 1}, {"not": {"a.b": {"exists": True}, "c": {"gt": 1}}}, {"b": 2}]})
    assert fields_of(condition) == {"a.b", "b", "c"}
    assert len(list(leaves(condition))) == 4


METADATA = {
    "tag": ["python", "web"],
    "year": 2021,
    "price": 9.5,
    "open": True,
    "day": "2020-01-31",
    "at": "2020-01-31T12:00:00+02:00",
    "author": {"name": "Ada", "born": None, "links": []},
    "and": "x",
    "dotted.name": "y",
    "parts": [{"n": 1}, {"n": [5, None]}],
    "nothing": None,
    "empty": [[], {}],
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"tag": "python"}, True),
        ({"tag": "Python"}, False),
        ({"tag": "py"}, False),
        ({"tag": {"in": ["java", "web"]}}, True),
        ({"tag": {"in": ["java", "go"]}}, False),
        ({"year": 2021.0}, True),
        ({"year": "2021"}, False),
        ({"year": {"gte": 2021, "lt": 2022}}, True),
        ({"year": {"gt": 2021}}, False),
        ({"year": {"lte": 2021}}, True),
        ({"year": {"lt": 2021}}, False),
        ({"year": {"gte": "2000-01-01"}}, False),
        ({"price": {"gt": 9, "lt": 10}}, True),
        ({"open": True}, True),
        ({"open": 1}, False),
        ({"open": {"gte": 0}}, False),
        ({"day": "2020-01-31"}, True),
        ({"day": "2020-01-31T00:00:00Z"}, False),
        ({"day": {"gte": "2020-01-31T00:00:00Z", "lte": "2020-01-31T00:00:00Z"}}, True),
        ({"day": {"gt": "2020-01-31"}}, False),
        ({"at": {"gte": "2020-01-31T10:00:00", "lt": "2020-01-31T10:00:00.000001"}}, True),
        ({"tag": {"lt": "9999-01-01"}}, False),
        ({"author.name": "Ada"}, True),
        ({"author": {"exists": True}}, True),
        ({"author.born": {"exists": True}}, False),
        ({"author.links": {"exists": True}}, False),
        ({"auth": {"exists": True}}, False),
        ({"nothing": {"exists": True}}, False),
        ({"empty": {"exists": False}}, True),
        ({"fields": {"and": "x"}}, True),
        ({"dotted.name": "y"}, True),
        ({"parts.n": 5}, True),
        ({"parts.n": {"gt": 1, "lt": 5}}, False),
        ({"not": {"tag": "java"}}, True),
        ({"not": {"missing": "x"}}, True),
        ({"tag": "web", "year": 2020}, False),
        ({"and": [{"tag": "web"}, {"tag": "python"}]}, True),
        ({"or": [{"tag": "java"}, {"year": 2021}]}, True),
        ({"or": [{"tag": "java"}, {"year": 2020}]}, False),
    ],
)
def test_meanings_by_hand(value: dict[str, Any], expected: bool) -> None:
    assert matches(parse_filter(value), METADATA) is expected


@settings(deadline=None)
@given(value=drawn_filters.filters, metadata=drawn_filters.metadata)
def test_not_is_the_opposite_and_a_document_stays_what_it_is_through_json(
    value: dict[str, Any], metadata: dict[str, Any]
) -> None:
    condition = parse_filter(value)
    assert matches(parse_filter({"not": value}), metadata) is not matches(condition, metadata)
    again = parse_filter(json.loads(json.dumps(value)))
    assert again == condition
    assert matches(again, json.loads(json.dumps(metadata))) is matches(condition, metadata)


ZONES = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda m: datetime.timezone(datetime.timedelta(minutes=m)))


@settings(deadline=None)
@given(when=st.datetimes(timezones=st.none() | ZONES))
def test_instants_are_those_of_datetime(when: datetime.datetime) -> None:
    ahead = when.utcoffset() or datetime.timedelta()
    since = when.replace(tzinfo=None) - datetime.datetime(1970, 1, 1) - ahead
    expected = since // datetime.timedelta(microseconds=1)
    assert instant(when.isoformat()) == expected
    assert instant(when.isoformat(" ").replace("+00:00", "Z")) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-02", DAY),
        ("1970-01-02T00:00", DAY),
        ("1970-01-02t00:00:00z", DAY),
        ("1970-01-02T00:00:00,5", DAY + 500_000),
        ("1970-01-02T00:00:00.1234567", DAY + 123_456),
        ("1970-01-02T05:30+0530", DAY),
        ("1970-01-02T05+05", None),
        ("1970-01-02T05:00+05", DAY),
        ("1969-12-31T23:59:59.999999", -1),
        *((text, None) for text in ("", "1970", "1970-01", "19700102", "1970-W01-1", "1970-001", "1970-1-2")),
        *((text, None) for text in ("1970-02-29", "0000-01-01", "1970-01-02T24:00", "1970-01-02T23:59:60")),
        *((text, None) for text in ("1970-01-02T00:60", "1970-01-02T00:00+24:00", "1970-01-02T00:00+01:60")),
        *(
            (text, None)
            for text in (" 1970-01-02", "1970-01-02\n", "1970-01-02Z", "1970-01-02T00:00+01:", "١٩٧٠-٠١-٠٢")
        ),
    ],
)
def test_instants_by_hand(text: str, expected: int | None) -> None:
    assert instant(text) == expected


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([], 'filter is a list; a filter is an object, such as {"tag": "python"}'),
        ("tag", 'filter is "tag"; a filter is an object, such as {"tag": "python"}'),
        ({}, "filter is empty; leave it out to let everything through"),
        ({"and": [{"a": 1}, {}]}, "filter.and[1] is empty; leave it out to let everything through"),
        ({"not": 3}, 'filter.not is 3; a filter is an object, such as {"tag": "python"}'),
        (
            {"and": "x"},
            f'filter.and is "x"; it must be a list of filters{own("and")}',
        ),
        (
            {"or": []},
            f"filter.or is an empty list; it must be a list of filters{own('or')}",
        ),
        (
            {"fields": "x"},
            f'filter.fields is "x"; it must be an object of fields and what they must be{own("fields")}',
        ),
        (
            {"fields": {}},
            f"filter.fields is an empty object; it must be an object of fields and what they must be{own('fields')}",
        ),
        ({"a": None}, 'filter.a is null, which counts as absent; ask for {"exists": false}'),
        ({"a": ["x"]}, 'filter.a is a list; ask for {"in": […]}'),
        ({"a": {}}, f"filter.a is an empty object; {SENTENCE_OF_OBJECTS}"),
        ({"a": {"in": [1], "gt": 1}}, f"filter.a has in or exists beside others; {SENTENCE_OF_OBJECTS}"),
        (
            {"author": {"name": "x"}},
            f'filter.author has "name"; {SENTENCE_OF_OBJECTS}, and a field within a field is written "author.name"',
        ),
        (
            {"n": {"$gt": 1}},
            f'filter.n has "$gt"; {SENTENCE_OF_OBJECTS}, and a field within a field is written "n.$gt"',
        ),
        ({"a": {"in": "x"}}, 'filter.a.in is "x"; it must be a list of values'),
        ({"a": {"in": []}}, "filter.a.in is an empty list; it must be a list of values"),
        ({"a": {"in": [1, None]}}, 'filter.a.in[1] is null, which counts as absent; ask for {"exists": false}'),
        ({"a": {"exists": 1}}, "filter.a.exists is 1; it must be true or false"),
        ({"a": {"gt": 1, "gte": 2}}, "filter.a has both gt and gte; give one of them"),
        ({"a": {"lt": 1, "lte": 2}}, "filter.a has both lt and lte; give one of them"),
        (
            {"a": {"gt": 1, "lt": "2020-01-31"}},
            "filter.a has a number and a date as its bounds; give two of one kind",
        ),
        ({"a": {"gt": "x"}}, f'filter.a.gt is "x"; a bound that is a string must be {DATES}'),
        ({"a": {"gt": "2020"}}, f'filter.a.gt is "2020"; a bound that is a string must be {DATES}'),
        ({"a": {"lt": True}}, f"filter.a.lt is true; a bound is a number, or {DATES}"),
        (
            {"a": {"lt": {"b": 1}}},
            "filter.a.lt is an object; it must be a string (dates, too), a number, true or false",
        ),
        (
            {"a": datetime.date(2020, 1, 31)},
            "filter.a is a Python date; it must be a string (dates, too), a number, true or false",
        ),
        ({"a": math.nan}, "filter.a is NaN, which JSON does not have"),
        ({"a": {"gt": -math.inf}}, "filter.a.gt is -Infinity, which JSON does not have"),
        ({"a": 2**63}, "filter.a is a whole number beyond 64 bits; write it as a string"),
        ({"a": -(10**5000)}, "filter.a is a whole number beyond 64 bits; write it as a string"),
        ({"a": "\ud800x"}, "filter.a holds \\ud800, which is half of a character (a lone surrogate)"),
        (
            {"\udfff": 1},
            'filter has the name "?", which holds \\udfff, which is half of a character (a lone surrogate)',
        ),
        ({3: 1}, "filter has the name 3; names are strings"),
        ({"fields": {3: 1}}, "filter.fields has the name 3; names are strings"),
        ({"a": {3: 1}}, f'filter.a has 3; {SENTENCE_OF_OBJECTS}, and a field within a field is written "a.3"'),
        ({"a b": []}, 'filter["a b"] is a list; ask for {"in": […]}'),
        ({"\x1b[2J" + "x" * 50: []}, f'filter["\\u001b[2J{"x" * 36}…"] is a list; ask for {{"in": […]}}'),
    ],
)
def test_what_means_nothing_is_refused_with_its_place(value: Any, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_filter(value)
    assert str(caught.value) == sentence


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"a": 1}
    for number in range(depth - 1):
        value = {"not": value} if number % 2 else {"or": [value, {"b": number}]}
    return value


def test_filters_stand_in_each_other_up_to_a_depth() -> None:
    parse_filter(nested(MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(UsageError, match=rf"nested too deep; at most {MAX_DEPTH} filters") as caught:
            parse_filter(nested(depth))
        assert len(str(caught.value)) < 250


def test_a_filter_of_too_many_parts_or_characters_is_refused() -> None:
    assert len(list(leaves(parse_filter({"or": [{"a": number} for number in range(MAX_CONDITIONS)]})))) == 10_000
    many: list[dict[str, Any]] = [
        {"or": [{"a": number} for number in range(MAX_CONDITIONS + 1)]},
        {"or": [{"a": {"exists": True}}] * (MAX_CONDITIONS + 1)},
        {"a": {"in": list(range(MAX_CONDITIONS + 1))}},
    ]
    for value in many:
        with pytest.raises(UsageError, match="is too much; a filter has at most 10,000 conditions and values"):
            parse_filter(value)
    long: list[dict[str, Any]] = [
        {"a": "x" * 2**20},
        {"x" * 2**20: 1, "b": 1},
        {"a": {"in": ["x" * 2**19, "y" * 2**19]}},
    ]
    for value in long:
        with pytest.raises(UsageError, match="is too much; a filter has at most 1,048,576 characters") as caught:
            parse_filter(value)
        assert len(str(caught.value)) < 250


# Words of a command.


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tag=python"], {"tag": "python"}),
        (["tag = two words "], {"tag": "two words"}),
        (["tag!=x"], {"not": {"tag": "x"}}),
        (["year>=2020", "year<2022"], {"and": [{"year": {"gte": 2020}}, {"year": {"lt": 2022}}]}),
        (["year>2020"], {"year": {"gt": 2020}}),
        (["year<=2020.5"], {"year": {"lte": 2020.5}}),
        (["day>=2020-01-31"], {"day": {"gte": "2020-01-31"}}),
        (["open=true"], {"open": True}),
        (["open!=false"], {"not": {"open": False}}),
        (["open=True"], {"open": "True"}),
        (["id=01"], {"id": "01"}),
        (["id=1"], {"id": 1}),
        (["id=-1.5e3"], {"id": -1500.0}),
        (['id="1"'], {"id": "1"}),
        (['id=""'], {"id": ""}),
        ([r'id=" \"x\" "'], {"id": ' "x" '}),
        (["id=+1"], {"id": "+1"}),
        (["id=NaN"], {"id": "NaN"}),
        (["formula=a=b"], {"formula": "a=b"}),
        (["and=x"], {"fields": {"and": "x"}}),
        (["fields!=x"], {"not": {"fields": {"fields": "x"}}}),
        (["größe.breite>3"], {"größe.breite": {"gt": 3}}),
        (['{"tag": {"in": ["a", "b"]}}', "n=1"], {"and": [{"tag": {"in": ["a", "b"]}}, {"n": 1}]}),
        ([' {"not": {"n": 1}}'], {"not": {"n": 1}}),
        (["tag=[draft]"], {"tag": "[draft]"}),
    ],
)
def test_words_by_hand(words: list[str], expected: dict[str, Any]) -> None:
    assert read(words) == expected
    assert [type(value) for value in dict(read(words)).values()] == [type(value) for value in expected.values()]


NO_FILTER = (
    " is no filter; write tag=python, tag!=python, year>=2020, open=true, "
    'id="01" for a string that looks like something else (the shell wants \'id="01"\'), '
    'or JSON such as {"tag": {"in": ["a", "b"]}}'
)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        *(
            ([word], word + NO_FILTER)
            for word in ("tag", "=x", "tag=", "tag==x", "year=>2020", "tag= =x", "[1]", "a!x")
        ),
        (["  "], f"an empty word{NO_FILTER}"),
        (["x" * 200], f"{'x' * 60} …{NO_FILTER}"),
        (['id="1'], 'the filter id="1 is no JSON (Unterminated string starting at at character 1)'),
        (['id="1" x'], 'the filter id="1" x is no JSON (Extra data at character 5)'),
        (['{"tag": }'], 'the filter {"tag": } is no JSON (Expecting value at character 9)'),
        (
            ['{"a": {"gt": 1, "gt": 2}}'],
            'the filter {"a": {"gt": 1, "gt": 2}} is no JSON ("gt" stands twice in an object; join the two by and)',
        ),
        (["a=null"], 'filter.a is null, which counts as absent; ask for {"exists": false}'),
        (["n=1", "year>=soon"], f'filter.and[1].year.gte is "soon"; a bound that is a string must be {DATES}'),
        (["open>true"], f"filter.open.gt is true; a bound is a number, or {DATES}"),
        (["n=1e999"], "filter.n is Infinity, which JSON does not have"),
        (["{}"], "filter is empty; leave it out to let everything through"),
        (
            [],
            f"filter.and is an empty list; it must be a list of filters{own('and')}",
        ),
    ],
)
def test_words_that_are_no_filter(words: list[str], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(words)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "word",
    [
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"a": ' + "[" * 100_000,
        "n=" + "1" * 1_000_000,
        "n" * 1_000_000,
        " " * 1_000_000 + "a",
        "a" + " " * 1_000_000 + "a",
        "a=" + "=" * 1_000_000,
        "a=" + "x" * 2_000_000,
        "<>" * 500_000,
    ],
    ids=str.__len__,
)
def test_hostile_words_are_refused(word: str) -> None:
    with pytest.raises(UsageError) as caught:
        read([word])
    assert len(str(caught.value)) < 500


# Declared fields.

DECLARED: dict[str, FieldType] = {"tag": "keyword", "year": "number", "open": "boolean", "day": "datetime"}
ALL_DECLARED = '"tag" (keyword), "year" (number), "open" (boolean), "day" (datetime)'


@pytest.mark.parametrize(
    "value",
    [
        {"tag": "python", "year": 2020, "open": True, "day": "2020-01-31"},
        {"tag": {"in": ["a", "2020-01-31"]}, "year": {"gt": 1, "lt": 2.5}, "day": {"gt": "2020-01-31"}},
        {"or": [{"tag": {"exists": True}}, {"not": {"open": {"exists": False}}}]},
    ],
)
def test_declared_fields_may_be_asked_for(value: dict[str, Any]) -> None:
    check_fields(parse_filter(value), DECLARED)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (
            {"and": [{"tag": "x"}, {"not": {"size": {"exists": True}}}]},
            f'the filter asks for the field "size", which is not declared; declared: {ALL_DECLARED}',
        ),
        ({"tag": 1}, 'the field "tag" is declared as keyword; the filter compares it with 1'),
        ({"tag": {"in": ["a", True]}}, 'the field "tag" is declared as keyword; the filter compares it with true'),
        ({"year": "2020"}, 'the field "year" is declared as number; the filter compares it with "2020"'),
        ({"year": True}, 'the field "year" is declared as number; the filter compares it with true'),
        ({"open": 1}, 'the field "open" is declared as boolean; the filter compares it with 1'),
        ({"day": "soon"}, 'the field "day" is declared as datetime; the filter compares it with "soon"'),
        ({"day": {"gt": 1}}, 'the field "day" is declared as datetime; the filter compares it with a range of numbers'),
        (
            {"tag": {"gt": "2020-01-31"}},
            'the field "tag" is declared as keyword; the filter compares it with a range of dates',
        ),
    ],
)
def test_what_is_not_declared_so_is_refused(value: dict[str, Any], sentence: str) -> None:
    condition = parse_filter(value)
    check_fields(condition, None)
    with pytest.raises(UsageError) as caught:
        check_fields(condition, DECLARED)
    assert str(caught.value) == sentence


def test_nothing_is_declared() -> None:
    with pytest.raises(UsageError, match=r'field "a", which is not declared; declared: none$'):
        check_fields(parse_filter({"a": 1}), {})
