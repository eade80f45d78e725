from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairloom.errors import UsageError
from pairloom.pairs import holdout
from pairloom.pairs.clean import text_hash
from pairloom.pairs.holdout import Candidates, Hashes, HeldOut, HeldOutTask, choose_held_out, touches


def hashes(*texts: str) -> Hashes:
    return np.array([text_hash(text) for text in texts], dtype=np.uint64)


def choose(pairs: list[tuple[str, str]], num_queries: int, num_documents: int, seed: int = 0) -> HeldOut:
    anchors, positives = hashes(*(a for a, _ in pairs)), hashes(*(b for _, b in pairs))
    return choose_held_out(anchors, positives, num_queries=num_queries, num_documents=num_documents, seed=seed)


PAIRS = [(f"anchor {number // 2}", f"positive {number}") for number in range(200)]


def test_choice_depends_on_the_texts_and_the_seed_alone() -> None:
    chosen = choose(PAIRS, 10, 40)
    again = choose(PAIRS[::-1] + PAIRS[:50], 10, 40)
    assert chosen.queries.tolist() == again.queries.tolist()
    assert chosen.anchors.tolist() == again.anchors.tolist()
    assert chosen.queries.tolist() != choose(PAIRS, 10, 40, seed=1).queries.tolist()


def test_as_many_as_asked_for() -> None:
    chosen = choose(PAIRS, 10, 41)  # two positives an anchor
    assert len(chosen.queries) == 10
    assert len(chosen.anchors) == 21
    assert set(chosen.queries.tolist()) < set(chosen.anchors.tolist())
    assert len(choose(PAIRS, 10, 10).anchors) == 10


def test_more_than_there_is_is_refused() -> None:
    with pytest.raises(UsageError, match="101 queries cannot be held out of 100 different anchors"):
        choose(PAIRS, 101, 101)
    with pytest.raises(UsageError, match="201 documents cannot be held out of 200 different positives"):
        choose(PAIRS, 10, 201)


def test_the_choice_is_even() -> None:
    anchors = np.arange(10_000, dtype=np.uint64)  # a pattern that a poor scattering would keep
    chosen = choose_held_out(anchors, anchors, num_queries=1000, num_documents=1000, seed=0)
    share = np.histogram(chosen.queries, bins=10, range=(0, 10_000))[0]
    assert share.min() > 60
    assert share.max() < 140


def read_task(folder: Path) -> tuple[dict[str, str], dict[str, str], set[tuple[str, str]]]:
    def texts(name: str) -> dict[str, str]:
        records: list[dict[str, Any]] = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        return {record["_id"]: record["text"] for record in records}

    with (folder / "qrels" / "test.tsv").open() as stream:
        rows = list(csv.reader(stream, delimiter="\t"))
    assert rows[0] == ["query-id", "corpus-id", "score"]
    assert all(row[2] == "1" for row in rows[1:])
    return texts("queries.jsonl"), texts("corpus.jsonl"), {(row[0], row[1]) for row in rows[1:]}


def test_task_by_hand(tmp_path: Path) -> None:
    task = HeldOutTask(HeldOut(hashes("Q1", "Q2"), hashes("Q1", "Q2", "more"), hashes("one", "two", "three")))
    for texts in [("Q1", "one"), ("q1", "two"), ("Q2", "ONE"), ("more", "three"), ("Q1", "one")]:
        task.add(texts, hashes(*texts).tolist())
    assert task.write(tmp_path) == {"num_queries": 2, "num_documents": 3, "num_judgements": 3}
    queries, documents, judgements = read_task(tmp_path)
    assert sorted(queries.values()) == ["Q1", "Q2"]
    assert sorted(documents.values()) == ["ONE", "three", "two"]
    assert {(queries[q], documents[d]) for q, d in judgements} == {("Q1", "ONE"), ("Q1", "two"), ("Q2", "ONE")}


WORD = st.sampled_from(["a", "b", "c", "d", "e", "f", "A", "B"])


@given(
    st.lists(st.tuples(WORD, WORD), min_size=1, max_size=30), st.integers(1, 4), st.integers(0, 3), st.integers(0, 9)
)
def test_training_sees_no_text_of_the_task(pairs: list[tuple[str, str]], queries: int, more: int, seed: int) -> None:
    try:
        held_out = choose(pairs, queries, queries + more, seed)
    except UsageError:
        return
    table = np.array([hashes(*pair) for pair in pairs])
    kept_back = np.isin(table[:, 0], held_out.anchors)
    assert set(held_out.documents.tolist()) == set(table[kept_back, 1].tolist())
    trained = table[~kept_back & ~touches(table, held_out.texts)]
    assert not set(trained.ravel().tolist()) & set(held_out.texts.tolist())
    assert len(held_out.queries) == queries


@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 3), st.data())
def test_a_stream_in_little_memory_gives_the_same_choice(
    queries: int, more: int, seed: int, data: st.DataObject
) -> None:
    pairs = data.draw(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=300))
    table = np.array(pairs, dtype=np.uint64)
    candidates = Candidates(queries, queries + more, seed)
    for part in np.array_split(table, 1 + len(table) // 7):
        candidates.add(part[:, 0], part[:, 1])
    try:
        expected = choose_held_out(
            table[:, 0], table[:, 1], num_queries=queries, num_documents=queries + more, seed=seed
        )
    except UsageError as error:
        with pytest.raises(UsageError, match=re.escape(str(error))):
            candidates.choose()
        return
    chosen = candidates.choose()
    for name in ("queries", "anchors", "documents", "texts"):
        assert getattr(chosen, name).tolist() == getattr(expected, name).tolist()


@pytest.fixture(autouse=True)
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the stream forget what it can after every 16 pairs."""
    monkeypatch.setattr(holdout, "_MIN_ROOM", 16)


def test_what_cannot_be_held_out_is_forgotten() -> None:
    candidates = Candidates(10, 10, 0)
    kept = []
    for part in np.array_split(np.arange(100_000, dtype=np.uint64), 100):
        candidates.add(part, part)
        kept.append(candidates._num_pairs)
    assert max(kept[1:]) < 2000
