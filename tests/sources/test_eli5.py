from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.sources.corpus import Corpus


@pytest.fixture
def eli5(tmp_path: Path) -> Corpus:
    return Corpus("eli5", tmp_path)


def thread(title: str, *answers: tuple[str, int | None]) -> dict[str, Any]:
    texts, scores = [text for text, _ in answers], [score for _, score in answers]
    columns = {"a_id": ["x"] * len(answers), "text": texts, "score": scores}
    return {"q_id": "1", "title": title, "selftext": "more", "answers": columns}


def kilt(title: str, *outputs: Any) -> dict[str, Any]:
    return {"id": "1", "input": title, "output": list(outputs)}


def test_the_best_answer(eli5: Corpus) -> None:
    records = [
        thread("most votes", ("low", -2), ("high", 9), ("lower", 8)),
        thread("a draw", ("first", 3), ("second", 3)),
        thread("deleted ones", ("[deleted]", 99), ("[removed] ", 98), ("", 97), ("left", 1)),
        thread("none"),
        thread("all gone", ("[deleted]", 5)),
        thread("[deleted]", ("an answer", 5)),
        {"title": "as a list", "answers": [{"text": "one", "score": 1}, {"text": "two", "score": 2.5}]},
        kilt("votes", {"answer": "few", "meta": {"score": 2}}, {"answer": "many", "meta": {"score": 3}}),
        kilt("no votes", {"provenance": []}, {"answer": "first"}, {"answer": "second", "meta": {}}),
        kilt("only pages", {"provenance": []}),
    ]
    expected = [
        ("a draw", "first"),
        ("as a list", "two"),
        ("deleted ones", "left"),
        ("most votes", "high"),
        ("no votes", "first"),
        ("votes", "many"),
    ]
    dropped = {"question without answer": 3, "deleted question": 1}
    assert eli5.pairs(eli5.write("train.jsonl", records)) == expected
    assert eli5.dropped() == dropped
    assert eli5.pairs(eli5.write("list.json", "\ufeff\n " + json.dumps(records))) == expected
    assert eli5.dropped() == dropped


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ("see URL_0 and _URL_12_.", "see and ."),
        ("see [this page](_URL_0_), or [that](URL_1)", "see this page, or that"),
        ("<_URL_0_> is it", "is it"),
        ("MY_URL_0 and URL_ and CURL_1x", "MY_URL_0 and URL_ and CURL_1x"),
        ("[ok](http://x) a_URL_0_b", "[ok](http://x) a_URL_0_b"),
    ],
)
def test_places_of_links_are_taken_out(eli5: Corpus, text: str, readable: str) -> None:
    assert eli5.pairs(eli5.write("train.jsonl", [thread("Why?", (text, 1))])) == [("Why?", readable)]


def test_what_makes_no_sense_is_left_out_and_named(eli5: Corpus) -> None:
    good = thread("Why?", ("So.", 1))
    odd = [
        "text",
        {"answers": good["answers"]},
        {"title": "t"},
        {"title": "t", "answers": {"text": ["x"], "score": []}},
        {"title": "t", "answers": {"text": [None], "score": [1]}},
        {"title": "t", "answers": {"text": ["x"], "score": ["many"]}},
        {"title": "t", "answers": ["x"]},
        {"title": "t", "answers": [{"score": 1}]},
        kilt("t", "x"),
    ]
    path = eli5.write("a.jsonl", "\n".join(map(json.dumps, [*odd, good])) + "\n" + json.dumps(good)[:-4])
    assert eli5.pairs(path) == [("Why?", "So.")]
    said = [place.removeprefix(f"{path}, line ") for place in eli5.broken()]
    assert said[:9] == [
        "1: holds a single text, not an object",
        "2: has no title; its keys are 'answers'",
        "3: has no answers; its keys are 'title'",
        "4: has 1 answers and 0 scores",
        "5: an answer is null, not a text",
        "6: a score is a single text, not a number",
        "7: holds a single text, not an object",
        "8: has no text; its keys are 'score'",
        "9: holds a single text, not an object",
    ]
    assert said[9].startswith("11: not JSON (")


@pytest.mark.parametrize("split", ["train", "dev"])
def test_real_kilt(shared: Path, eli5: Corpus, split: str) -> None:
    path = shared / "formats" / "eli5_kilt" / f"eli5-{split}-kilt.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    best = {}
    for record in records:
        answers = [output for output in record["output"] if "answer" in output]
        answers.sort(key=lambda output: -output.get("meta", {}).get("score", 0))
        best[record["input"]] = answers[0]["answer"]
    pairs = dict(eli5.pairs(path))
    assert eli5.facts["num_records"] == len(records) == len(best) == len(pairs) == 5
    assert {title[:50] for title in pairs} == {" ".join(title.split())[:50] for title in best}
    assert {text[:40] for text in pairs.values()} == {" ".join(text.split())[:40] for text in best.values()}
    assert not any("URL_" in text for text in pairs.values())
    assert dict(eli5.pairs(path.parent, settings=(f"split={split}",))) == pairs
