"""Response selection: the file of candidate sets, the measure against a plain loop, and its intervals."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score

from pairloom.errors import InputError
from pairloom.evaluate.evaluation import MIN_SETS, evaluate
from pairloom.evaluate.metrics import own_ranks
from pairloom.evaluate.report import to_json
from pairloom.evaluate.selection import SelectionTask
from pairloom.evaluate.tasks import read_task, task_texts

from .fakes import HashEncoder, LookupEncoder, Vectors, write_lines
from .test_evaluation import values

PAIRS = [["how are you", "fine"], ["what's up", "the sky"], ["tea?", "coffee!"], ["bye", "see you"]]


def write(path: Path, *records: Any) -> Path:
    return write_lines(path, [record if isinstance(record, str) else json.dumps(record) for record in records])


def selection_task(num_sets: int = 25, set_size: int = 7) -> SelectionTask:
    numbers = range(num_sets * set_size)
    return SelectionTask("random", tuple(f"q{n}" for n in numbers), tuple(f"r{n}" for n in numbers), set_size)


def test_a_file_of_sets_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "smalltalk.jsonl", {"candidates": 2}, *PAIRS[:2], "", *PAIRS[2:])
    expected = SelectionTask(
        "smalltalk", ("how are you", "what's up", "tea?", "bye"), ("fine", "the sky", "coffee!", "see you"), 2
    )
    assert read_task(path) == expected
    assert expected.num_sets == 2
    (tmp_path / "smalltalk" / "test.jsonl.gz").parent.mkdir()
    (tmp_path / "smalltalk" / "test.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert read_task(tmp_path / "smalltalk" / "test.jsonl.gz") == expected
    assert sorted(task_texts(path)) == sorted(text for pair in PAIRS for text in pair)


def test_repeated_responses_are_remarked(tmp_path: Path) -> None:
    rows = [["a", "same"], ["b", "same"], ["c", "other"], ["d", "same"], ["e", "x"], ["f", "y"]]
    task = read_task(write(tmp_path / "s.jsonl", {"candidates": 3}, *rows))
    assert task.remarks == ("responses that occur twice in their set, and so are never right: 2",)


@pytest.mark.parametrize(
    ("records", "where", "what"),
    [
        ([], "s.jsonl", 'is empty; the first line says how many pairs make a set, such as {"candidates": 100}'),
        (PAIRS, "s.jsonl, line 1", 'is ["how are you", "fine"], but the first line says how many pairs make a set'),
        ([{"_id": "q1", "text": "x"}], "s.jsonl, line 1", "but the first line says how many pairs make a set"),
        ([{"candidates": 1}, *PAIRS], "s.jsonl, line 1", "candidates is 1, not a whole number from 2 to 10,000"),
        ([{"candidates": "2"}, *PAIRS], "s.jsonl, line 1", 'candidates is "2", not a whole number'),
        ([{"candidates": True}, *PAIRS], "s.jsonl, line 1", "candidates is true, not a whole number"),
        ([{"candidates": 2.0}, *PAIRS], "s.jsonl, line 1", "candidates is 2.0, not a whole number"),
        (
            [{"candidates": 99999}, *PAIRS],
            "s.jsonl, line 1",
            "candidates is 99999, not a whole number from 2 to 10,000",
        ),
        ([{"candidates": 2}], "s.jsonl", "holds no pair below the first line"),
        ([{"candidates": 3}, *PAIRS], "s.jsonl", "holds 4 pairs, which make no whole number of sets of 3; remove 1"),
        ([{"candidates": 100}, *PAIRS], "s.jsonl", "sets of 100; remove 4 of them or add 96"),
        ([{"candidates": 2}, *PAIRS, "{"], "s.jsonl, line 6", "not JSON"),
        ([{"candidates": 2}, *PAIRS, ["alone"]], "s.jsonl, line 6", 'is ["alone"], not a pair of two texts'),
        ([{"candidates": 2}, *PAIRS, ["a", "b", "c"]], "s.jsonl, line 6", "not a pair of two texts: [query, response]"),
        ([{"candidates": 2}, *PAIRS, ["a", 7]], "s.jsonl, line 6", 'is ["a", 7], not a pair of two texts'),
        ([{"candidates": 2}, *PAIRS, {"texts": ["a", "b"]}], "s.jsonl, line 6", "not a pair of two texts"),
        ([{"candidates": 2}, *PAIRS, [" ", "a"]], "s.jsonl, line 6", "its query has no text"),
        ([{"candidates": 2}, *PAIRS, ["a", ""]], "s.jsonl, line 6", "its response has no text"),
    ],
)
def test_what_is_wrong_with_a_file_of_sets_is_said(
    tmp_path: Path, records: Sequence[Any], where: str, what: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_task(write(tmp_path / "s.jsonl", *records))
    message = str(caught.value)
    assert f"{where}: " in message
    assert what in message
    assert "\n" not in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.jsonl: no such file"):
        read_task(tmp_path / "nowhere.jsonl")


def test_ranks_by_hand() -> None:
    scores = [[3, 1, 2], [5, 4, 3], [1, 1, 1]]
    # First of three, second of three; and who scores as high as all others is behind them.
    assert own_ranks(scores).tolist() == [1, 2, 3]


def test_selection_by_hand() -> None:
    task = SelectionTask("talk", ("q1", "q2", "q3", "q4"), ("r1", "r2", "r3", "r4"), 2)
    model = LookupEncoder(
        queries={"q1": (1, 0), "q2": (0, 1), "q3": (1, 1), "q4": (1, 0)},
        documents={"r1": (1, 0), "r2": (3, 1), "r3": (1, 2), "r4": (1, 0)},
    )
    # By dot product: r2 is above r1 for q1, and right for q2; r3 is right for q3, and as near to q4 as r4.
    found = evaluate(model, task)
    assert (found.kind, found.counts) == ("selection", {"queries": 4, "sets": 2, "candidates": 2})
    assert values(found) == {"accuracy@1": 2 / 4, "MRR": 3 / 4}
    # By cosine r1 is nearer to q1 than r2, and r4 to q4 than r3.
    assert values(evaluate(model, task, similarity="cosine")) == {"accuracy@1": 1.0, "MRR": 1.0}
    # In one set of four, r1 and r4 are as near to q1, r4 and r1 to q4, and r3 is nearer to q2 than r2.
    assert values(evaluate(model, replace(task, set_size=4), similarity="cosine"))["accuracy@1"] == 1 / 4


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_the_measure_equals_a_plain_loop(similarity: str) -> None:
    task, encoder = selection_task(), HashEncoder(similarity, dimensions=4)
    hits, reciprocal = [], []
    for begin in range(0, 175, 7):
        queries, responses = (
            encoder.encode(list(texts[begin : begin + 7])) for texts in (task.queries, task.responses)
        )
        for row in range(7):
            scores = []
            for other in range(7):
                one, two = queries[row].astype(np.float64), responses[other].astype(np.float64)
                lengths = np.linalg.norm(one) * np.linalg.norm(two) if similarity == "cosine" else 1.0
                scores.append(float(one @ two / lengths))
            hits.append(max(scores) == scores[row])
            reciprocal.append(1 / (1 + sum(score > scores[row] for score in scores)))
    assert values(evaluate(encoder, task)) == pytest.approx({"accuracy@1": np.mean(hits), "MRR": np.mean(reciprocal)})


def test_the_measure_equals_sklearns_where_nothing_is_as_near() -> None:
    scores = np.random.default_rng(0).normal(size=(60, 60)) + 2 * np.eye(60)
    ranks = own_ranks(scores)
    assert np.mean(ranks == 1) == pytest.approx(top_k_accuracy_score(np.arange(60), scores, k=1))
    assert np.mean(1 / ranks) == pytest.approx(label_ranking_average_precision_score(np.eye(60), scores))


def test_a_model_that_knows_nothing_is_right_by_chance_and_a_collapsed_one_never() -> None:
    class Collapsed(HashEncoder):
        def encode(self, texts: list[str], /) -> Vectors:
            return np.ones((len(texts), 4), dtype=np.float32)

        encode_query = encode
        encode_document = encode

    task = selection_task(num_sets=200)
    low, high = evaluate(HashEncoder(), task).metrics["accuracy@1"].interval
    assert low < 1 / 7 < high
    assert values(evaluate(Collapsed(), task)) == pytest.approx({"accuracy@1": 0.0, "MRR": 1 / 7})


def test_the_order_within_a_set_means_nothing() -> None:
    task = selection_task()
    order = np.concatenate([np.random.default_rng(n).permutation(7) + 7 * n for n in range(25)]).tolist()
    shuffled = replace(
        task, queries=tuple(task.queries[n] for n in order), responses=tuple(task.responses[n] for n in order)
    )
    assert values(evaluate(HashEncoder(), shuffled)) == pytest.approx(values(evaluate(HashEncoder(), task)))


class RightInSomeSets(HashEncoder):
    """Finds all responses of one set and none of the next."""

    def encode(self, texts: list[str], /) -> Vectors:
        vectors = []
        for text in texts:
            number = int(text[1:])
            turned = text[0] == "r" and number // 7 % 2
            vectors.append(np.eye(7)[(number + 1 if turned else number) % 7])
        return np.array(vectors, dtype=np.float32)

    encode_query = encode
    encode_document = encode


@pytest.mark.parametrize(("num_sets", "independent"), [(40, 40), (MIN_SETS, MIN_SETS), (MIN_SETS - 2, 7 * 18)])
def test_sets_are_resampled_where_there_are_enough(num_sets: int, independent: int) -> None:
    measured = evaluate(RightInSomeSets(), selection_task(num_sets))
    accuracy = measured.metrics["accuracy@1"]
    assert accuracy.value == 1 / 2
    # Fair coins, as many as there are independent items: the interval is 2 · 1.96 standard errors of their mean.
    expected = 2 * 1.96 * np.sqrt(0.25 / independent)
    assert accuracy.interval[1] - accuracy.interval[0] == pytest.approx(expected, rel=0.15)
    assert measured.outcome.num_items == independent
    few = ("fewer than 20 sets, so intervals take queries for independent",) if num_sets < MIN_SETS else ()
    assert measured.remarks == few


def test_queries_and_responses_are_encoded_as_such() -> None:
    task = SelectionTask("talk", ("a", "b"), ("b", "a"), 2)
    model = LookupEncoder(queries={"a": (1, 0), "b": (0, 1)}, documents={"a": (0, 1), "b": (1, 0)})
    assert values(evaluate(model, task))["accuracy@1"] == 1.0


def test_json_says_what_was_measured() -> None:
    facts = to_json(evaluate(HashEncoder(), selection_task(3), baseline=HashEncoder(salt="other")))
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["kind"], facts["queries"], facts["sets"], facts["candidates"]) == ("selection", 21, 3, 7)
    assert list(facts["metrics"]) == ["accuracy@1", "MRR"]
    assert facts["metrics"]["accuracy@1"].keys() >= {"value", "interval", "baseline", "difference_interval"}
