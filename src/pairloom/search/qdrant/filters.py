"""Filters as Qdrant has them, and how metadata is kept there so that both mean the same.

Qdrant's own matching differs from ours: only whole numbers can be equal, a null in a list is a value, a date is what its
parser takes for one, and a field that is filtered by without an index silently costs recall. So beside the metadata itself,
which is only given back, a point has the values of its declared fields, as `pairloom.search.filters.values` sees them::

    "facets": {"year": {"text": ["2024"], "number": [2024.0]},
               "when": {"text": ["2024-05-01"], "instant": ["2024-05-01T00:00:00.000000Z"]}},
    "present": ["when", "year"]

By texts it is found what equals, numbers too, which could lose their last digit on their way through JSON; by numbers and
instants what lies between bounds. Each of these lists has an index, and a filter asks for nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Literal, cast

from qdrant_client import models

from pairloom.errors import UsageError
from pairloom.search.filters.conditions import And, Condition, Equals, Exists, In, Not, Or, Range
from pairloom.search.filters.values import Kind, Scalar, instant, scalar, shown, values_of
from pairloom.search.protocol import FieldType

_FACETS, _PRESENT = "facets", "present"
_Indexed = Literal["text", "number", "boolean", "instant"]
_INDEXES: Mapping[FieldType, Mapping[_Indexed, models.PayloadSchemaType]] = {
    "keyword": {"text": models.PayloadSchemaType.KEYWORD},
    "number": {"text": models.PayloadSchemaType.KEYWORD, "number": models.PayloadSchemaType.FLOAT},
    "boolean": {"boolean": models.PayloadSchemaType.BOOL},
    "datetime": {"text": models.PayloadSchemaType.KEYWORD, "instant": models.PayloadSchemaType.DATETIME},
}
"""What a field of a type can be asked for, and with which index."""

_NOT_PLAIN = re.compile("[^A-Za-z0-9]")
_MAX_KEYWORD = 256
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST_INSTANT = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST_INSTANT = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def payload_indexes(fields: Mapping[str, FieldType]) -> dict[str, models.PayloadSchemaType]:
    """The places in a payload that filters ask for, and the index that each needs."""
    return {
        _PRESENT: models.PayloadSchemaType.KEYWORD,
        **{_place(field, kind): index for field, type_ in fields.items() for kind, index in _INDEXES[type_].items()},
    }


def facet_payload(metadata: Mapping[str, Any], fields: Mapping[str, FieldType]) -> dict[str, Any]:
    """The part of a payload that filters ask for.

    Raises:
        UsageError: A value is out of what a server can compare.
    """
    facets: dict[str, dict[str, list[Any]]] = {}
    present: set[str] = set()
    for name, raw in values_of(metadata):
        present.update(field for field in fields if name == field or name.startswith(f"{field}."))
        if name not in fields:
            continue
        for kind, made in _indexed(scalar(raw), fields[name], name).items():
            kept = facets.setdefault(_plain(name), {}).setdefault(kind, [])
            if made not in kept:
                kept.append(made)
    return {_FACETS: facets, _PRESENT: sorted(present)}


def facet_place(field: str, type_: FieldType) -> str:
    """Where in a payload a declared field has the values by which the server can count it."""
    return _place(field, "boolean" if type_ == "boolean" else "text")


def facet_value(kept: str | int | bool, type_: FieldType) -> str | int | float | bool | None:
    """The value that stands there as a person knows it; None of a long string, of which only a digest is kept there."""
    if not isinstance(kept, str):
        return bool(kept)
    if kept.startswith("\0"):
        return None
    return cast("int | float", json.loads(kept)) if type_ == "number" else kept


def as_qdrant(condition: Condition) -> models.Filter:
    """A condition, whose fields are declared and of their types, as Qdrant has it."""
    match condition:
        case And(parts):
            return models.Filter(must=[as_qdrant(part) for part in parts])
        case Or(parts):
            return models.Filter(should=[as_qdrant(part) for part in parts])
        case Not(part):
            return models.Filter(must_not=[as_qdrant(part)])
        case Equals(field, value):
            return models.Filter(must=[_equals(field, value)])
        case In(field, values):
            return models.Filter(should=_in(field, values))
        case Exists(field):
            return models.Filter(must=[_has(_PRESENT, field)])
        case Range(field):
            bounds = _number_range(condition) if condition.kind == "number" else _instant_range(condition)
            if bounds is None:
                has = _has(_PRESENT, field)
                return models.Filter(must=[has], must_not=[has])  # which nothing fulfils
            return models.Filter(must=[models.FieldCondition(key=_place(field, condition.kind), range=bounds)])


def _indexed(value: Scalar, type_: FieldType, field: str) -> dict[_Indexed, str | float | bool]:
    """A value as the indexes of its field have it; nothing if the field is declared as something else."""
    raw = value.value
    if isinstance(raw, str):
        if type_ == "keyword":
            return {"text": _keyword(raw)}
        when = instant(raw) if type_ == "datetime" else None
        if when is None:
            return {}
        if not _FIRST_INSTANT <= when <= _LAST_INSTANT:
            raise UsageError(
                f"the field {shown(field)} is {shown(raw)}, which is not within the years 1 to 9999 of UTC"
            )
        return {
            "text": _keyword(raw),
            "instant": _datetime(when).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        }
    if isinstance(raw, bool):
        return {"boolean": raw} if type_ == "boolean" else {}
    if type_ != "number":
        return {}
    if float(raw) != raw:
        raise UsageError(
            f"the field {shown(field)} is {raw}, which a Qdrant server can only compare as {float(raw):.0f}; declare it as a "
            "keyword and write it as a string"
        )
    return {"text": str(raw), "number": float(raw)}


def _equals(field: str, value: Scalar) -> models.Condition:
    if isinstance(value.value, bool):
        return _has(_place(field, "boolean"), value.value)
    return _has(_place(field, "text"), _text(value))


def _in(field: str, values: Sequence[Scalar]) -> list[models.Condition]:
    texts = [_text(value) for value in values if not isinstance(value.value, bool)]
    others = [_equals(field, value) for value in values if isinstance(value.value, bool)]
    if texts:
        others.append(models.FieldCondition(key=_place(field, "text"), match=models.MatchAny(any=texts)))
    return others


def _text(value: Scalar) -> str:
    return _keyword(value.value) if isinstance(value.value, str) else str(value.value)


def _has(place: str, value: str | bool) -> models.Condition:
    return models.FieldCondition(key=place, match=models.MatchValue(value=value))


def _number_range(wanted: Range) -> models.Range:
    """The range over float64, which all kept values are, whatever the bounds are."""
    bounds: dict[str, float] = {}
    for name, upwards in (("gt", True), ("gte", True), ("lt", False), ("lte", False)):
        bound = getattr(wanted, name)
        if bound is None:
            continue
        near = float(bound)
        if near != bound:
            # Between the bound and the float64 beside it there is no other.
            beyond = near > bound
            name = ("gte" if beyond else "gt") if upwards else ("lt" if beyond else "lte")
        bounds[name] = near
    return models.Range(**bounds)


def _instant_range(wanted: Range) -> models.DatetimeRange | None:
    """The range over the instants that can be kept; None if none of them is within."""
    bounds: dict[str, datetime] = {}
    for name in ("gt", "gte"):
        bound = getattr(wanted, name)
        if bound is not None and bound > _LAST_INSTANT:
            return None
        if bound is not None:
            bounds[name if bound >= _FIRST_INSTANT else "gte"] = _datetime(max(int(bound), _FIRST_INSTANT))
    for name in ("lt", "lte"):
        bound = getattr(wanted, name)
        if bound is not None and bound < _FIRST_INSTANT:
            return None
        if bound is not None:
            bounds[name if bound <= _LAST_INSTANT else "lte"] = _datetime(min(int(bound), _LAST_INSTANT))
    return models.DatetimeRange(**bounds)


def _datetime(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND


def _keyword(text: str) -> str:
    """A string as it is looked up: itself, or if it is long, a digest, which no string looks like that is kept itself."""
    if len(text) <= _MAX_KEYWORD and not text.startswith("\0"):
        return text
    return "\0" + blake2b(text.encode(), digest_size=16).hexdigest()


def _place(field: str, kind: Kind | _Indexed) -> str:
    return f"{_FACETS}.{_plain(field)}.{kind}"


def _plain(field: str) -> str:
    """A field's name out of letters, digits and underscores, which paths in payloads take without quotes; each has its own."""
    return _NOT_PLAIN.sub(lambda character: f"_{ord(character[0]):x}_", field) or "_"
