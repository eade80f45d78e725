from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.sources.corpus import Corpus

PAGE = "<H1> Town </H1> <P> It `` grew '' , he said ( in 1900 ) . </P> <Table> <Tr> <Th_colspan=\"2\"> 7 > 5 </Th> </Tr> </Table>"
TOKENS = PAGE.split(" ")
PARAGRAPH = (TOKENS.index("<P>"), TOKENS.index("</P>") + 1)
TABLE = (TOKENS.index("<Table>"), len(TOKENS))
YEAR = (TOKENS.index("1900"), TOKENS.index("1900") + 1)
NONE = (-1, -1)


@pytest.fixture
def nq(tmp_path: Path) -> Corpus:
    return Corpus("natural-questions", tmp_path)


def place(span: tuple[int, int]) -> dict[str, int]:
    return {"start_token": span[0], "end_token": span[1], "candidate_index": 0}


def annotation(long: tuple[int, int] = NONE, *short: tuple[int, int]) -> dict[str, Any]:
    return {"long_answer": place(long), "short_answers": [place(span) for span in short], "yes_no_answer": "NONE"}


def simplified(question: str, *annotations: Any) -> dict[str, Any]:
    return {
        "question_text": question,
        "document_text": PAGE,
        "annotations": list(annotations),
        "long_answer_candidates": [],
        "example_id": -3,
    }


def original(question: str, *annotations: Any) -> dict[str, Any]:
    tokens = [{"token": token, "html_token": token.startswith("<"), "start_byte": 0, "end_byte": 0} for token in TOKENS]
    record = {**simplified(question, *annotations), "document_tokens": tokens}
    del record["document_text"]
    return record


@pytest.mark.parametrize("layout", [simplified, original])
def test_long_and_short_answers(nq: Corpus, layout: Any) -> None:
    records = [
        layout("when", annotation(PARAGRAPH, YEAR)),
        layout("what", annotation(PARAGRAPH), annotation(TABLE, YEAR, YEAR), annotation(PARAGRAPH), annotation()),
        layout("who", annotation()),
        layout("why"),
    ]
    path = nq.write("nq-train-00.jsonl", records)
    paragraph, table = 'It "grew", he said (in 1900).', "7 > 5"
    assert nq.pairs(path) == [("what", table), ("what", paragraph), ("when", paragraph)]
    assert nq.dropped() == {"question without long answer": 2}
    assert nq.pairs(path, settings=("paragraphs_only=true",)) == [("what", paragraph), ("when", paragraph)]
    assert nq.dropped() == {"question without long answer": 2, "long answer that is a table or a list": 1}
    assert nq.pairs(path, view="question-answer") == [("what", "1900"), ("when", "1900")]
    assert nq.dropped() == {"question without short answer": 2}


def test_what_is_marked_as_html_goes_and_nothing_else(nq: Corpus) -> None:
    tokens = [
        {"token": "<b>", "html_token": False},
        {"token": "x", "html_token": False},
        {"token": "P", "html_token": True},
    ]
    record = {"question_text": "q", "document_tokens": tokens, "annotations": [annotation((0, 3))]}
    assert nq.pairs(nq.write("a.jsonl", [record])) == [("q", "<b> x")]


def test_kilt(nq: Corpus) -> None:
    somewhere = {"provenance": [{"wikipedia_id": "1"}]}
    outputs = [{"answer": "March 30 , 2018", **somewhere}, somewhere, {"answer": "spring"}]
    records = [{"id": "1", "input": "when", "output": outputs}, {"id": "2", "input": "who", "output": [somewhere]}]
    path = nq.write("nq-train-kilt.jsonl", records)
    assert nq.pairs(path, view="question-answer") == [("when", "March 30, 2018"), ("when", "spring")]
    assert nq.dropped() == {"question without short answer": 1}
    assert nq.fault(path) == (
        f"{path}: is in the layout of KILT, which has no paragraphs; use the view question-answer, or the original"
    )


def test_the_published_folders(nq: Corpus) -> None:
    for number in range(2):
        lines = json.dumps(original(f"question {number}", annotation(PARAGRAPH))) + "\n"
        nq.write(f"v1.0/train/nq-train-0{number}.jsonl.gz", gzip.compress(lines.encode()))
    nq.write("v1.0/dev/nq-dev-00.jsonl.gz", gzip.compress(b"broken"))
    assert [pair[0] for pair in nq.pairs(nq.folder / "v1.0")] == ["question 0", "question 1"]


def test_what_makes_no_sense_is_left_out_and_named(nq: Corpus) -> None:
    good = simplified("q", annotation(PARAGRAPH))
    odd = [
        {**good, "question_text": None},
        {key: value for key, value in good.items() if key != "annotations"},
        {key: value for key, value in good.items() if key != "document_text"},
        simplified("q", annotation((3, 999))),
        simplified("q", annotation((5, 5))),
        simplified("q", {"long_answer": {"start_token": "1", "end_token": 2}}),
        simplified("q", {}),
        {**good, "document_tokens": ["<P>"] * 40},
    ]
    path = nq.write("a.jsonl", "\n".join(map(json.dumps, odd)) + "\n" + json.dumps(good)[:40] + "\n" + json.dumps(good))
    assert len(nq.pairs(path)) == 1
    said = [place.removeprefix(f"{path}, line ") for place in nq.broken()]
    assert [place[:2] for place in said] == [f"{number}:" for number in range(1, 10)]
    assert said[0] == "1: question_text is null, not a text"
    assert said[1].startswith("2: has no annotations; its keys are 'question_text'")
    assert said[2].startswith("3: has no document_text; its keys are")
    assert said[3] == "4: an answer goes from token 3 to 999, which the page does not have"
    assert said[4] == "5: an answer goes from token 5 to 5, which the page does not have"
    assert said[5] == "6: a token's place is a single text, not a number"
    assert said[6] == "7: has no long_answer; its keys are none"
    assert said[7] == "8: holds a single text, not an object"
    assert said[8].startswith("9: not JSON (")
    assert "more than 3 records are broken" in nq.fault(path, settings=("max_broken_records=3",))


@pytest.mark.parametrize("outputs", ["x", None, [None], ["x"], [{"answer": 3}]])
def test_odd_outputs_of_kilt(nq: Corpus, outputs: Any) -> None:
    good = {"input": "when", "output": [{"answer": "now"}]}
    path = nq.write("a.jsonl", [{"input": "q", "output": outputs}, good])
    assert nq.pairs(path, view="question-answer") == [("when", "now")]
    assert nq.facts["broken"]["count"] == 1


@pytest.mark.parametrize("split", ["train", "dev"])
def test_real_kilt(shared: Path, nq: Corpus, split: str) -> None:
    path = shared / "formats" / "nq_kilt" / f"nq-{split}-kilt.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    answers = {
        (record["input"], output["answer"]) for record in records for output in record["output"] if "answer" in output
    }
    pairs = nq.pairs(path, view="question-answer")
    assert len(records) == 5 == nq.facts["num_records"]
    assert len(pairs) == len(answers) == {"train": 5, "dev": 18}[split]
    assert {(question, answer.replace(" ", "")) for question, answer in pairs} == {
        (question, answer.replace(" ", "")) for question, answer in answers
    }
    assert nq.pairs(shared / "formats" / "nq_kilt", view="question-answer", settings=(f"split={split}",)) == pairs
