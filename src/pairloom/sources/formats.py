"""How the files of a dump hold their records, whatever these mean.

A `Format` reads the records of a `Piece`. A format whose records stand one after another with a known mark between them
names that mark, and its files are read in pieces of some megabytes by several processes at once; the others are read as
a whole, from beginning to end, without being held in memory.

A record that cannot be decoded is told to the piece, which counts it and stops the run when there are too many; a file
that breaks off raises `InputError`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from pairloom.errors import InputError, MissingExtraError, RecordError
from pairloom.files import json_fault

MAX_RECORD_BYTES = 256 << 20
"""No record of a dump is longer; what has no mark for so long is another kind of file."""

Numbered = Iterator[tuple[int, Any]]
"""Records with their line or number in the piece, from 1."""


@dataclass(frozen=True)
class Format:
    """A way to hold records in a file.

    Args:
        read: Yields the records of a piece.
        mark: The bytes at which a file may be cut between two records; None if it may not.
        cut: Where in the mark the cut falls: 0 before it.
    """

    read: Callable[[Piece], Numbered]
    mark: bytes | None = None
    cut: int = 0


@dataclass(frozen=True)
class InputFile:
    """A file of a dump.

    Args:
        path: Where it lies.
        format: How it is read.
        role: What it is to the views, such as ``posts`` or ``links``.
        group: A number that tells files apart that belong to different sites or subsets.
        member: Of a 7z archive, the file in it that is read.
        origin: The folder under which the file is noted in the manifest, where there are thousands; None for itself.
        expansion: How many times its size the pairs have, roughly, where its records only name texts of other files.
    """

    path: Path
    format: Format
    role: str = ""
    group: int = 0
    member: str | None = None
    origin: Path | None = None
    expansion: int = 1


@dataclass(frozen=True)
class Piece:
    """A stretch of a file between two cuts, or the whole of it.

    Args:
        file: Whose piece it is.
        stream: Its bytes, decompressed.
        broken: Takes the number and the fault of a record that cannot be read.
        is_first: Whether the file begins here.
        is_last: Whether the file ends here.
    """

    file: InputFile
    stream: BinaryIO
    broken: Callable[[int, str], None]
    is_first: bool = True
    is_last: bool = True

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yields number and text of each line; a byte-order mark and line ends are no part of it."""
        for number, raw in enumerate(self.stream, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 and self.is_first else "utf-8")
            except UnicodeDecodeError as error:
                self.broken(number, f"not UTF-8 (byte {error.start + 1} of the line)")
                continue
            yield number, line.rstrip("\r\n")


def _text_lines(piece: Piece) -> Numbered:
    return ((number, line) for number, line in piece.lines() if line.strip())


def _json_lines(piece: Piece) -> Numbered:
    for number, line in _text_lines(piece):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            piece.broken(number, f"not JSON ({json_fault(error)})")
        else:
            yield number, record


def _tab_lines(piece: Piece, *, num_columns: int) -> Numbered:
    for number, line in _text_lines(piece):
        columns = line.split("\t")
        if len(columns) == num_columns:
            yield number, columns
        else:
            piece.broken(number, f"{len(columns)} columns instead of {num_columns}")


TEXT_LINES = Format(_text_lines, b"\n", 1)
"""Lines of text; blank ones are skipped."""

JSON_LINES = Format(_json_lines, b"\n", 1)
"""A JSON value on each line."""


def tab_lines(num_columns: int) -> Format:
    """Lines of columns with tabs between them, without quotes: a list of texts each."""
    return Format(partial(_tab_lines, num_columns=num_columns), b"\n", 1)


def _whole(piece: Piece) -> Numbered:
    content = piece.stream.read(MAX_RECORD_BYTES + 1)
    if len(content) > MAX_RECORD_BYTES:
        raise InputError(
            f"is larger than {MAX_RECORD_BYTES >> 20} MiB, which no record of this dump is", piece.file.path
        )
    yield 1, content


WHOLE = Format(_whole)
"""A file is one record: its bytes."""


def _json_whole(piece: Piece) -> Numbered:
    for number, content in _whole(piece):
        try:
            yield number, json.loads(content.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            piece.broken(number, f"not JSON ({json_fault(error, lines=True)})")


JSON_WHOLE = Format(_json_whole)
"""A file is one record: a JSON value."""


def _json_items(piece: Piece, *, prefix: str) -> Numbered:
    with json_document(piece) as (ijson, stream):
        yield from enumerate(ijson.items(stream, prefix, use_float=True), start=1)


@contextmanager
def json_document(piece: Piece) -> Iterator[tuple[Any, BinaryIO]]:
    """For streaming a JSON document: the module ijson, whose complaints become ours, and the bytes without their mark."""
    try:
        import ijson
    except ImportError:
        raise MissingExtraError("reading large JSON files", "ijson", "data") from None
    stream = io.BufferedReader(cast("io.RawIOBase", piece.stream))
    if stream.peek(3)[:3] == b"\xef\xbb\xbf":
        stream.read(3)  # a byte-order mark is no JSON
    try:
        yield ijson, cast("BinaryIO", stream)
    except ijson.IncompleteJSONError as error:
        raise InputError(
            f"not whole JSON ({_first_line(error)}); if the file is cut, fetch it again", piece.file.path
        ) from None
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise InputError(f"not JSON ({_first_line(error)})", piece.file.path) from None
    finally:
        if not stream.closed:
            stream.detach()  # or it would close, and complain of, a stream that is not its own


def json_items(prefix: str) -> Format:
    """The items of a list in a JSON document of any size, by its place such as ``data.item``."""
    return Format(partial(_json_items, prefix=prefix))


def _csv_rows(piece: Piece, *, columns: tuple[str, ...], header: bool, delimiter: str, hint: str) -> Numbered:
    limit = csv.field_size_limit(MAX_RECORD_BYTES)  # 128 kB otherwise, for the whole process
    line_number = 0  # of the file: the reader counts what it is given, without the lines that are broken

    def lines() -> Iterator[str]:
        nonlocal line_number
        for number, line in piece.lines():
            line_number = number
            yield line + "\n"

    rows = csv.reader(lines(), delimiter=delimiter, strict=True)
    try:
        wanted, num_columns = list(range(len(columns))), len(columns)
        if header:
            first = next(rows, [])
            wanted, num_columns = places(first, columns, piece.file.path, hint), len(first)
        for row in rows:
            if len(row) == num_columns:
                yield line_number, [row[place] for place in wanted]
            elif row:
                piece.broken(line_number, f"{len(row)} columns instead of {num_columns}")
    except csv.Error as error:
        raise InputError(f"not sound CSV ({error})", piece.file.path, line_number) from None
    finally:
        csv.field_size_limit(limit)


def csv_rows(columns: tuple[str, ...], *, header: bool = True, delimiter: str = ",", hint: str = "") -> Format:
    """Rows of a table with quotes, in which a field may have several lines: a list of texts each.

    Args:
        columns: Their names, in the order in which they are wanted.
        header: Whether the first row has the names; otherwise ``columns`` are all there are.
        delimiter: Between the fields.
        hint: What to do if a column is missing.
    """
    return Format(partial(_csv_rows, columns=columns, header=header, delimiter=delimiter, hint=hint))


def _tab_table(piece: Piece, *, columns: tuple[str, ...], hint: str) -> Numbered:
    lines = piece.lines()
    _, first = next(lines, (1, ""))
    header = first.split("\t")
    wanted = places(header, columns, piece.file.path, hint)
    for number, line in lines:
        fields = line.split("\t")
        if len(fields) == len(header):
            yield number, [fields[place] for place in wanted]
        elif line.strip():
            piece.broken(number, f"{len(fields)} columns where the header has {len(header)}")


def tab_table(columns: tuple[str, ...], *, hint: str = "") -> Format:
    """Lines with tabs between fields and without quotes, the names in the first: a list of texts each."""
    return Format(partial(_tab_table, columns=columns, hint=hint))


def places(header: list[str], columns: tuple[str, ...], path: Path, hint: str = "") -> list[int]:
    """Where in a header the columns stand; raises `InputError`, with the hint, if one is missing."""
    missing = [column for column in columns if column not in header]
    if missing:
        have = ", ".join(header[:10]) + (", …" if len(header) > 10 else "")
        advice = f"; {hint}" if hint else ""
        raise InputError(f"has no column {missing[0]!r}, only {have or 'an empty line'}{advice}", path, 1)
    return [header.index(column) for column in columns]


def _first_line(error: Exception) -> str:
    # yajl's words about bytes that are no text come as bytes themselves.
    said = error.args[0].decode("utf-8", "replace") if error.args and isinstance(error.args[0], bytes) else str(error)
    return (said.splitlines() or [type(error).__name__])[0][:120]


def text_of(record: Any, key: str) -> str:
    """The text under a key of a JSON object.

    Raises:
        RecordError: The record is no object, or has no text there.
    """
    value = field_of(record, key)
    if not isinstance(value, str):
        raise RecordError(f"{key} is {kind_of(value)}, not a text")
    return value


def list_of(record: Any, key: str) -> list[Any]:
    """The list under a key of a JSON object; raises `RecordError` like `text_of`."""
    value = field_of(record, key)
    if not isinstance(value, list):
        raise RecordError(f"{key} is {kind_of(value)}, not a list")
    return value


def field_of(record: Any, key: str) -> Any:
    """The value under a key of a JSON object; raises `RecordError` like `text_of`."""
    if not isinstance(record, dict):
        raise RecordError(f"holds {kind_of(record)}, not an object")
    if key not in record:
        raise RecordError(f"has no {key}; its keys are {', '.join(map(repr, list(record)[:10])) or 'none'}")
    return record[key]


def kind_of(value: Any) -> str:
    """What a decoded value is, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a single text"
        case list():
            return "a list"
    return "an object" if isinstance(value, dict) else f"a {type(value).__name__}"
