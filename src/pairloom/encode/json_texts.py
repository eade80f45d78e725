"""Texts in JSON records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pairloom.encode.fields import ID_FIELDS, Wanted, joined, well_formed
from pairloom.errors import InputError
from pairloom.records import Text

_NOTHING = object()


def json_texts(records: Iterable[tuple[int, Any]], wanted: Wanted, path: Path | str) -> Iterator[Text]:
    """Yields the text of each numbered record.

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
        yield Text(well_formed(name, wanted.errors, path, number), well_formed(text, wanted.errors, path, number))


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


def _id_of(record: Any, field: str | None, path: Path | str, number: int) -> str:
    name: Any = number
    if field is not None:
        name = _find(record, field, path, number)
    elif isinstance(record, dict):
        name = next((record[key] for key in ID_FIELDS if key in record), number)
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        raise InputError(f"has the id {name!r}; an id is a string or a number", path, number)
    return str(name)


def _find(record: Any, field: str, path: Path | str, number: int) -> Any:
    found = record[field] if isinstance(record, dict) and field in record else _walk(record, field.split("."))
    if found is _NOTHING:
        raise InputError(f"has no field {field!r}", path, number)
    return found


def _walk(record: Any, parts: list[str]) -> Any:
    for part in parts:
        if isinstance(record, dict) and part in record:
            record = record[part]
        elif isinstance(record, list) and part.isdecimal() and int(part) < len(record):
            record = record[int(part)]
        else:
            return _NOTHING
    return record
