from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.sources.corpus import Corpus

COLLECTION = '0\tPassage zero.\n1\tPassage one.\n7\tPassage seven.\n3\tSay "three" - é\n'
QUERIES = "10\tquery ten\n11\tquery eleven\n12\tquery twelve\n"


@pytest.fixture
def marco(tmp_path: Path) -> Corpus:
    return Corpus("ms-marco", tmp_path)


def write_ranking(marco: Corpus, folder: str = "") -> Path:
    marco.write(f"{folder}collection.tsv", COLLECTION)
    marco.write(f"{folder}queries.train.tsv", QUERIES)
    marco.write(f"{folder}queries.dev.tsv", "20\tquery twenty\n")
    marco.write(f"{folder}queries.eval.tsv", "30\tquery thirty\n")
    marco.write(f"{folder}qrels.dev.small.tsv", "20\t0\t7\t1\n")
    marco.write(
        f"{folder}qrels.train.tsv", "10\t0\t0\t1\n10\t0\t3\t1\n11\t0\t0\t1\n11\t0\t1\t0\n99\t0\t7\t1\n12 0 98 1\n"
    )
    return marco.folder / folder


PAIRS = [("query eleven", "Passage zero."), ("query ten", "Passage zero."), ("query ten", 'Say "three" - é')]


def test_pairs_by_the_judgements(marco: Corpus) -> None:
    assert marco.pairs(write_ranking(marco)) == PAIRS
    assert marco.dropped() == {
        "passage that does not answer the query": 1,
        "query not among the queries": 1,
        "passage not in the collection": 1,
        "passage without a query": 1,
    }
    assert {Path(origin["name"]).name for origin in marco.facts["origins"]} == {
        "collection.tsv",
        "queries.train.tsv",
        "qrels.train.tsv",
    }


def test_files_by_name_and_what_stands_beside_them(marco: Corpus) -> None:
    folder = write_ranking(marco, "collectionandqueries/")
    assert marco.pairs(marco.folder) == PAIRS
    assert marco.pairs(folder / "qrels.train.tsv") == PAIRS
    assert marco.pairs(folder / "qrels.dev.small.tsv") == [("query twenty", "Passage seven.")]
    assert marco.pairs(folder, settings=("split=dev",)) == [("query twenty", "Passage seven.")]
    elsewhere = marco.write("elsewhere/qrels.train.tsv", "10\t0\t7\t1\r\n")
    assert marco.pairs(elsewhere, folder / "collection.tsv", folder / "queries.train.tsv") == [
        ("query ten", "Passage seven.")
    ]


def test_a_missing_file_is_named(marco: Corpus) -> None:
    folder = write_ranking(marco)
    assert marco.fault(folder, settings=("split=test",)) == (
        f"{folder}: has no queries.test….tsv in it or beside it, which this view needs"
    )
    (folder / "collection.tsv").unlink()
    qrels = folder / "qrels.train.tsv"
    assert marco.fault(qrels) == f"{qrels}: has no collection.tsv in it or beside it, which this view needs"
    assert "has no qidpidtriples.train….tsv" in marco.fault(
        marco.write("sub/collection.tsv", COLLECTION), marco.folder / "queries.train.tsv", view="triplets"
    )
    assert marco.fault(folder / "nowhere") == f"{folder / 'nowhere'}: no such file or folder"
    assert "is not called like a file of MS MARCO: collection.tsv" in marco.fault(marco.write("top1000.tsv", "1"))
    assert "is an archive; unpack it" in marco.fault(marco.write("collectionandqueries.tar.gz", "1"))


def test_triplets_of_texts(marco: Corpus) -> None:
    lines = 'a query\ta "good" one\ta bad one\nb\tc\td\n\nonly\ttwo\n'
    path = marco.write("triples.train.small.tsv.gz", gzip.compress(lines.encode()))
    assert marco.pairs(path, view="triplets") == [("a query", 'a "good" one', "a bad one"), ("b", "c", "d")]
    assert marco.broken() == [f"{path}, line 4: 2 columns instead of 3"]
    assert marco.pairs(marco.folder, view="triplets") == [("a query", 'a "good" one', "a bad one"), ("b", "c", "d")]


def test_triplets_of_numbers(marco: Corpus) -> None:
    folder = write_ranking(marco)
    lines = "10\t0\t1\n10\t0\t7\n11\t3\t0\n12\t1\t1\n99\t0\t1\n10\t98\t97\nx\t0\t1\n1\t2\n10\t0\t1\n"
    path = marco.write("qidpidtriples.train.full.2.tsv.gz", gzip.compress(lines.encode()))
    expected = [
        ("query eleven", 'Say "three" - é', "Passage zero."),
        ("query ten", "Passage zero.", "Passage one."),
        ("query ten", "Passage zero.", "Passage seven."),
    ]
    for given in (folder, path):
        assert marco.pairs(given, view="triplets") == expected
        assert marco.dropped() == {
            "query not among the queries": 1,
            "passage not in the collection": 2,
            "two texts of it are the same": 1,
        }
        assert marco.broken() == [
            f"{path}, line 7: 'x' is no number of a query",
            f"{path}, line 8: 2 columns instead of 3",
        ]


def test_broken_lines_are_left_out_and_named(marco: Corpus) -> None:
    folder = write_ranking(marco)
    collection = marco.write(
        "collection.tsv", COLLECTION.encode() + b"8\tcaf\xe9\n9 no tab\nD1\ttext\n" + b"1" * 5000 + b"\ttext\n"
    )
    qrels = marco.write("qrels.train.tsv", "10\t0\t0\t1\n10\t0\t0\thigh\n10\t0\t-1\t1\n")
    assert marco.pairs(folder) == [("query ten", "Passage zero.")]
    assert sorted(marco.broken()) == [
        f"{collection}, line 5: not UTF-8 (byte 6 of the line)",
        f"{collection}, line 6: 1 columns instead of 2",
        f"{collection}, line 7: 'D1' is no number of a passage",
        f"{collection}, line 8: '{'1' * 50}' is no number of a passage",
        f"{qrels}, line 2: 'high' is no relevance",
        f"{qrels}, line 3: '-1' is no number of a passage",
    ]


def qa(query: str, *passages: tuple[int, str], **more: Any) -> dict[str, Any]:
    found = [{"is_selected": selected, "passage_text": text, "url": "http://x"} for selected, text in passages]
    return {"passages": found, "query": query, "query_id": 1, "answers": ["x"], "query_type": "entity", **more}


QUESTIONS = [
    qa("how", (0, "no"), (1, "so"), (1, "and so")),
    qa("why", (0, "no")),
    qa("who"),
    qa("é?", (1, "yes")),
]
ANSWERED = [("how", "and so"), ("how", "so"), ("é?", "yes")]


def by_columns(records: list[dict[str, Any]]) -> dict[str, Any]:
    names = ("answers", "passages", "query", "query_id")
    return {name: {str(row): record[name] for row, record in enumerate(records)} for name in names}


@pytest.mark.parametrize("indent", [None, 1])
def test_questions_by_line_and_by_column(marco: Corpus, indent: int | None) -> None:
    expected = {"query without a selected passage": 2}
    marco.write("dev_v1.1.json", [qa("dev", (1, "no"))])
    assert marco.pairs(marco.write("train_v1.1.json", QUESTIONS), view="qa") == ANSWERED
    assert marco.dropped() == expected
    content = "\ufeff" + json.dumps(by_columns(QUESTIONS), indent=indent)
    path = marco.write("v2.1/train_v2.1.json.gz", gzip.compress(content.encode()))
    assert marco.pairs(path, view="qa") == ANSWERED
    assert marco.dropped() == expected
    more = marco.write("v2.1/train_more.json", by_columns([qa("other", (1, "row 0 of it"))]))
    assert marco.pairs(path, more, view="qa") == sorted([*ANSWERED, ("other", "row 0 of it")])


def test_columns_with_holes(marco: Corpus) -> None:
    columns = by_columns(QUESTIONS)
    del columns["query"]["0"], columns["passages"]["3"]
    columns["query"] |= {"5": None, "six": "q"}
    columns["passages"] |= {"7": "p", "8": [{"passage_text": "x"}], "9": [{"is_selected": 1}], "2": [3]}
    path = marco.write("train_v2.1.json", columns)
    assert "no pair is left" in marco.fault(path, view="qa")
    columns["query"]["4"], columns["passages"]["4"] = "ok", [{"is_selected": 1, "passage_text": "fine"}]
    assert marco.pairs(marco.write("train_v2.1.json", columns), view="qa") == [("ok", "fine")]
    assert marco.dropped() == {
        "passages without a query": 1,
        "query without passages": 2,
        "query without a selected passage": 1,
    }
    assert sorted(place.partition(": ")[2] for place in marco.broken()) == [
        "'six' is no number of a row, in the column query",
        "has no is_selected; its keys are 'passage_text'",
        "has no passage_text; its keys are 'is_selected'",
        "holds a number, not an object",
        "passages of row 7 are a single text, not a list",
        "query of row 5 is null, not a text",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(by_columns(QUESTIONS))[:-1], "not whole JSON"),
        (json.dumps(by_columns(QUESTIONS))[:300], "not whole JSON"),
        (json.dumps({"passages": {"0": []}, "rest": 1}), "has no column 'query' with a value for each row"),
        (json.dumps({"rest": {}, "query": {"0": "q"}}), "has no column 'passages' with a value for each row"),
    ],
)
def test_a_broken_document_is_refused(marco: Corpus, content: str, message: str) -> None:
    path = marco.write("train_v2.1.json", content)
    assert marco.fault(path, view="qa").startswith(f"{path}: {message}")


def test_two_processes_make_the_same(marco: Corpus) -> None:
    passages = [f"{number}\tpassage {number}" for number in range(500)]
    queries = [f"{number}\tquery {number}" for number in range(100)]
    triples = [f"{number % 100}\t{number}\t{(number * 7 + 1) % 500}" for number in range(500)]
    marco.write("collection.tsv", "\n".join(passages))
    marco.write("queries.train.tsv", "\n".join(queries))
    marco.write("qidpidtriples.train.full.2.tsv", "\n".join(triples))
    expected = {
        (f"query {query}", f"passage {positive}", f"passage {negative}")
        for query, positive, negative in map(str.split, triples)
        if positive != negative
    }
    assert set(marco.pairs(marco.folder, view="triplets")) == expected
    assert set(marco.pairs(marco.folder, view="triplets", num_processes=2)) == expected


def test_the_real_file_is_plain_in_spite_of_its_name(shared: Path, marco: Corpus) -> None:
    path = shared / "formats" / "ms_marco" / "train_v1.1.json.gz"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    selected = {
        (record["query"], passage["passage_text"])
        for record in records
        for passage in record["passages"]
        if passage["is_selected"]
    }
    assert set(marco.pairs(path.parent, view="qa")) == selected
    assert len(selected) == 1 == marco.facts["num_records"]
