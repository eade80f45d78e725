"""What values of metadata are when they are compared: their kinds, the instants that strings name, the fields they are in."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Literal, NamedTuple

from pairloom.terminal import printable

Kind = Literal["boolean", "number", "text"]

# What SQLite and Qdrant hold as a whole number.
_LEAST, _MOST = -(2**63), 2**63 - 1
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_INSTANT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?"
    r"(?:[Zz]|([+-])(\d\d)(?::?(\d\d))?)?)?",
    re.ASCII,
)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_PLAIN_NAME = re.compile(r"[\w.-]{1,40}")
_SHOWN_CHARACTERS, _SHOWN_PLACE = 40, 120


class Scalar(NamedTuple):
    """A value as it is compared. The kind keeps ``true`` apart from 1, which Python holds for equal."""

    kind: Kind
    value: bool | int | float | str


def scalar(value: object) -> Scalar:
    """A string, number or boolean as it is compared; 1.0 becomes 1.

    Raises:
        ValueError: It is none, or one that JSON, SQLite or UTF-8 cannot hold; the message is the rest of a sentence that
            begins with the value's place.
    """
    if isinstance(value, str):
        if not value.isascii() and (half := _LONE_SURROGATE.search(value)):
            raise ValueError(f"holds \\u{ord(half[0]):04x}, which is half of a character (a lone surrogate)")
        return Scalar("text", str.__str__(value))  # plain, so that equal ones look alike, too
    if isinstance(value, bool):
        return Scalar("boolean", value)
    if isinstance(value, int):
        if not _LEAST <= value <= _MOST:
            raise ValueError("is a whole number beyond 64 bits; write it as a string")
        return Scalar("number", int(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"is {shown(value)}, which JSON does not have")
        whole = value.is_integer() and _LEAST <= value <= _MOST
        return Scalar("number", int(value) if whole else float(value))
    raise ValueError(f"is {shown(value)}; it must be a string (dates, too), a number, true or false")


def instant(text: str) -> int | None:
    """The instant that a string names, in microseconds since 1970; None if it names none.

    An instant is a date of ISO 8601 in its long form (``2020-01-31``), which is its midnight, or a date and a time
    (``2020-01-31T12:30``, with seconds, with up to nine digits after their point, of which six count). Without a zone
    (``Z``, ``+01:00``) it is UTC. The 60th second of a minute, which only some clocks have, is not known here.
    """
    found = _INSTANT.fullmatch(text)
    if found is None:
        return None
    year, month, day, *time, fraction, sign, zone_hours, zone_minutes = found.groups()
    hours, minutes, seconds = (int(number or 0) for number in time)
    ahead_hours, ahead_minutes = int(zone_hours or 0), int(zone_minutes or 0)
    if max(hours, ahead_hours) > 23 or max(minutes, seconds, ahead_minutes) > 59:
        return None
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    ahead = (ahead_hours * 60 + ahead_minutes) * (-1 if sign == "-" else 1)
    whole = ((days * 24 + hours) * 60 + minutes - ahead) * 60 + seconds
    return whole * 1_000_000 + int((fraction or "")[:6].ljust(6, "0"))


def values_of(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """``(field, value)`` of each string, number and boolean in metadata.

    A field is the names that lead to the value, joined by dots; lists are seen through, at any depth. Null, empty lists
    and empty objects have no values.
    """
    for name, value in metadata.items():
        if isinstance(value, (dict, list, tuple)):
            yield from _values(name, value)
        elif value is not None:
            yield name, value


def shown(value: object) -> str:
    """A value for a message: as JSON, short, and nothing that a terminal would obey."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            cut = value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "…"
            return printable(json.dumps(cut, ensure_ascii=False))
        case int():
            return str(value) if _LEAST <= value <= _MOST else "a number beyond 64 bits"
        case float():
            return json.dumps(value)
        case list() | tuple():
            return "a list"
        case Mapping():
            return "an object"
    return f"a Python {type(value).__name__}"


def place(root: str, steps: Sequence[str | int]) -> str:
    """Where something stands, for a message: ``filter.and[1].year``."""
    names = (
        f"[{step}]" if isinstance(step, int) else f".{step}" if _PLAIN_NAME.fullmatch(step) else f"[{shown(step)}]"
        for step in steps
    )
    whole = root + "".join(names)
    return whole if len(whole) <= _SHOWN_PLACE else f"{whole[: _SHOWN_PLACE // 2]}…{whole[-_SHOWN_PLACE // 2 :]}"


def _values(field: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _values(f"{field}.{name}", inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _values(field, inner)
    elif value is not None:
        yield field, value
