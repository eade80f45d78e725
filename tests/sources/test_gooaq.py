from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from pairloom.errors import InputError
from pairloom.records import Pair
from tests.sources.preparing import prepare_pairs


def record(question: Any, answer: Any, short_answer: Any = None, answer_type: Any = "feat_snip") -> dict[str, Any]:
    return {
        "id": 1,
        "question": question,
        "short_answer": short_answer,
        "answer": answer,
        "answer_type": answer_type,
        "answer_url": None,
    }


RECORDS = [
    record("how much?", "About . 04% of it.", "04%"),
    record("how far?", None, "1.7858 billion mi", "knowledge"),
    record("which?", "['eager.', \"it's\", ' ', 'early.\\n']", answer_type="collection"),
    record("what?", "['cut of", answer_type="collection"),
    record("when?", "[1, 2]", answer_type="collection"),
    record("who?", "('a', 'b')", answer_type="collection"),
    record("where?", "['here']"),
    record("empty?", "[]", answer_type="collection"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "gooaq.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in RECORDS))
    (tmp_path / "split.json").write_text('{"dev": []}')
    return path


def test_long_answers(path: Path) -> None:
    found, facts = prepare_pairs("gooaq", path.parent)
    assert found == {
        Pair("how much?", "About . 04% of it."),
        Pair("which?", "- eager. - it's - early."),
        Pair("who?", "('a', 'b')"),
        Pair("where?", "['here']"),
    }
    assert facts["dropped"] == {
        "question without answer": 1,
        "list of answers that cannot be read": 2,
        "a text is empty": 1,
    }
    assert facts["num_records"] == len(RECORDS)


def test_short_answers(path: Path) -> None:
    found, facts = prepare_pairs("gooaq", path, view="question-short-answer")
    assert found == {Pair("how much?", "04%"), Pair("how far?", "1.7858 billion mi")}
    assert facts["dropped"] == {"question without short answer": 6}


@pytest.mark.parametrize("view", ["question-answer", "question-short-answer"])
def test_broken_records_are_named(path: Path, view: str) -> None:
    key = "answer" if view == "question-answer" else "short_answer"
    half = json.dumps(RECORDS[0])[:30].encode()
    bad = [b"[]", b"{}", json.dumps(record(7, "a", "b")).encode(), json.dumps({**RECORDS[0], key: ["a"]}).encode()]
    bad += [b'{"question": "q"}', b'{"question": "caf\xe9"}', half]
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(RECORDS[0]).encode() + b"\r\n" + b"\r\n".join(bad))
    found, facts = prepare_pairs("gooaq", path, view=view)
    assert len(found) == 1
    assert sorted(place.partition(", ")[2] for place in facts["broken"]["places"]) == [
        "line 2: holds a list, not an object",
        "line 3: has no question; its keys are none",
        "line 4: question is a number, not a text",
        f"line 5: {key} is a list, not a text",
        f"line 6: has no {key}; its keys are 'question'",
        "line 7: not UTF-8 (byte 18 of the line)",
        "line 8: not JSON (Unterminated string starting at at character 23)",
    ]


def test_folders_without_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no gooaq\.jsonl$"):
        prepare_pairs("gooaq", tmp_path)


def test_real_file(shared: Path) -> None:
    path = shared / "formats" / "gooaq" / "gooaq.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    found, facts = prepare_pairs("gooaq", path.parent)
    assert facts["num_records"] == len(records) == len(found) == 3
    for each in records:
        if each["answer_type"] == "collection":
            expected = " ".join(f"- {' '.join(item.split())}" for item in ast.literal_eval(each["answer"]))
        else:
            expected = " ".join(each["answer"].split())
        assert Pair(each["question"], expected) in found
    with pytest.raises(InputError, match="no pair is left; dropped: question without short answer: 3"):
        prepare_pairs("gooaq", path, view="question-short-answer")
