"""The program that measures collections beside others: at toy size, and its parts by hand."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks._encode_texts import random_model
from benchmarks._search_bench import FAISS_GRAPH, PAIRLOOM, Contestant
from benchmarks._search_changes import waits
from benchmarks._search_data import SHARES, Data, encode, gather, grow
from benchmarks._search_growth import altered, choose, copies, neighbourhood, spread
from benchmarks._search_quality import values
from benchmarks._search_queries import Load, filters, loads, tuned
from benchmarks._search_rows import Rows, Selected
from benchmarks._search_side import as_ints, limit, sizes
from benchmarks._search_truth import K, recall, recalls, truth

from pairloom import Encoder
from pairloom.encode.similarity import normalize
from pairloom.evaluate.tasks import RetrievalTask
from pairloom.records import Text
from tests.test_benchmarks import command

HAS_LANCE = importlib.util.find_spec("lancedb") is not None


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("search")


@pytest.mark.slow
def test_the_search_program_at_toy_size_finds_what_is_right_beside_all_others(cache: Path) -> None:
    printed = run(cache, "vectors", "ingest", "stand_ins", "queries", "filtered")
    assert "300 texts, 1,500 rows, 40 questions" in printed
    contestants = ["pairloom, exact", "pairloom, graph", "FAISS alone, exact", "FAISS alone, graph"]
    contestants += ["LanceDB, exact"] if HAS_LANCE else []
    for name in contestants:
        found = re.findall(rf"^  {name} +recall (\S+) .* p99 .* queries/s", printed, re.MULTILINE)
        assert found, name
    recalls_of_ours = re.findall(r"^  pairloom, (?:exact|graph) +recall (\d\.\d+)", printed, re.MULTILINE)
    # Of either kind without a filter, and with three; there is only one source.
    assert len(recalls_of_ours) == 2 * 4
    # To a random model texts are so much alike that half precision takes some for others.
    assert all(float(found) >= 0.9 for found in recalls_of_ours)
    assert len(re.findall(r"rows/s; waiting for the background .* index anew .* disk", printed)) == 2
    assert "a collection" in printed
    assert "rows are let through" in printed
    for name in ("titles of docstrings", "vectors themselves", "moved by 0.35"):
        recalls_of_stand_ins = re.search(rf"^  {name} \(\d+\): (.*)$", printed, re.MULTILINE)
        assert recalls_of_stand_ins and min(map(float, recalls_of_stand_ins[1].split())) > 0.5, name


@pytest.mark.slow
def test_the_search_program_changes_collections_and_asks_for_texts(cache: Path) -> None:
    printed = run(cache, "hybrid", "upserts", "stall", "quality")
    for mode in ("vector", "words", "hybrid"):
        assert re.search(rf"^  pairloom, {mode} +p50 .* queries/s", printed, re.MULTILINE), mode
        assert re.search(rf"^  pairloom, {mode} +nDCG@10 ", printed, re.MULTILINE), mode
    assert printed.count("upserts/s") >= 2
    for phase in ("before", "adding", "new index", "after"):
        assert len(re.findall(rf"^  pairloom, graph, {phase} .*longest", printed, re.MULTILINE)) == 2, phase
    assert "pairloom, graph: the last row is found by the writer's process and by the other: True, True" in printed


def run(cache: Path, *parts: str) -> str:
    words = [word for part in parts for word in ("--part", part)]
    printed = command("search", "--toy", "--cache", str(cache), *words)
    assert "failed" not in printed
    assert "Error" not in printed
    return printed


def vectors(seed: int, *shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return normalize(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    np.save(tmp_path / "rows.npy", vectors(0, 50, 8))
    return Rows(tmp_path / "rows.npy", 40)


def test_rows_are_those_of_the_file_up_to_their_size(rows: Rows) -> None:
    stored = np.load(rows.path)
    assert (len(rows), rows.dimensions) == (40, 8)
    np.testing.assert_array_equal(rows.read(3, 7), stored[3:7])
    np.testing.assert_array_equal(rows.read(38, 50), stored[38:40])
    np.testing.assert_array_equal(rows.take(np.array([5, 2])), stored[[5, 2]])
    blocks = list(rows.blocks(15))
    assert [len(block) for block in blocks] == [15, 15, 10]
    np.testing.assert_array_equal(np.concatenate(blocks), stored[:40])


def test_selected_rows_are_those_of_the_mask(rows: Rows) -> None:
    mask = np.arange(40) % 7 == 3
    np.testing.assert_array_equal(np.concatenate([*Selected(rows, mask).blocks(10)]), np.load(rows.path)[:40][mask])
    assert len(Selected(rows, mask)) == 6


def test_rows_that_are_not_single_precision_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((3, 2)))
    with pytest.raises(ValueError, match="float64"):
        Rows(tmp_path / "rows.npy")


def test_recall_counts_what_is_as_near_as_the_last_of_the_nearest(tmp_path: Path) -> None:
    """Similarities to the question: 20, 19, …; rows 9, 10 and 11 have the same."""
    table = np.array([[20.0 - row] for row in range(20)], dtype=np.float32)
    table[9:12] = 11.0
    np.save(tmp_path / "rows.npy", table)
    rows, question = Rows(tmp_path / "rows.npy"), np.ones((1, 1), dtype=np.float32)
    known = truth(rows, question)
    assert (known.count, known.floors.tolist()) == (K, [11.0])
    nine = list(range(9))
    for last, expected in ((9, 1.0), (10, 1.0), (11, 1.0), (12, 0.9), (8, 0.9), (-1, 0.9)):
        assert recalls([[*nine, last]], rows, known).tolist() == [expected], last
    assert recall([[]], rows, known) == 0.0
    assert recall([list(range(12, 20)) + nine], rows, known) == pytest.approx(0.2), "only ten answers count"


def test_truth_of_a_filter_is_of_what_it_lets_through(rows: Rows) -> None:
    questions = vectors(1, 5, 8)
    mask = np.arange(40) % 3 == 1
    known = truth(rows, questions, mask)
    scores = np.where(mask, questions.astype(np.float64) @ np.load(rows.path)[:40].astype(np.float64).T, -np.inf)
    right = np.argsort(-scores, axis=1)[:, :K]
    assert recall(right.tolist(), rows, known) == 1.0
    wrong = np.argsort(-scores, axis=1)[:, K:]
    assert recall(wrong.tolist(), rows, known) == 0.0
    few = truth(rows, questions, np.arange(40) == 7)
    assert recall([[7]] * 5, rows, few) == 1.0
    assert recall([[8]] * 5, rows, few) == 0.0
    none = truth(rows, questions, np.zeros(40, dtype=np.bool_))
    assert recall([[]] * 5, rows, none) == 1.0
    assert recall([[7]] * 5, rows, none) == 0.0


def test_noise_has_the_covariance_of_the_vectors_and_a_mean_square_length_of_one() -> None:
    real = (vectors(0, 3_000, 6) * np.array([3, 1, 1, 0.5, 0.1, 0], dtype=np.float32)).astype(np.float32)
    root = spread(real)
    covariance = np.cov(real.T)
    np.testing.assert_allclose(root.T @ root, covariance / np.trace(covariance), atol=1e-5)
    assert np.trace(root.T @ root) == pytest.approx(1, abs=1e-5)


def test_copies_have_length_one_and_lie_near_their_originals() -> None:
    real = vectors(0, 30, 64)
    made = np.concatenate([*copies(real, spread(real), 0.5, 30, 300)])
    again = np.concatenate([*copies(real, spread(real), 0.5, 30, 300)])
    other = np.concatenate([*copies(real, spread(real), 0.5, 30, 300, seed=1)])
    assert made.shape == (270, 64)
    np.testing.assert_array_equal(made, again)
    assert not np.isclose(made, other).all(axis=1).any()
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    similar = np.einsum("nd,nd->n", made, real[np.arange(30, 300) % 30])
    assert similar.mean() == pytest.approx(1 / np.hypot(1, 0.5), abs=0.03)


def test_a_part_that_is_grown_with_the_chosen_sigma_has_neighbours_like_the_whole() -> None:
    centres = vectors(0, 40, 16)
    real = normalize(np.repeat(centres, 20, axis=0) + np.float32(0.15) * vectors(1, 800, 16))
    growth = choose(real, vectors(2, 20, 16), 3_200)
    assert growth.factor == 4
    assert growth.neighbours[1] == pytest.approx(growth.neighbours[0], abs=0.01)
    assert growth.neighbours[0] == pytest.approx(neighbourhood(real, np.arange(800)), abs=0.01)
    assert 0 < growth.sigma < 1
    assert "10, 100" in growth.describe()


def test_texts_of_copies_keep_their_length_and_most_of_their_words() -> None:
    texts = [" ".join(f"{letter}{number}" for number in range(200)) for letter in "ab"]
    made = list(altered(texts, 2, 6))
    assert made == list(altered(texts, 2, 6))
    assert len(set(made)) == 4
    vocabulary = {word for text in texts for word in text.split()}
    for row, text in enumerate(made, 2):
        pairs = list(zip(text.split(), texts[row % 2].split(), strict=True))
        assert 0.1 < sum(new != old for new, old in pairs) / len(pairs) < 0.3
        assert {new for new, _ in pairs} <= vocabulary


def test_texts_are_bodies_and_documents_and_questions_are_titles_of_one_body_that_are_no_text(tmp_path: Path) -> None:
    pairs = tmp_path / "forum.jsonl"
    records = [
        ["one", "the first"],
        ["two", "the second"],
        ["again", "the  second"],
        ["both", "the third"],
        ["both", "the fourth"],
        ["the first", "the fifth"],
        ["", "the sixth"],
    ]
    pairs.write_text("".join(json.dumps(record) + "\n" for record in records))
    documents = (Text("1", "a document"), Text("2", "the first"), Text("3", " "))
    task = RetrievalTask("task", (Text("q", "what"),), documents, {"q": {"1": 1}})
    texts, questions = gather([pairs], task, 10)
    assert sorted(texts) == [
        ("a document", "task"),
        *((f"the {word}", "forum") for word in ("fifth", "first", "fourth", "second", "third")),
    ]
    assert {(question.text, texts[question.row][0]) for question in questions} == {
        ("one", "the first"),
        ("two", "the second"),
    }
    assert len(gather([pairs], task, 1)[1]) == 1


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("data")
    model = random_model(folder / "model", "bert", layers=1, width=32, max_tokens=16, toy=True, spread=0.2)
    texts, questions = gather([], None, 10, count=60)
    return grow(encode(folder / "encoded", texts, questions, Encoder(model)), folder / "made", 150, 20)


def test_a_smaller_set_is_the_beginning_of_a_larger_one(data: Data) -> None:
    large, small = Data(data.folder, 150), Data(data.folder, 30)
    assert (large.size, small.size, data.size) == (150, 30, data.num_real)
    np.testing.assert_array_equal(small.rows.read(0, 30), large.rows.read(0, 30))
    assert list(small.documents()) == list(large.documents())[:30]
    assert len({text for text, _ in large.texts()}) > 145
    np.testing.assert_allclose(np.linalg.norm(large.rows.read(0, 150), axis=1), 1, atol=1e-5)


def test_rows_that_are_added_later_are_not_there_before(data: Data) -> None:
    texts, added = data.further()
    assert len(texts) == len(added) == 20
    assert len({text for text, _ in texts} & {text for text, _ in Data(data.folder, 150).texts()}) < 3
    assert (added @ Data(data.folder, 150).rows.read(0, 150).T).max() < 1 - 1e-6


def test_the_vectors_are_those_of_the_texts(data: Data) -> None:
    encoder = Encoder(data.folder.parent / "model")
    texts = [text for text, _ in data.texts()]
    np.testing.assert_allclose(data.rows.read(0, len(texts)), normalize(encoder.encode(texts)), atol=1e-5)
    questions, asked = data.questions()
    np.testing.assert_allclose(asked, normalize(encoder.encode([one.text for one in questions])), atol=1e-5)


def test_masks_are_what_the_metadata_say(data: Data) -> None:
    large = Data(data.folder, 150)
    known = [document.metadata for document in large.documents()]
    for field in (*SHARES, "source"):
        for value in (3, "docstrings"):
            assert large.mask(field, value).tolist() == [one[field] == value for one in known], (field, value)


def test_fields_let_through_the_shares_that_are_said() -> None:
    class Many(Data):
        def __init__(self) -> None:
            self.size = 1_000_000

    for field, share in SHARES.items():
        assert Many().mask(field, 3).mean() == pytest.approx(1 / share, rel=0.02)


def test_with_several_sources_a_filter_asks_for_what_the_question_is_not_about(data: Data, tmp_path: Path) -> None:
    assert [title for title, _, _ in filters(data)] == ["10.00% at random", "1.00% at random", "0.01% at random"]
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for file in data.folder.iterdir():
        (mixed / file.name).write_bytes(file.read_bytes())
    lines = [[text, "b" if number < 10 else "a"] for number, (text, _) in enumerate(data.texts())]
    (mixed / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    questions, _ = data.questions()
    asked = [[one.text, one.row, "b" if number == 4 else "a"] for number, one in enumerate(questions)]
    (mixed / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked))
    title, condition, numbers = filters(Data(mixed))[-1]
    assert (title, condition) == ("only b, questions of others", ("source", "b"))
    assert numbers == [number for number in range(len(questions)) if number != 4]


class Answers:
    """Answers as a process does: by effort, how many of the ten nearest are found, and in what time."""

    def __init__(self, by_effort: dict[int, tuple[int, float]], right: list[int]) -> None:
        self._by_effort, self._right = by_effort, right
        self.asked: list[int] = []
        self.asked_first: list[int] = []

    def call(self, method: str, effort: int = 0, refine: int = 0, numbers: list[int] | None = None) -> dict[str, Any]:
        assert method == "found"
        (self.asked if numbers is None else self.asked_first).append(effort)
        count, seconds = self._by_effort[effort]
        return {"found": [self._right[:count]], "seconds": seconds}


def test_a_rival_is_asked_in_the_quickest_way_that_finds_enough(rows: Rows) -> None:
    questions = vectors(1, 1, 8)
    known = truth(rows, questions)
    right = np.argsort(-(questions @ np.load(rows.path)[:40].T), axis=1)[0].tolist()

    class Known:
        pass

    there: Any = Known()
    there.rows = rows
    ladders = ({"effort": 1}, {"effort": 2}, {"effort": 3}), ({"effort": 4}, {"effort": 5})
    one = Contestant("rival", FAISS_GRAPH.side, "store", ladders=ladders)
    answers: Any = Answers({1: (8, 0.1), 2: (10, 0.9), 3: (10, 0.5), 4: (9, 0.2), 5: (10, 0.4)}, right)
    assert tuned(answers, one, there, known, 0.99) == ({"effort": 5}, 1.0)
    assert (answers.asked_first, answers.asked) == ([1, 2, 4, 5], [2, 5]), "what is far from it is not tried on all"
    few: Any = Answers({1: (8, 0.1), 2: (9, 0.9), 3: (7, 0.5), 4: (5, 0.2), 5: (5, 0.4)}, right)
    assert tuned(few, one, there, known, 0.99) == ({"effort": 2}, 0.9)
    itself: Any = Answers({0: (9, 0.1)}, right)
    assert tuned(itself, PAIRLOOM["graph"], there, known, 0.99) == ({}, 0.9)


def test_a_wait_belongs_to_every_phase_that_it_reaches_into() -> None:
    calls = np.array([[0.0, 0.01], [0.5, 0.02], [0.9, 0.35], [1.2, 0.05], [2.5, 0.01]])
    before, within, after = waits(calls, 0, 1), waits(calls, 1, 2), waits(calls, 3, 4)
    assert (before.count, before.longest, before.num_stalls) == (3, 0.35, 1)
    assert (within.count, within.longest, within.num_stalls) == (2, 0.35, 1)
    assert before.middle == 0.02
    assert within.middle == pytest.approx(0.2)
    assert after.count == 0


def test_loads_are_one_client_on_one_core_and_on_all_and_as_many_as_cores() -> None:
    assert loads(2) == [Load(1, 1), Load(1, 2), Load(2, 2)]
    assert loads(1) == [Load(1, 1)]
    assert [str(load) for load in loads(2)] == ["1 client, 1 core", "1 client, 2 cores", "2 clients, 2 cores"]


def test_a_process_is_kept_on_its_cores() -> None:
    before = os.sched_getaffinity(0)
    try:
        limit(1)
        assert len(os.sched_getaffinity(0)) == 1
    finally:
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(thread.name), before)


def test_bytes_are_added_up_two_folders_deep(tmp_path: Path) -> None:
    for name, size in (("ledger.db", 5), ("index/1/a", 2), ("index/1/b/c", 3), ("index/lock", 0)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    assert sizes(tmp_path) == {"ledger.db": 5, "index/1/": 5, "index/lock": 0}


def test_ids_are_rows_unless_they_were_added_later() -> None:
    assert as_ints(["12", "0", "new 3"]) == [12, 0, -1]


def test_quality_is_that_of_the_rankings_of_each_question() -> None:
    found = values({"0": {"5": 1}, "1": {"6": 1}}, {"0": [5, 7], "1": [7, 6]})
    np.testing.assert_allclose(found["MRR@10"], [1, 0.5])
    np.testing.assert_allclose(found["nDCG@10"], [1, 1 / np.log2(3)])
