from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from pairloom.errors import InputError
from pairloom.records import Pair
from pairloom.sources.pair_files import SOURCE
from tests.sources.reading import read_view


def read(path: Path, view: str = "pairs", **columns: str) -> list[Pair]:
    return read_view(SOURCE, path, view=view, **columns)[0]


def lines(path: Path, *records: Any) -> Path:
    text = "".join((record if isinstance(record, str) else json.dumps(record)) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize(
    ("record", "pairs"),
    [
        (["a", "p"], [Pair("a", "p")]),
        ({"texts": ["a", "p"], "source": "x"}, [Pair("a", "p")]),
        ({"context": "c", "response": "r", "context/0": "d"}, [Pair("r", "c")]),
        ({"set": ["x", "y", "z"]}, [Pair("x", "y"), Pair("y", "z")]),
        ({"query": "q", "pos": ["p1", "p2"], "neg": ["n"]}, [Pair("q", "p1"), Pair("q", "p2")]),
        ({"query": "q", "pos": ["p"]}, [Pair("q", "p")]),
        ({"anchor": "a", "positive": "p", "negative": "n"}, [Pair("a", "p")]),
    ],
)
def test_shapes_of_pairs(tmp_path: Path, record: Any, pairs: list[Pair]) -> None:
    assert read(lines(tmp_path / "a.jsonl", record)) == pairs
    assert read(lines(tmp_path / "a.jsonl.gz", record, "", ["b", "c"])) == [*pairs, Pair("b", "c")]


@pytest.mark.parametrize(
    ("record", "triplets"),
    [
        (["a", "p", "n"], ["apn"]),
        ({"texts": ["a", "p", "n"]}, ["apn"]),
        ({"anchor": "a", "positive": "p", "negative": "n"}, ["apn"]),
        ({"query": "q", "pos": ["p"], "neg": ["1", "2", "3"]}, ["qp1", "qp2", "qp3"]),
        ({"query": "q", "pos": ["p", "r"], "neg": ["1", "2", "3"]}, ["qp1", "qr2", "qp3"]),
        ({"query": "q", "pos": ["p", "r"], "neg": ["1"]}, ["qp1", "qr1"]),
    ],
)
def test_shapes_of_triplets(tmp_path: Path, record: Any, triplets: list[str]) -> None:
    expected = [Pair(texts[0], texts[1], (texts[2],)) for texts in triplets]
    assert read(lines(tmp_path / "a.jsonl", record), "triplets") == expected


@pytest.mark.parametrize(
    ("past", "context"),
    [
        ({"context/0": "before"}, "before"),
        ({"context/0": "before", "context/1": "earlier", "context/3": "after a gap"}, "before\nearlier"),
        ({"context/0": "[deleted]", "context/1": " ", "context/2": "earlier"}, "earlier"),
    ],
)
def test_past_contexts(tmp_path: Path, past: dict[str, str], context: str) -> None:
    record = {"context": "c", "response": "r", **past}
    assert read(lines(tmp_path / "a.jsonl", record), "contexts") == [Pair("r", "c", context=context)]


def test_a_response_without_past_contexts_is_left_out(tmp_path: Path) -> None:
    records = [{"context": "c", "response": "r"}, {"context": "c", "response": "r", "context/0": "[removed]"}]
    pairs, dropped = read_view(SOURCE, lines(tmp_path / "a.jsonl", *records), view="contexts")
    assert pairs == []
    assert dropped == {"response without past contexts": 2}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (["r", "c"], "has no context and response; the view contexts reads nothing else"),
        ({"context": "c"}, "has no context and response"),
        ({"context": "c", "response": 7}, "text 1 is a number, not a text"),
        ({"context": "c", "response": "r", "context/0": 7}, "context/0 is a number, not a text"),
    ],
)
def test_lines_without_contexts_are_named(tmp_path: Path, record: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(lines(tmp_path / "a.jsonl", record), "contexts")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ('["a", "p"', r"not JSON \(.+\)"),
        ("a\tp", r"not JSON \(.+\)"),
        (["a"], "has one text where the view wants 2"),
        ([], "has no text where the view wants 2"),
        (["a", "p", "n"], "has 3 texts where the view wants 2; use the view triplets"),
        ({"texts": ["a", "p", "n"]}, "has 3 texts where the view wants 2; use the view triplets"),
        ({"texts": ["a"]}, "has one text where the view wants 2"),
        ({"set": ["a"]}, "has one text where the view wants 2"),
        ({"query": "q", "pos": []}, "has one text where the view wants 2"),
        ({"query": "q", "pos": "p"}, "has one text where the view wants 2"),
        (["a", ""], "text 2 is empty"),
        (["a", " \n\u0000"], "text 2 is empty"),
        (["a", 7], "text 2 is a number, not a text"),
        ([None, "p"], "text 1 is null, not a text"),
        (["a", ["p"]], "text 2 is a list, not a text"),
        (["a", {}], "text 2 is an object, not a text"),
        (["a", True], "text 2 is true or false, not a text"),
        ({"query": 3, "pos": ["p"]}, "text 1 is a number, not a text"),
        ({"context": "c", "response": None}, "text 1 is null, not a text"),
        ({"title": "t", "body": "b"}, "has none of the known shapes; its keys are 'title', 'body'"),
        ({}, "has none of the known shapes; its keys are none"),
        (42, "holds a number, not a list or an object with texts"),
        ('"text"', "holds a single text, not a list or an object with texts"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, record: Any, message: str) -> None:
    path = lines(tmp_path / "bad.jsonl", ["a", "p"], "", record)
    with pytest.raises(InputError, match=rf"bad\.jsonl, line 3: {message}$"):
        read(path)


@pytest.mark.parametrize(
    "record", [["a", "p"], {"texts": ["a", "p"]}, {"set": ["a", "p"]}, {"context": "c", "response": "r"}]
)
def test_pairs_are_no_triplets(tmp_path: Path, record: Any) -> None:
    with pytest.raises(InputError, match=r"a\.jsonl, line 1: has 2 texts where the view wants 3; use the view pairs$"):
        read(lines(tmp_path / "a.jsonl", record), "triplets")
    with pytest.raises(InputError, match=r"line 1: has 2 texts where the view wants 3"):
        read(lines(tmp_path / "b.jsonl", {"query": "q", "pos": ["p"], "neg": []}), "triplets")


def test_bad_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes(b'["a", "p"]\n["caf\xe9", "p"]\n')
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'["a", "p"]\n' * 1000)[:-9])
    (tmp_path / "a.xlsx").touch()
    for name, message in {
        "latin.jsonl": r"latin\.jsonl, line 2: not UTF-8",
        "cut.jsonl.gz": r"cut\.jsonl\.gz: the gzip stream ends too early",
        "missing.jsonl": r"missing\.jsonl: no such file",
        "a.xlsx": r"a\.xlsx: pairs are read from \.jsonl",
    }.items():
        with pytest.raises(InputError, match=message):
            read(tmp_path / name)
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(InputError, match=r"folder\.jsonl: is no regular file"):
        read(tmp_path / "folder.jsonl")


def test_a_byte_order_mark_and_crlf_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf["a", "p"]\r\n["b", "q"]\r\n')
    assert read(tmp_path / "a.jsonl") == [Pair("a", "p"), Pair("b", "q")]


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        rows = [["id", "q", "a"], ["1", 'say "hi", so', "two\nlines"], ["2", "é", "x" * 200_000]]
        csv.writer(stream).writerows(rows)
    limit = csv.field_size_limit()
    assert read(path, anchor="q", positive="a") == [Pair('say "hi", so', "two\nlines"), Pair("é", "x" * 200_000)]
    assert csv.field_size_limit() == limit


def test_tsv_has_no_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(b'negative\tpositive\tanchor\nn\t"p\ta "b"\n'))
    assert read(tmp_path / "a.tsv.gz", "triplets") == [Pair('a "b"', '"p', ("n",))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"a\.csv, line 1: has no column 'anchor', only an empty line"),
        ("anchor,other\na,b\n", r"a\.csv, line 1: has no column 'positive', only anchor, other; name the columns"),
        ("anchor,positive\na,p\nb\n", r"a\.csv, line 3: 1 columns instead of 2"),
        ("anchor,positive\na,p\nb,c,d\n", r"a\.csv, line 3: 3 columns instead of 2"),
        ("anchor,positive\na,p\nb,\n", r"a\.csv, line 3: text 2 is empty"),
        ('anchor,positive\na,p\n"b,c\n', r"a\.csv, line 3: not sound CSV"),
    ],
)
def test_bad_csv_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.csv")


def test_parquet(tmp_path: Path) -> None:
    anchors = [f"anchor {number}" for number in range(3000)]
    positives = [f"positive {number}" for number in range(3000)]
    parquet.write_table(pa.table({"n": range(3000), "p": positives, "a": anchors}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", anchor="a", positive="p") == [*map(Pair, anchors, positives)]
    with pytest.raises(InputError, match=r"a\.parquet, line 1: has no column 'positive', only n, p, a"):
        read(tmp_path / "a.parquet", anchor="a")
    with pytest.raises(InputError, match=r"a\.parquet, line 1: text 2 is a number, not a text"):
        read(tmp_path / "a.parquet", anchor="a", positive="n")
    positives[2000] = None  # type: ignore[call-overload]
    parquet.write_table(pa.table({"anchor": anchors, "positive": positives}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"b\.parquet, line 2001: text 2 is null, not a text"):
        read(tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-100])
    with pytest.raises(InputError, match=r"c\.parquet: not a sound Parquet file"):
        read(tmp_path / "c.parquet")


@pytest.mark.parametrize(
    ("name", "count"),
    [("arxiv_title_abstract", 30_000), ("reddit_title_body", 60_000), ("reddit_question_answer", 25_000)],
)
def test_real_files(shared: Path, name: str, count: int) -> None:
    path = shared / "data" / f"{name}.jsonl.gz"
    found = read(path)
    with gzip.open(path) as stream:
        first = json.loads(next(stream))["texts"]
        assert len(found) == 1 + sum(1 for _ in stream) == count
    assert found[0] == Pair(*first)
