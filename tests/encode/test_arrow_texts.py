"""Texts in columns of Parquet and Arrow: types, rows, faults, and how much is held in memory."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from pairloom.encode.inputs import TextSource, read_texts
from pairloom.errors import PairloomError
from pairloom.records import Text
from tests.encode.reading import fault, texts_of, written


def write_arrow(path: Path, table: pa.Table, *, rows: int = 700, stream: bool = False) -> Path:
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


def write_columns(folder: Path, kind: str, table: pa.Table) -> Path:
    match kind:
        case "parquet":
            parquet.write_table(table, folder / "a.parquet", row_group_size=700)
            return folder / "a.parquet"
        case "feather":
            feather.write_feather(table, str(folder / "a.feather"), chunksize=700)
            return folder / "a.feather"
        case _:
            return write_arrow(folder / f"{kind}.arrow", table, stream=kind == "stream")


COLUMNAR = ("parquet", "feather", "file", "stream")


def table_of(num_rows: int) -> pa.Table:
    texts = [f"tëxt {number}" for number in range(num_rows)]
    return pa.table(
        {
            "other": list(range(num_rows)),
            "text": pa.array(texts, pa.string()),
            "large": pa.array(texts, pa.large_string()),
            "few": pa.array([text[-1] for text in texts], pa.string()).dictionary_encode(),
            "nested": [[text] for text in texts],
            "key": pa.array(range(1000, 1000 + num_rows), pa.uint64()),
        }
    )


@pytest.mark.parametrize("kind", COLUMNAR)
def test_columns_in_all_their_types(tmp_path: Path, kind: str) -> None:
    file = write_columns(tmp_path, kind, table_of(3000))
    expected = [Text(str(number), f"tëxt {number}") for number in range(3000)]
    assert texts_of(file) == expected
    assert texts_of(file, "large") == expected
    assert texts_of(file, "few") == [Text(text.id, text.text[-1]) for text in expected]
    assert [text.id for text in read_texts(file, id_field="key")] == [str(number) for number in range(1000, 4000)]
    assert [text.id for text in read_texts(file, id_field="text")] == [text.text for text in expected]


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_views_of_strings(tmp_path: Path, kind: str) -> None:
    table = pa.table({"text": pa.array(["short", "longer than twelve bytes"], pa.string_view())})
    assert [text.text for text in read_texts(write_columns(tmp_path, kind, table))] == table["text"].to_pylist()


@pytest.mark.parametrize("kind", COLUMNAR)
@pytest.mark.parametrize("num_rows", [0, 1])
def test_columns_of_no_row_or_one(tmp_path: Path, kind: str, num_rows: int) -> None:
    source = TextSource(write_columns(tmp_path, kind, table_of(num_rows)))
    assert len(list(source)) == num_rows
    assert source.share_read == 1.0


@pytest.mark.parametrize("kind", COLUMNAR)
def test_columns_that_hold_no_text_or_no_id(tmp_path: Path, kind: str) -> None:
    columns = {"id": [1.0, None], "text": ["a", None], "bytes": [b"a", b"b"], "number": [1, 2], "nothing": pa.nulls(2)}
    file = write_columns(tmp_path, kind, pa.table({**columns, "key": ["a", ""]}))
    assert fault(file, "key", id_field="key") == "FILE: row 1: column 'key' is empty, and an id is not"
    assert fault(file).startswith("FILE: column 'id' holds double, and an id is a string or a whole number")
    assert fault(file, id_field="number") == "FILE: row 1: column 'text' is null, not a string"
    assert fault(file, "bytes") == "FILE: column 'bytes' holds binary, and a text is a string"
    assert fault(file, "number") == "FILE: column 'number' holds int64, and a text is a string"
    assert fault(file, "nothing") == "FILE: column 'nothing' holds null, and a text is a string"
    assert fault(file, "body").startswith(
        "FILE: has no column 'body'; it has id, text, bytes, number, nothing, key; name"
    )


@pytest.mark.parametrize("kind", COLUMNAR)
def test_faults_in_a_column_name_the_row(tmp_path: Path, kind: str) -> None:
    texts = ["a"] * 2500
    raw = [b"a"] * 1700 + [b"caf\xe9"] + [b"a"] * 799
    offsets, content = pa.array(raw, pa.binary()).buffers()[1:]
    broken = pa.StringArray.from_buffers(2500, offsets, content)
    table = pa.table({"text": [*texts[:1500], None, *texts[1501:]], "broken": broken, "key": [*range(2499), None]})
    file = write_columns(tmp_path, kind, table)
    assert fault(file) == "FILE: row 1,500: column 'text' is null, not a string"
    assert (
        fault(file, "broken", id_field="key")
        == "FILE: row 1,700: column 'broken' is not UTF-8 (byte 4 of the text); --errors replace reads it as \ufffd"
    )
    assert texts_of(file, "broken", errors="replace")[1700] == Text("1700", "caf\ufffd")
    assert (
        fault(file, "broken", id_field="key", errors="replace")
        == "FILE: row 2,499: column 'key' is null, not a string or a number"
    )


@pytest.mark.parametrize("kind", COLUMNAR)
def test_columns_that_are_cut(tmp_path: Path, kind: str) -> None:
    file = write_columns(tmp_path, kind, table_of(3000))
    whole = file.read_bytes()
    for size in (0, 5, len(whole) // 2, len(whole) - 5):
        said = fault(written(file, whole[:size]))
        assert said.startswith(f"FILE: not a sound {'Parquet' if kind == 'parquet' else 'Arrow'} file")
        assert said.endswith("; if it is cut, fetch it again")
    if kind == "stream":
        assert " after 1,400 rows (" in fault(written(file, whole[: len(whole) // 2]))


def test_a_damaged_page_of_parquet_says_after_how_many_rows(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    parquet.write_table(table_of(3000), file, row_group_size=1024)
    place = parquet.read_metadata(file).row_group(2).column(1).data_page_offset
    content = bytearray(file.read_bytes())
    content[place : place + 64] = b"\xff" * 64
    assert "not a sound Parquet file after 2,048 rows (" in fault(written(file, bytes(content)))


@pytest.mark.parametrize("kind", COLUMNAR)
def test_damaged_columns_give_texts_or_an_error_for_people(tmp_path: Path, kind: str) -> None:
    file = write_columns(tmp_path, kind, table_of(200))
    whole, dice = file.read_bytes(), random.Random(2)
    outcomes = set()
    for number in range(150):
        content = bytearray(whole)
        # Half of the faults near the end, where the footer is.
        place = dice.randrange(len(whole)) if number % 2 else len(whole) - 1 - dice.randrange(len(whole) // 4)
        content[place] ^= 1 << dice.randrange(8)
        try:
            texts_of(written(file, bytes(content)), dice.choice(["text", "large", "few"]))
            outcomes.add("texts")
        except PairloomError:
            outcomes.add("error")
    assert outcomes == {"texts", "error"}


def test_columns_compressed_as_a_whole_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "a.parquet.gz", gzip.compress(b"PAR1"))
    assert fault(file) == "FILE: is compressed as a whole, and parquet is read in places; unpack it first"


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
@pytest.mark.parametrize("rows", [2_000, 20_000])
def test_columns_are_read_in_parts_and_others_not_at_all(tmp_path: Path, kind: str, rows: int) -> None:
    dice = random.Random(1)
    texts = [f"{dice.getrandbits(2000):0500x}" for _ in range(20_000)]
    table = pa.table({"other": texts, "text": texts})
    file = tmp_path / f"a.{'parquet' if kind == 'parquet' else 'arrow'}"
    if kind == "parquet":
        parquet.write_table(table, file, row_group_size=rows, compression="none", use_dictionary=False)
    else:
        write_arrow(file, table, rows=2_000, stream=kind == "stream")
    before = pa.total_allocated_bytes()
    held = max(pa.total_allocated_bytes() - before for _ in read_texts(file))
    assert 500 * 1_000 < held < 4_000_000, "of a column of 10 MB"


@pytest.mark.parametrize("kind", COLUMNAR)
def test_title_and_text_are_joined(tmp_path: Path, kind: str) -> None:
    table = pa.table({"id": ["x", "y", "z"], "title": ["T", None, "T"], "text": ["t", "u", ""]})
    assert texts_of(write_columns(tmp_path, kind, table)) == [Text("x", "T t"), Text("y", "u"), Text("z", "T")]


@pytest.mark.parametrize(
    ("kind", "num_texts"), [("parquet", 3000), ("feather", None), ("file", None), ("stream", None)]
)
def test_the_share_of_columns(tmp_path: Path, kind: str, num_texts: int | None) -> None:
    source = TextSource(write_columns(tmp_path, kind, table_of(3000)))
    assert source.num_texts == num_texts
    shares = [source.share_read for _ in source]
    assert shares == sorted(shares)  # type: ignore[type-var]
    assert 0 < shares[0] < 0.5 < shares[2000] <= 1.0  # type: ignore[operator]
    assert source.share_read == 1.0
