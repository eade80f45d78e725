"""Cutting: every record once, wherever the cuts fall."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairloom.errors import InputError
from pairloom.sources import pieces
from pairloom.sources.formats import TEXT_LINES, WHOLE, InputFile
from pairloom.sources.pieces import Task, line_number, open_piece, plan
from pairloom.sources.xml_rows import xml_rows


def contents(path: Path, file: InputFile) -> tuple[list[bytes], list[Task]]:
    tasks = list(plan(0, file, lambda _: None))
    found = []
    for task in tasks:
        with open_piece(task, file, lambda *_: None, lambda _: None) as piece:
            found.append(piece.stream.read())
    return found, tasks


SETTINGS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)


@SETTINGS
@given(
    lines=st.lists(st.integers(0, 12), max_size=30),
    size=st.integers(1, 40),
    end=st.booleans(),
    suffix=st.sampled_from(["", ".gz"]),
)
def test_lines_are_cut_between_them(tmp_path: Path, lines: list[int], size: int, end: bool, suffix: str) -> None:
    content = b"\n".join(bytes([97 + number % 26]) * length for number, length in enumerate(lines)) + b"\n" * end
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_BYTES", size)
        file = InputFile(path, TEXT_LINES)
        found, tasks = contents(path, file)
        assert b"".join(found) == content
        assert all(part.endswith(b"\n") for part in [part for part in found if part][:-1])
        assert [task.is_first for task in tasks] == [True] + [False] * (len(tasks) - 1)
        assert [task.is_last for task in tasks] == [False] * (len(tasks) - 1) + [True]
        before = b""
        for task, part in zip(tasks, found, strict=True):
            if part:
                assert line_number(task, file, 1) == before.count(b"\n") + 1
            before += part


@SETTINGS
@given(rows=st.lists(st.text("ab \n", max_size=12), max_size=15), size=st.integers(1, 60))
def test_rows_are_cut_before_them(tmp_path: Path, rows: list[str], size: int) -> None:
    content = ("<posts>\n" + "".join(f'<row Id="{text}" />' for text in rows) + "</posts>").encode()
    for name in ("a.xml", "a.xml.gz"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pieces, "PIECE_BYTES", size)
            found, _ = contents(path, InputFile(path, xml_rows("posts")))
        assert b"".join(found) == content
        assert all(part.startswith(b"<row ") for part in found[1:] if part and not part.startswith(b"</posts"))


def test_a_format_without_a_mark_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"one\ntwo\n")
    assert contents(path, InputFile(path, WHOLE))[0] == [b"one\ntwo\n"]


def test_progress_is_the_bytes_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1000)
    for name in ("a.txt", "a.txt.gz"):
        path = tmp_path / name
        content = b"a line\n" * 5000
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        read: list[int] = []
        file = InputFile(path, TEXT_LINES)
        for task in plan(0, file, read.append):
            with open_piece(task, file, lambda *_: None, read.append) as piece:
                piece.stream.read()
        assert sum(read) == path.stat().st_size


def test_what_is_too_long_for_a_record_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1000)
    monkeypatch.setattr(pieces, "MAX_RECORD_BYTES", 10_000)
    for name in ("a.txt", "a.txt.gz"):
        path = tmp_path / name
        content = b"first\n" + b"x" * 200_000 + b"\nlast\n"
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        with pytest.raises(InputError, match="has a record of more than"):
            contents(path, InputFile(path, TEXT_LINES))
