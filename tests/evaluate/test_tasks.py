from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from pairloom.artifacts import new_artifact
from pairloom.errors import ArtifactError, InputError
from pairloom.evaluate.tasks import RetrievalTask, SentencePairTask, read_task, task_texts
from pairloom.records import Text

from .fakes import write_beir, write_lines

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "eval"
HEADER = "query-id\tcorpus-id\tscore"


def read_retrieval(path: Path) -> RetrievalTask:
    task = read_task(path)
    assert isinstance(task, RetrievalTask)
    return task


def read_pairs(path: Path) -> SentencePairTask:
    task = read_task(path)
    assert isinstance(task, SentencePairTask)
    return task


def test_a_beir_folder_is_read(tmp_path: Path) -> None:
    task = read_task(write_beir(tmp_path / "insects"))
    assert task == RetrievalTask(
        name="insects",
        queries=(Text("q1", "what flies"), Text("q2", "what walks")),
        documents=(Text("d1", "Bees They fly."), Text("d2", "Ants walk."), Text("d3", "Cats sleep.")),
        judgements={"q1": {"d1": 2, "d3": 0}, "q2": {"d2": 1}},
    )


def test_gzip_header_or_not_and_blank_lines_make_no_difference(tmp_path: Path) -> None:
    plain = write_beir(tmp_path / "plain" / "insects")
    other = write_beir(tmp_path / "other" / "insects", qrels={"test": ("q1\td1\t2", "", "q1\td3\t0", "q2\td2\t1.0")})
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        (other / f"{name}.gz").write_bytes(gzip.compress((other / name).read_bytes()))
        (other / name).unlink()
    assert read_task(plain) == read_task(other)


def test_the_test_split_is_chosen_and_another_can_be_given(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "insects", qrels={"dev": (HEADER, "q1\td1\t1"), "test": (HEADER, "q2\td2\t1")})
    assert [query.id for query in read_retrieval(folder).queries] == ["q2"]
    dev = read_retrieval(folder / "qrels" / "dev.tsv")
    assert dev.name == "insects/dev"
    assert [query.id for query in dev.queries] == ["q1"]


def test_a_single_split_need_not_be_called_test(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "insects", qrels={"dev": ("q1\td1\t1", "q2\td2\t1")})
    assert read_task(folder).name == "insects"


def test_numbers_as_ids_null_titles_and_negative_grades_are_understood(tmp_path: Path) -> None:
    folder = write_beir(
        tmp_path,
        corpus=({"_id": 7, "title": None, "text": "Seven."}, {"_id": "8", "title": "Eight", "text": ""}),
        queries=({"_id": 1, "text": "which"},),
        qrels={"test": ("1\t7\t1", "1\t8\t-2", "1\t8\t-1")},
    )
    task = read_retrieval(folder)
    assert task.documents == (Text("7", "Seven."), Text("8", "Eight"))
    assert task.judgements == {"1": {"7": 1, "8": 0}}


def test_empty_documents_are_kept_and_remarked(tmp_path: Path) -> None:
    folder = write_beir(
        tmp_path,
        corpus=({"_id": "d1", "title": "", "text": ""}, {"_id": "d2", "text": "Ants walk."}),
        qrels={"test": ("q1\td1\t1", "q2\td2\t1")},
    )
    task = read_retrieval(folder)
    assert task.documents[0] == Text("d1", "")
    assert task.remarks == ("empty documents: 1",)


def test_own_documents_have_the_same_id_and_text_and_are_no_answer(tmp_path: Path) -> None:
    folder = write_beir(
        tmp_path,
        corpus=(
            {"_id": "same", "title": "", "text": "how do  ants walk"},
            {"_id": "titled", "title": "Insects", "text": "do bees fly"},
            {"_id": "answer", "title": "", "text": "do cats sleep"},
            {"_id": "1", "title": "", "text": "numbered from 1, as the queries are"},
        ),
        queries=(
            {"_id": "same", "text": "how do ants walk"},
            {"_id": "titled", "text": "do bees fly"},
            {"_id": "answer", "text": "do cats sleep"},
            {"_id": "1", "text": "something else"},
        ),
        qrels={"test": ("same\ttitled\t1", "titled\tsame\t1", "answer\tanswer\t1", "1\tsame\t1")},
    )
    task = read_retrieval(folder)
    assert task.own_documents == {"same", "titled"}
    assert task.remarks == ("queries that are documents, too, and are not ranked for themselves: 2",)


Q1, Q2 = {"_id": "q1", "text": "what flies"}, {"_id": "q2", "text": "what walks"}
D1, D2 = {"_id": "d1", "text": "Bees fly."}, {"_id": "d2", "text": "Ants walk."}
GOOD = (HEADER, "q1\td1\t1", "q2\td2\t1")


@pytest.mark.parametrize(
    ("parts", "where", "what"),
    [
        ({"corpus": (D1, "{")}, "corpus.jsonl, line 2", "not JSON"),
        ({"corpus": (D1, '"d2"')}, "corpus.jsonl, line 2", 'is "d2", not an object with _id and text'),
        ({"corpus": (D1, {"text": "Ants."})}, "corpus.jsonl, line 2", "_id is missing"),
        ({"corpus": (D1, {"_id": "d2", "title": "Ants"})}, "corpus.jsonl, line 2", "text is missing"),
        ({"corpus": (D1, {"_id": "d2", "text": 5})}, "corpus.jsonl, line 2", "text is 5, not a string"),
        ({"corpus": (D1, {**D2, "title": ["x"]})}, "corpus.jsonl, line 2", 'title is ["x"], not a string'),
        ({"corpus": (D1, {"_id": " ", "text": "Ants."})}, "corpus.jsonl, line 2", '_id is " ", not a name'),
        ({"corpus": (D1, {"_id": True, "text": "x"})}, "corpus.jsonl, line 2", "_id is true, not a name"),
        ({"corpus": (D1, D2, D1)}, "corpus.jsonl, line 3", "_id 'd1' occurs for the second time"),
        ({"corpus": ()}, "corpus.jsonl", "holds no document"),
        ({"queries": (Q1, "oops")}, "queries.jsonl, line 2", "not JSON"),
        ({"queries": (Q1, {"_id": "q2"})}, "queries.jsonl, line 2", "text is missing"),
        ({"queries": (Q1, Q2, Q2)}, "queries.jsonl, line 3", "_id 'q2' occurs for the second time"),
        ({"queries": (Q1, {"_id": "q2", "text": " "})}, "queries.jsonl, line 2", "query 'q2' has no text"),
        ({"queries": ()}, "queries.jsonl", "holds no query"),
        (
            {"queries": (Q1, Q2, {"_id": "q3", "text": "who"}, {"_id": "q4", "text": "why"})},
            "queries.jsonl, line 3",
            "query 'q3' has no judgement in test.tsv (2 of 4 queries have none); judge it or remove it",
        ),
        ({"qrels": {"test": (*GOOD, "q1\td9\t1")}}, "test.tsv, line 4", "document 'd9', which is not in the corpus"),
        ({"qrels": {"test": (*GOOD, "q9\td1\t1")}}, "test.tsv, line 4", "query 'q9', which is not among the queries"),
        ({"qrels": {"test": (*GOOD, "q1\td2\tyes")}}, "test.tsv, line 4", "score 'yes' is not a whole number"),
        ({"qrels": {"test": (*GOOD, "q1\td2\t0.5")}}, "test.tsv, line 4", "score '0.5' is not a whole number"),
        ({"qrels": {"test": (*GOOD, "q1\td2\tinf")}}, "test.tsv, line 4", "score 'inf' is not a whole number"),
        ({"qrels": {"test": ("q1\td1\tyes",)}}, "test.tsv, line 1", "score 'yes' is not a whole number"),
        ({"qrels": {"test": (*GOOD, "q1 d2 1")}}, "test.tsv, line 4", "has 1 tab-separated fields; expected query-id"),
        ({"qrels": {"test": (*GOOD, "q1\t0\td2\t1")}}, "test.tsv, line 4", "has 4 tab-separated fields"),
        ({"qrels": {"test": (*GOOD, "q1\td1\t3")}}, "test.tsv, line 4", "'d1' for query 'q1' a second time"),
        ({"qrels": {"test": (HEADER, "q1\td1\t1", "q2\td2\t0")}}, "test.tsv, line 3", "'q2' has no relevant document"),
        ({"qrels": {"test": (HEADER,)}}, "test.tsv", "holds no judgement"),
        ({"qrels": {"test": ()}}, "test.tsv", "holds no judgement"),
        ({"qrels": {}}, "task", "has no qrels/*.tsv"),
        ({"qrels": {"dev": GOOD, "train": GOOD}}, "task", "has the splits dev, train and no test; give one of them"),
    ],
)
def test_what_is_wrong_with_a_beir_folder_is_said(tmp_path: Path, parts: dict[str, Any], where: str, what: str) -> None:
    folder = write_beir(
        tmp_path / "task", **{"corpus": (D1, D2), "queries": (Q1, Q2), "qrels": {"test": GOOD}, **parts}
    )
    with pytest.raises(InputError) as caught:
        read_task(folder)
    message = str(caught.value)
    assert f"{where}: " in message
    assert what in message
    assert "\n" not in message


def test_missing_pieces_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no task: neither corpus\.jsonl"):
        read_task(tmp_path)
    folder = write_beir(tmp_path / "task")
    (folder / "queries.jsonl").unlink()
    with pytest.raises(InputError, match=r"task: has no queries\.jsonl"):
        read_task(folder)
    with pytest.raises(InputError, match=r"nowhere: no such file"):
        read_task(tmp_path / "nowhere")


def test_a_task_made_by_pairloom_must_be_whole(tmp_path: Path) -> None:
    folder = tmp_path / "held-out"
    with new_artifact(folder, "task") as draft:
        write_beir(draft.path)
    assert read_task(folder).name == "held-out"
    (folder / "corpus.jsonl").write_text('{"_id": "d1", "text": "cut"}\n', encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"corpus\.jsonl: has 29 bytes instead of"):
        read_task(folder)


def test_sentence_pairs_are_read(tmp_path: Path) -> None:
    lines = ["score\tsentence1\tsentence2", '4.5\tA "dog" runs.\tA dog is running.', "", "0\tA dog.\tA plane."]
    path = write_lines(tmp_path / "animals.tsv", lines)
    assert read_task(path) == SentencePairTask(
        name="animals",
        kind="score",
        sentences1=('A "dog" runs.', "A dog."),
        sentences2=("A dog is running.", "A plane."),
        targets=(4.5, 0.0),
    )


def test_every_text_of_a_task_for_comparison(tmp_path: Path) -> None:
    """Queries, titles, bodies and both, whatever has been judged; both sides of sentence pairs."""
    texts = list(task_texts(write_beir(tmp_path / "task", qrels={})))
    assert sorted(texts) == sorted(
        ["what flies", "what walks", "Bees", "They fly.", "Bees They fly.", "Ants walk.", "Cats sleep."]
    )
    lines = ["label\tsentence1\tsentence2", "1\tA dog.\tDogs.", "0\tA cat.\tA plane."]
    path = write_lines(tmp_path / "animals.tsv", lines)
    assert sorted(task_texts(path)) == ["A cat.", "A dog.", "A plane.", "Dogs."]
    with pytest.raises(InputError, match=r"nothing: no such file"):
        list(task_texts(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: has no queries\.jsonl"):
        list(task_texts(tmp_path / "empty"))


def test_a_generic_name_gives_way_to_the_folders(tmp_path: Path) -> None:
    lines = ["sentence1\tsentence2\tlabel", "a\tb\t1", "a\t\t0"]
    path = write_lines(tmp_path / "questions" / "pairs.tsv", lines)
    (path.parent / "pairs.tsv.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    for task in (read_pairs(path.parent), read_pairs(path.parent / "pairs.tsv.gz")):
        assert (task.name, task.kind, task.targets) == ("questions", "label", (1.0, 0.0))
        assert task.remarks == ("pairs with an empty sentence: 1",)


@pytest.mark.parametrize(
    ("lines", "where", "what"),
    [
        ([], "p.tsv", "is empty"),
        (["score\tsentence1\tsentence2"], "p.tsv", "holds no pair below the header"),
        (["4.5\ta\tb"], "p.tsv, line 1", "expected score or label, sentence1, sentence2, separated by tabs"),
        (["score,sentence1,sentence2"], "p.tsv, line 1", "expected score or label"),
        (["score\tlabel\tsentence1\tsentence2"], "p.tsv, line 1", "expected score or label"),
        (["score\tsentence1\tsentence2", "1\ta\tb", "x\ta\tb"], "p.tsv, line 3", "score 'x' is not a number"),
        (["score\tsentence1\tsentence2", "nan\ta\tb"], "p.tsv, line 2", "score 'nan' is not a number"),
        (["score\tsentence1\tsentence2", "1\ta b"], "p.tsv, line 2", "has 2 tab-separated fields; expected score"),
        (["score\tsentence1\tsentence2", "1\ta\tb\tc"], "p.tsv, line 2", "has 4 tab-separated fields"),
        (["score\tsentence1\tsentence2", "1\t\t "], "p.tsv, line 2", "both sentences are empty"),
        (["label\tsentence1\tsentence2", "1\ta\tb", "2\ta\tb"], "p.tsv, line 3", "label '2' is neither 0 nor 1"),
        (["score\tsentence1\tsentence2", "3\ta\tb", "3\tc\td"], "p.tsv", "every score is 3; a metric needs"),
        (["label\tsentence1\tsentence2", "1\ta\tb", "1\tc\td"], "p.tsv", "every label is 1; a metric needs"),
    ],
)
def test_what_is_wrong_with_sentence_pairs_is_said(tmp_path: Path, lines: list[str], where: str, what: str) -> None:
    with pytest.raises(InputError) as caught:
        read_task(write_lines(tmp_path / "p.tsv", lines))
    message = str(caught.value)
    assert f"{where}: " in message
    assert what in message
    assert "\n" not in message


def need(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"the real task {name} is not beside the checkout")
    return SHARED / name


def test_cranfield_is_read() -> None:
    task = read_retrieval(need("cranfield"))
    assert (task.name, len(task.queries), len(task.documents)) == ("cranfield", 225, 1400)
    assert sum(len(grades) for grades in task.judgements.values()) == 1612
    assert {grade for grades in task.judgements.values() for grade in grades.values()} == {1, 2, 3, 4}
    # Queries and documents are both numbered from 1, which makes no query a document.
    assert task.own_documents == frozenset()
    assert task.remarks == ("empty documents: 2",)


def test_real_sentence_pairs_are_read() -> None:
    stsb = read_pairs(need("stsb"))
    assert (stsb.name, stsb.kind, len(stsb.targets), max(stsb.targets)) == ("stsb", "score", 1500, 5.0)
    quora = read_pairs(need("quora_dev"))
    assert (quora.name, quora.kind, len(quora.targets), sum(quora.targets)) == ("quora_dev", "label", 10_000, 3634)
    assert quora.remarks == ("pairs with an empty sentence: 1",)
