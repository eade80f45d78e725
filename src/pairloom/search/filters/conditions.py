"""Conditions on metadata, and what they mean.

`matches` is the definition. Whatever else evaluates conditions must agree with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pairloom.errors import UsageError
from pairloom.search.filters.values import Kind, Scalar, instant, scalar, shown, values_of
from pairloom.search.protocol import FieldType

_TYPES: Mapping[Kind, FieldType] = {"boolean": "boolean", "number": "number", "text": "keyword"}


@dataclass(frozen=True, slots=True)
class Equals:
    """The field has the value, or a list in which it is."""

    field: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class In:
    """The field has one of these values: two or more, sorted, each once."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """The field has a value between bounds.

    Args:
        field: The field.
        kind: What is compared: numbers, or instants in microseconds since 1970, UTC.
        gt: It must be greater.
        gte: It must be as great or greater; not together with ``gt``.
        lt: It must be less.
        lte: It must be as great or less; not together with ``lt``.
    """

    field: str
    kind: Literal["number", "instant"]
    gt: int | float | None = None
    gte: int | float | None = None
    lt: int | float | None = None
    lte: int | float | None = None

    def holds(self, value: Scalar) -> bool:
        """Whether a value is of the kind and within the bounds."""
        number = self._number(value)
        return (
            number is not None
            and (self.gt is None or number > self.gt)
            and (self.gte is None or number >= self.gte)
            and (self.lt is None or number < self.lt)
            and (self.lte is None or number <= self.lte)
        )

    def _number(self, value: Scalar) -> int | float | None:
        if self.kind == "instant":
            return instant(value.value) if isinstance(value.value, str) else None
        return None if isinstance(value.value, bool | str) else value.value


@dataclass(frozen=True, slots=True)
class Exists:
    """The field, or one inside it, has a value that is not null."""

    field: str


@dataclass(frozen=True, slots=True)
class And:
    """All of them: two or more, each once, in one order, none of them an `And`."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of them: two or more, each once, in one order, none of them an `Or`."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Not that, which is no `Not`; true also of documents that do not have the field."""

    part: Condition


Leaf = Equals | In | Range | Exists
"""A condition on one field."""

Condition = Leaf | And | Or | Not
"""What a filter means."""


def leaves(condition: Condition) -> Iterator[Leaf]:
    """The conditions on single fields, in the order in which they stand."""
    match condition:
        case And(parts) | Or(parts):
            for part in parts:
                yield from leaves(part)
        case Not(part):
            yield from leaves(part)
        case _:
            yield condition


def fields_of(condition: Condition) -> frozenset[str]:
    """The fields that a condition asks for."""
    return frozenset(leaf.field for leaf in leaves(condition))


def matches(condition: Condition, metadata: Mapping[str, Any]) -> bool:
    """Whether a document with this metadata, which `check_metadata` lets through, fulfils the condition."""
    values: dict[str, set[Scalar]] = {}
    for field, value in values_of(metadata):
        values.setdefault(field, set()).add(scalar(value))
    return _holds(condition, values)


def check_fields(condition: Condition, declared: Mapping[str, FieldType] | None) -> None:
    """Checks that a condition asks only for declared fields, and for values that they can have.

    Args:
        condition: The condition.
        declared: The type of each field; None if any may be asked for.

    Raises:
        UsageError: It does not.
    """
    if declared is None:
        return
    for leaf in leaves(condition):
        field = shown(leaf.field)
        if leaf.field not in declared:
            known = ", ".join(f"{shown(name)} ({kind})" for name, kind in declared.items()) or "none"
            raise UsageError(f"the filter asks for the field {field}, which is not declared; declared: {known}")
        kind = declared[leaf.field]
        if (other := _misfit(leaf, kind)) is not None:
            raise UsageError(f"the field {field} is declared as {kind}; the filter compares it with {other}")


def _holds(condition: Condition, values: Mapping[str, set[Scalar]]) -> bool:
    match condition:
        case And(parts):
            return all(_holds(part, values) for part in parts)
        case Or(parts):
            return any(_holds(part, values) for part in parts)
        case Not(part):
            return not _holds(part, values)
        case Equals(field, wanted):
            return wanted in values.get(field, ())
        case In(field, several):
            return not values.get(field, set()).isdisjoint(several)
        case Range(field):
            return any(map(condition.holds, values.get(field, ())))
        case Exists(field):
            return any(name == field or name.startswith(f"{field}.") for name in values)


def _misfit(leaf: Leaf, declared: FieldType) -> str | None:
    """What a leaf compares its field with, if the field cannot have that."""
    match leaf:
        case Exists():
            return None
        case Range(_, "number"):
            return None if declared == "number" else "a range of numbers"
        case Range():
            return None if declared == "datetime" else "a range of dates"
        case Equals(_, value):
            wanted: tuple[Scalar, ...] = (value,)
        case In(_, values):
            wanted = values
    for kind, held in wanted:
        if declared == "datetime":
            fits = isinstance(held, str) and instant(held) is not None
        else:
            fits = declared == _TYPES[kind]
        if not fits:
            return shown(held)
    return None
