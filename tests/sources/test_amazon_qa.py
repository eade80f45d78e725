from __future__ import annotations

import ast
import gzip
from pathlib import Path
from typing import Any

import pytest

from pairloom.errors import InputError
from pairloom.records import Pair
from tests.sources.preparing import prepare_pairs


def single(question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"questionType": "open-ended", "asin": "B00004U9JP", "question": question, "answer": answer, **more}


def product(*questions: tuple[str, list[str]]) -> dict[str, Any]:
    asked = [
        {
            "questionText": question,
            "questionType": "yes/no",
            "answers": [{"answerText": answer, "helpful": [1, 2]} for answer in answers],
        }
        for question, answers in questions
    ]
    return {"asin": "B000", "category": "Baby", "questions": asked}


def lines(path: Path, *records: Any) -> Path:
    path.write_bytes(gzip.compress("".join(f"{record!r}\n" for record in records).encode()))
    return path


def test_single_and_several_answers(tmp_path: Path) -> None:
    lines(tmp_path / "qa_Appliances.json.gz", single('it\'s 5&quot; &amp; "ok"?', "90&deg;,\nyes 😀"), single("é", "ü"))
    several = product(("Does it fit?", ["Yes, it does.", "No"]), ("Is it red?", []), ("Is it blue?", ["Quite"]))
    lines(tmp_path / "QA_Baby.json.gz", several, product())
    (tmp_path / "notes.txt").touch()
    found, facts = prepare_pairs("amazon-qa", tmp_path)
    assert found == {
        Pair('it\'s 5" & "ok"?', "90°, yes 😀"),
        Pair("é", "ü"),
        Pair("Does it fit?", "Yes, it does."),
        Pair("Does it fit?", "No"),
        Pair("Is it blue?", "Quite"),
    }
    assert facts["dropped"] == {"question without answer": 1}
    assert (facts["num_records"], facts["broken"]["count"]) == (4, 0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'question': 'a', 'answ", "not a Python literal (unterminated string literal (detected at line 1))"),
        ("{'question': 'a'}", "has no answer; its keys are 'question'"),
        ("{'question': 'a', 'answer': 7}", "answer is a number, not a text"),
        ("['question', 'answer']", "holds a list, not an object"),
        ("('a', 'b')", "holds a tuple, not an object"),
        ("{'questions': ['a']}", "holds a single text, not an object"),
        ("{'questions': 'a'}", "questions is a single text, not a list"),
        ("{'questions': [{'questionText': 'a', 'answers': [{}]}]}", "has no answerText; its keys are none"),
        ("__import__('os').abort()", "not a Python literal"),
        ("[" * 100_000, "a Python literal nested deeper than 20 levels"),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "qa_X.json"
    path.write_text(f"{single('q', 'a')!r}\n{line}\n{single('r', 'b')!r}\n")
    found, facts = prepare_pairs("amazon-qa", path)
    assert found == {Pair("q", "a"), Pair("r", "b")}
    assert facts["broken"] == {"count": 1, "places": [f"{path}, line 2: {message}"]}


def test_broken_files_are_named(tmp_path: Path) -> None:
    path = lines(tmp_path / "qa_X.json.gz", *(single(f"question {number}", "answer") for number in range(999)))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"qa_X\.json\.gz: the gzip stream ends too early"):
        prepare_pairs("amazon-qa", tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=r"holds no qa_\*\.json\.gz$"):
        prepare_pairs("amazon-qa", tmp_path)


def test_real_file(shared: Path) -> None:
    path = shared / "formats" / "amazon_qa" / "qa_Appliances.json.gz"
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        records = [ast.literal_eval(line) for line in stream]
    texts = [(" ".join(record["question"].split()), " ".join(record["answer"].split())) for record in records]
    plain = {Pair(*both) for both in texts if "&" not in "".join(both) and "".join(both).isascii()}
    distinct = {tuple(text.casefold() for text in both) for both in texts}
    found, facts = prepare_pairs("amazon-qa", path.parent)
    assert facts["num_records"] == len(records) == 9011
    # Of spellings that differ in case one is kept.
    folded = {(pair.anchor.casefold(), pair.positive.casefold()) for pair in found}
    assert {(pair.anchor.casefold(), pair.positive.casefold()) for pair in plain} <= folded
    same = sum(1 for anchor, positive in distinct if anchor == positive)
    empty = sum(1 for both in distinct if not all(both))
    assert len(found) == len(folded) == len(distinct) - same - empty
    assert facts["num_rows"] + sum(facts["dropped"].values()) == len(records)
