"""Metadata and filters drawn from few names and values, so that they often meet, and from those that are easily confused."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from pairloom.search.filters.language import RESERVED

NAMES = ("a", "b", "a.b", "and", "größe", "it's \"; DROP TABLE facets --")
NUMBERS = (0, -0.0, 1, 1.0, -1, 2.5, 0.1, 2**53, 2**53 + 1, float(2**53), 2**63 - 1, -(2**63), 1e19, -1e300, 5e-324)
DATES = (
    "2020-01-31",
    "2020-01-31T00:00:00Z",
    "2020-01-31T01:00:00+01:00",
    "2020-01-30T23:59:59.999999",
    "2020-01-31T00:00:00.000001Z",
    "0001-01-01T00:00+23:59",
    "9999-12-31T23:59:59-23:59",
)
TEXTS = (
    *("", "a", "A", "1", "1.0", "true", "null", "2021-02-29", "20200131", "it's \"; DROP TABLE facets --"),
    *("\N{LATIN SMALL LETTER E WITH ACUTE}", "e\N{COMBINING ACUTE ACCENT}", "a\0b", "\N{PILE OF POO}"),
    *("x" * 256, "x" * 257, "x" * 256 + "y"),
)
SCALARS = (True, False, *NUMBERS, *DATES, *TEXTS)

names = st.sampled_from(NAMES)
scalars = st.sampled_from(SCALARS)
_values = st.recursive(
    st.none() | scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
metadata = st.dictionaries(names, _values, max_size=3)
_fields = names | st.sampled_from(["a.a", "b.a", "a.b.a", "a.and", "nowhere"])


@st.composite
def _ranges(draw: st.DrawFn) -> dict[str, Any]:
    bounds = st.sampled_from(draw(st.sampled_from([NUMBERS, DATES])))
    sides = draw(st.sampled_from([("low",), ("high",), ("low", "high")]))
    choices = {"low": ["gt", "gte"], "high": ["lt", "lte"]}
    return {draw(st.sampled_from(choices[side])): draw(bounds) for side in sides}


@st.composite
def _conditions(draw: st.DrawFn) -> dict[str, Any]:
    field = draw(_fields)
    several = st.lists(scalars, min_size=1, max_size=4).map(lambda values: {"in": values})
    wanted = draw(scalars | several | st.booleans().map(lambda there: {"exists": there}) | _ranges())
    return {"fields": {field: wanted}} if field in RESERVED or draw(st.booleans()) else {field: wanted}


filters: st.SearchStrategy[dict[str, Any]] = st.recursive(
    _conditions(),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"and": parts})
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"or": parts})
        | inner.map(lambda part: {"not": part})
        | st.tuples(inner, inner).map(lambda parts: {**parts[0], **parts[1]})
    ),
    max_leaves=5,
)
