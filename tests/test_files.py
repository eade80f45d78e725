"""Reading files that may be compressed, cut, or not what they seem."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd

from pairloom.errors import InputError
from pairloom.files import is_compressed, open_binary, read_json, read_json_lines, read_lines, uncompressed_name


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


def test_bytes_that_are_no_utf_8_can_be_replaced(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfone\ntw\xff\xfe\r\n")
    assert list(read_lines(file, errors="replace")) == [(1, "one"), (2, "tw\ufffd\ufffd")]
    with pytest.raises(InputError, match=r"a\.txt, line 2: not UTF-8 \(byte 3 of the line\); so there"):
        list(read_lines(file, advice="; so there"))


def test_damaged_archives(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl.gz"
    whole = gzip.compress(b'{"a": 1}\n' * 10_000)
    file.write_bytes(whole[: len(whole) // 2])
    assert "ends too early" in fault(file)
    file.write_bytes(b"no archive")
    assert "not a sound gzip file" in fault(file)
    file.write_bytes(whole[:-8] + b"\xff" * 8)
    assert "not a sound gzip file" in fault(file)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd.compress,
}


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_files(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.jsonl{suffix}"
    content = b"".join(b'{"number": %d}\n' % number for number in range(10_000))
    first, second = (COMPRESS[suffix](part) for part in (content[:-1000], content[-1000:]))
    file.write_bytes(first + second)
    read: list[int] = []
    with open_binary(file, read.append) as stream:
        assert stream.read() == content, "of several streams one after the other"
    assert sum(read) == file.stat().st_size
    assert (uncompressed_name(file), is_compressed(file)) == ("a.jsonl", True)
    file.write_bytes(first[:-20])
    assert re.search(
        r"a\.jsonl\.\w+, line \d+: the \w+ stream ends too early; the file is cut, fetch it again", fault(file)
    )
    file.write_bytes(b"no archive at all")
    assert "not a sound" in fault(file)
    damaged = bytearray(first)
    damaged[len(first) // 2] ^= 0xFF
    file.write_bytes(damaged)
    assert re.search("not a sound|ends too early|not JSON|not UTF-8", fault(file))


def test_a_zstd_window_as_large_as_reddit_uses(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl.zst"
    parameter = zstd.CompressionParameter
    options: dict[int, int] = {
        parameter.window_log: 31,
        parameter.enable_long_distance_matching: 1,
        parameter.content_size_flag: 0,
    }
    compressor = zstd.ZstdCompressor(options=options)
    file.write_bytes(compressor.compress(b'{"a": 1}\n') + compressor.flush())
    with pytest.raises(zstd.ZstdError, match=r"too much memory|window"):
        zstd.ZstdDecompressor().decompress(file.read_bytes())
    assert list(read_json_lines(file)) == [(1, {"a": 1})]


def test_json(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes("\ufeff[1]".encode())
    assert read_json(file) == [1]
    file.write_text("[1")
    with pytest.raises(InputError, match=r"a.json: not JSON"):
        read_json(file)
