from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pairloom.sources import formats, search_qa
from tests.sources.corpus import Corpus


@pytest.fixture
def search(tmp_path: Path) -> Corpus:
    return Corpus("search-qa", tmp_path)


def clue(text: str, *snippets: Any, key: str = "question") -> dict[str, Any]:
    results = [{"title": "t", "url": "u", "snippet": snippet, "related_links": None} for snippet in snippets]
    return {key: text, "answer": "x", "category": "C", "search_results": results, "id": 1}


def packed(**files: Any) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, json.dumps(text) if isinstance(text, dict) else text)
    return content.getvalue()


LINES = "<s> one , two </s> <s> three </s> ||| who `` he '' is ||| x\n\n ||| q ||| x\n<s> a </s> ||| b\n"
TEXT_PAIRS = [('who "he" is', "one, two"), ('who "he" is', "three")]


def test_the_first_snippets_with_a_text(search: Corpus) -> None:
    search.write("raw/000001-1_jeopardy_train_800.json", clue("Who?", None, "1", "", "2\nlines", "3", "4", "5", "6"))
    search.write("raw/000002-1_jeopardy_test_800.json", clue("What?", "a", key="clue"))
    search.write("raw/000003.json", json.dumps(clue("Why?", None), indent=4))
    folder = search.folder / "raw"
    assert search.pairs(folder) == [("What?", "a"), *[("Who?", text) for text in ("1", "2 lines", "3", "4", "5")]]
    assert search.dropped() == {"question without a snippet": 1}
    (origin,) = search.facts["origins"]
    assert (origin["name"], origin["files"]) == (str(folder), 3)
    assert search.pairs(folder, settings=("num_snippets=2", "joined=true")) == [("What?", "a"), ("Who?", "1 2 lines")]
    assert search.pairs(folder / "000002-1_jeopardy_test_800.json") == [("What?", "a")]


def test_unpacked_splits(search: Corpus) -> None:
    for split in ("train", "val"):
        search.write(f"{split}/1-test_train.json", clue(split, "a"))
    assert search.pairs(search.folder) == [("train", "a")]
    assert search.pairs(search.folder, settings=("split=val",)) == [("val", "a")]
    assert "has no file called test, only train, val" in search.fault(search.folder, settings=("split=test",))


def test_packed_questions(search: Corpus) -> None:
    content = packed(**{"train/": "", "train/1_test.json": clue("Who?", "a"), "train/2_val.json": clue("What?", "b")})
    path = search.write("train.zip", content)
    search.write("val.zip", packed(**{"val/1.json": clue("no", "c")}))
    expected = [("What?", "b"), ("Who?", "a")]
    assert search.pairs(path) == expected
    assert search.pairs(search.folder) == expected
    assert search.pairs(search.folder / "val.zip") == [("no", "c")]


def test_text(search: Corpus) -> None:
    path = search.write("train.txt", LINES.replace("\n", "\r\n"))
    assert search.pairs(path) == TEXT_PAIRS
    assert search.dropped() == {"question without a snippet": 1}
    assert search.broken() == [f"{path}, line 4: has 2 parts instead of 3, snippets ||| question ||| answer"]


def test_one_archive_with_the_texts(search: Corpus) -> None:
    other = "<s> no </s> ||| q ||| x\n"
    path = search.write("SearchQA.zip", packed(**{"SearchQA/train.txt": LINES, "SearchQA/val.txt": other}))
    for given in (path, search.folder):
        assert search.pairs(given) == TEXT_PAIRS
    assert search.pairs(path, settings=("split=val",)) == [("q", "no")]
    assert "has no file called test, only train, val" in search.fault(path, settings=("split=test",))


def test_names_in_an_archive_do_no_harm(search: Corpus) -> None:
    names = ["../../evil.json", "/evil.json", "C:\\evil.json"]
    path = search.write("a.zip", packed(**{name: clue(name, "a") for name in names}))
    before = sorted(search.folder.parent.iterdir())
    assert [question for question, _ in search.pairs(path)] == sorted(names)
    assert sorted(search.folder.parent.iterdir()) == before
    assert not list(search.folder.rglob("evil*"))


def test_what_makes_no_sense_is_left_out_and_named(search: Corpus) -> None:
    odd: dict[str, Any] = {
        "1.json": "[1]",
        "2.json": clue("q", 3),
        "3.json": json.dumps({"question": "q", "search_results": ["x"]}),
        "4.json": json.dumps({"search_results": []}),
        "5.json": '{"question": "q", "search_',
        "6.json": b'{"question": "caf\xe9"}',
        "7.txt": b"<s> caf\xe9 </s> ||| q ||| x\n",
        "8.json": clue("Who?", "a"),
    }
    path = search.write("a.zip", packed(**odd))
    assert search.pairs(path) == [("Who?", "a")]
    said = [place.removeprefix(f"{path}, line ") for place in search.broken()]
    assert said[0] == "1: holds a list, not an object"
    assert said[1] == "2: a snippet is a number, not a text"
    assert said[2] == "3: a search result is a single text, not an object"
    assert said[3] == "4: has no question; its keys are 'search_results'"
    assert said[4].startswith("5: not JSON (Unterminated string")
    assert said[4].endswith(", in 5.json")
    assert said[5:] == ["6: not UTF-8 (byte 18), in 6.json", "7: not UTF-8 (byte 8), in 7.txt"]


def encrypted() -> bytes:
    content = bytearray(packed(**{"1.json": clue("Who?", "a")}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + place] |= 1
    return bytes(content)


def damaged() -> bytes:
    content = bytearray(packed(**{"1.json": clue("Who?", *map(str, range(2000)))}))
    content[200] ^= 0xFF
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "not a sound zip archive (File is not a zip file); fetch it again"),
        (packed(**{"1.json": clue("Who?", "a")})[:-30], "not a sound zip archive (File is not a zip file)"),
        (damaged(), "not a sound zip archive (Bad CRC-32 for file"),
        (encrypted(), "is encrypted; unpack it with its password first"),
        (packed(**{"notes.md": "x"}), "has no .json and no .txt in it"),
    ],
)
def test_other_archives_are_refused(search: Corpus, content: bytes, message: str) -> None:
    path = search.write("train.zip", content)
    assert search.fault(path).startswith(f"{path}: {message}")


@pytest.mark.parametrize("name", ["bomb.json", "bomb.txt"])
def test_a_bomb_is_not_unpacked(search: Corpus, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(search_qa, "MAX_RECORD_BYTES", 1 << 20)
    path = search.write("a.zip", packed(**{name: b" " * (8 << 20)}))
    assert path.stat().st_size < 1 << 16
    assert search.fault(path) == f"{path}: has a record of more than 1 MiB in {name}"
    assert formats.MAX_RECORD_BYTES == 256 << 20


def test_other_files_are_refused(search: Corpus) -> None:
    assert "is an archive; unpack it" in search.fault(search.write("a.tar.gz", ""))
    assert "questions are read from .zip, .txt or .json" in search.fault(search.write("a.csv", ""))
    (search.folder / "empty").mkdir()
    assert "holds no .zip, no .txt and no .json" in search.fault(search.folder / "empty")


def count(records: list[Any]) -> set[tuple[str, str]]:
    """The first five snippets of each question, by hand."""
    pairs = set()
    for record in records:
        snippets = [result["snippet"] for result in record["search_results"] if result["snippet"]]
        pairs |= {(record["question"], "".join(snippet.split())) for snippet in snippets[:5]}
    return pairs


def test_real_raw_files(shared: Path, search: Corpus) -> None:
    folder = shared / "formats" / "search_qa" / "raw"
    expected = count([json.loads(path.read_text(encoding="utf-8")) for path in folder.iterdir()])
    found = search.pairs(folder)
    # Cleaning takes control characters out, of which some snippets have a few.
    assert len(found) == len(expected) == 10
    assert {question for question, _ in found} == {question for question, _ in expected}


@pytest.mark.parametrize(("split", "number"), [("train", 5), ("val", 8)])
def test_real_archives(shared: Path, search: Corpus, split: str, number: int) -> None:
    path = shared / "formats" / "search_qa" / f"{split}.zip"
    with zipfile.ZipFile(path) as archive:
        records = [json.loads(archive.read(name)) for name in archive.namelist() if name.endswith(".json")]
    assert len(search.pairs(path)) == len(count(records)) == number
    assert search.facts["num_records"] == 2
    assert len(search.pairs(path.parent, settings=(f"split={split}",))) == number
