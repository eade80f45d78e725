"""Reading records of every format, broken ones included."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from pairloom.errors import InputError, RecordError
from pairloom.sources import formats
from pairloom.sources.formats import (
    JSON_LINES,
    JSON_WHOLE,
    TEXT_LINES,
    WHOLE,
    Format,
    InputFile,
    Piece,
    csv_rows,
    json_items,
    list_of,
    tab_lines,
    tab_table,
    text_of,
)


def read(how: Format, content: bytes) -> tuple[list[Any], list[tuple[int, str]]]:
    broken: list[tuple[int, str]] = []
    file = InputFile(Path("a.file"), how)
    piece = Piece(file, io.BytesIO(content), lambda *fault: broken.append(fault))
    return list(how.read(piece)), broken


BOM = b"\xef\xbb\xbf"


def test_text_lines() -> None:
    found, broken = read(TEXT_LINES, BOM + b"one\r\n\n \t\ncaf\xe9\ntwo \xc3\xa9")
    assert found == [(1, "one"), (5, "two é")]
    assert broken == [(4, "not UTF-8 (byte 4 of the line)")]


def test_json_lines() -> None:
    found, broken = read(JSON_LINES, BOM + b'{"a": 1}\r\n\n["x"\n"\\ud800"\n{"a": ' + b"[" * 100_000 + b"\n")
    assert found == [(1, {"a": 1}), (4, "\ud800")]
    assert broken[0] == (3, "not JSON (Expecting ',' delimiter at character 5)")
    assert broken[1][0] == 5
    assert broken[1][1].startswith("not JSON (")


def test_tab_lines() -> None:
    found, broken = read(tab_lines(3), b'1\ta "b\t\n2\tx\n')
    assert found == [(1, ["1", 'a "b', ""])]
    assert broken == [(2, "2 columns instead of 3")]


def test_tab_tables() -> None:
    found, broken = read(tab_table(("b", "a")), BOM + b"a\tb\tc\r\n1\t2\t3\n\n4\t5\n")
    assert found == [(2, ["2", "1"])]
    assert broken == [(4, "2 columns where the header has 3")]
    with pytest.raises(InputError, match=r"a\.file, line 1: has no column 'd', only a, b, c; do this"):
        read(tab_table(("a", "d"), hint="do this"), b"a\tb\tc\n")


def test_csv() -> None:
    found, broken = read(csv_rows(("b", "a")), BOM + b'a,b\n1,"two\nlines, ""so"""\n\n3\n')
    assert found == [(3, ['two\nlines, "so"', "1"])]
    assert broken == [(5, "1 columns instead of 2")]
    found, broken = read(csv_rows(("a", "b")), b"a,b\ncaf\xe9,1\nx,2\ny\n")
    assert found == [(3, ["x", "2"])]
    assert [line for line, _ in broken] == [2, 4], "lines of the file, the broken ones counted"
    found, broken = read(csv_rows(("a", "b"), header=False, delimiter=";"), b"1;2\n3;4;5\n")
    assert found == [(1, ["1", "2"])]
    assert broken == [(2, "3 columns instead of 2")]
    with pytest.raises(InputError, match=r"a\.file, line 3: not sound CSV"):
        read(csv_rows(("a", "b")), b'a,b\n1,2\n"cut,4')


@pytest.mark.parametrize("head", [b"", BOM, b"\n  "])
def test_items_of_a_json_document(head: bytes) -> None:
    document = {"version": "1", "data": [{"n": number, "x": 0.5} for number in range(3)], "more": None}
    assert read(json_items("data.item"), head + json.dumps(document).encode())[0] == [
        (number + 1, {"n": number, "x": 0.5}) for number in range(3)
    ]
    assert read(json_items("item"), head + b"[1, null]")[0] == [(1, 1), (2, None)]
    assert read(json_items("other.item"), head + b'{"data": []}')[0] == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"data": [{"n": 1}, {"n"', "not whole JSON .*; if the file is cut, fetch it again"),
        (b"", "not whole JSON"),
        (b"<html>", "not JSON|not whole JSON"),
        (b'{"data": ["caf\xe9"]}', "not JSON|not whole JSON"),
        (b'{"data": [1 2]}', "not JSON|not whole JSON"),
    ],
)
def test_a_json_document_that_breaks_off(content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=rf"^a\.file: ({message})") as caught:
        read(json_items("data.item"), content)
    assert "\n" not in str(caught.value)


def test_a_file_is_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(WHOLE, b"\x00\xff")[0] == [(1, b"\x00\xff")]
    assert read(JSON_WHOLE, BOM + b'{"a": 1}')[0] == [(1, {"a": 1})]
    found, broken = read(JSON_WHOLE, b'{"a": ')
    assert not found
    assert broken[0][0] == 1
    monkeypatch.setattr(formats, "MAX_RECORD_BYTES", 1 << 20)
    with pytest.raises(InputError, match="is larger than 1 MiB"):
        read(WHOLE, bytes((1 << 20) + 1))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "holds a list, not an object"),
        ({"a": "x"}, "has no b; its keys are 'a'"),
        ({}, "has no b; its keys are none"),
        ({"b": 1}, "b is a number, not a text"),
        ({"b": None}, "b is null, not a text"),
        ({"b": {}}, "b is an object, not a text"),
    ],
)
def test_fields_of_records(record: Any, message: str) -> None:
    with pytest.raises(RecordError, match=f"^{message}$"):
        text_of(record, "b")
    with pytest.raises(RecordError):
        list_of(record, "b")
    assert (text_of({"b": "x"}, "b"), list_of({"b": [1]}, "b")) == ("x", [1])
