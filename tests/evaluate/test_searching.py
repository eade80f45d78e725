"""Collections on tasks: what they find, measured as models are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pytest

from pairloom.encode.similarity import top_k
from pairloom.errors import InputError
from pairloom.evaluate.evaluation import evaluate
from pairloom.evaluate.report import to_json
from pairloom.evaluate.searching import MODES, Mode, evaluate_search
from pairloom.evaluate.tasks import RetrievalTask
from pairloom.records import Document, Hit, Text

from .fakes import HashEncoder
from .test_evaluation import retrieval_task, values
from .test_report import shown


class RankingSearcher:
    """Finds what it is told to, by mode and query."""

    similarity_name = "cosine"

    def __init__(self, rankings: Mapping[Mode, Mapping[str, Sequence[str]]], ids: Iterable[str]) -> None:
        self._rankings, self._ids = rankings, set(ids)
        self.calls: list[Mode] = []

    def search_many(self, queries: Sequence[str], k: int = 10, *, mode: Mode = "hybrid") -> list[list[Hit]]:
        self.calls.append(mode)
        return [[Hit(key, 1.0, "") for key in self._rankings[mode][query][:k]] for query in queries]

    def get(self, ids: Iterable[str]) -> list[Document | None]:
        return [Document(key, "") if key in self._ids else None for key in ids]

    def count(self) -> int:
        return len(self._ids)


ANIMALS = RetrievalTask(
    "animals",
    (Text("q1", "flies"), Text("q2", "walks")),
    (Text("d1", "bee"), Text("d2", "ant"), Text("d3", "cat")),
    {"q1": {"d1": 1}, "q2": {"d3": 1}},
)
RANKINGS: Mapping[Mode, Mapping[str, Sequence[str]]] = {
    "vector": {"flies": ["d1", "d2"], "walks": ["d2", "d3"]},
    "words": {"flies": [], "walks": ["d3"]},
    "hybrid": {"flies": ["d1"], "walks": ["d3", "d2"]},
}


def test_by_hand() -> None:
    vector, words, hybrid = evaluate_search(RankingSearcher(RANKINGS, ["d1", "d2", "d3"]), ANIMALS)
    assert [result.mode for result in (vector, words, hybrid)] == list(MODES)
    assert [values(result)["MRR@10"] for result in (vector, words, hybrid)] == [3 / 4, 1 / 2, 1]
    assert vector.counts == {"queries": 2, "documents": 3}
    assert vector.remarks == ()
    assert all(measurement.comparison is None for measurement in vector.metrics.values())
    for result, difference in ((words, -1 / 4), (hybrid, 1 / 4)):
        comparison = result.metrics["MRR@10"].comparison
        assert comparison is not None
        assert (comparison.baseline, comparison.difference) == (3 / 4, difference)


def test_a_mode_alone_has_nothing_to_be_compared_with() -> None:
    searcher = RankingSearcher(RANKINGS, ["d1", "d2", "d3"])
    (words,) = evaluate_search(searcher, ANIMALS, modes=["words"])
    assert searcher.calls == ["words"]
    assert all(measurement.comparison is None for measurement in words.metrics.values())


def test_the_numbers_are_those_of_the_model_that_searches() -> None:
    task, model = retrieval_task(), HashEncoder()
    queries = model.encode([query.text for query in task.queries])
    found, _ = top_k(queries, model.encode([document.text for document in task.documents]), 101, "cosine")
    ids = [document.id for document in task.documents]
    ranking = {query.text: [ids[row] for row in rows] for query, rows in zip(task.queries, found, strict=True)}
    (result,) = evaluate_search(RankingSearcher({"vector": ranking}, ids), task, modes=["vector"])
    assert result.metrics == evaluate(model, task).metrics


def test_a_query_does_not_find_itself() -> None:
    task = RetrievalTask(
        "duplicates",
        (Text("1", "how?"),),
        (Text("1", "how?"), *(Text(f"d{number}", "x") for number in range(100))),
        {"1": {"d99": 1}},
        frozenset({"1"}),
    )
    ids = [document.id for document in task.documents]
    (result,) = evaluate_search(RankingSearcher({"words": {"how?": ids}}, ids), task, modes=["words"])
    assert values(result)["Recall@100"] == 1


def test_documents_that_are_not_in_both_are_counted() -> None:
    searcher = RankingSearcher(RANKINGS, ["d1", "d3", "x", "y", "z"])
    (result,) = evaluate_search(searcher, ANIMALS, modes=["words"])
    assert result.remarks == (
        "documents that the collection does not have, and so cannot find: 1",
        "documents that only the collection has, and that count as wrong: 3",
    )


def test_a_collection_of_something_else() -> None:
    with pytest.raises(InputError, match=r"none of the 3 documents of animals: .* under the ids .* such as 'd1'"):
        evaluate_search(RankingSearcher(RANKINGS, ["1", "2", "3"]), ANIMALS)


def test_more_documents_and_queries_than_go_into_a_call() -> None:
    ids = [f"d{number}" for number in range(2_500)]
    queries = tuple(Text(f"q{number}", f"query {number}") for number in range(150))
    judgements = {query.id: {ids[int(query.id[1:])]: 1} for query in queries}
    task = RetrievalTask("large", queries, tuple(Text(key, key) for key in ids), judgements)
    ranking = {query.text: [ids[int(query.id[1:])]] for query in queries}
    searcher = RankingSearcher({"words": ranking}, ids[:-3])
    (result,) = evaluate_search(searcher, task, modes=["words"])
    assert values(result)["MRR@10"] == 1
    assert result.remarks == ("documents that the collection does not have, and so cannot find: 3",)
    assert 1 < len(searcher.calls) < 150


def test_reports_say_by_what_was_searched() -> None:
    results = evaluate_search(RankingSearcher(RANKINGS, ["d1", "d2", "d3"]), ANIMALS)
    assert [to_json(result)["mode"] for result in results] == list(MODES)
    assert "mode" not in to_json(evaluate(HashEncoder(), retrieval_task()))
    lines = shown(results)
    assert [line for line in lines if line in MODES] == ["vector", "words", "hybrid"]
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "animals: 2 queries, 3 documents"
    assert sum(line.startswith("animals:") for line in lines) == 1
