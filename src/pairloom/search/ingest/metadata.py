"""Which fields of a record become a document's metadata, and as what."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, cast, get_args

from pairloom.encode.fields import METADATA_FIELD, whole_characters
from pairloom.encode.json_texts import find
from pairloom.errors import RecordError, UsageError
from pairloom.files import Errors
from pairloom.search.protocol import FieldType
from pairloom.terminal import one_line

# Deeper than anybody asks for, and far less than what Python's stack bears.
_MAX_DEPTH = 32
_ALL, _NONE = "*", "none"
_VECTOR = "vector"
_SHOWN_CHARACTERS = 40
_WHOLE = re.compile(r"[+-]?\d{1,400}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_EXPECTED: dict[FieldType, str] = {
    "keyword": "a string",
    "number": "a number such as 2021 or 1.5",
    "boolean": "true or false",
    "datetime": "a date such as 2021-05-03 or 2021-05-03T12:00:00Z",
}


@dataclass(frozen=True)
class MetadataFields:
    """What of a record is metadata.

    What stands in a field ``metadata``, if that is an object, counts as if it stood beside it, and goes before what does.

    Args:
        names: The fields that are wanted; dots lead inwards (``author.name``). None for all that are neither text nor
            title nor id, and no list called ``vector``, which an export may have; none at all for no metadata.
        types: What some fields hold. A string that says so becomes a number or a boolean; of a date it is made sure
            that it is one. Other fields keep the values that they have.
    """

    names: tuple[str, ...] | None = None
    types: Mapping[str, FieldType] = field(default_factory=dict)

    def with_types(self, types: Mapping[str, FieldType]) -> MetadataFields:
        """The same with what a collection declares of its fields; what is said here goes before it."""
        return MetadataFields(self.names, {**types, **self.types})

    def of(self, rest: Mapping[str, Any], errors: Errors = "strict") -> dict[str, Any]:
        """A document's metadata: JSON values, of which none is null.

        Args:
            rest: What stands beside the text.
            errors: What becomes of halves of characters.

        Raises:
            RecordError: A value is not what its field holds, or nothing that JSON has; the message names the field.
        """
        if self.names == ():
            return {}
        if isinstance(inner := rest.get(METADATA_FIELD), dict):
            rest = {**{name: value for name, value in rest.items() if name != METADATA_FIELD}, **inner}
        if self.names is not None:
            rest = {name: find(rest, name) for name in self.names}
        elif isinstance(rest.get(_VECTOR), list):
            rest = {name: value for name, value in rest.items() if name != _VECTOR}
        metadata = {}
        for name, raw in rest.items():
            try:
                value = _json_value(raw, errors)
                if name in self.types:
                    value = _fitted(value, self.types[name])
            except RecordError as fault:
                raise RecordError(f"field {one_line(name, _SHOWN_CHARACTERS)!r} {fault}") from None
            if value is not None:
                metadata[whole_characters(name, errors)] = value
        return metadata


def read_metadata_fields(words: str | None) -> MetadataFields:
    """Reads ``tag,year:number,open:boolean,when:datetime``; with ``*`` among them all are wanted, and so without any words.

    ``none`` is none of them.

    Raises:
        UsageError: It is something else.
    """
    if words is None:
        return MetadataFields()
    if words.strip() == _NONE:
        return MetadataFields(())
    named = _read_names(words, "--metadata")
    types = {name: kind for name, kind in named.items() if kind is not None}
    return MetadataFields(None if _ALL in named else tuple(named), types)


def read_field_types(words: str | None) -> dict[str, FieldType] | None:
    """Reads ``tag:keyword,year:number``, in which every name has its type; ``none`` is none of them, and None stays None.

    Raises:
        UsageError: It is something else.
    """
    if words is None:
        return None
    types: dict[str, FieldType] = {}
    if words.strip() == _NONE:
        return types
    for name, kind in _read_names(words, "--fields").items():
        if kind is None:
            raise UsageError(
                f"--fields: say what {name!r} holds, such as {name}:keyword (or {_or(get_args(FieldType)[1:])})"
            )
        types[name] = kind
    return types


def _read_names(words: str, option: str) -> dict[str, FieldType | None]:
    named: dict[str, FieldType | None] = {}
    for word in words.split(","):
        name, colon, kind = word.strip().rpartition(":")
        if not colon:
            name, kind = kind, ""
        if not name:
            raise UsageError(f"{option} {words!r}: give names with commas between them, such as tag,year:number")
        if colon and kind not in get_args(FieldType):
            raise UsageError(f"{option}: what {name!r} holds is {_or(get_args(FieldType))}, not {kind!r}")
        if name in named:
            raise UsageError(f"{option}: {name!r} is named twice")
        named[name] = cast("FieldType", kind) if colon else None
    return named


def _or(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _json_value(value: Any, errors: Errors, depth: int = 0) -> Any:
    """What JSON has for a value that was read: times as ISO 8601 has them, in UTC if no zone is known, and NaN is null."""
    match value:
        case str():
            return whole_characters(value, errors)
        case None | bool() | int():
            return value
        case list() | dict() if depth == _MAX_DEPTH:
            raise RecordError(f"is nested more than {_MAX_DEPTH} deep")
        case [(str(), _), *_] if all(isinstance(pair, tuple) for pair in value):  # an Arrow map
            return _json_value(dict(value), errors, depth)
        case list():
            return [_json_value(one, errors, depth + 1) for one in value]
        case dict():
            return {
                whole_characters(str(name), errors): _json_value(inner, errors, depth + 1)
                for name, inner in value.items()
            }
        case datetime():
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
        case date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal() if value.is_finite() and value == value.to_integral_value():
            return int(value)
    try:
        number = float(value)  # also of decimals and of NumPy's short ones
    except (TypeError, ValueError, OverflowError):
        raise RecordError(f"holds {type(value).__name__}, which metadata cannot") from None
    if math.isinf(number):
        raise RecordError("holds an infinite number")
    return None if math.isnan(number) else number


def _fitted(value: Any, kind: FieldType) -> Any:
    """The value as its field holds it; None if there is none.

    Raises:
        RecordError: It cannot be that.
    """
    if isinstance(value, list):
        return [fitted for one in value if (fitted := _fitted(one, kind)) is not None]
    if value is None or (isinstance(value, str) and kind != "keyword" and not value.strip()):
        return None
    fitted = _AS[kind](value)
    if fitted is None:
        shown = one_line(str(value) if isinstance(value, dict | bool | int | float) else repr(value), _SHOWN_CHARACTERS)
        raise RecordError(f"holds {shown}, which is not {_EXPECTED[kind]}")
    return fitted


def _keyword(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # a number that only names something
    return value if isinstance(value, str) else None


def _number(value: Any) -> int | float | None:
    if isinstance(value, str):
        word = value.strip()
        if _WHOLE.fullmatch(word):
            return int(word)
        number = float(word) if _DECIMAL.fullmatch(word) else math.inf
        return number if math.isfinite(number) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _boolean(value: Any) -> bool | None:
    if isinstance(value, str):
        return _BOOLEANS.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _datetime(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    word = value.strip()
    try:
        instant = datetime.fromisoformat(word)
    except ValueError:
        return None
    return word if _DATE.fullmatch(word) else instant.replace(tzinfo=instant.tzinfo or UTC).isoformat()


_AS: dict[FieldType, Callable[[Any], Any]] = {
    "keyword": _keyword,
    "number": _number,
    "boolean": _boolean,
    "datetime": _datetime,
}
