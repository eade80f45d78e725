from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.sources.corpus import Corpus


@pytest.fixture
def squad(tmp_path: Path) -> Corpus:
    return Corpus("squad", tmp_path)


def article(*paragraphs: Any) -> dict[str, Any]:
    return {"title": "T", "paragraphs": list(paragraphs)}


def paragraph(context: str, *questions: Any) -> dict[str, Any]:
    qas = [{"id": "1", "answers": [{"text": "x", "answer_start": 0}], **question} for question in questions]
    return {"context": context, "qas": qas}


def document(*articles: Any) -> dict[str, Any]:
    return {"version": "v2.0", "data": list(articles)}


def test_questions_and_their_paragraph(squad: Corpus) -> None:
    first = paragraph("One.", {"question": "What?"}, {"question": "Why?", "is_impossible": True})
    second = paragraph("Two.", {"question": "Who?", "is_impossible": False})
    content = document(article(first, second), article(), article(paragraph("Three.")))
    expected = [("What?", "One."), ("Who?", "Two.")]
    path = squad.write("train.json", content)
    assert squad.pairs(path) == expected
    assert squad.dropped() == {"question that the paragraph does not answer": 1}
    assert squad.facts["num_records"] == 3
    compressed = squad.write("train.json.gz", gzip.compress(b"\xef\xbb\xbf" + path.read_bytes()))
    assert squad.pairs(compressed) == expected
    pretty = json.dumps(content, indent=2).replace("\n", "\r\n")
    assert squad.pairs(squad.write("pretty.json", pretty)) == expected


def test_what_makes_no_sense_is_left_out_and_named(squad: Corpus) -> None:
    odd = [
        {"qas": []},
        {"context": 7, "qas": []},
        {"context": "c"},
        {"context": "c", "qas": ["q"]},
        {"context": "c", "qas": [{"question": None}]},
        {"context": "c", "qas": [{"question": "q", "is_impossible": "no"}]},
        "text",
    ]
    path = squad.write("a.json", document(article(*odd, paragraph("c", {"question": "Q?"}))))
    assert squad.pairs(path) == [("Q?", "c")]
    assert squad.broken() == [
        f"{path}, line 1: has no context; its keys are 'qas'",
        f"{path}, line 2: context is a number, not a text",
        f"{path}, line 3: has no qas; its keys are 'context'",
        f"{path}, line 4: holds a single text, not an object",
        f"{path}, line 5: question is null, not a text",
        f"{path}, line 6: is_impossible is a single text, not true or false",
        f"{path}, line 7: holds a single text, not an object",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(document(article(paragraph("c", {"question": "q"}))))[:-2], "not whole JSON"),
        (b'{"data": [{"paragraphs": [{"context": "caf\xe9", "qas": []}]}]}', "not whole JSON (lexical error"),
        ("", "not whole JSON"),
        ("{}", "holds no record"),
        ('[{"question": "q"}]', "holds no record"),
        ('{"data": []} {"data": []}', "not whole JSON"),
    ],
)
def test_other_files_are_refused(squad: Corpus, content: str | bytes, message: str) -> None:
    path = squad.write("a.json", content)
    assert squad.fault(path).startswith(f"{path}: {message}")


def test_missing_files_are_named(squad: Corpus) -> None:
    assert squad.fault(squad.folder / "train.json") == f"{squad.folder / 'train.json'}: no such file or folder"


def count_answerable(path: Path) -> tuple[int, set[tuple[str, str]]]:
    """All questions that can be answered, and what is left of them without the double ones."""
    found = [
        (" ".join(qa["question"].split()), " ".join(paragraph["context"].split()))
        for article in json.loads(path.read_text(encoding="utf-8"))["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
        if not qa.get("is_impossible")
    ]
    return len(found), set(found)


def test_real_files(shared: Path, squad: Corpus) -> None:
    folder = shared / "formats" / "squad"
    for name, expected in {"train-v2.0.json": 2, "dev-v2.0.json": 2, "xquad.en.json": 1190}.items():
        count, pairs = count_answerable(folder / name)
        assert count == expected
        assert set(squad.pairs(folder / name)) == pairs
        assert squad.dropped().get("duplicate pair", 0) == count - len(pairs)
    assert set(squad.pairs(folder)) == count_answerable(folder / "train-v2.0.json")[1]
