"""What can be encoded: every format, compressed or not, and what is said when something is wrong with it."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from backports import zstd
from pyarrow import parquet

from pairloom import files
from pairloom.encode.inputs import Format, TextSource, read_texts
from pairloom.errors import ArtifactError, InputError, UsageError
from pairloom.records import Text
from tests.conftest import make_pairs, make_shards
from tests.encode.reading import fault, texts_of, written

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd.compress,
}


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    def fill(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(content))))

    return fill


# Lines


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "one, 1\nzwö\r\n\n  \n“three”"),
        ("a.jsonl", '{"id": 1, "text": "one, 1"}\n\n"zwö"\r\n{"_id": "5", "id": 6, "text": "“three”"}'),
        ("a.ndjson", '{"_id": "1", "text": "one, 1"}\n\n"zw\\u00f6"\n{"id": 5, "title": "", "text": "“three”"}\n'),
        ("a.csv", 'n,id,text\n,1,"one, 1"\n\n8,2,zwö\r\n"",5,“three”'),
        ("a.tsv", "id\ttext\tn\n1\tone, 1\t\r\n2\tzwö\t8\n\n5\t“three”\t"),
    ],
)
def test_lines_compressed_and_not(tmp_path: Path, name: str, content: str, suffix: str) -> None:
    file = written(tmp_path / (name + suffix), COMPRESS[suffix](content.encode()))
    second = "3" if name.endswith(("jsonl", "ndjson")) else "2"
    assert texts_of(file) == [Text("1", "one, 1"), Text(second, "zwö"), Text("5", "“three”")]


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.tsv"])
def test_an_empty_file_has_no_texts(tmp_path: Path, name: str, suffix: str) -> None:
    source = TextSource(written(tmp_path / (name + suffix), COMPRESS[suffix](b"")))
    assert list(source) == []
    assert (source.num_texts, source.share_read) == (None, 1.0)


def test_a_suffix_may_be_in_capitals(tmp_path: Path) -> None:
    assert texts_of(written(tmp_path / "A.TXT", "one")) == [Text("1", "one")]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    assert texts_of(written(tmp_path / "a.txt", "\ufeffone")) == [Text("1", "one")]
    assert texts_of(written(tmp_path / "a.csv", "\ufefftext\none")) == [Text("2", "one")]


def test_odd_characters_come_through(tmp_path: Path) -> None:
    odd = ["a\0b", "👩‍👩‍👧", "שלום", "\u2028one\x0btext\x1c", "x" * 1_000_000]
    assert [text.text for text in read_texts(written(tmp_path / "a.txt", "\n".join(odd)))] == odd
    records = "\n".join(json.dumps({"text": text}) for text in odd)
    assert [text.text for text in read_texts(written(tmp_path / "a.jsonl", records), "text")] == odd
    rows = "\n".join(["text", *odd])
    assert [text.text for text in read_texts(written(tmp_path / "a.csv", rows), "text")] == odd
    assert [text.text for text in read_texts(written(tmp_path / "a.tsv", rows), "text")] == odd
    parquet.write_table(pa.table({"text": odd}), tmp_path / "a.parquet")
    assert [text.text for text in read_texts(tmp_path / "a.parquet", "text")] == odd


# Records


def test_the_id_of_a_record_from_any_place(tmp_path: Path) -> None:
    file = written(
        tmp_path / "a.jsonl", '{"id": "x", "meta": {"key": 7}, "text": "a"}\n{"meta": {"key": "k"}, "text": "b"}'
    )
    assert texts_of(file) == [Text("x", "a"), Text("2", "b")]
    assert texts_of(file, id_field="meta.key") == [Text("7", "a"), Text("k", "b")]
    assert fault(file, id_field="id") == "FILE, line 2: has no field 'id'"
    assert fault(file, id_field="meta") == "FILE, line 1: has the id {'key': 7}; an id is a string or a number"


def test_a_title_that_is_no_string_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "a.jsonl", '{"title": 3, "text": "a"}')
    assert fault(file).startswith("FILE, line 1: field 'title' is int, not a string")


@pytest.mark.parametrize("value", ["3", "null", "true", "[]", "{}", "1e999"])
def test_a_value_that_is_no_string_is_refused(tmp_path: Path, value: str) -> None:
    file = written(tmp_path / "a.jsonl", f'{{"text": "a"}}\n{{"text": {value}}}')
    assert fault(file).startswith("FILE, line 2: has no field 'text' that holds a string")
    assert fault(file, "text").startswith("FILE, line 2: field 'text' is ")


def test_half_a_character_in_json_is_refused_or_replaced(tmp_path: Path) -> None:
    file = written(tmp_path / "a.jsonl", '"whole \\ud83d\\ude00"\n{"id": "\\udc00", "text": "cut \\ud83d!"}')
    assert fault(file) == (
        "FILE, line 2: holds \\udc00, which is half of a character (a lone surrogate); --errors replace reads it as \ufffd"
    )
    assert texts_of(file, errors="replace") == [Text("1", "whole 😀"), Text("\ufffd", "cut \ufffd!")]


# Tables of lines


def test_csv_as_the_module_writes_it(tmp_path: Path) -> None:
    dice = random.Random(5)
    rows = [["".join(dice.choices('ab ,"\n\r\t;', k=dice.randrange(12))) for _ in range(3)] for _ in range(500)]
    with (tmp_path / "a.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([["first", "second", "third"], *rows])
    assert [text.text for text in read_texts(tmp_path / "a.csv", "second")] == [row[1] for row in rows]


def test_the_number_of_a_row_is_that_of_its_first_line(tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", '"te\nxt",text\n"a\nb",c\n\nd,"e\r\nf"\n')
    assert texts_of(file) == [Text("3", "c"), Text("6", "e\r\nf")]


def test_title_and_text_are_joined_in_tables_too(tmp_path: Path) -> None:
    expected = [Text("x", "T t"), Text("y", "u"), Text("z", "T")]
    assert texts_of(written(tmp_path / "a.csv", "title,text,_id,id\nT,t,x,1\n,u,y,2\nT,,z,3")) == expected
    assert texts_of(written(tmp_path / "a.tsv", "title\ttext\tid\nT\tt\tx\n\tu\ty\nT\t\tz")) == expected


def test_a_quotation_mark_in_tab_separated_values_is_text(tmp_path: Path) -> None:
    file = written(tmp_path / "a.tsv", 'text\tn\n"a" b\t1\n"c\t2\nd\re\t3\n')
    assert texts_of(file, "text", id_field="n") == [Text("1", '"a" b'), Text("2", '"c'), Text("3", "d\re")]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "text,n\na,1\nb\n", "FILE, line 3: 1 columns where the header has 2"),
        ("a.csv", 'text,n\n"a\nb",1\nc,d,2\n', "FILE, line 4: 3 columns where the header has 2"),
        ("a.tsv", "text\tn\na\t1\nb\t2\t3\n", "FILE, line 3: 3 columns where the header has 2"),
        ("a.csv", 'text,n\n\n"a,1\nb,2\n', "FILE, line 3: not sound CSV (unexpected end of data); look for"),
        ("a.csv", 'text,n\n"a"b,1\n', "FILE, line 2: not sound CSV ("),
        ("a.csv", "body,n\na,1\n", "FILE, line 1: has no column 'text'; it has body, n; name another one with --field"),
        ("a.tsv", f"{'a b ' * 50}\n", f"FILE, line 1: has no column 'text'; it has {'a b ' * 10}…; name"),
        ("a.csv", "text,n,text\na,1,b\n", "FILE, line 1: has two columns 'text'; rename one"),
        ("a.csv", "id,text\na,b\n,d\n", "FILE, line 3: has an empty id"),
    ],
)
def test_tables_of_lines_that_are_wrong(tmp_path: Path, name: str, content: str, expected: str) -> None:
    assert fault(written(tmp_path / name, content)).startswith(expected)


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", ",".join(f"c{number}" for number in range(30)))
    shown = ", ".join(f"c{number}" for number in range(12))
    assert (
        fault(file, "body") == f"FILE, line 1: has no column 'body'; it has {shown}, …; name another one with --field"
    )
    assert fault(file, "c1", id_field="key").endswith("; name another one with --id-field")


def test_a_long_field_is_read_and_the_limit_of_the_process_stays(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    long = "x" * (limit + 1)
    files = [written(tmp_path / f"{number}.csv", f"text\n{long}\n{long}\n") for number in range(2)]
    first, second = map(read_texts, files)
    assert len(next(first).text) == len(next(second).text) == limit + 1
    assert csv.field_size_limit() == limit
    assert len(list(first)) == len(list(second)) == 1
    with pytest.raises(csv.Error, match="field larger"):
        list(csv.reader([long]))


def test_threads_that_read_long_fields_do_not_disturb_each_other(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    content = "text\n" + f'"{"long " * (limit // 4)}"\n' * 20
    file = written(tmp_path / "a.csv", content)
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(len(texts_of(file)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [20] * 4
    assert csv.field_size_limit() == limit


# Text that is no Unicode, and files that are cut


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.tsv"])
def test_invalid_utf_8_is_refused_or_replaced(tmp_path: Path, name: str) -> None:
    quoted = b'"%b"' if name == "a.jsonl" else b"%b"
    lines = [quoted % line for line in (b"text", b"caf\xe9 \xff", b"\xed\xa0\x80")]
    file = written(tmp_path / name, b"\n".join(lines))
    byte = 5 if name == "a.jsonl" else 4
    assert fault(file) == f"FILE, line 2: not UTF-8 (byte {byte} of the line); --errors replace reads it as \ufffd"
    assert texts_of(file, errors="replace")[-2:] == [Text("2", "caf\ufffd \ufffd"), Text("3", "\ufffd\ufffd\ufffd")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_named(tmp_path: Path, encoding: str) -> None:
    file = written(tmp_path / "a.txt", ("\ufeff" * (encoding != "utf-16") + "text").encode(encoding))
    for errors in ("strict", "replace"):
        assert fault(file, errors=errors) == "FILE: is UTF-16; make it UTF-8 (iconv -f UTF-16 -t UTF-8)"


@pytest.mark.parametrize("suffix", list(COMPRESS)[1:])
def test_a_compressed_file_that_is_cut_says_at_which_line(tmp_path: Path, suffix: str) -> None:
    dice = random.Random(1)
    lines = [f"{number} {dice.getrandbits(800):x}" for number in range(8_000)]
    whole = COMPRESS[suffix]("\n".join(lines).encode())
    file = written(tmp_path / f"a.txt{suffix}", whole[: len(whole) // 2])
    read: list[str] = []
    with pytest.raises(InputError) as caught:
        for text in read_texts(file):
            read.append(text.text)
    assert f"a.txt{suffix}, line {len(read) + 1}: the " in str(caught.value)
    assert "stream ends too early; the file is cut, fetch it again" in str(caught.value)
    assert lines[: len(read)] == read


def test_a_file_without_lines_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 1 << 20)
    line = "x" * ((1 << 20) - 1)
    assert len(texts_of(written(tmp_path / "a.txt", f"{line}\n{line}\n"))) == 2
    file = written(tmp_path / "a.txt", f"a\n{line}yz")
    assert fault(file) == "FILE, line 2: has no end within 1 MiB; is this a file of lines?"


# Folders


def test_any_column_of_shards(tmp_path: Path) -> None:
    pairs = make_pairs(50)
    shards = make_shards(tmp_path / "pairs", pairs)
    source = TextSource(shards)
    assert source.num_texts == 50
    assert list(source) == [Text(str(number), positive) for number, (_, positive) in enumerate(pairs)]
    assert source.share_read == 1.0
    assert [text.text for text in read_texts(shards, "anchor")] == [anchor for anchor, _ in pairs]
    hashes = [int(text.id) for text in read_texts(shards, id_field="anchor_hash")]
    assert len(set(hashes)) == 50
    assert fault(shards, "positive_hash").startswith("FILE: column 'positive_hash' holds uint64")


def test_shards_of_several_files(tmp_path: Path) -> None:
    from pairloom.pairs.shards import Layout, new_shards

    with new_shards(tmp_path / "pairs", Layout(rows_per_batch=8, rows_per_file=16)) as writer:
        for number in range(50):
            writer.write([f"a{number}", f"p{number}"], [number, number])
    assert texts_of(tmp_path / "pairs") == [Text(str(number), f"p{number}") for number in range(50)]
    (tmp_path / "pairs" / "part-00002.arrow").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"part-00002\.arrow: has 0 bytes"):
        TextSource(tmp_path / "pairs")


def test_a_task_folder_takes_fields_too(tmp_path: Path) -> None:
    written(tmp_path / "corpus.jsonl.gz", gzip.compress(b'{"_id": "d", "text": "t", "body": "b", "key": 1}\n'))
    assert texts_of(tmp_path) == [Text("d", "t")]
    assert texts_of(tmp_path, "body", id_field="key") == [Text("1", "b")]
    with pytest.raises(UsageError, match="is a folder, and a format is that of a file"):
        texts_of(tmp_path, format="jsonl")


# Stdin, and formats that the name does not tell


def test_stdin_in_every_format_of_lines(stdin: Callable[[bytes], None]) -> None:
    stdin("\ufeffone\n\n  \nzwö".encode())
    assert texts_of("-") == [Text("1", "one"), Text("4", "zwö")]
    stdin(b'{"id": 7, "text": "a"}\n\n"b"')
    assert texts_of(Path("-"), format="jsonl") == [Text("7", "a"), Text("3", "b")]
    stdin(b'text,n\n"a\nb",1\nc,2')
    assert texts_of("-", format="csv") == [Text("2", "a\nb"), Text("4", "c")]
    stdin(b"text\tn\na\t1")
    assert texts_of("-", format="tsv") == [Text("2", "a")]
    stdin(b"")
    assert texts_of("-") == []


def test_faults_of_stdin_name_the_line(stdin: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(b"a\n\xff\n")
    assert fault("-").startswith("stdin, line 2: not UTF-8 (byte 1 of the line)")
    stdin(b"a\n\xff\n")
    assert texts_of("-", errors="replace") == [Text("1", "a"), Text("2", "\ufffd")]
    stdin(b'"a"\n{')
    assert fault("-", format="jsonl").startswith("stdin, line 2: not JSON")
    stdin(b"a,b\n")
    assert fault("-", format="csv").startswith("stdin, line 1: has no column 'text'")
    with pytest.raises(UsageError, match="parquet cannot be read from stdin; give the file"):
        texts_of("-", format="parquet")
    monkeypatch.setattr(sys, "stdin", None)
    assert fault("-") == "stdin: is closed; pipe the texts into it"


def test_stdin_is_read_as_it_comes() -> None:
    code = "from pairloom.encode.inputs import read_texts\nfor text in read_texts('-'): print(text.text, flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in ("first\n", "second\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == line
        process.stdin.close()
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("kind", "content"), [("txt", "a\n"), ("jsonl", '"a"\n'), ("csv", "id,text\n1,a"), ("tsv", "id\ttext\n1\ta")]
)
def test_a_format_goes_before_the_name(tmp_path: Path, kind: Format, content: str) -> None:
    for name in ("RC_2015-01.zst", "a.csv.zst"):
        file = written(tmp_path / name, zstd.compress(content.encode()))
        assert texts_of(file, format=kind) == [Text("1", "a")]
    parquet.write_table(pa.table({"text": ["a"]}), tmp_path / "a.txt")
    assert texts_of(tmp_path / "a.txt", format="parquet") == [Text("0", "a")]


def test_inputs_that_are_none(tmp_path: Path) -> None:
    assert fault(tmp_path / "nothing.txt") == "FILE: no such file or folder"
    assert fault(tmp_path).startswith("FILE: neither a task folder")
    assert fault(written(tmp_path / "a.pdf", "")).startswith("FILE: give a .txt or .jsonl file")
    assert fault(written(tmp_path / "a.gz", "")).startswith("FILE: give a .txt or .jsonl file")
    with pytest.raises(UsageError, match="format 'xml' is not one of txt, jsonl, csv"):
        TextSource("-", format="xml")  # type: ignore[arg-type]


# How much has been read, and what it takes


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_share_of_a_file_of_lines(tmp_path: Path, suffix: str) -> None:
    dice = random.Random(1)
    content = b"\n".join(b"%x" % dice.getrandbits(8000) for _ in range(3000))
    source = TextSource(written(tmp_path / f"a.txt{suffix}", COMPRESS[suffix](content)))
    assert (source.name, source.num_texts, source.share_read) == (str(tmp_path / f"a.txt{suffix}"), None, None)
    for _ in range(2):
        shares = [source.share_read for _ in source]
        assert all(share is not None for share in shares)
        assert shares == sorted(shares)  # type: ignore[type-var]
        assert 0 < shares[0] < 0.7, "the first stretch is not all"  # type: ignore[operator]
        assert source.share_read == 1.0


def test_of_stdin_nobody_knows_the_share(stdin: Callable[[bytes], None]) -> None:
    stdin(b"a\nb\n")
    source = TextSource("-")
    assert source.name == "stdin"
    assert [source.share_read for _ in source] == [None, None]
    assert (source.share_read, source.num_texts) == (None, None)


def test_lines_are_read_without_pyarrow(tmp_path: Path) -> None:
    for name, content in (("a.txt", "a"), ("a.jsonl", '"a"'), ("a.csv", "text\na"), ("a.tsv.gz", "text\na")):
        written(tmp_path / name, COMPRESS[Path(name).suffix if name.endswith("gz") else ""](content.encode()))
    parquet.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    code = f"""
import sys
sys.modules["pyarrow"] = None
from pathlib import Path
from pairloom.encode.blocks import text_blocks
from pairloom.encode.inputs import read_texts
for name in ("a.txt", "a.jsonl", "a.csv", "a.tsv.gz"):
    ((text,),) = text_blocks(read_texts(Path({str(tmp_path)!r}) / name))
    assert text.text == "a", text
try:
    read_texts(Path({str(tmp_path)!r}) / "a.parquet")
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    expected = "reading Parquet, Arrow and shards needs pyarrow, which is not installed: pip install 'pairloom[data]'"
    assert done.stdout.strip() == f"MissingExtraError {expected}"
