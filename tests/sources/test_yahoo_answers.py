from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.sources.corpus import Corpus


@pytest.fixture
def yahoo(tmp_path: Path) -> Corpus:
    return Corpus("yahoo-answers", tmp_path)


def quoted(*rows: tuple[str, ...]) -> str:
    return "".join(",".join('"' + field.replace('"', '""') + '"' for field in row) + "\n" for row in rows)


ROWS = quoted(
    ("5", 'What is "it"?', "I ask", "so\\nthat<br />\\nit &lt;is&gt; 1 < 2 <b"),
    ("1", "Title only", "", "An answer"),
    ("1", "No answer", "Some content", " "),
    ("2", "", "Content alone", "Answer alone"),
    ("3", "Real\nlines", "é", "in a\r\nfield<BR>here"),
)


def test_three_views(yahoo: Corpus) -> None:
    path = yahoo.write("yahoo_answers_csv/train.csv", ROWS)
    yahoo.write("yahoo_answers_csv/test.csv", quoted(("1", "t", "c", "a")))
    yahoo.write("yahoo_answers_csv/classes.txt", "Society & Culture\n")
    what = "so that it <is> 1 < 2 <b"
    assert yahoo.pairs(path) == [
        ("Real lines", "in a field here"),
        ("Title only", "An answer"),
        ('What is "it"?', what),
    ]
    assert yahoo.dropped() == {"question without best answer": 1, "question without title": 1}
    assert yahoo.pairs(path.parent, view="title-question") == [
        ("No answer", "Some content"),
        ("Real lines", "é"),
        ('What is "it"?', "I ask"),
    ]
    assert yahoo.dropped() == {"question without content": 1, "question without title": 1}
    assert yahoo.pairs(path.parent, view="question-answer") == [
        ("Content alone", "Answer alone"),
        ("I ask", what),
        ("é", "in a field here"),
    ]
    assert yahoo.dropped() == {"question without content": 1, "question without best answer": 1}


def test_windows_wrote_it(yahoo: Corpus) -> None:
    rows = "\ufeff" + quoted(("1", "t", "c", "a"), ("1", "u", "d", "b")).replace("\n", "\r\n")
    assert yahoo.pairs(yahoo.write("a.csv", rows)) == [("t", "a"), ("u", "b")]


def test_broken_rows(yahoo: Corpus) -> None:
    good = quoted(("1", "t", "c", "a"))
    path = yahoo.write("a.csv", good + '"1","t"\n' + good.replace("t", "u") + '"1","a","b","c","d"\n')
    assert yahoo.pairs(path) == [("t", "a"), ("u", "a")]
    assert yahoo.broken() == [
        f"{path}, line 2: 2 columns instead of 4",
        f"{path}, line 4: 5 columns instead of 4",
    ]
    assert "line 2: not sound CSV" in yahoo.fault(yahoo.write("cut.csv", good + '"1","t","c","an ans'))
    latin = yahoo.write("latin.csv", good.encode() + '"1","caf\xe9","c","a"\n'.encode("latin-1"))
    assert yahoo.pairs(latin) == [("t", "a")]
    assert yahoo.broken() == [f"{latin}, line 2: not UTF-8 (byte 9 of the line)"]


def nfl6(question: Any, answer: Any, *answers: Any) -> dict[str, Any]:
    return {"id": "1", "main_category": "X", "question": question, "answer": answer, "nbestanswers": list(answers)}


def test_nfl6(yahoo: Corpus) -> None:
    records = [nfl6("Why?", "So.", "So.", "Or <br> so.", "So."), nfl6("Who?", "Me."), nfl6("Q", 3, 4)]
    path = yahoo.write("nfL6.json", json.dumps(records, indent=2))
    assert yahoo.pairs(path, view="nfl6-best-answer") == [("Who?", "Me."), ("Why?", "So.")]
    assert yahoo.broken() == [f"{path}, line 3: answer is a number, not a text"]
    assert yahoo.pairs(yahoo.folder, view="nfl6-answers") == [("Why?", "Or so."), ("Why?", "So.")]
    assert yahoo.dropped() == {"duplicate pair": 1, "question without answer": 1}
    assert yahoo.broken() == [f"{path}, line 3: one of nbestanswers is a number, not a text"]
    assert "not whole JSON" in yahoo.fault(yahoo.write("cut.json", json.dumps(records)[:-1]), view="nfl6-answers")


def test_a_view_wants_its_file(yahoo: Corpus) -> None:
    table, answers = yahoo.write("train.csv", ROWS), yahoo.write("nfL6.json", "[]")
    assert yahoo.fault(answers) == f"{answers}: is no .csv file, from which the view title-answer is made"
    assert "is no .json file" in yahoo.fault(table, view="nfl6-answers")
    assert "is an archive" in yahoo.fault(yahoo.write("yahoo_answers_csv.tar.gz", ""))


def test_real_tables(shared: Path, yahoo: Corpus) -> None:
    folder = shared / "formats" / "yahoo_answers"
    for split in ("train", "test"):
        with (folder / f"{split}.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
        assert len(rows) == 5
        for view, anchor, positive in (("title-answer", 1, 3), ("title-question", 1, 2), ("question-answer", 2, 3)):
            wanted = {row[anchor].split("\\n")[0] for row in rows if row[anchor] and row[positive]}
            found = yahoo.pairs(folder, view=view, settings=(f"split={split}",))
            assert {anchor for anchor, _ in found} == {" ".join(text.split()) for text in wanted}
            assert not any("<br" in text or "\\n" in text for pair in found for text in pair)


def test_real_nfl6(shared: Path, yahoo: Corpus) -> None:
    folder = shared / "formats" / "yahoo_answers"
    records = json.loads((folder / "nfL6.json").read_text(encoding="utf-8"))
    assert len(yahoo.pairs(folder, view="nfl6-best-answer")) == len(records) == 4
    assert len(yahoo.pairs(folder, view="nfl6-answers")) == sum(len(set(r["nbestanswers"])) for r in records) == 11
