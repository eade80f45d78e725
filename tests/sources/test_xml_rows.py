from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from pairloom.errors import InputError
from pairloom.sources.formats import InputFile, Piece
from pairloom.sources.xml_rows import xml_rows

POSTS = xml_rows("posts")


def read(content: bytes, *, is_first: bool = True, is_last: bool = True) -> tuple[list[tuple[int, Any]], list[Any]]:
    broken: list[Any] = []
    file = InputFile(Path("Posts.xml"), POSTS)
    piece = Piece(file, io.BytesIO(content), lambda *fault: broken.append(fault), is_first, is_last)
    return [(number, dict(row.attrib)) for number, row in POSTS.read(piece)], broken


HEAD = b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?>\n<posts>\n'


def test_rows_with_their_lines() -> None:
    rows = b'  <row Id="1" Body="a&#xA;b &amp;lt; &quot;c&quot;" />\n\n  <row Id="2"\n   Title="&#233;" />\n</posts>\n'
    found, broken = read(HEAD + rows)
    assert found == [(3, {"Id": "1", "Body": 'a\nb &lt; "c"'}), (6, {"Id": "2", "Title": "é"})]
    assert not broken


@pytest.mark.parametrize("content", [HEAD + b"</posts>", b"<posts/>", b"<posts />", HEAD[3:] + b"\n</posts>\n\n"])
def test_a_table_without_rows(content: bytes) -> None:
    assert read(content) == ([], [])


def test_a_piece_from_the_middle() -> None:
    found, broken = read(b'<row Id="1" />\n  <row Id="2" />\n  ', is_first=False, is_last=False)
    assert [(line, row["Id"]) for line, row in found] == [(1, "1"), (2, "2")]
    assert not broken
    assert read(b"", is_first=False, is_last=False) == ([], [])
    assert len(read(b'<row Id="1" />\n</posts>', is_first=False)[0]) == 1


def test_broken_rows_are_told_and_the_others_read() -> None:
    rows = [f'  <row Id="{number}" Title="t" />\n'.encode() for number in range(9)]
    rows[2] = b'  <row Id="2" Title="caf\xe9" />\n'
    rows[4] = b'  <row Id="4" Title="a < b" />\n'
    rows[6] = b'  <row Id="6"\n Title="&unknown;" />\n'
    rows[8] = b'  <row Id="8" Title="t>\n'
    found, broken = read(HEAD + b"".join(rows) + b"</posts>")
    assert [(line, row["Id"]) for line, row in found] == [(3, "0"), (4, "1"), (6, "3"), (8, "5"), (11, "7")]
    assert [line for line, _ in broken] == [5, 7, 9, 12]
    assert all("not sound XML" in fault and "\n" not in fault for _, fault in broken)


def test_a_very_long_attribute() -> None:
    """libxml2 refuses more than 10 MB unless it is told not to."""
    ((_, row),), broken = read(HEAD + b'<row Id="1" Body="' + b"x" * 50_000_000 + b'" /></posts>')
    assert len(row["Body"]) == 50_000_000
    assert not broken


def test_entities_are_not_declared_in_the_middle_either() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "haha">]>'
    found, broken = read(HEAD + b'<row Id="1" />' + bomb + b'<row Id="2" Title="&a;" />\n</posts>')
    assert not any("Title" in row for _, row in found)
    assert broken


def test_what_breaks_off_is_refused() -> None:
    with pytest.raises(InputError, match=r"Posts\.xml: ends without </posts>; the dump is cut"):
        read(HEAD + b'<row Id="1" />')
