"""Texts in JSON records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pairloom.encode.fields import ID_FIELDS, NOTHING, Record, Wanted, joined, well_formed
from pairloom.errors import InputError

_ABSENT = object()


def json_texts(records: Iterable[tuple[int, Any]], wanted: Wanted, path: Path | str) -> Iterator[Record]:
    """Yields each numbered record's text, and what is wanted besides.

    Args:
        records: Lines' numbers and what stands on them.
        wanted: A field is a key, or a number that counts into a list; dots lead inwards (``texts.1``), unless a key
            has the dots in it. Without a field a record may be a mere string.
        path: For messages.

    Raises:
        InputError: A record has no such text, or an id that is neither a string nor a whole number.
    """
    for number, record in records:
        text = _text_of(record, wanted.field, path, number)
        name = _id_of(record, wanted.id_field, path, number)
        yield Record(
            number,
            None if name is None else well_formed(name, wanted.errors, path, number),
            well_formed(text, wanted.errors, path, number),
            _rest_of(record, wanted),
        )


def _text_of(record: Any, field: str | None, path: Path | str, number: int) -> str:
    if field is None and isinstance(record, str):
        return record
    if field is None and isinstance(record, dict):
        text, title = record.get("text"), record.get("title")
        if not isinstance(text, str):
            raise InputError("has no field 'text' that holds a string; name another one with --field", path, number)
        if not isinstance(title, str | None):
            raise InputError(
                f"field 'title' is {type(title).__name__}, not a string; or name one field with --field", path, number
            )
        return joined(title, text)
    if field is None:
        raise InputError("is neither a string nor an object; name the text's place with --field", path, number)
    text = _find(record, field, path, number)
    if not isinstance(text, str):
        raise InputError(f"field {field!r} is {type(text).__name__}, not a string", path, number)
    return text


def _id_of(record: Any, field: str | None, path: Path | str, number: int) -> str | None:
    if field is not None:
        name = _find(record, field, path, number)
    elif isinstance(record, dict) and (key := next((key for key in ID_FIELDS if key in record), None)):
        name = record[key]
    else:
        return None
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        raise InputError(f"has the id {name!r}; an id is a string or a number", path, number)
    return str(name)


def _rest_of(record: Any, wanted: Wanted) -> Mapping[str, Any]:
    """What is wanted besides; if only some of it, the whole record, since it costs nothing."""
    if wanted.rest == () or not isinstance(record, dict):
        return NOTHING
    if wanted.rest is not None:
        return record
    used = {wanted.id_field or next((key for key in ID_FIELDS if key in record), None)}
    if wanted.field is None:
        used |= {"title", "text"}
    else:
        used.add(wanted.field if wanted.field in record else wanted.field.partition(".")[0])
    return {name: value for name, value in record.items() if name not in used}


def _find(record: Any, field: str, path: Path | str, number: int) -> Any:
    found = find(record, field, _ABSENT)
    if found is _ABSENT:
        raise InputError(f"has no field {field!r}", path, number)
    return found


def find(record: Any, field: str, default: Any = None) -> Any:
    """What stands in a record under a name, or where the dots in the name lead."""
    if isinstance(record, dict) and field in record:
        return record[field]
    found = _walk(record, field.split("."))
    return default if found is _ABSENT else found


def _walk(record: Any, parts: list[str]) -> Any:
    for part in parts:
        if isinstance(record, dict) and part in record:
            record = record[part]
        elif isinstance(record, list) and part.isdecimal() and int(part) < len(record):
            record = record[int(part)]
        else:
            return _ABSENT
    return record
