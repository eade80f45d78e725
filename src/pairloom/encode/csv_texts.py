"""Texts in tables of lines: CSV, and tab-separated values; the names of the columns stand in the first row."""

from __future__ import annotations

import csv
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from pairloom.encode.fields import NOTHING, Record, Wanted, choose_columns, joined
from pairloom.errors import InputError
from pairloom.files import MAX_LINE_BYTES

Lines = Iterable[tuple[int, str]]
"""Lines with their ends, numbered from 1."""


def csv_texts(lines: Lines, wanted: Wanted, path: Path | str) -> Iterator[Record]:
    """Yields the text of each row of CSV: fields stand in quotes where they have commas, quotes or line ends in them.

    A row's number is that of its first line. What is wanted besides are strings; an empty cell is left out.

    Raises:
        InputError: A column is missing, quotes are not closed, or a row has another number of columns than the header.
    """
    return _texts(_csv_rows(lines, path), wanted, path)


def tsv_texts(lines: Lines, wanted: Wanted, path: Path | str) -> Iterator[Record]:
    """Yields the text of each line of fields with tabs between them. Nothing is quoted: a quotation mark is text.

    What is wanted besides are strings; an empty cell is left out.

    Raises:
        InputError: A column is missing, or a line has another number of columns than the header.
    """
    return _texts(
        ((number, line.rstrip("\r\n").split("\t")) for number, line in lines if line.strip("\r\n")), wanted, path
    )


def _texts(rows: Iterator[tuple[int, list[str]]], wanted: Wanted, path: Path | str) -> Iterator[Record]:
    first, header = next(rows, (1, []))
    if not header:
        return  # an empty file holds no text, with or without a header
    columns = choose_columns(header, wanted, path, first)
    text_place = header.index(columns.text)
    title_place = None if columns.title is None else header.index(columns.title)
    id_place = None if columns.id is None else header.index(columns.id)
    rest_places = [(name, header.index(name)) for name in columns.rest]
    for number, row in rows:
        if len(row) != len(header):
            raise InputError(f"{len(row)} columns where the header has {len(header)}", path, number)
        text = row[text_place]
        if wanted.field is None:
            text = joined(None if title_place is None else row[title_place], text)
        name = None if id_place is None else row[id_place]
        if name == "":
            raise InputError("has an empty id; name another column with --id-field", path, number)
        rest = {column: row[place] for column, place in rest_places if row[place]} if rest_places else NOTHING
        yield Record(number, name, text, rest)


def _csv_rows(lines: Lines, path: Path | str) -> Iterator[tuple[int, list[str]]]:
    num_lines = 0

    def without_numbers() -> Iterator[str]:
        nonlocal num_lines
        for number, line in lines:
            num_lines = number
            yield line

    rows = csv.reader(without_numbers(), strict=True)
    while True:
        first = num_lines + 1
        try:
            with _LONG_FIELDS:
                row = next(rows, None)
        except csv.Error as error:
            advice = "look for a quotation mark that is left open, or not doubled inside a field"
            raise InputError(f"not sound CSV ({error}); {advice}", path, first) from None
        if row is None:
            return
        if row:  # a blank line is no row
            yield first, row


class _LongFields:
    """While a thread is inside, the csv module takes long fields; afterwards what it took before.

    The limit is one for the whole process, 128 kB by default, and is looked at while a row is read. So it is raised
    for that moment only, and set back by the last thread that leaves.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside = 0
        self._before = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._num_inside:
                self._before = csv.field_size_limit(MAX_LINE_BYTES)
            self._num_inside += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            self._num_inside -= 1
            if not self._num_inside:
                csv.field_size_limit(self._before)


_LONG_FIELDS = _LongFields()
