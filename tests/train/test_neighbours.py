from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pairloom.encode.encoder import Encoder
from pairloom.encode.similarity import similarity
from pairloom.evaluate.tasks import RetrievalTask, SentencePairTask, read_task
from pairloom.records import Text
from pairloom.train.neighbours import find_neighbours


@pytest.fixture(scope="module")
def encoder(model_folder: Path) -> Encoder:
    return Encoder(model_folder, device="cpu", precision="float32")


@pytest.fixture
def task(task_folder: Path) -> RetrievalTask:
    read = read_task(task_folder)
    assert isinstance(read, RetrievalTask)
    return read


def reversed_encoder(encoder: Encoder) -> Encoder:
    """Finds first what the encoder finds last: of its vectors for queries the signs are turned."""

    class Turned(Encoder):
        def encode_query(self, *arguments: object, **options: object) -> np.ndarray:
            return -super().encode_query(*arguments, **options)  # type: ignore[arg-type]

    return Turned(encoder.model, device="cpu", precision="float32")


def test_neighbours_are_the_most_similar_documents(encoder: Encoder, task: RetrievalTask) -> None:
    found = find_neighbours(encoder, reversed_encoder(encoder), task)
    assert len(found) == 5
    texts = np.array([document.text for document in task.documents])
    answers = {query.text: texts[number] for number, query in enumerate(task.queries)}
    for one in found:
        scores = similarity(encoder.encode([one.query]), encoder.encode(texts.tolist()), "cosine")[0]
        best = np.argsort(-scores)
        assert [hit.text for hit in one.before] == texts[best[:3]].tolist()
        assert [hit.text for hit in one.after] == texts[best[::-1][:3]].tolist()
        assert [hit.score for hit in one.before] == pytest.approx(scores[best[:3]], abs=1e-5)
        assert [hit.score for hit in one.after] == pytest.approx(-scores[best[::-1][:3]], abs=1e-5)
        assert one.relevant == (answers[one.query],)
        assert all(hit.relevant == (hit.text == answers[one.query]) for hit in (*one.before, *one.after))
        assert one.num_documents == 12


def test_the_choice_depends_on_texts_alone(encoder: Encoder, task: RetrievalTask) -> None:
    turned = dataclasses.replace(task, queries=task.queries[::-1], documents=task.documents[::-1])
    chosen = [one.query for one in find_neighbours(encoder, encoder, task, num_queries=4)]
    assert [one.query for one in find_neighbours(encoder, encoder, turned, num_queries=4)] == chosen
    fewer = dataclasses.replace(task, queries=tuple(query for query in task.queries if query.text != chosen[0]))
    assert [one.query for one in find_neighbours(encoder, encoder, fewer, num_queries=3)] == chosen[1:]


def test_of_a_large_corpus_the_relevant_documents_are_kept(encoder: Encoder, task: RetrievalTask) -> None:
    found = find_neighbours(encoder, encoder, task, num_queries=3, k=9, max_documents=5)
    for one in found:
        assert one.num_documents == len(one.before) == 5
        shown = {hit.text for hit in one.before}
        assert all(set(other.relevant) <= shown for other in found)
    least = find_neighbours(encoder, encoder, task, num_queries=3, max_documents=1)
    assert [one.num_documents for one in least] == [3, 3, 3]


def test_a_query_does_not_find_itself(encoder: Encoder) -> None:
    texts = [Text("1", "hot coffee"), Text("2", "cold coffee"), Text("3", "python file")]
    task = RetrievalTask("t", tuple(texts[:2]), tuple(texts), {"1": {"2": 1}, "2": {"1": 1}}, frozenset({"1", "2"}))
    for one in find_neighbours(encoder, encoder, task):
        assert one.query not in {hit.text for hit in one.before}
        assert len(one.before) == one.num_documents == 2
    numbered = dataclasses.replace(task, own_documents=frozenset())
    assert all(one.before[0].text == one.query for one in find_neighbours(encoder, encoder, numbered))


def test_sentence_pairs_have_no_neighbours(encoder: Encoder) -> None:
    assert find_neighbours(encoder, encoder, SentencePairTask("t", "label", ("a", "b"), ("c", "d"), (0.0, 1.0))) == []
