"""What JSON files hold, as dataclasses: the type of every value is checked, and none is converted.

A model's files and an artifact's manifest have a dozen keys that matter; a library for them would take longer to import
than they take to read.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Kind = TypeVar("Kind")

_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
_NO_NUMBERS = (math.inf, -math.inf)
_SHOWN_CHARACTERS = 60


class JsonTypeError(ValueError):
    """A value is not of its type.

    Args:
        message: Of which type it must be.
        place: The keys and numbers that lead to it.
    """

    def __init__(self, message: str, place: tuple[str, ...]) -> None:
        super().__init__(f"{'.'.join(place)} {message}" if place else message)


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Of a number, as in ``Annotated[int, Bounds(least=1)]``."""

    least: float = -math.inf
    below: float = math.inf


def from_json(kind: type[Kind], value: Any) -> Kind:
    """Makes a dataclass, or a list or dictionary of such, of what a JSON file holds.

    Args:
        kind: What it must be: ``bool``, ``int``, ``float`` (whole numbers, too, but neither infinity nor NaN), ``str``, ``None``,
            ``Any``, unions of them, ``list``, ``dict`` with strings as keys, dataclasses.
        value: As `json.loads` gives it. Keys that a dataclass does not have belong to somebody else and are passed over.

    Raises:
        JsonTypeError: Something has another type, is out of its bounds, or is missing; the message says where.
    """
    return cast("Kind", _read(kind, value, ()))


def _read(kind: Any, value: Any, place: tuple[str, ...]) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        return _within(_read(arguments[0], value, place), arguments[1], place)
    if origin in (Union, UnionType):
        return _read_union(arguments, value, place)
    if origin is list:
        _check(isinstance(value, list), "a list", value, place)
        return [_read(arguments[0], item, (*place, str(number))) for number, item in enumerate(value)]
    if origin is dict:
        _check(isinstance(value, dict), "an object", value, place)
        return {key: _read(arguments[1], item, (*place, key)) for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        _check(isinstance(value, dict), "an object", value, place)
        return _read_object(kind, value, place)
    right = type(value) is kind or (kind is float and type(value) is int)  # for isinstance True is an int
    _check(right and value not in _NO_NUMBERS and value == value, _NAMES[kind], value, place)
    return value


def _read_union(options: tuple[Any, ...], value: Any, place: tuple[str, ...]) -> Any:
    if value is None and NoneType in options:
        return None
    options = tuple(option for option in options if option is not NoneType)
    if len(options) == 1:
        return _read(options[0], value, place)
    faults = []
    for option in options:
        try:
            return _read(option, value, place)
        except JsonTypeError as fault:
            faults.append(str(fault))
    raise JsonTypeError("; or ".join(faults), ())


def _read_object(kind: Any, value: Mapping[str, Any], place: tuple[str, ...]) -> Any:
    types = _types(kind)
    given = {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            given[field.name] = _read(types[field.name], value[field.name], (*place, field.name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise JsonTypeError("is missing", (*place, field.name))
    return kind(**given)


@cache
def _types(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _within(value: Any, bounds: Bounds, place: tuple[str, ...]) -> Any:
    _check(value >= bounds.least, f"at least {bounds.least:,}", value, place)
    _check(value < bounds.below, f"less than {bounds.below:,}", value, place)
    return value


def _check(right: bool, what: str, value: Any, place: tuple[str, ...]) -> None:
    if not right:
        shown = json.dumps(value)
        shown = shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]} …"
        raise JsonTypeError(f"must be {what}, but is {shown}" if place else f"must be {what}", place)
