"""``pairloom index``, ``search`` and ``collection``, as a user types them, in processes of their own."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pairloom import Encoder
from pairloom.encode.bulk import encode_texts
from pairloom.records import Document, Text
from pairloom.search.collection import Collection
from tests.conftest import make_pairs, make_shards
from tests.test_cli import bad, facts, good, run

SUBCOMMANDS = ("add", "delete", "info", "verify", "rebuild", "export")


def records(count: int) -> list[dict[str, Any]]:
    """Documents of which each has a number of its own, and some metadata."""
    return [
        {
            "id": f"d{number}",
            "text": text,
            "tag": ["even", "odd"][number % 2],
            "year": 2000 + number,
            "open": number < 5,
        }
        for number, (_, text) in enumerate(make_pairs(count))
    ]


def write_lines(path: Path, found: Sequence[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, found)))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "docs.jsonl", records(20))


@pytest.fixture
def made(source: Path, model_folder: Path, tmp_path: Path) -> Path:
    good("index", source, "--out", "made", "--model", model_folder, "--quiet", cwd=tmp_path)
    return tmp_path / "made"


def piped(content: bytes, *words: object, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "pairloom", *map(str, words)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}
    return subprocess.run(command, input=content, capture_output=True, timeout=120, cwd=cwd, env=environment)


def test_from_a_file_to_hits(source: Path, model_folder: Path, tmp_path: Path) -> None:
    words = ("index", source.name, "--out", "made", "--model", model_folder, "--fields", "tag:keyword,year:number")
    told = facts(*words, "--store", "float32", "--kind", "exact", cwd=tmp_path)
    assert (told["added"], told["encoded"], told["count"], told["unchanged"]) == (20, 20, 20, 0)
    assert told["settings"]["storage"] == "float32"
    assert told["settings"]["fields"] == {"tag": "keyword", "year": "number"}
    assert {path.name for path in tmp_path.iterdir()} == {"docs.jsonl", "made"}

    text = records(20)[7]["text"]
    (hit,) = facts("search", "made", text, "-k", 1, "--mode", "vector", cwd=tmp_path)
    assert (hit["id"], hit["text"]) == ("d7", text)
    assert hit["metadata"] == {"tag": "odd", "year": 2007, "open": False}
    hits = facts("search", "made", text, "--where", "tag=even", "--where", "year>=2010", cwd=tmp_path)
    assert {one["id"] for one in hits} == {"d10", "d12", "d14", "d16", "d18"}
    (found,) = facts("search", "made", "7 .", "--mode", "words", "-k", 1, "--where", '{"year": 2007}', cwd=tmp_path)
    assert found["id"] == "d7"
    begin, end = found["highlights"][0]
    assert text[begin:end] == "7"
    shown = good("search", "made", text, "-k", 1, "--mode", "vector", cwd=tmp_path)
    assert "open: false · tag: odd · year: 2007" in shown
    nothing = run("search", "made", text, "--where", "year<1990", cwd=tmp_path)
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "nothing was found\n")

    assert facts("info", "made", cwd=tmp_path)["kind"] == "collection"
    assert facts("collection", "info", "made", cwd=tmp_path)["count"] == 20
    assert facts("collection", "verify", "made", cwd=tmp_path)["count"] == 20
    assert "collection, whole" in run("info", "made", cwd=tmp_path).stderr
    assert "made: whole" in run("collection", "verify", "made", cwd=tmp_path).stderr
    good("collection", "rebuild", "made", "--quiet", cwd=tmp_path)
    facts("collection", "rebuild", "made", "--kind", "graph", "--recall", 0.9, cwd=tmp_path)
    told = facts("collection", "info", "made", cwd=tmp_path)
    assert (told["settings"]["kind"], told["settings"]["target_recall"]) == ("graph", 0.9)
    assert told["index"]["target_recall"] == 0.9
    assert "invalid choice" in bad("collection", "rebuild", "made", "--kind", "tree", code=2, cwd=tmp_path)
    (hit,) = facts("search", "made", text, "-k", 1, "--mode", "vector", cwd=tmp_path)
    assert hit["id"] == "d7"


def test_adding_again_encodes_nothing(made: Path, source: Path, tmp_path: Path) -> None:
    told = facts("collection", "add", "made", source, cwd=tmp_path)
    assert (told["added"], told["replaced"], told["unchanged"], told["encoded"]) == (0, 0, 20, 0)
    changed = records(22)
    changed[3]["year"] = 1999
    changed[4]["text"] = "something else"
    told = facts("collection", "add", "made", write_lines(source, changed), cwd=tmp_path)
    assert (told["added"], told["replaced"], told["unchanged"], told["encoded"]) == (2, 2, 18, 3)
    assert told["count"] == 22
    with Collection(made, create=False) as collection:
        first, second = collection.get(["d3", "d4"])
    assert first == Document("d3", changed[3]["text"], {"tag": "odd", "year": 1999, "open": True})
    assert second is not None
    assert second.text == "something else"
    done = run("collection", "add", "made", source, "--quiet", cwd=tmp_path)
    assert "made: 0 documents written; it has 22" in done.stderr


def test_deleting(made: Path, tmp_path: Path) -> None:
    told = facts("collection", "delete", "made", "d1", "d1", "d2", "none", "--dry-run", cwd=tmp_path)
    assert told == {"deleted": 0, "found": 2, "asked_for": 3, "count": 20, "dry_run": True}
    told = facts("collection", "delete", "made", "d1", "d2", "none", cwd=tmp_path)
    assert (told["deleted"], told["asked_for"], told["count"]) == (2, 3, 18)
    done = run("collection", "delete", "made", "--where", "year<2005", "--dry-run", cwd=tmp_path)
    assert "made: would delete 3 documents" in done.stderr
    done = run("collection", "delete", "made", "--where", "year<2005", cwd=tmp_path)
    assert "made: deleted 3 documents" in done.stderr
    assert facts("collection", "info", "made", cwd=tmp_path)["count"] == 15
    done_piped = piped(b"d5\r\nd6\n\nd19", "collection", "delete", "made", "-", "d7", "--json", cwd=tmp_path)
    assert json.loads(done_piped.stdout)["deleted"] == 4
    assert json.loads(done_piped.stdout)["count"] == 11


def test_stdin(made: Path, tmp_path: Path) -> None:
    lines = b'{"id": "new", "text": "hot coffee", "tag": "even", "year": 1}\n{"id": "d1", "text": "cold water"}'
    done = piped(lines, "collection", "add", "made", "-", "--format", "jsonl", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert (told["added"], told["replaced"], told["count"]) == (1, 1, 21)
    done = piped(b"one text\nanother\n", "collection", "add", "made", "-", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["added"] == 2
    done = piped(b"another\na third\n", "collection", "add", "made", "-", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert (told["added"], told["unchanged"]) == (1, 1)
    done = piped(b"", "collection", "add", "made", "-", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["count"] == 24


def test_a_table_with_types(model_folder: Path, tmp_path: Path) -> None:
    rows = ["key,body,tag,year,open,when", "x,hot coffee,a,2021,yes,2021-05-03", "y,cold water,,2022,no,"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    words = ("index", "t.csv", "--out", "made", "--model", model_folder, "--field", "body", "--id-field", "key")
    types = "tag,year:number,open:boolean,when:datetime"
    facts(*words, "--metadata", types, cwd=tmp_path)
    with Collection(tmp_path / "made", create=False) as collection:
        assert collection.get(["x", "y"]) == [
            Document("x", "hot coffee", {"tag": "a", "year": 2021, "open": True, "when": "2021-05-03"}),
            Document("y", "cold water", {"year": 2022, "open": False}),
        ]
    for where, expected in (("open=true", ["x"]), ("year>2021", ["y"]), ("when>=2021-05-01", ["x"])):
        hits = facts("search", "made", "coffee", "--where", where, cwd=tmp_path)
        assert [hit["id"] for hit in hits] == expected
    (tmp_path / "u.csv").write_text("key,body,year\nz,a list,MMXX\n")
    wrong = ("collection", "add", "made", "u.csv", "--field", "body", "--id-field", "key", "--metadata", "year:number")
    expected_fault = "u.csv, line 2: field 'year' holds 'MMXX', which is not a number"
    assert expected_fault in bad(*wrong, cwd=tmp_path)


def test_declared_fields_are_types_too(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,text,year\nx,hot coffee,2021\n")
    words = ("index", "t.csv", "--out", "made", "--model", model_folder, "--fields", "year:number")
    facts(*words, cwd=tmp_path)
    (tmp_path / "t.csv").write_text("id,text,year\ny,cold water,2022\n")
    facts("collection", "add", "made", "t.csv", cwd=tmp_path)
    with Collection(tmp_path / "made", create=False) as collection:
        assert [one.metadata for one in collection.documents()] == [{"year": 2021}, {"year": 2022}]


def test_vectors_that_are_there_are_not_made_again(model_folder: Path, tmp_path: Path) -> None:
    texts = [Text(one["id"], one["text"]) for one in records(20)]
    encode_texts(Encoder(model_folder), texts, tmp_path / "vectors", origin="test", show_progress=False)
    told = facts("index", "vectors", "--out", "made", cwd=tmp_path)
    assert (told["added"], told["encoded"], told["model"]) == (20, 0, [str(model_folder)])
    (hit,) = facts("search", "made", texts[3].text, "-k", 1, "--mode", "vector", cwd=tmp_path)
    assert hit["id"] == "d3"
    told = facts("collection", "add", "made", "vectors", cwd=tmp_path)
    assert (told["unchanged"], told["encoded"]) == (20, 0)


def test_vectors_of_another_model_are_refused(
    made: Path, model_folder: Path, backbone_folder: Any, tmp_path: Path
) -> None:
    other = Encoder(backbone_folder("mpnet"))
    encode_texts(other, [Text("a", "coffee")], tmp_path / "vectors", origin="test", show_progress=False)
    assert "made by" in bad("collection", "add", "made", "vectors", cwd=tmp_path)
    assert "made by" in bad("index", "vectors", "--out", "new", "--model", model_folder, cwd=tmp_path)
    said = bad("search", "made", "coffee", "--model", backbone_folder("mpnet"), cwd=tmp_path)
    assert str(model_folder) in said
    assert str(backbone_folder("mpnet")) in said
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / ".new.indexing").exists()


def test_near_duplicates_are_reported(made: Path, source: Path, tmp_path: Path) -> None:
    write_lines(source, [{"id": "again", "text": records(1)[0]["text"]}])
    told = facts("collection", "add", "made", source, "--duplicates", "0.999", cwd=tmp_path)
    assert [(one["id"], one["of"]) for one in told["duplicates"]] == [("again", "d0")]
    assert told["count"] == 21
    assert "duplicates" not in facts("collection", "add", "made", source, cwd=tmp_path)


def test_documents_to_a_file_and_back(made: Path, model_folder: Path, tmp_path: Path) -> None:
    good("collection", "export", "made", "--to", "copy.jsonl.gz", "--quiet", cwd=tmp_path)
    first = json.loads(gzip.decompress((tmp_path / "copy.jsonl.gz").read_bytes()).splitlines()[0])
    assert first == {
        "id": "d0",
        "text": records(1)[0]["text"],
        "metadata": {"tag": "even", "year": 2000, "open": True},
    }
    assert "already there" in bad("collection", "export", "made", "--to", "copy.jsonl.gz", cwd=tmp_path)
    facts("index", "copy.jsonl.gz", "--out", "copy", "--model", model_folder, cwd=tmp_path)
    with Collection(made, create=False) as one, Collection(tmp_path / "copy", create=False) as other:
        assert list(one.documents()) == list(other.documents())


# Ended in the middle


def start(source: Path, model: Path, cwd: Path) -> subprocess.Popen[str]:
    words = ["index", str(source), "--out", "made", "--model", str(model), "--device", "cpu", "--threads", "1"]
    return subprocess.Popen([sys.executable, "-m", "pairloom", *words], cwd=cwd, stderr=subprocess.PIPE, text=True)


def wait_for_documents(process: subprocess.Popen[str], folder: Path) -> int:
    """Waits until some documents are written; returns how many."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        if (folder / "ledger.db").exists() and (count := count_now(folder)):
            return count
        time.sleep(0.01)
    raise AssertionError("nothing was written within a minute")


def count_now(folder: Path) -> int:
    import sqlite3

    try:
        connection = sqlite3.connect(f"{(folder / 'ledger.db').as_uri()}?mode=ro", uri=True)
        try:
            return int(connection.execute("SELECT count(*) FROM documents").fetchone()[0])
        finally:
            connection.close()
    except sqlite3.OperationalError:  # it is just being made
        return 0


@pytest.mark.skipif(sys.platform == "win32", reason="is ended otherwise there")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_ended_command_goes_on(how: signal.Signals, model_folder: Path, tmp_path: Path) -> None:
    found = [{**one, "id": f"{part}-{one['id']}"} for part in range(60) for one in records(500)]
    source = write_lines(tmp_path / "many.jsonl", found)
    folder = tmp_path / ".made.indexing" / "collection"
    process = start(source, model_folder, tmp_path)
    written = wait_for_documents(process, folder)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (-9 if how == signal.SIGKILL else 130)
    assert "Traceback" not in said
    if how == signal.SIGINT:
        assert "documents are written; the same command goes on from there" in said
    assert not (tmp_path / "made").exists()
    words = ("index", source, "--out", "made", "--model", model_folder, "--device", "cpu", "--threads", 1)
    refusal = "begun with kind auto, not graph; give the same, or begin anew with --restart"
    assert refusal in bad(*words, "--kind", "graph", cwd=tmp_path)
    told = facts(*words, cwd=tmp_path)
    assert told["count"] == len(found)
    assert told["unchanged"] >= written
    assert told["added"] + told["unchanged"] == len(found)
    assert {path.name for path in tmp_path.iterdir()} == {"many.jsonl", "made"}
    assert facts("collection", "verify", "made", cwd=tmp_path)["count"] == len(found)


@pytest.mark.skipif(sys.platform == "win32", reason="is ended otherwise there")
def test_adding_that_was_killed_goes_on(made: Path, tmp_path: Path) -> None:
    source = write_lines(
        tmp_path / "many.jsonl", [{**one, "id": f"{part}-{one['id']}"} for part in range(60) for one in records(500)]
    )
    words = ["collection", "add", "made", str(source), "--device", "cpu", "--threads", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pairloom", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    while count_now(made) == 20:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)
    written = facts("collection", "verify", "made", cwd=tmp_path)["count"]
    assert written > 20
    told = facts(*words, cwd=tmp_path)
    assert (told["added"], told["unchanged"]) == (30_020 - written, written - 20)


# Mistakes


def test_what_is_there_is_not_overwritten(made: Path, source: Path, model_folder: Path, tmp_path: Path) -> None:
    words = ("index", source, "--model", model_folder)
    said = bad(*words, "--out", "made", cwd=tmp_path)
    assert "made: already a collection; add to it with pairloom collection add" in said
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    assert "other: already there; choose another place" in bad(*words, "--out", "other", cwd=tmp_path)
    assert "--out is a folder" in bad(*words, "--out", "qdrant://localhost:6333/x", code=2, cwd=tmp_path)


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["index", "--out", "x"], 2, "required: SOURCE"),
        (["index", "docs.jsonl"], 2, "required: --out"),
        (["index", "docs.jsonl", "docs.jsonl", "--out", "x"], 2, "give each source once"),
        (["index", "none.jsonl", "--out", "x"], 1, "none.jsonl: no such file or folder"),
        (["index", "docs.jsonl", "--out", "x", "--model", "no/model"], 1, "no/model: no such folder"),
        (["index", "docs.jsonl", "--out", "x", "--fields", "tag"], 2, "--fields: say what 'tag' holds"),
        (["index", "docs.jsonl", "--out", "x", "--metadata", "a:b"], 2, "what 'a' holds is keyword, number"),
        (["index", "docs.jsonl", "--out", "x", "--recall", "2"], 2, "2.0 is more than 1"),
        (["index", "docs.jsonl", "--out", "x", "--kind", "tree"], 2, "invalid choice: 'tree'"),
        (["collection", "grow", "x"], 2, "there is no command 'grow'; there are: add, delete, info"),
        (["collection", "add", "none", "docs.jsonl"], 1, "none: no such collection"),
        (["collection", "add", "none"], 2, "required: SOURCE"),
        (["collection", "info", "docs.jsonl"], 1, "docs.jsonl: is no collection"),
        (["collection", "delete", "none"], 2, "say which documents: by their ids, or by --where"),
        (["collection", "delete", "none", "a", "--where", "b=c"], 2, "one of the two"),
        (["collection", "delete", "none", "--where", "nonsense"], 2, "nonsense is no filter"),
        (["collection", "verify", "qdrant://localhost/x"], 2, "this is done to a folder"),
        (["search", "docs.jsonl", "coffee", "--where", "a=b"], 2, "--mode and --where are for one"),
        (["search", "none", "coffee"], 1, "none: no such folder"),
        (["info", "none"], 1, "none: no such folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes(words: list[str], code: int, expected: str, source: Path, tmp_path: Path) -> None:
    assert expected in bad(*words, code=code, cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["docs.jsonl"]


def test_mistakes_about_a_collection(made: Path, tmp_path: Path) -> None:
    assert "the query is empty" in bad("search", "made", " ", code=2, cwd=tmp_path)
    assert "is no filter" in bad("search", "made", "coffee", "--where", "tag", code=2, cwd=tmp_path)
    assert "--model, --plot and --seed are for shards" in bad("info", "made", "--seed", 1, code=2, cwd=tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"text": 1}\n')
    said = bad("collection", "add", "made", "bad.jsonl", cwd=tmp_path)
    assert "bad.jsonl, line 2: has no field 'text' that holds a string" in said
    assert facts("collection", "info", "made", cwd=tmp_path)["count"] == 20


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_source_without_documents_makes_no_collection(content: str, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    said = bad("index", "a.jsonl", "--out", "made", "--model", model_folder, "--quiet", cwd=tmp_path)
    assert "a.jsonl: holds no text" in said
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_damaged_collection_is_named(made: Path, tmp_path: Path) -> None:
    ledger = made / "ledger.db"
    content = bytearray(ledger.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2048] = b"\xff" * 2048
    ledger.write_bytes(content)
    for words in (("collection", "verify", "made"), ("info", "made")):
        assert "made: " in bad(*words, cwd=tmp_path)


def test_shards_are_documents_too(model_folder: Path, tmp_path: Path) -> None:
    make_shards(tmp_path / "pairs", make_pairs(12))
    assert facts("index", "pairs", "--out", "made", "--model", model_folder, cwd=tmp_path)["count"] == 12
    with Collection(tmp_path / "made", create=False) as collection:
        assert collection.get(["pairs:3"]) == [Document("pairs:3", make_pairs(12)[3][1])]


def test_help_has_examples() -> None:
    listed = good("collection", "--help")
    for name in SUBCOMMANDS:
        assert f"\n  {name} " in listed
        assert f"Example: pairloom collection {name} " in " ".join(good("collection", name, "--help").split())
    assert "collection  Add to a collection" in good("--help")
