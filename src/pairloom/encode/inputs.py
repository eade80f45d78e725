"""Texts to encode, from files of many kinds, from folders, and from stdin, one by one and in constant memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from pairloom.artifacts import is_artifact, read_manifest
from pairloom.encode.csv_texts import csv_texts, tsv_texts
from pairloom.encode.fields import ERRORS_ADVICE, NOTHING, Record, Wanted
from pairloom.encode.json_texts import json_texts
from pairloom.errors import InputError, UsageError
from pairloom.files import (
    Errors,
    decoded_json,
    decoded_lines,
    is_compressed,
    open_binary,
    read_lines,
    uncompressed_name,
)
from pairloom.records import Text

Format = Literal["txt", "jsonl", "csv", "tsv", "parquet", "arrow"]
"""How a file holds its texts."""

STDIN = "-"
_COLUMNAR = ("parquet", "arrow")
_SUFFIXES: dict[str, Format] = {
    ".txt": "txt",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
}
_ADVICE = (
    "give a .txt or .jsonl file, a .csv or .tsv table (each also with .gz, .bz2, .xz or .zst), .parquet or .arrow, a task "
    "folder or a folder of shards; or say with --format what it is"
)


class TextSource:
    """Where texts come from. Each iteration reads them from the start; of stdin there is only one.

    ========================  =================================================================================
    ``.txt``                  a text a line; blank lines are left out, and count
    ``.jsonl``, ``.ndjson``   a record a line
    ``.csv``, ``.tsv``        a record a row, under a first row with the names of the columns
    ``.parquet``              a record a row; so do Arrow's file and stream formats (``.arrow``, ``.feather``)
    a folder                  a task, whose corpus is read; or shards
    ``-``                     stdin
    ========================  =================================================================================

    Lines and rows of lines may be compressed (``.gz``, ``.bz2``, ``.xz``, ``.zst``). All text is well-formed Unicode.

    Args:
        source: The file or folder, or ``-``.
        field: Which field of a record, or column of a table, holds the text; in a record a number counts into a list
            and dots lead inwards (``texts.1``). By default ``title`` and ``text`` joined, as in BEIR's corpora, and
            ``positive`` of shards.
        id_field: Which holds the id. By default ``_id``, or ``id``, or else the number: of lines from 1 (of CSV
            that of a row's first line), of Parquet, Arrow and shards that of the row from 0.
        errors: What becomes of bytes that are no UTF-8, and of lone surrogates in JSON: ``strict`` refuses them,
            ``replace`` puts U+FFFD there.
        format: How the file holds its texts, whatever its name says; of stdin ``txt`` by default. Compression always
            follows from the name.
        rest: Which other fields or columns `records` shall have, None for all others; of shards, whose other columns
            are texts of their own, and hashes, only those that are named. By default none.

    Raises:
        InputError: There is no such file, nobody knows what it is, or it has no such column. While the texts are read:
            something in the file is wrong; the message has the number of the line or row.
        ArtifactError: The shards are not whole.
        MissingExtraError: pyarrow is not installed, and Parquet, Arrow or shards are to be read; or a package for zst.
        UsageError: Stdin or a folder is to be read in a format that it cannot have.
    """

    def __init__(
        self,
        source: Path | str,
        *,
        field: str | None = None,
        id_field: str | None = None,
        errors: Errors = "strict",
        format: Format | None = None,
        rest: tuple[str, ...] | None = (),
    ) -> None:
        self._path = Path(source)
        self._is_stdin, self._has_lines = str(source) == STDIN, True
        self._wanted = Wanted(field, id_field, errors, rest)
        self.name = "stdin" if self._is_stdin else str(source)
        """For manifests and messages."""
        self.num_texts: int | None = None
        """How many texts there are, if that is known without reading: of Parquet and shards."""
        self.share_read: float | None = None
        """How much of the source has been read by now, between 0 and 1; None of stdin, whose end nobody knows."""
        if format is not None and format not in get_args(Format):
            raise UsageError(f"format {format!r} is not one of {', '.join(get_args(Format))}")
        self._records: Callable[[], Iterator[Record]] = self._open(format)

    def __iter__(self) -> Iterator[Text]:
        for number, name, text, _ in self.records():
            yield Text(str(number) if name is None else name, text)

    def records(self) -> Iterator[Record]:
        """The texts with what stands beside them."""
        self.share_read = None if self._is_stdin else 0.0
        yield from self._records()
        self.share_read = None if self._is_stdin else 1.0

    def fault(self, message: str, number: int) -> InputError:
        """An error about one of the records."""
        if self._has_lines:
            return InputError(message, "stdin" if self._is_stdin else self._path, number)
        return InputError(f"row {number:,}: {message}", self._path)

    def _open(self, kind: Format | None) -> Callable[[], Iterator[Record]]:
        if self._is_stdin:
            if kind in _COLUMNAR:
                raise UsageError(f"{kind} cannot be read from stdin; give the file")
            return partial(self._read_lines, kind or "txt")
        if self._path.is_dir():
            if kind is not None:
                raise UsageError(f"{self._path}: is a folder, and a format is that of a file; leave it out")
            return self._open_folder()
        if not self._path.exists():
            raise InputError("no such file or folder", self._path)
        kind = kind or _SUFFIXES.get(Path(uncompressed_name(self._path)).suffix.lower())
        if kind is None:
            raise InputError(_ADVICE, self._path)
        with open_binary(self._path):
            pass  # what cannot be opened is better known before a model is loaded
        if kind not in _COLUMNAR:
            return partial(self._read_lines, kind)
        if is_compressed(self._path):
            raise InputError(f"is compressed as a whole, and {kind} is read in places; unpack it first", self._path)
        return self._open_columns(kind)

    def _open_folder(self) -> Callable[[], Iterator[Record]]:
        for name in ("corpus.jsonl", "corpus.jsonl.gz"):
            if (self._path / name).is_file():
                self._path = self._path / name
                return partial(self._read_lines, "jsonl")
        if not is_artifact(self._path):
            raise InputError("neither a task folder (it has no corpus.jsonl) nor a folder of shards", self._path)
        read_manifest(self._path, "shards")
        return self._open_columns("shards")

    def _open_columns(self, kind: str) -> Callable[[], Iterator[Record]]:
        from pairloom.encode import arrow_texts  # only here is pyarrow needed

        wanted, self._has_lines = self._wanted, False
        match kind:
            case "parquet":
                table = arrow_texts.parquet_table(self._path)
            case "arrow":
                table = arrow_texts.arrow_table(self._path)
            case _:
                table = arrow_texts.shards_table(self._path)
                wanted = replace(wanted, field=wanted.field or "positive", rest=wanted.rest or ())
        self.num_texts = table.num_rows
        return partial(table.texts, table.columns(wanted), wanted.errors, partial(setattr, self, "share_read"))

    def _read_lines(self, kind: Format) -> Iterator[Record]:
        wanted, name = self._wanted, "stdin" if self._is_stdin else self._path
        lines = self._lines()
        match kind:
            case "jsonl":
                return json_texts(decoded_json(lines, name), wanted, name)
            case "csv":
                return csv_texts(lines, wanted, name)
            case "tsv":
                return tsv_texts(lines, wanted, name)
        if wanted.rest:
            raise InputError(
                f"is plain text, and its lines have no field {wanted.rest[0]!r}; leave --metadata out", name
            )
        return (Record(number, None, line.rstrip("\r\n"), NOTHING) for number, line in lines if line.strip())

    def _lines(self) -> Iterator[tuple[int, str]]:
        errors = self._wanted.errors
        if self._is_stdin:
            if sys.stdin is None:
                raise InputError("is closed; pipe the texts into it", self.name)
            return decoded_lines(sys.stdin.buffer, self.name, errors=errors, advice=ERRORS_ADVICE)
        size, done = self._path.stat().st_size, 0

        def on_read(num_bytes: int) -> None:
            nonlocal done
            done += num_bytes
            self.share_read = min(1.0, done / max(size, 1))  # a log may grow meanwhile

        return read_lines(self._path, errors=errors, advice=ERRORS_ADVICE, on_read=on_read, keep_ends=True)


def read_texts(
    source: Path | str,
    field: str | None = None,
    *,
    id_field: str | None = None,
    errors: Errors = "strict",
    format: Format | None = None,
) -> Iterator[Text]:
    """Yields the texts of a file, a folder or stdin, one by one; arguments and errors are those of `TextSource`."""
    return iter(TextSource(source, field=field, id_field=id_field, errors=errors, format=format))
