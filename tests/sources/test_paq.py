from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from pairloom.errors import InputError
from pairloom.records import Pair
from tests.sources.preparing import prepare_pairs

PASSAGES = [
    ("1", 'Aaron or ; "Ahärôn" is a prophet.', "Aaron"),
    ("2", "Aaron is mentioned in the Bible.", "Aaron"),
    ("20181141", "Nobody asks about this.", "Quiet"),
    ("7", 'Dwayne "The Rock" Johnson acts.', 'The "Rock"'),
]


def question(text: str, *passages: Any, answer: str = "x", **more: Any) -> dict[str, Any]:
    answers = [
        {"passage_id": passage, "offset": 3, "text": answer, "extractor": "L"}
        if not isinstance(passage, dict)
        else passage
        for passage in passages
    ]
    return {"question": text, "subsets": ["L1"], "answer": answer, "passage_score": -1.5, "answers": answers, **more}


QUESTIONS = [
    question("who is aaron", "1"),
    question("where is aaron mentioned", "2", "1", "2"),
    question(
        "who acts", {"passage_id": 1, "text": "no one"}, {"passage_id": 7, "text": "The  rock"}, answer="the rock"
    ),
    question("who knows", "999"),
    question("from nowhere"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Both files, as they are published: with quotation marks around the passages' texts."""
    with gzip.open(tmp_path / "psgs_w100.tsv.gz", "wt", encoding="utf-8", newline="") as stream:
        stream.write("id\ttext\ttitle\n")
        csv.writer(stream, delimiter="\t", quoting=csv.QUOTE_NONNUMERIC).writerows(
            (int(a), b, c) for a, b, c in PASSAGES
        )
    write(tmp_path / "PAQ.metadata.jsonl", *QUESTIONS)
    (tmp_path / "PAQ.jsonl").write_text('{"question": "who", "answer": ["x"]}\n')
    return tmp_path


def write(path: Path, *questions: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in questions))
    return path


def test_questions_meet_their_passages(folder: Path) -> None:
    found, facts = prepare_pairs("paq", folder)
    assert found == {
        Pair("who is aaron", PASSAGES[0][1]),
        Pair("where is aaron mentioned", PASSAGES[1][1]),
        Pair("who acts", PASSAGES[3][1]),
    }
    assert facts["dropped"] == {
        "passage without question": 1,
        "question whose passage is missing": 1,
        "question without passage": 1,
    }
    assert facts["num_records"] == len(PASSAGES) + len(QUESTIONS)
    assert facts["broken"]["count"] == 0


def test_several_passages_and_their_titles(folder: Path) -> None:
    found, _ = prepare_pairs("paq", folder, passages_per_question=2, with_title=True)
    titled = {number: f"{title} {text}" for number, text, title in PASSAGES}
    assert found == {
        Pair("who is aaron", titled["1"]),
        Pair("where is aaron mentioned", titled["2"]),
        Pair("where is aaron mentioned", titled["1"]),
        Pair("who acts", titled["7"]),
        Pair("who acts", titled["1"]),
    }


def test_passages_without_quotation_marks_or_header(tmp_path: Path) -> None:
    table = "\n".join(["\t".join(row) for row in PASSAGES] + ['8\t"Twice" he said "no"\tA', '9\t"cut\tB'])
    (tmp_path / "passages.tsv").write_text(table, encoding="utf-8")
    path = write(tmp_path / "questions.jsonl", *QUESTIONS, question("said", "8"), question("cut", "9"))
    found, facts = prepare_pairs("paq", path, tmp_path / "passages.tsv")
    assert {pair.positive for pair in found} == {
        PASSAGES[0][1],
        PASSAGES[1][1],
        PASSAGES[3][1],
        '"Twice" he said "no"',
        '"cut',
    }
    assert facts["broken"]["count"] == 0


def test_unfiltered_questions(folder: Path) -> None:
    old = question("who is aaron", {"passage_id": "2", "text": "b"}, {"passage_id": "1", "text": "a"})
    del old["answer"]
    old["canonical_answer"] = "A"
    path = write(folder / "unfiltered.jsonl", {**old, "consistent": True}, question("who is it", "2", consistent=False))
    found, facts = prepare_pairs("paq", path, folder / "psgs_w100.tsv.gz")
    assert found == {Pair("who is aaron", PASSAGES[0][1])}
    assert facts["dropped"]["question that PAQ has filtered out"] == 1


def test_order_does_not_matter(folder: Path) -> None:
    first = prepare_pairs("paq", folder / "PAQ.metadata.jsonl", folder / "psgs_w100.tsv.gz")[0]
    write(folder / "PAQ.metadata.jsonl", *reversed(QUESTIONS))
    assert prepare_pairs("paq", folder / "psgs_w100.tsv.gz", folder / "PAQ.metadata.jsonl")[0] == first


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "holds a list, not an object"),
        ({"question": "who", "answer": ["x"]}, "has no answers; its keys are 'question', 'answer'"),
        ({"question": None, "answers": []}, "question is null, not a text"),
        (question("who", None), "the id of a passage is 'null', not a number"),
        (question("who", "a7"), "the id of a passage is 'a7', not a number"),
        (question("who", True), "the id of a passage is 'true or false', not a number"),
        (question("who", -1), "the id of a passage is '-1', not a number"),
        (question("who", 10**18), "the id of a passage is '1000000000000000000', not a number"),
        ({"question": "who", "answers": ["x"]}, "holds a single text, not an object"),
        ({"question": "who", "answers": {}}, "answers is an object, not a list"),
    ],
)
def test_broken_questions_are_named(folder: Path, record: Any, message: str) -> None:
    path = write(folder / "PAQ.metadata.jsonl", *QUESTIONS, record)
    found, facts = prepare_pairs("paq", folder)
    assert len(found) == 3
    assert facts["broken"] == {"count": 1, "places": [f"{path}, line 6: {message}"]}


def test_broken_passages_are_named(folder: Path) -> None:
    (folder / "psgs_w100.tsv.gz").unlink()
    passages = b"id\ttext\ttitle\r\n1\tone\tA\r\n2\ttwo\r\nid\ttext\ttitle\r\n3\tcaf\xe9\tC\r\n4\tfour\tD\textra\n"
    (folder / "psgs_w100.tsv").write_bytes(b"\xef\xbb\xbf" + passages)
    found, facts = prepare_pairs("paq", folder)
    assert found == {Pair("who is aaron", "one")}
    assert [place.partition(", ")[2] for place in facts["broken"]["places"]] == [
        "line 3: 2 columns instead of 3: id, text and title",
        "line 4: the id of a passage is 'id', not a number",
        "line 5: not UTF-8 (byte 6 of the line)",
        "line 6: 4 columns instead of 3: id, text and title",
    ]


def test_both_files_are_needed(folder: Path) -> None:
    with pytest.raises(
        InputError, match=r"PAQ\.metadata\.jsonl: the passages are missing; give psgs_w100\.tsv\.gz, too$"
    ):
        prepare_pairs("paq", folder / "PAQ.metadata.jsonl")
    with pytest.raises(InputError, match=r"the questions are missing; give PAQ\.metadata\.jsonl\.gz, too$"):
        prepare_pairs("paq", folder / "psgs_w100.tsv.gz")
    (folder / "notes.txt").touch()
    with pytest.raises(
        InputError, match=r"notes\.txt: is neither PAQ's questions \(\.jsonl\) nor its passages \(\.tsv\)"
    ):
        prepare_pairs("paq", folder / "notes.txt")
    (folder / "none").mkdir()
    with pytest.raises(InputError, match=r"none: holds no PAQ\.metadata\.jsonl\.gz and no psgs_w100\.tsv\.gz$"):
        prepare_pairs("paq", folder / "none")
