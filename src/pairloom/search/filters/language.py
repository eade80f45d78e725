"""The language of filters, as JSON and as words of a command; ``docs/filters.md`` explains it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pairloom.errors import UsageError
from pairloom.files import json_fault
from pairloom.search.filters.conditions import (
    And,
    Condition,
    Equals,
    Exists,
    In,
    Leaf,
    Not,
    Or,
    Range,
    check_fields,
    fields_of,
    leaves,
    matches,
)
from pairloom.search.filters.values import Scalar, instant, place, scalar, shown
from pairloom.search.protocol import Filter
from pairloom.terminal import one_line

__all__ = [
    "And",
    "Condition",
    "Equals",
    "Exists",
    "In",
    "Leaf",
    "Not",
    "Or",
    "Range",
    "check_fields",
    "fields_of",
    "leaves",
    "matches",
    "parse_filter",
    "read_filter",
]

MAX_DEPTH = 16
"""So many filters may stand in each other."""
MAX_CONDITIONS = 10_000
"""So many conditions and values a filter may have."""
MAX_CHARACTERS = 1 << 20
"""So many characters its names and strings may have together."""

RESERVED = ("and", "or", "not", "fields")
"""Names that are no fields where a filter stands; beneath ``fields`` they are."""

_BOUNDS = ("gt", "gte", "lt", "lte")
_DATES = 'a date of ISO 8601, such as "2020-01-31" or "2020-01-31T12:30:00Z"'
# What begins with a further sign of comparison is a slip (tag==x, year=>2020), not a string.
_WORD = re.compile(r"([^=<>!]+)(!=|>=|<=|=|>|<)\s*([^=<>\s].*)", re.DOTALL)
_WORD_BOUNDS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_SHOWN_CHARACTERS = 60

_Steps = tuple[str | int, ...]


def parse_filter(value: Filter) -> Condition:
    """The condition that a filter means; filters that differ in order or spelling only mean equal ones.

    Raises:
        UsageError: It means none; the sentence says where, and what may stand there.
    """
    return _Parser().filter(value, (), 1)


def read_filter(words: Sequence[str]) -> Filter:
    """The filter that words of a command mean, all of which must be fulfilled.

    A word is a filter as JSON, or a field, one of ``= != > >= < <=``, and a value: ``true``, ``false``, a number, a
    string in double quotes as JSON has them, or else a string as it stands.

    Raises:
        UsageError: A word is neither, or the filter makes no sense.
    """
    parts = [_read_word(word.strip()) for word in words]
    read: Filter = parts[0] if len(parts) == 1 else {"and": parts}
    parse_filter(read)
    return read


class _Parser:
    """Counts what it has seen, so that nobody can make it work for long."""

    def __init__(self) -> None:
        self._conditions = 0
        self._characters = 0

    def filter(self, value: object, steps: _Steps, depth: int) -> Condition:
        if not isinstance(value, Mapping):
            raise _fault(steps, f'is {shown(value)}; a filter is an object, such as {{"tag": "python"}}')
        if not value:
            raise _fault(steps, "is empty; leave it out to let everything through")
        if depth > MAX_DEPTH:
            raise _fault(steps, f"is nested too deep; at most {MAX_DEPTH} filters may stand in each other")
        parts: list[Condition] = []
        for key, inner in value.items():
            name = self._name(key, steps)
            within = (*steps, name)
            match name:
                case "and" | "or":
                    parts.append(_joined(And if name == "and" else Or, self._filters(inner, within, depth)))
                case "not":
                    parts.append(_negated(self.filter(inner, within, depth + 1)))
                case "fields":
                    parts.extend(self._fields(inner, within))
                case _:
                    parts.append(self._condition(name, inner, within))
        return _joined(And, parts)

    def _filters(self, value: object, steps: _Steps, depth: int) -> list[Condition]:
        if not isinstance(value, list | tuple) or not value:
            what = "an empty list" if isinstance(value, list | tuple) else shown(value)
            raise _fault(steps, f"is {what}; it must be a list of filters{_own_name(steps)}")
        return [self.filter(one, (*steps, number), depth + 1) for number, one in enumerate(value)]

    def _fields(self, value: object, steps: _Steps) -> list[Condition]:
        if not isinstance(value, Mapping) or not value:
            what = "an empty object" if isinstance(value, Mapping) else shown(value)
            raise _fault(steps, f"is {what}; it must be an object of fields and what they must be{_own_name(steps)}")
        names = [self._name(key, steps) for key in value]
        return [self._condition(name, inner, (*steps, name)) for name, inner in zip(names, value.values(), strict=True)]

    def _condition(self, field: str, wanted: object, steps: _Steps) -> Condition:
        if not isinstance(wanted, Mapping):
            return Equals(field, self._scalar(wanted, steps))
        if set(wanted) == {"in"}:
            return self._in(field, wanted["in"], (*steps, "in"))
        if set(wanted) == {"exists"}:
            return self._exists(field, wanted["exists"], (*steps, "exists"))
        if wanted and set(wanted) <= set(_BOUNDS):
            return self._range(field, wanted, steps)
        raise _fault(steps, _no_comparison(field, wanted))

    def _in(self, field: str, wanted: object, steps: _Steps) -> Condition:
        if not isinstance(wanted, list | tuple) or not wanted:
            what = "an empty list" if isinstance(wanted, list | tuple) else shown(wanted)
            raise _fault(steps, f"is {what}; it must be a list of values")
        values = sorted({self._scalar(one, (*steps, number)) for number, one in enumerate(wanted)})
        return Equals(field, values[0]) if len(values) == 1 else In(field, tuple(values))

    def _exists(self, field: str, wanted: object, steps: _Steps) -> Condition:
        if not isinstance(wanted, bool):
            raise _fault(steps, f"is {shown(wanted)}; it must be true or false")
        self._count(1, 0, steps)
        return Exists(field) if wanted else Not(Exists(field))

    def _range(self, field: str, wanted: Mapping[str, object], steps: _Steps) -> Condition:
        for one, other in (("gt", "gte"), ("lt", "lte")):
            if one in wanted and other in wanted:
                raise _fault(steps, f"has both {one} and {other}; give one of them")
        bounds = {name: self._bound(bound, (*steps, name)) for name, bound in wanted.items()}
        kinds = {kind for kind, _ in bounds.values()}
        if len(kinds) > 1:
            raise _fault(steps, "has a number and a date as its bounds; give two of one kind")
        return Range(field, kinds.pop(), **{name: number for name, (_, number) in bounds.items()})

    def _bound(self, bound: object, steps: _Steps) -> tuple[Literal["number", "instant"], int | float]:
        value = self._scalar(bound, steps).value
        if isinstance(value, bool):
            raise _fault(steps, f"is {shown(value)}; a bound is a number, or {_DATES}")
        if not isinstance(value, str):
            return "number", value
        if (when := instant(value)) is None:
            raise _fault(steps, f"is {shown(value)}; a bound that is a string must be {_DATES}")
        return "instant", when

    def _scalar(self, value: object, steps: _Steps) -> Scalar:
        if value is None:
            raise _fault(steps, 'is null, which counts as absent; ask for {"exists": false}')
        if isinstance(value, list | tuple):
            raise _fault(steps, 'is a list; ask for {"in": […]}')
        try:
            made = scalar(value)
        except ValueError as error:
            raise _fault(steps, str(error)) from None
        self._count(1, len(made.value) if isinstance(made.value, str) else 0, steps)
        return made

    def _name(self, name: object, steps: _Steps) -> str:
        if not isinstance(name, str):
            raise _fault(steps, f"has the name {shown(name)}; names are strings")
        try:
            plain = str(scalar(name).value)
        except ValueError as error:
            raise _fault(steps, f"has the name {shown(name)}, which {error}") from None
        self._count(0, len(plain), steps)
        return plain

    def _count(self, conditions: int, characters: int, steps: _Steps) -> None:
        self._conditions += conditions
        self._characters += characters
        if self._conditions > MAX_CONDITIONS:
            raise _fault(steps, f"is too much; a filter has at most {MAX_CONDITIONS:,} conditions and values")
        if self._characters > MAX_CHARACTERS:
            raise _fault(steps, f"is too much; a filter has at most {MAX_CHARACTERS:,} characters")


def _fault(steps: _Steps, message: str) -> UsageError:
    return UsageError(f"{place('filter', steps)} {message}")


def _own_name(steps: _Steps) -> str:
    return f'; a field of that name is written {{"fields": {{{shown(steps[-1])}: …}}}}'


def _no_comparison(field: str, wanted: Mapping[Any, object]) -> str:
    """Why an object says nothing about a field."""
    allowed = "an object here has in, or exists, or bounds (gt or gte, lt or lte)"
    unknown = [word for word in wanted if word not in ("in", "exists", *_BOUNDS)]
    if not unknown:
        return f"{'has in or exists beside others' if wanted else 'is an empty object'}; {allowed}"
    inner = shown(f"{field}.{unknown[0]}")
    return f"has {shown(unknown[0])}; {allowed}, and a field within a field is written {inner}"


def _joined(kind: type[And] | type[Or], parts: Iterable[Condition]) -> Condition:
    flat: set[Condition] = set()
    for part in parts:
        flat.update(part.parts if isinstance(part, kind) else (part,))
    return flat.pop() if len(flat) == 1 else kind(tuple(sorted(flat, key=repr)))


def _negated(condition: Condition) -> Condition:
    return condition.part if isinstance(condition, Not) else Not(condition)


def _read_word(word: str) -> Filter:
    if word.startswith("{"):
        return dict(_read_json(word, word))
    found = _WORD.fullmatch(word)
    if found is None or not (name := found[1].strip()):
        raise UsageError(
            f"{one_line(word, _SHOWN_CHARACTERS) or 'an empty word'} is no filter; write tag=python, tag!=python, "
            'year>=2020, open=true, id="01" for a string that looks like something else (the shell wants \'id="01"\'), '
            'or JSON such as {"tag": {"in": ["a", "b"]}}'
        )
    value = _read_value(found[3], word)
    comparison = {name: value if found[2] in ("=", "!=") else {_WORD_BOUNDS[found[2]]: value}}
    named: Filter = {"fields": comparison} if name in RESERVED else comparison
    return {"not": named} if found[2] == "!=" else named


def _read_value(text: str, word: str) -> object:
    if text.startswith('"') or text in ("true", "false", "null") or _NUMBER.fullmatch(text):
        return _read_json(text, word)
    return text


def _read_json(text: str, word: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the filter {one_line(word, _SHOWN_CHARACTERS)} is no JSON ({json_fault(error)})") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, unless a name stands in it twice, of which JSON would silently take the last."""
    read: dict[str, Any] = {}
    for name, value in pairs:
        if name in read:
            raise ValueError(f"{shown(name)} stands twice in an object; join the two by and")
        read[name] = value
    return read
