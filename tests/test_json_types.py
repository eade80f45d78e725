"""JSON values become dataclasses, and whatever has another type is refused with its place."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairloom.json_types import Bounds, JsonTypeError, from_json


@dataclass(frozen=True)
class Leg:
    length: Annotated[float, Bounds(least=0, below=100)]
    name: str = "leg"


@dataclass(frozen=True)
class Table:
    legs: list[Leg]
    wood: str | None = None
    drawers: Annotated[int, Bounds(least=1)] | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    labels: str | list[str] = ""
    folds: bool = False
    more: Any = None


def test_values_become_dataclasses_within_each_other() -> None:
    raw = json.loads(
        '{"legs": [{"length": 7}, {"length": 0.5, "name": "b"}], "wood": "oak", "drawers": 2, "sizes": {"a": 1},'
        ' "labels": ["x"], "folds": true, "more": [{"a": null}], "somebody_else\'s": 3}'
    )
    assert from_json(Table, raw) == Table(
        [Leg(7), Leg(0.5, "b")], "oak", 2, {"a": 1}, ["x"], folds=True, more=[{"a": None}]
    )
    assert from_json(Table, {"legs": []}) == Table([])
    assert from_json(Table, {"legs": [], "wood": None, "drawers": None}) == Table([])
    assert from_json(list[Leg], [{"length": 1}]) == [Leg(1)]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], "must be an object"),
        ({}, "legs is missing"),
        ({"legs": {}}, "legs must be a list, but is {}"),
        ({"legs": [{"length": 1}, {}]}, "legs.1.length is missing"),
        ({"legs": [3]}, "legs.0 must be an object, but is 3"),
        ({"legs": [{"length": "3"}]}, 'legs.0.length must be a number, but is "3"'),
        ({"legs": [{"length": True}]}, "legs.0.length must be a number, but is true"),
        ({"legs": [{"length": math.nan}]}, "legs.0.length must be a number, but is NaN"),
        ({"legs": [{"length": -math.inf}]}, "legs.0.length must be a number, but is -Infinity"),
        ({"legs": [{"length": -1}]}, "legs.0.length must be at least 0, but is -1"),
        ({"legs": [{"length": 10**400}]}, "legs.0.length must be less than 100, but is 1000"),
        ({"legs": [], "wood": 3}, "wood must be a string, but is 3"),
        ({"legs": [], "drawers": 0}, "drawers must be at least 1, but is 0"),
        ({"legs": [], "drawers": 1.0}, "drawers must be a whole number, but is 1.0"),
        ({"legs": [], "drawers": True}, "drawers must be a whole number, but is true"),
        ({"legs": [], "sizes": {"a": "b"}}, 'sizes.a must be a whole number, but is "b"'),
        ({"legs": [], "sizes": []}, "sizes must be an object, but is []"),
        ({"legs": [], "labels": 3}, "labels must be a string, but is 3; or labels must be a list, but is 3"),
        ({"legs": [], "folds": 1}, "folds must be true or false, but is 1"),
        ({"legs": [], "folds": None}, "folds must be true or false, but is null"),
        ({"legs": [], "wood": ["\ud800" * 99]}, 'wood must be a string, but is ["\\ud800'),
    ],
)
def test_what_has_another_type_is_refused_with_its_place(raw: Any, message: str) -> None:
    with pytest.raises(JsonTypeError) as refused:
        from_json(Table, raw)
    assert str(refused.value).startswith(message)
    assert len(str(refused.value)) < 200


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["legs", "length", "name", "wood", "drawers", "sizes", "labels", "folds"]) | st.text(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_any_json_is_read_or_refused(raw: Any) -> None:
    """What is read says of itself what was written, as far as it was said."""
    try:
        table = from_json(Table, raw)
    except JsonTypeError:
        return
    assert table.wood == raw.get("wood")
    assert [leg.length for leg in table.legs] == [leg["length"] for leg in raw["legs"]]
    assert type(table.folds) is bool
