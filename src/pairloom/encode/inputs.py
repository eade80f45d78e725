"""Texts to encode, from files: plain lines, JSON lines, task folders and shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pairloom.artifacts import is_artifact, read_manifest
from pairloom.errors import InputError
from pairloom.files import read_json_lines, read_lines
from pairloom.records import Text

_NOTHING = object()


def read_texts(path: Path, field: str | None = None) -> Iterator[Text]:
    """Yields the texts of a file or folder, one by one.

    Args:
        path: ``.txt``, a text a line; ``.jsonl``, a record a line; both also with ``.gz``; a task folder, whose
            corpus is read; a folder of shards.
        field: Which field of a record, or column of shards, holds the text; a number counts into a list and dots
            lead inwards (``texts.1``). By default
            ``title`` and ``text`` joined, as in BEIR's corpora, and the positives of shards.

    Raises:
        InputError: The file cannot be read, or a line has no such text; the message has its number.
    """
    if path.is_dir():
        yield from _read_folder(path, field)
    elif path.name.removesuffix(".gz").endswith(".jsonl"):
        yield from _read_records(path, field)
    elif path.name.removesuffix(".gz").endswith(".txt"):
        for number, line in read_lines(path):
            if line.strip():
                yield Text(str(number), line)
    elif not path.exists():
        raise InputError("no such file or folder", path)
    else:
        raise InputError("give a .txt or .jsonl file (also with .gz), a task folder or a folder of shards", path)


def _read_folder(path: Path, field: str | None) -> Iterator[Text]:
    for name in ("corpus.jsonl", "corpus.jsonl.gz"):
        if (path / name).is_file():
            yield from _read_records(path / name, field)
            return
    if not is_artifact(path):
        raise InputError("neither a task folder (it has no corpus.jsonl) nor a folder of shards", path)
    read_manifest(path, "shards")
    from pairloom.pairs.shards import Shards

    shards = Shards(path)
    column = field or "positive"
    if column not in shards.columns:
        raise InputError(f"has no column {column!r}; it has {', '.join(shards.columns)}", path)
    for number, pair in enumerate(shards):
        yield Text(str(number), pair.texts[shards.columns.index(column)])


def _read_records(path: Path, field: str | None) -> Iterator[Text]:
    for number, record in read_json_lines(path):
        text = _text_of(record, field, path, number)
        name = record.get("_id", record.get("id", number)) if isinstance(record, dict) else number
        if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
            raise InputError(f"has the id {name!r}; an id is a string or a number", path, number)
        yield Text(str(name), text)


def _text_of(record: Any, field: str | None, path: Path, number: int) -> str:
    if field is None and isinstance(record, str):
        return record
    if field is None and isinstance(record, dict):
        text = record.get("text")
        title = record.get("title") or ""
        if not isinstance(text, str) or not isinstance(title, str):
            raise InputError("has no field 'text' that holds a string; name another one with --field", path, number)
        return f"{title} {text}".strip()
    if field is None:
        raise InputError("is neither a string nor an object; name the text's place with --field", path, number)
    text = record[field] if isinstance(record, dict) and field in record else _walk(record, field.split("."))
    if text is _NOTHING:
        raise InputError(f"has no field {field!r}", path, number)
    if not isinstance(text, str):
        raise InputError(f"field {field!r} is {type(text).__name__}, not a string", path, number)
    return text


def _walk(record: Any, parts: list[str]) -> Any:
    for part in parts:
        if isinstance(record, dict) and part in record:
            record = record[part]
        elif isinstance(record, list) and part.isdecimal() and int(part) < len(record):
            record = record[int(part)]
        else:
            return _NOTHING
    return record
