from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.sources.corpus import Corpus


@pytest.fixture
def trivia(tmp_path: Path) -> Corpus:
    corpus = Corpus("trivia-qa", tmp_path)
    corpus.write("triviaqa-rc/evidence/wikipedia/Tea.txt", "Tea is\n\na drink.")
    corpus.write("triviaqa-rc/evidence/wikipedia/What's_up?.txt", "A \u00e9tude".encode())
    corpus.write("triviaqa-rc/evidence/web/1/1_2.txt", "The web on tea.")
    return corpus


def question(text: str, pages: Any = (), results: Any = (), **more: Any) -> dict[str, Any]:
    return {
        "Question": text,
        "QuestionId": "tc_1",
        "Answer": {"Value": "x", "Aliases": []},
        "EntityPages": [{"Filename": name, "Title": name} for name in pages],
        "SearchResults": [{"Filename": name, "Rank": 0} for name in results],
        **more,
    }


def document(*questions: Any) -> dict[str, Any]:
    return {"Data": list(questions), "Domain": "Web", "Version": 1.0}


def test_each_document_that_is_there(trivia: Corpus) -> None:
    content = document(
        question("Drink?", ["Tea.txt", "Coffee.txt"], ["1/1_2.txt", "9/9_9.txt"]),
        question("Up?", ["What's_up?.txt"]),
        question("None?"),
        {"Question": "Bare?"},
        question("No file?", SearchResults=[{"Url": "http://x"}]),
    )
    path = trivia.write("triviaqa-rc/qa/web-train.json", json.dumps(content, indent=4))
    trivia.write("triviaqa-rc/qa/web-dev.json", document())
    expected = [("Drink?", "Tea is a drink."), ("Drink?", "The web on tea."), ("Up?", "A étude")]
    assert trivia.pairs(path) == expected
    assert trivia.dropped() == {"evidence whose file is missing": 2, "question without evidence": 3}
    assert trivia.pairs(trivia.folder / "triviaqa-rc") == expected
    assert trivia.pairs(path, settings=("max_evidence=1",)) == [expected[0], expected[2]]
    assert trivia.dropped()["evidence beyond the first 1"] == 1


def test_evidence_is_cut_after_a_word(trivia: Corpus) -> None:
    words = "one two three four"
    for name, text in {"a": words, "b": " \n" * 50 + words, "c": "x" * 50, "d": "one two"}.items():
        trivia.write(f"triviaqa-rc/evidence/web/{name}.txt", text)
    names = ["a.txt", "c.txt", "d.txt"]
    path = trivia.write("triviaqa-rc/qa/train.json", document(question("Q?", results=names)))
    for longest, cut in {13: "one two three", 12: "one two", 8: "one two"}.items():
        found = trivia.pairs(path, settings=(f"evidence_max_chars={longest}",))
        assert found == sorted({("Q?", cut), ("Q?", "x" * longest), ("Q?", "one two")})
    path = trivia.write("triviaqa-rc/qa/train.json", document(question("Q?", results=["b.txt", "d.txt"])))
    assert trivia.pairs(path, settings=("evidence_max_chars=7",)) == [("Q?", "one two")]


def test_evidence_is_found_beside_or_named(trivia: Corpus) -> None:
    content = document(question("Drink?", ["Tea.txt"]))
    expected = [("Drink?", "Tea is a drink.")]
    unfiltered = trivia.write("triviaqa-unfiltered/triviaqa-unfiltered/unfiltered-web-train.json", content)
    assert trivia.pairs(unfiltered) == expected
    assert trivia.pairs(trivia.folder) == expected
    far = trivia.write("a/b/c/d/train.json", content)
    assert "has no folder evidence beside it, with wikipedia and web" in trivia.fault(far)
    evidence = trivia.folder / "triviaqa-rc" / "evidence"
    assert trivia.pairs(far, settings=(f"evidence={evidence}",)) == expected
    assert trivia.fault(far, settings=(f"evidence={evidence.parent}",)) == (
        f"{evidence.parent}: has neither wikipedia nor web in it; give the folder evidence of triviaqa-rc"
    )


@pytest.mark.parametrize(
    "name",
    ["../secret.txt", "../../../secret.txt", "1/../../secret.txt", "{outside}", "..", "..\\secret.txt", "link.txt"],
)
def test_file_names_do_not_lead_out(trivia: Corpus, name: str) -> None:
    outside = trivia.write("triviaqa-rc/evidence/secret.txt", "secret")
    trivia.write("secret.txt", "secret")
    (trivia.folder / "triviaqa-rc/evidence/web/link.txt").symlink_to(outside)
    name = name.replace("{outside}", str(outside))
    records = [question("Bad?", ["Tea.txt"], [name]), question("Drink?", ["Tea.txt"])]
    path = trivia.write("triviaqa-rc/qa/train.json", document(*records))
    assert trivia.pairs(path) == [("Drink?", "Tea is a drink.")]
    assert trivia.broken() == [f"{path}, line 1: the file name {name[:100]!r} leads out of the evidence"]


@pytest.mark.parametrize("name", ["", ".", "1", "\0", "x" * 5000, "a/" * 3000, "\ud800.txt"])
def test_odd_file_names_are_missing_files(trivia: Corpus, name: str) -> None:
    path = trivia.write("triviaqa-rc/qa/train.json", document(question("Drink?", ["Tea.txt"], [name])))
    assert trivia.pairs(path) == [("Drink?", "Tea is a drink.")]
    assert trivia.dropped() == {"evidence whose file is missing": 1}


def test_a_linked_evidence_folder_is_as_good(trivia: Corpus) -> None:
    (trivia.folder / "elsewhere").mkdir()
    (trivia.folder / "elsewhere/wikipedia").symlink_to(trivia.folder / "triviaqa-rc/evidence/wikipedia")
    path = trivia.write("train.json", document(question("Drink?", ["Tea.txt"])))
    assert trivia.pairs(path, settings=(f"evidence={trivia.folder / 'elsewhere'}",)) == [("Drink?", "Tea is a drink.")]


def test_evidence_that_is_not_utf8(trivia: Corpus) -> None:
    trivia.write("triviaqa-rc/evidence/web/latin.txt", b"caf\xe9")
    path = trivia.write("triviaqa-rc/qa/train.json", document(question("Drink?", ["Tea.txt"], ["latin.txt"])))
    assert trivia.pairs(path) == [("Drink?", "Tea is a drink.")]
    assert trivia.dropped() == {"evidence that is not UTF-8": 1}


def test_what_makes_no_sense_is_left_out_and_named(trivia: Corpus) -> None:
    odd = ["x", {}, question("Q?", EntityPages={}), question("Q?", SearchResults=[3]), question("Q?", [7])]
    path = trivia.write("triviaqa-rc/qa/train.json", document(*odd, question("Drink?", ["Tea.txt"])))
    assert trivia.pairs(path) == [("Drink?", "Tea is a drink.")]
    assert [place.partition(", ")[2] for place in trivia.broken()] == [
        "line 1: holds a single text, not an object",
        "line 2: has no Question; its keys are none",
        "line 3: EntityPages is an object, not a list",
        "line 4: holds a number, not an object",
        "line 5: Filename is a number, not a text",
    ]
    cut = trivia.write("triviaqa-rc/qa/train.json", json.dumps(document(*odd))[:-9])
    assert "not whole JSON" in trivia.fault(cut)


def test_real_files(shared: Path, trivia: Corpus) -> None:
    root = shared / "formats" / "trivia_qa"
    evidence = root / "triviaqa-rc" / "evidence"
    paths = sorted(root.glob("triviaqa-unfiltered/*/*.json"))
    there, missing = set(), 0
    for path in paths:
        for entry in json.loads(path.read_text(encoding="utf-8"))["Data"]:
            files = [evidence / "wikipedia" / page["Filename"] for page in entry["EntityPages"]]
            files += [evidence / "web" / page["Filename"] for page in entry["SearchResults"]]
            missing += sum(not file.is_file() for file in files)
            there |= {
                (entry["Question"], " ".join(file.read_text(encoding="utf-8").split()))
                for file in files
                if file.is_file()
            }
    assert set(trivia.pairs(*paths)) == there
    assert trivia.dropped() == {"evidence whose file is missing": missing}
    assert (len(paths), len(there), missing) == (3, 5, 14)
    # None of the documents that the questions for training name is in the sample.
    assert trivia.fault(root) == "no pair is left; dropped: evidence whose file is missing: 7"
