"""``pairloom evaluate`` on collections, in processes of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pairloom import Encoder
from pairloom.records import Document
from tests.conftest import make_pairs
from tests.evaluate.fakes import write_beir
from tests.test_cli import bad, facts, good


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """24 queries, each a pair's anchor, over the positives."""
    pairs = list(enumerate(make_pairs(24, seed=5)))
    return write_beir(
        tmp_path / "numbers",
        corpus=[{"_id": f"d{number}", "text": positive} for number, (_, positive) in pairs],
        queries=[{"_id": f"q{number}", "text": anchor} for number, (anchor, _) in pairs],
        qrels={"test": ["query-id\tcorpus-id\tscore", *(f"q{number}\td{number}\t1" for number, _ in pairs)]},
    )


@pytest.fixture
def collection(model_folder: Path, task: Path, tmp_path: Path) -> Path:
    module = pytest.importorskip("pairloom.search.collection")
    path = tmp_path / "collection"
    records = [json.loads(line) for line in (task / "corpus.jsonl").read_text().splitlines()]
    with module.Collection(path, Encoder(model_folder), create=True) as made:
        made.add([Document(record["_id"], record["text"]) for record in records])
    return path


def test_each_mode_is_measured(collection: Path, task: Path) -> None:
    vector, words, hybrid = facts("evaluate", collection, task)
    assert [one["mode"] for one in (vector, words, hybrid)] == ["vector", "words", "hybrid"]
    assert words["metrics"]["MRR@10"]["baseline"] == vector["metrics"]["MRR@10"]["value"]
    assert hybrid["remarks"] == []
    # A positive has words of its anchor, and is the only one with its number.
    assert words["metrics"]["MRR@10"]["value"] > 0.5
    (alone,) = facts("evaluate", collection, task, "--mode", "words")
    assert alone["metrics"]["MRR@10"]["value"] == words["metrics"]["MRR@10"]["value"]
    assert "baseline" not in alone["metrics"]["MRR@10"]
    shown = good("evaluate", collection, task, "--quiet")
    assert "hybrid" in shown
    assert shown.count("24 queries, 24 documents") == 1


def test_what_the_model_does_alone_the_collection_does_by_vector(
    collection: Path, task: Path, model_folder: Path
) -> None:
    (model,) = facts("evaluate", model_folder, task)
    (vector,) = facts("evaluate", collection, task, "--mode", "vector")
    assert vector["metrics"]["MRR@10"]["value"] == pytest.approx(model["metrics"]["MRR@10"]["value"], abs=0.05)


def test_weights_are_found_and_kept(collection: Path, task: Path) -> None:
    module = pytest.importorskip("pairloom.search.collection")
    found = facts("evaluate", collection, task, "--tune")
    with module.Collection(collection, create=False) as opened:
        kept = opened.weights
    if found["stored"]:
        assert kept == (found["weights"]["vector"], found["weights"]["words"])
    else:
        assert kept[0] == kept[1]
    again = good("evaluate", collection, task, "--tune")
    assert "weights of a hybrid search" in again
    assert ("The collection now searches with" in again) != ("The weights stay as they were" in again)


def test_what_is_for_models_is_refused(tmp_path: Path) -> None:
    (tmp_path / "collection").mkdir()
    (tmp_path / "collection" / "ledger.db").touch()
    for words in (["--baseline", "m"], ["--similarity", "dot"], ["--precision", "int8"], ["--device", "cpu"]):
        assert "are for models" in bad("evaluate", "collection", "task", *words, code=2, cwd=tmp_path)
    for words in (["--mode", "words"], ["other"]):
        assert "--tune takes one task" in bad("evaluate", "collection", "task", "--tune", *words, code=2, cwd=tmp_path)


def test_what_is_for_collections_is_refused(tmp_path: Path) -> None:
    for words in (["--mode", "words"], ["--tune"]):
        said = bad("evaluate", "model", "task", *words, code=2, cwd=tmp_path)
        assert "--mode and --tune are for collections; model is none" in said


def test_tasks_that_are_no_searches_are_refused(collection: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("score\tsentence1\tsentence2\n1\ta\tb\n0\tc\td\n")
    said = bad("evaluate", collection, tmp_path / "pairs.tsv", code=2)
    assert "a collection is measured by what it finds" in said


def test_a_collection_of_something_else_and_too_few_queries(
    collection: Path, task_folder: Path, tmp_path: Path
) -> None:
    assert "tuning takes at least 20" in bad("evaluate", collection, task_folder, "--tune")
    other = write_beir(
        tmp_path / "other",
        corpus=[{"_id": "x1", "text": "a"}, {"_id": "x2", "text": "b"}],
        queries=[{"_id": "q", "text": "a"}],
        qrels={"test": ["q\tx1\t1"]},
    )
    assert "has none of the 2 documents of other" in bad("evaluate", collection, other)


def test_a_collection_on_a_server_that_is_not_there_is_told_of(task: Path, tmp_path: Path) -> None:
    said = bad("evaluate", "qdrant://127.0.0.1:9/questions", task, cwd=tmp_path)
    assert "qdrant://127.0.0.1:9/questions: the server cannot be reached" in said
