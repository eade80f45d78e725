"""Reading files that may be compressed, cut, or not what they seem."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pairloom.errors import InputError
from pairloom.files import read_json, read_json_lines, read_lines


def test_lines_with_a_byte_order_mark_and_windows_ends(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffeins\r\nzwei\n\ndrei".encode())
    assert list(read_lines(file)) == [(1, "eins"), (2, "zwei"), (3, ""), (4, "drei")]


def test_a_line_separator_inside_a_text_is_no_line_end(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one\u2028still one\x0band still\ntwo", encoding="utf-8")
    assert len(list(read_lines(file))) == 2


def test_json_lines_through_gzip(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"a": 1}\n\n[2]\n'))
    assert list(read_json_lines(file)) == [(1, {"a": 1}), (3, [2])]


def fault(file: Path) -> str:
    with pytest.raises(InputError) as caught:
        list(read_json_lines(file))
    assert str(file) in str(caught.value)
    return str(caught.value)


def test_faults_name_file_and_line(tmp_path: Path) -> None:
    assert "no such file" in fault(tmp_path / "nothing.jsonl")
    assert "is no regular file" in fault(tmp_path)
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": 1}\n{"a": \n')
    assert "line 2: not JSON" in fault(file)
    file.write_text("[" * 100_000)
    assert "line 1: not JSON" in fault(file)
    file.write_bytes(b'"a"\n"\xe9t\xe9"\n')
    assert "line 2: not UTF-8 (byte 2 of the line)" in fault(file)


def test_damaged_archives(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl.gz"
    whole = gzip.compress(b'{"a": 1}\n' * 10_000)
    file.write_bytes(whole[: len(whole) // 2])
    assert "ends too early" in fault(file)
    file.write_bytes(b"no archive")
    assert "not a sound gzip file" in fault(file)
    file.write_bytes(whole[:-8] + b"\xff" * 8)
    assert "not a sound gzip file" in fault(file)


def test_json(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes("\ufeff[1]".encode())
    assert read_json(file) == [1]
    file.write_text("[1")
    with pytest.raises(InputError, match=r"a.json: not JSON"):
        read_json(file)
