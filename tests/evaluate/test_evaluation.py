from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pairloom.encode.similarity import normalize
from pairloom.errors import ModelError
from pairloom.evaluate.evaluation import Evaluation, evaluate
from pairloom.evaluate.report import to_json
from pairloom.evaluate.selection import SelectionTask
from pairloom.evaluate.tasks import RetrievalTask, SentencePairTask
from pairloom.records import Text

from .fakes import HashEncoder, LookupEncoder, Vectors


def values(evaluation: Evaluation) -> dict[str, float]:
    return {name: measurement.value for name, measurement in evaluation.metrics.items()}


def retrieval_task(num_queries: int = 30, num_documents: int = 300, *, seed: int = 1) -> RetrievalTask:
    """Queries with one to five relevant documents each."""
    random = np.random.default_rng(seed)
    judgements = {
        f"q{query}": {f"d{document}": 1 for document in random.choice(num_documents, random.integers(1, 6), False)}
        for query in range(num_queries)
    }
    return RetrievalTask(
        "random",
        tuple(Text(query, f"query {query}") for query in judgements),
        tuple(Text(f"d{document}", f"document {document}") for document in range(num_documents)),
        judgements,
    )


def pairs_task(kind: Any, num_pairs: int = 200, *, seed: int = 1) -> SentencePairTask:
    random = np.random.default_rng(seed)
    targets = random.integers(0, 2, num_pairs) if kind == "label" else random.integers(0, 11, num_pairs) / 2
    return SentencePairTask(
        "random",
        kind,
        tuple(f"sentence {number}" for number in random.integers(0, num_pairs, num_pairs)),
        tuple(f"sentence {number}" for number in random.integers(0, num_pairs, num_pairs)),
        tuple(float(target) for target in targets),
    )


def selection_task() -> SelectionTask:
    numbers = range(30 * 5)
    return SelectionTask("random", tuple(f"query {n}" for n in numbers), tuple(f"document {n}" for n in numbers), 5)


TASKS = [retrieval_task(), pairs_task("score"), pairs_task("label"), selection_task()]


def test_retrieval_by_hand() -> None:
    task = RetrievalTask(
        "animals",
        (Text("q1", "flies"), Text("q2", "walks")),
        (Text("d1", "bee"), Text("d2", "ant"), Text("d3", "cat")),
        {"q1": {"d1": 1}, "q2": {"d3": 1}},
    )
    model = LookupEncoder(
        queries={"flies": (1, 0), "walks": (0, 1)}, documents={"bee": (3, 0), "ant": (0, 2), "cat": (0, 1)}
    )
    evaluation = evaluate(model, task)
    assert evaluation.counts == {"queries": 2, "documents": 3}
    # q1 finds its document first, q2 second, after the ant.
    assert values(evaluation)["MRR@10"] == 3 / 4
    assert values(evaluation)["Recall@1"] == 1 / 2
    # By cosine, ant and cat are alike, and the first in the corpus comes first.
    model.similarity_name = "cosine"
    assert values(evaluate(model, task))["MRR@10"] == 3 / 4
    assert values(evaluate(model, replace(task, documents=task.documents[::-1])))["MRR@10"] == 1


def test_a_query_does_not_find_itself() -> None:
    task = RetrievalTask(
        "duplicates",
        (Text("1", "how?"), Text("2", "why?")),
        (Text("1", "how?"), Text("2", "why?"), Text("3", "how come?")),
        {"1": {"3": 1}, "2": {"3": 1}},
    )
    table = {"how?": (1.0, 0.0), "why?": (0.0, 1.0), "how come?": (0.9, 0.2)}
    model = LookupEncoder(table, table)
    assert values(evaluate(model, task))["MRR@10"] == 1 / 2
    # Without themselves: 3 before 2 for the first query, 3 before 1 for the second.
    assert values(evaluate(model, replace(task, own_documents=frozenset({"1", "2"}))))["MRR@10"] == 1
    # Only the document of the same id is left out.
    assert values(evaluate(model, replace(task, own_documents=frozenset({"1"}))))["MRR@10"] == 3 / 4


def test_leaving_out_a_document_still_leaves_100() -> None:
    documents = [Text("q", "the query"), *(Text(f"d{index}", f"document {index}") for index in range(100))]
    task = RetrievalTask("deep", (Text("q", "the query"),), tuple(documents), {"q": {"d99": 1}}, frozenset({"q"}))
    table = {document.text: (1.0 - index / 200,) for index, document in enumerate(documents)}
    assert values(evaluate(LookupEncoder({"the query": (1.0,)}, table), task))["Recall@100"] == 1


def test_a_perfect_model_gets_1() -> None:
    task = retrieval_task()
    axes = np.eye(len(task.queries))
    queries = {query.text: axes[row].tolist() for row, query in enumerate(task.queries)}
    grades = {d.text: [task.judgements[q.id].get(d.id, 0.0) for q in task.queries] for d in task.documents}
    found = evaluate(LookupEncoder(queries, grades), task)
    for name in ("nDCG@10", "MRR@10", "Recall@10", "MAP@100"):
        assert found.metrics[name].value == pytest.approx(1)
        assert found.metrics[name].interval == pytest.approx((1, 1))


def test_the_order_of_documents_does_not_matter() -> None:
    task = retrieval_task()
    shuffled = tuple(task.documents[row] for row in np.random.default_rng(3).permutation(len(task.documents)))
    model = HashEncoder()
    assert values(evaluate(model, task)) == values(evaluate(model, replace(task, documents=shuffled)))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_an_interval_holds_the_value(task: Any, similarity: str) -> None:
    for measurement in evaluate(HashEncoder(similarity), task).metrics.values():
        low, high = measurement.interval
        assert low <= measurement.value <= high
        assert low < high or measurement.value == 0  # no query of the random rankings may have its document on top


@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
def test_a_model_does_not_differ_from_itself(task: Any) -> None:
    for measurement in evaluate(HashEncoder(), task, baseline=HashEncoder()).metrics.values():
        assert measurement.comparison is not None
        assert measurement.comparison.baseline == measurement.value
        assert measurement.comparison.difference == 0
        assert measurement.comparison.interval == (0.0, 0.0)
        assert not measurement.comparison.is_clear


@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
def test_an_evaluation_serves_as_baseline_without_encoding_again(task: Any) -> None:
    before = HashEncoder(salt="before")
    evaluated = evaluate(before, task)
    num_texts = before.num_texts
    by_evaluation = evaluate(HashEncoder(), task, baseline=evaluated)
    assert before.num_texts == num_texts
    by_model = evaluate(HashEncoder(), task, baseline=before)
    assert by_evaluation.metrics == by_model.metrics
    for name, measurement in by_model.metrics.items():
        assert measurement.comparison is not None
        assert measurement.comparison.baseline == evaluated.metrics[name].value
        low, high = measurement.comparison.interval
        assert low < measurement.comparison.difference < high


def test_a_paired_interval_is_narrower_than_two_apart() -> None:
    # The second model is the first with a little noise: most of what moves one with the choice of pairs moves both.
    class Noisy(HashEncoder):
        def encode(self, texts: list[str], /) -> Vectors:
            return super().encode(texts) + 0.1 * HashEncoder(salt="noise").encode(texts)

    task = pairs_task("score")
    measurement = evaluate(Noisy(), task, baseline=HashEncoder()).metrics["Spearman"]
    assert measurement.comparison is not None
    low, high = measurement.comparison.interval
    assert high - low < 0.3 * (measurement.interval[1] - measurement.interval[0])


def test_the_evaluation_of_another_task_is_refused_as_baseline() -> None:
    with pytest.raises(ValueError, match=r"evaluated on random \{'pairs': 200\}, not on random"):
        evaluate(HashEncoder(), retrieval_task(), baseline=evaluate(HashEncoder(), pairs_task("score")))


def test_the_same_text_is_encoded_once() -> None:
    task = pairs_task("score")
    model = HashEncoder()
    evaluate(model, task)
    assert model.num_texts == len({*task.sentences1, *task.sentences2})


def test_the_seed_fixes_everything() -> None:
    task = pairs_task("label")
    first, again, other = (evaluate(HashEncoder(), task, seed=seed, num_resamples=200) for seed in (5, 5, 6))
    assert first.metrics == again.metrics
    assert values(first) == values(other)
    assert first.metrics["AP"].interval != other.metrics["AP"].interval


def test_a_collapsed_model_gets_numbers_too() -> None:
    class Collapsed(HashEncoder):
        def encode(self, texts: list[str], /) -> Vectors:
            return np.ones((len(texts), 4), dtype=np.float32)

        encode_query = encode
        encode_document = encode

    assert values(evaluate(Collapsed(), pairs_task("score"))) == {"Spearman": 0, "Pearson": 0}
    labels = pairs_task("label")
    assert values(evaluate(Collapsed(), labels))["AP"] == pytest.approx(np.mean(labels.targets))
    assert values(evaluate(Collapsed(), retrieval_task()))["nDCG@10"] < 0.2


def test_vectors_that_are_not_finite_are_refused() -> None:
    class Broken(HashEncoder):
        def encode(self, texts: list[str], /) -> Vectors:
            vectors = super().encode(texts)
            vectors[texts.index("sentence 7")] = np.nan
            return vectors

    task = SentencePairTask("one", "score", ("sentence 6", "sentence 8"), ("sentence 7", "sentence 9"), (0.0, 1.0))
    with pytest.raises(ModelError, match="vector of 'sentence 7' is not finite"):
        evaluate(Broken(), task)


def test_progress_is_shown_where_asked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(HashEncoder(), pairs_task("score"), baseline=HashEncoder())
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("pairloom.progress._PLAIN_LINE_EVERY_S", 0.0)
    evaluate(HashEncoder(), pairs_task("score"), baseline=HashEncoder(), show_progress=True)
    shown = capsys.readouterr().err
    assert "baseline, random: sentences: " in shown
    assert "texts" in shown


FROM_DOT = "was made for dot product and is compared by cosine, which ignores the lengths of its vectors; in training they counted"
FROM_COSINE = "was made for cosine and is compared by dot product, in which the lengths of its vectors count; in training they did not"


@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
@pytest.mark.parametrize(("own", "asked", "said"), [("dot", "cosine", FROM_DOT), ("cosine", "dot", FROM_COSINE)])
def test_another_similarity_is_used_and_warned_of(task: Any, own: str, asked: Any, said: str) -> None:
    measured = evaluate(HashEncoder(own), task, similarity=asked)
    assert measured.metrics == evaluate(HashEncoder(asked), task).metrics
    assert measured.metrics != evaluate(HashEncoder(own), task).metrics
    assert measured.similarity == asked
    assert measured.warnings == (f"the model {said}",)
    assert to_json(measured)["warnings"] == [f"the model {said}"]
    compared = evaluate(HashEncoder(asked), task, baseline=HashEncoder(own, salt="other"), similarity=asked)
    assert compared.warnings == (f"the baseline {said}",)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
def test_where_it_makes_no_difference_nobody_is_warned(task: Any) -> None:
    class Normalized(HashEncoder):
        def encode(self, texts: list[str], /) -> Vectors:
            return normalize(super().encode(texts))

        encode_query = encode
        encode_document = encode

    for own, asked in (("dot", "cosine"), ("cosine", "dot")):
        assert evaluate(Normalized(own), task, similarity=asked).warnings == ()  # type: ignore[arg-type]
    for own in ("dot", "cosine"):
        assert evaluate(HashEncoder(own), task, similarity=own).warnings == ()  # type: ignore[arg-type]
        assert evaluate(HashEncoder(own), task).warnings == ()


def test_a_baseline_measured_by_another_similarity_is_refused() -> None:
    task = pairs_task("score")
    with pytest.raises(ValueError, match="the baseline was evaluated by dot, not by cosine"):
        evaluate(HashEncoder(), task, baseline=evaluate(HashEncoder("dot"), task), similarity="cosine")
