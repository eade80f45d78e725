"""Documents with metadata from every format, from stdin and from vectors; and what is said when something is wrong."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from pairloom import Encoder
from pairloom.encode.bulk import encode_texts
from pairloom.encode.inputs import TextSource, read_texts
from pairloom.errors import ArtifactError, InputError, UsageError
from pairloom.records import Document, Text
from pairloom.search.ingest.documents import DocumentSource, VectorSource, is_vectors, refuse_repeated
from pairloom.search.ingest.metadata import MetadataFields, read_metadata_fields
from tests.conftest import make_shards
from tests.encode.reading import written


def documents(source: Path | str, metadata: str | None = None, **settings: Any) -> list[Document]:
    return list(DocumentSource(source, metadata=read_metadata_fields(metadata), **settings))


def fault(path: Path, metadata: str | None = None, **settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        documents(path, metadata, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), "FILE")


def lines(*records: Any) -> str:
    return "\n".join(json.dumps(record) for record in records)


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    def fill(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(content))))

    return fill


# JSON


def test_other_fields_are_metadata(tmp_path: Path) -> None:
    file = written(
        tmp_path / "a.jsonl",
        lines(
            {"id": "x", "title": "T", "text": "t", "tag": ["a", "b"], "year": 2021, "open": True, "gone": None},
            {"_id": "y", "id": 7, "text": "u", "author": {"name": "n"}},
            {"_id": "z", "text": "v"},
        ),
    )
    assert documents(file) == [
        Document("x", "T t", {"tag": ["a", "b"], "year": 2021, "open": True}),
        Document("y", "u", {"id": 7, "author": {"name": "n"}}),
        Document("z", "v", {}),
    ]
    assert documents(file, "none") == [Document("x", "T t"), Document("y", "u"), Document("z", "v")]
    assert documents(file, "year:number,author.name,title") == [
        Document("x", "T t", {"year": 2021, "title": "T"}),
        Document("y", "u", {"author.name": "n"}),
        Document("z", "v"),
    ]


def test_the_corpus_of_a_task_has_its_metadata_in_an_object(tmp_path: Path) -> None:
    record = {"_id": "d", "title": "", "text": "t", "metadata": {"url": "u", "year": 3}}
    written(tmp_path / "corpus.jsonl.gz", gzip.compress(lines(record).encode()))
    assert documents(tmp_path) == [Document("d", "t", {"url": "u", "year": 3})]
    assert documents(tmp_path, "url") == [Document("d", "t", {"url": "u"})]


def test_the_field_of_the_text_is_no_metadata(tmp_path: Path) -> None:
    file = written(tmp_path / "a.jsonl", lines({"title": "T", "text": "t", "body": "b", "key": "k", "n": 1}))
    assert documents(file, field="body", id_field="key") == [Document("k", "b", {"title": "T", "text": "t", "n": 1})]
    file = written(tmp_path / "b.jsonl", lines({"data": {"texts": ["a", "b"], "lang": "en", "id": "i"}, "n": 1}))
    assert documents(file, field="data.texts.1", id_field="data.id") == [Document("i", "b", {"n": 1})]
    assert documents(file, "data.lang", field="data.texts.1", id_field="data.id") == [
        Document("i", "b", {"data.lang": "en"})
    ]


def test_a_value_that_does_not_fit_is_named_with_its_line(tmp_path: Path) -> None:
    file = written(tmp_path / "a.jsonl", lines({"text": "a", "year": 1}) + "\n\n" + lines({"text": "b", "year": "x"}))
    assert documents(file)[1].metadata == {"year": "x"}
    expected = "FILE, line 3: field 'year' holds 'x', which is not a number such as 2021 or 1.5"
    assert fault(file, "year:number") == expected
    with pytest.raises(InputError, match="line 3: field 'year' holds 'x'"):
        list(DocumentSource(file, metadata=MetadataFields().with_types({"year": "number"})))


def test_numbers_of_python_that_json_has_not(tmp_path: Path) -> None:
    file = written(tmp_path / "a.jsonl", '{"text": "a", "score": NaN}\n{"text": "b", "score": Infinity}')
    assert next(iter(DocumentSource(file))).metadata == {}
    assert fault(file) == "FILE, line 2: field 'score' holds an infinite number"


def test_half_a_character_in_metadata(tmp_path: Path) -> None:
    file = written(tmp_path / "a.jsonl", '{"id": "1", "text": "a", "tag": "\\ud800"}')
    assert fault(file).startswith("FILE, line 1: field 'tag' holds \\ud800, which is half of a character")
    assert documents(file, errors="replace") == [Document("1", "a", {"tag": "\ufffd"})]


def test_a_name_that_no_record_has_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = written(tmp_path / "a.jsonl", lines({"text": "a", "tag": "x"}, {"text": "b"}))
    documents(file, "tag")
    assert not caplog.text
    documents(file, "tag,taag,yeer")
    assert "a.jsonl: no record has a value of taag, yeer" in caplog.text


# Ids


def test_what_has_no_id_is_called_after_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written(tmp_path / name / "x.txt", "one\n\ntwo\n")
    assert documents(Path("a/x.txt")) == [Document("a/x.txt:1", "one"), Document("a/x.txt:3", "two")]
    assert documents("b/x.txt") == [Document("b/x.txt:1", "one"), Document("b/x.txt:3", "two")]
    written(tmp_path / "x.jsonl", '"one"\n{"id": 1, "text": "two"}')
    assert [one.id for one in documents("x.jsonl")] == ["x.jsonl:1", "1"]
    written(tmp_path / "x.csv", "text\none\n")
    assert [one.id for one in documents("x.csv")] == ["x.csv:2"]
    parquet.write_table(pa.table({"text": ["one"]}), "x.parquet")
    assert [one.id for one in documents("x.parquet")] == ["x.parquet:0"]


def test_what_comes_by_stdin_without_an_id_is_called_after_what_it_says(stdin: Callable[[bytes], None]) -> None:
    stdin(b"one\ntwo\none\n")
    first = documents("-")
    stdin("zwö\ntwo\n".encode())
    second = documents(Path("-"))
    assert [one.text for one in first] == ["one", "two", "one"]
    assert first[0].id == first[2].id
    assert first[1] == second[1]
    assert len({one.id for one in (*first, *second)}) == 3
    assert all(one.id.startswith("stdin:") for one in first)
    stdin(b'{"id": "x", "text": "a", "tag": "t"}')
    assert documents("-", format="jsonl") == [Document("x", "a", {"tag": "t"})]


# Tables of lines


@pytest.mark.parametrize(("suffix", "comma"), [("csv", ","), ("tsv", "\t")])
def test_cells_are_strings_or_what_is_said(tmp_path: Path, suffix: str, comma: str) -> None:
    rows = [
        ["id", "text", "tag", "year", "open", "when"],
        ["x", "a", "python", "2021", "true", "2021-05-03"],
        ["y", "b", "", "", "no", ""],
    ]
    file = written(tmp_path / f"a.{suffix}", "\n".join(comma.join(row) for row in rows))
    assert documents(file) == [
        Document("x", "a", {"tag": "python", "year": "2021", "open": "true", "when": "2021-05-03"}),
        Document("y", "b", {"open": "no"}),
    ]
    assert documents(file, "tag,year:number,open:boolean,when:datetime") == [
        Document("x", "a", {"tag": "python", "year": 2021, "open": True, "when": "2021-05-03"}),
        Document("y", "b", {"open": False}),
    ]
    assert documents(file, "none") == [Document("x", "a"), Document("y", "b")]


def test_faults_in_cells_have_line_and_column(tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", 'text,year,open\n"a\nb",2021,1\nc,MMXXI,x\n')
    assert fault(file, "year:number").startswith("FILE, line 4: field 'year' holds 'MMXXI', which is not a number")
    assert fault(file, "open:boolean").startswith("FILE, line 4: field 'open' holds 'x', which is not true or false")
    expected = "FILE, line 1: has no column 'yeer'; it has text, year, open; name another one with --metadata"
    assert fault(file, "yeer") == expected


def test_a_column_without_a_name_is_no_metadata(tmp_path: Path) -> None:
    assert documents(written(tmp_path / "a.csv", ",id,text,n\n0,x,a,1\n")) == [Document("x", "a", {"n": "1"})]


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", "id,text,n,n\nx,a,1,2\n")
    assert fault(file) == "FILE, line 1: has two columns 'n'; rename one"
    assert documents(file, "none") == [Document("x", "a")]


def test_plain_text_has_no_fields(tmp_path: Path) -> None:
    file = written(tmp_path / "a.txt", "one")
    assert len(documents(file, "none")) == len(documents(file)) == 1
    assert fault(file, "tag") == "FILE: is plain text, and its lines have no field 'tag'; leave --metadata out"


# Columns


def write_table(folder: Path, kind: str, table: pa.Table) -> Path:
    file = folder / f"a.{kind}"
    if kind == "parquet":
        parquet.write_table(table, file, row_group_size=2)
    else:
        with pa.ipc.new_file(str(file), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    return file


COLUMNS: dict[str, tuple[Any, Any, Any]] = {
    "int": (pa.int32(), 3, 3),
    "unsigned": (pa.uint64(), 2**63 + 1, 2**63 + 1),
    "float": (pa.float64(), 0.5, 0.5),
    "nan": (pa.float32(), float("nan"), None),
    "bool": (pa.bool_(), False, False),
    "string": (pa.string(), "ä", "ä"),
    "large": (pa.large_string(), "ä", "ä"),
    "few": (pa.dictionary(pa.int8(), pa.string()), "x", "x"),
    "decimal": (pa.decimal128(10, 2), Decimal("1.50"), 1.5),
    "whole": (pa.decimal128(10, 2), Decimal("7.00"), 7),
    "day": (pa.date32(), date(2021, 5, 3), "2021-05-03"),
    "day64": (pa.date64(), date(2021, 5, 3), "2021-05-03"),
    "instant": (pa.timestamp("ms", "Europe/Berlin"), datetime(2021, 5, 3, tzinfo=UTC), "2021-05-03T00:00:00+00:00"),
    "no_zone": (pa.timestamp("us"), datetime(2021, 5, 3, 1, 2, 3, 4), "2021-05-03T01:02:03.000004+00:00"),
    "nanoseconds": (pa.timestamp("ns"), 1_620_000_000_000_000_999, "2021-05-03T00:00:00+00:00"),
    "time": (pa.time64("ns"), time(1, 2, 3), "01:02:03"),
    "time32": (pa.time32("s"), time(1, 2, 3), "01:02:03"),
    "duration": (pa.duration("ns"), timedelta(seconds=90), 90.0),
    "list": (pa.list_(pa.string()), ["a", "b"], ["a", "b"]),
    "large_list": (pa.large_list(pa.int64()), [1, None], [1, None]),
    "fixed": (pa.list_(pa.float32(), 2), [0.5, 1.5], [0.5, 1.5]),
    "days": (pa.list_(pa.timestamp("ns")), [datetime(2021, 5, 3)], ["2021-05-03T00:00:00+00:00"]),
    "struct": (
        pa.struct([("name", pa.string()), ("when", pa.timestamp("ns")), ("age", pa.int8())]),
        {"name": "n", "when": datetime(2021, 5, 3), "age": None},
        {"name": "n", "when": "2021-05-03T00:00:00+00:00", "age": None},
    ),
    "map": (pa.map_(pa.string(), pa.int64()), [("k", 1)], {"k": 1}),
    "nothing": (pa.null(), None, None),
}
"""Of each column: its type, a value, and the value in metadata."""


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("name", COLUMNS)
def test_columns_keep_their_values(tmp_path: Path, kind: str, name: str) -> None:
    column, value, expected = COLUMNS[name]
    values = pa.array([value, None, value], column)
    file = write_table(tmp_path, kind, pa.table({"id": ["x", "y", "z"], "text": ["a", "b", "c"], name: values}))
    full = {} if expected is None else {name: expected}
    assert documents(file) == [Document("x", "a", full), Document("y", "b"), Document("z", "c", full)]
    assert documents(file, "none")[0] == Document("x", "a")
    json.dumps(documents(file)[0].metadata)


def test_few_times_of_which_each_is_stored_once(tmp_path: Path) -> None:
    times = pa.array([1_001, None, 1_001], pa.timestamp("ns")).dictionary_encode()
    file = write_table(tmp_path, "arrow", pa.table({"text": ["a", "b", "c"], "when": times}))
    expected = {"when": "1970-01-01T00:00:00.000001+00:00"}
    assert [one.metadata for one in documents(file)] == [expected, {}, expected]


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize(
    "column",
    [
        pa.binary(),
        pa.large_binary(),
        pa.binary(3),
        pa.list_(pa.binary()),
        pa.struct([("a", pa.struct([("b", pa.binary())]))]),
        pa.map_(pa.int32(), pa.string()),
        pa.map_(pa.string(), pa.timestamp("ns")),
        pa.dictionary(pa.int8(), pa.binary()),
    ],
    ids=str,
)
def test_columns_that_json_has_not(tmp_path: Path, kind: str, column: Any) -> None:
    table = pa.table({"id": ["x"], "text": ["a"], "odd": pa.array([None], column), "n": [1]})
    file = write_table(tmp_path, kind, table)
    said = fault(file)
    assert said.startswith("FILE: column 'odd' holds ")
    assert said.endswith(", which metadata cannot; name those that are wanted with --metadata")
    assert fault(file, "n,odd") == said
    assert documents(file, "n") == [Document("x", "a", {"n": 1})]


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_some_columns(tmp_path: Path, kind: str) -> None:
    author = pa.array([{"name": "n", "age": 3}], pa.struct([("name", pa.string()), ("age", pa.int64())]))
    metadata = pa.array([{"url": "u"}], pa.struct([("url", pa.string())]))
    columns = {"id": ["x"], "title": ["T"], "text": ["a"], "author": author, "metadata": metadata, "n": ["1"]}
    file = write_table(tmp_path, kind, pa.table(columns))
    assert documents(file) == [Document("x", "T a", {"author": {"name": "n", "age": 3}, "n": "1", "url": "u"})]
    assert documents(file, "author.name,url,n:number,title") == [
        Document("x", "T a", {"author.name": "n", "url": "u", "n": 1, "title": "T"})
    ]
    assert documents(file, "author.age", field="title", id_field="n") == [Document("1", "T", {"author.age": 3})]


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_faults_in_columns_have_row_and_column(tmp_path: Path, kind: str) -> None:
    table = pa.table(
        {
            "text": ["a"] * 5,
            "year": ["1", "2", "3", "4", "x"],
            "when": pa.array([0, 0, 0, 0, 2**60], pa.timestamp("ms")),
            "then": pa.array([0, 0, 0, 0, 2**62], pa.timestamp("us")),
        }
    )
    file = write_table(tmp_path, kind, table)
    assert fault(file, "year:number").startswith("FILE: row 4: field 'year' holds 'x', which is not a number")
    for column in ("when", "then"):
        said = fault(file, column)
        assert said.startswith("FILE: rows ")
        assert f": column '{column}' holds a value that cannot be read (" in said
    assert fault(file, "yeer").endswith("it has text, year, when, then; name another one with --metadata")


def test_invalid_utf_8_in_a_column_of_metadata(tmp_path: Path) -> None:
    offsets, content = pa.array([b"x", b"caf\xe9"], pa.binary()).buffers()[1:]
    broken = pa.StringArray.from_buffers(2, offsets, content)
    file = write_table(tmp_path, "parquet", pa.table({"id": ["x", "y"], "text": ["a", "b"], "tag": broken}))
    assert fault(file).startswith("FILE: row 1: column 'tag' is not UTF-8 (byte 4 of the text); --errors replace")
    assert documents(file, errors="replace")[1].metadata == {"tag": "caf\ufffd"}


def test_of_shards_only_what_is_named(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "pairs", [("a", "p"), ("b", "q")])
    assert documents(shards) == [Document(f"{shards}:0", "p"), Document(f"{shards}:1", "q")]
    assert documents(shards, "anchor") == [
        Document(f"{shards}:0", "p", {"anchor": "a"}),
        Document(f"{shards}:1", "q", {"anchor": "b"}),
    ]


# What encoding reads is what it was


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_texts_are_read_without_what_stands_beside_them(tmp_path: Path, kind: str) -> None:
    rows = [{"text": "a", "n": "1"}, {"text": "b", "n": "2"}]
    if kind == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    else:
        written(tmp_path / f"a.{kind}", lines(*rows) if kind == "jsonl" else "text,n\na,1\nb,2\n")
    file = tmp_path / f"a.{kind}"
    first = {"jsonl": 1, "csv": 2, "parquet": 0}[kind]
    assert list(read_texts(file)) == [Text(str(first), "a"), Text(str(first + 1), "b")]
    assert [record.rest for record in TextSource(file).records()] == [{}, {}]
    assert [record.rest["n"] for record in TextSource(file, rest=None).records()] == ["1", "2"]


def test_binary_columns_do_not_keep_texts_from_being_read(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"id": ["x"], "text": ["a"], "image": [b"\x89PNG"]}), tmp_path / "a.parquet")
    assert list(read_texts(tmp_path / "a.parquet")) == [Text("x", "a")]


def test_how_much_there_is_and_how_much_was_read(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "a.parquet")
    source = DocumentSource(tmp_path / "a.parquet")
    assert (source.name, source.num_documents, source.share_read) == (str(tmp_path / "a.parquet"), 2, None)
    assert len(list(source)) == len(list(source)) == 2
    assert source.share_read == 1.0
    assert DocumentSource("-").num_documents is None


# Vectors


@pytest.fixture(scope="module")
def vectors(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vectors") / "vectors"
    texts = [Text(f"t{number}", f"text {number}") for number in range(10)]
    encode_texts(Encoder(model_folder), texts, path, origin="test", show_progress=False)
    return path


def test_vectors_come_in_blocks(vectors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairloom.search.ingest.documents._BLOCK_ROWS", 4)
    source = VectorSource(vectors)
    assert (source.name, source.num_documents) == (str(vectors), 10)
    blocks = list(source.blocks())
    assert [len(block) for block, _ in blocks] == [4, 4, 2]
    assert [one for block, _ in blocks for one in block] == [Document(f"t{n}", f"text {n}") for n in range(10)]
    np.testing.assert_array_equal(np.concatenate([part for _, part in blocks]), source.vectors.rows(range(10)))


def test_vectors_are_told_from_other_folders(vectors: Path, tmp_path: Path) -> None:
    assert is_vectors(vectors)
    assert is_vectors(str(vectors))
    assert not is_vectors(make_shards(tmp_path / "pairs", [("a", "b")]))
    assert not is_vectors(tmp_path)
    assert not is_vectors(written(tmp_path / "a.txt", "a"))
    assert not is_vectors("-")
    with pytest.raises(ArtifactError, match="holds vectors, not shards"):
        DocumentSource(vectors)


def test_a_source_is_given_once() -> None:
    refuse_repeated(["a", "b"])
    repeated: list[list[Path | str]] = [["a", Path("a")], []]
    for sources in repeated:
        with pytest.raises(UsageError, match="give each source once, and at least one"):
            refuse_repeated(sources)
