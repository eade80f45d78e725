"""A collection: what is written is found, by meaning, by words and by both, whatever lies in the index and beside it."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pairloom import DualEncoder, Encoder
from pairloom.encode.similarity import normalize
from pairloom.errors import CollectionError, UsageError
from pairloom.models.model import Model
from pairloom.models.read import read_model
from pairloom.records import Document
from pairloom.search import building
from pairloom.search.collection import Collection
from pairloom.search.finding import FUSED_DEPTH
from pairloom.search.index import vector_index
from pairloom.search.index.calibrate import Calibration
from pairloom.search.index.flat_file import FlatFile
from pairloom.search.protocol import Duplicate, Written
from pairloom.search.settings import Settings
from tests.search.collection_jobs import DIMENSIONS, make_document, open_collection, put, vector_of, vectors_of

TEXTS = ("hot coffee in a cup", "cold water", "how do i read a python file", "grind the coffee bean", "train a model")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "TAIL_ROWS", 40)


def documents_of(texts: Sequence[str]) -> list[Document]:
    return [Document(str(number), text, {"number": number}) for number, text in enumerate(texts)]


def expected(documents: Sequence[Document], query: np.ndarray, k: int) -> list[str]:
    """Ids by an exact search in float64 over the numbers that are stored."""
    stored = normalize(vectors_of(documents)).astype("<f2").astype(np.float64)
    scores = stored @ (query / np.linalg.norm(query)).astype(np.float64)
    return [documents[place].id for place in np.argsort(-scores, kind="stable")[:k]]


def found(collection: Collection, query: np.ndarray, k: int = 10) -> list[str]:
    return [hit.id for hit in collection.search(query, k)]


def test_an_index_that_does_not_reach_the_recall_is_told_of_and_not_built_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    def fail(flat: FlatFile, *_: object, **__: object) -> Calibration:
        tried.append(len(flat))
        return Calibration(0.9, None)

    monkeypatch.setattr(vector_index, "calibrate", fail)
    with Collection(
        tmp_path / "c", settings=Settings(dimensions=DIMENSIONS, similarity="cosine", kind="graph"), background=False
    ) as collection:
        for begin, end in ((0, 1_000), (1_000, 1_200), (1_200, 2_100)):
            put(collection, [make_document(number) for number in range(begin, end)])
            facts = collection.build()
            assert facts is not None
            assert (facts["kind"], facts["rows"]) == ("exact", end)
            assert facts["unreached"] == {"kind": "graph", "recall": 0.9, "rows": tried[-1]}
        assert tried == [1_000, 2_100]
        collection.rebuild()
        assert tried == [1_000, 2_100, 2_100]
        collection._builder.build()
        assert tried == [1_000, 2_100, 2_100]
        # Less is wanted from now on, but it was decided by somebody who was stopped before the index was built.
        collection._decide_anew(None, 0.95)
        collection._builder.build()
        assert tried == [1_000, 2_100, 2_100, 2_100]
    assert caplog.text.count("finds 0.900 of the ten nearest, less than the 0.990 that are wanted") == 3
    assert caplog.text.count("finds 0.900 of the ten nearest, less than the 0.950 that are wanted") == 1


def test_how_vectors_are_searched_can_be_decided_anew(tmp_path: Path) -> None:
    documents = [make_document(number) for number in range(1_500)]
    with open_collection(tmp_path / "c", kind="exact") as collection, Collection(tmp_path / "c") as other:
        put(collection, documents)
        collection.rebuild(kind="graph")
        assert collection.settings.kind == "graph"
        put(collection, [make_document(1_500)])
        # Of another process, too, which had it open before.
        facts = other._builder.build()
        assert facts is not None
        assert (facts["kind"], facts["rows"], facts["target_recall"]) == ("graph", 1_501, 0.99)
        facts = other.rebuild(target_recall=0.5)
        assert (facts["kind"], facts["target_recall"]) == ("graph", 0.5)
        for wrong in ({"kind": "tree"}, {"target_recall": 0.0}, {"target_recall": 1.1}):
            with pytest.raises(UsageError):
                collection.rebuild(**wrong)
        query = vector_of("query")
        assert len(found(other, query)) == 10
    with Collection(tmp_path / "c") as again:
        assert (again.settings.kind, again.settings.target_recall) == ("graph", 0.5)
        assert again.settings.storage == collection.settings.storage
        about = again.info()["settings"]
    assert (about["kind"], about["target_recall"]) == ("graph", 0.5)


@pytest.mark.parametrize("kind", ["exact", "graph", "compact"])
def test_what_lies_in_the_index_beside_it_and_deleted(tmp_path: Path, kind: str) -> None:
    with open_collection(tmp_path / "c", kind=kind) as collection:
        there = {number: make_document(number) for number in range(300)}
        put(collection, list(there.values()))
        collection.wait()
        collection.rebuild()
        for number in range(20, 60):
            there[number] = make_document(number, 1)
        put(collection, [there[number] for number in range(20, 60)])
        assert collection.delete([there.pop(number).id for number in range(50, 100)]) == 50
        put(collection, [there.setdefault(number, make_document(number)) for number in range(400, 410)])
        for trial in range(20):
            query = vector_of(f"query {trial}")
            near = found(collection, query)
            assert len(set(near) & set(expected(list(there.values()), query, 10))) >= (10 if kind == "exact" else 9)
        assert collection.count() == len(there) == len(list(collection.documents()))
        collection.wait()
    with Collection(tmp_path / "c") as again:
        query = vector_of("another")
        assert found(again, query, 3) == expected(list(there.values()), query, 3)
        assert again.verify()["count"] == len(there)


@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_scores_are_similarities(tmp_path: Path, storage: str) -> None:
    documents = [make_document(number) for number in range(30)]
    with open_collection(tmp_path / "c", storage=storage) as collection:
        put(collection, documents)
        query = vector_of("query")
        hits = collection.search(query, 30)
        by_id = {document.id: document for document in documents}
        for hit in hits:
            right = normalize(vector_of(by_id[hit.id].text)[None])[0] @ normalize(query[None])[0]
            assert hit.score == pytest.approx(right, abs=1e-6 if storage == "float32" else 1e-3)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_of_a_dot_product_lengths_count(tmp_path: Path) -> None:
    settings = Settings(dimensions=2, similarity="dot")
    with Collection(tmp_path / "c", settings=settings) as collection:
        vectors = np.array([[1, 0], [3, 4]], np.float32)
        collection.add([Document("short", "a"), Document("long", "b")], vectors=vectors)
        assert [(hit.id, hit.score) for hit in collection.search(np.array([1.0, 0.0]), 5)] == [
            ("long", 3),
            ("short", 1),
        ]


def test_texts_are_encoded_when_they_change_and_only_then(tmp_path: Path, model_folder: Path) -> None:
    encoder = Encoder(model_folder, precision="float32")
    documents = documents_of(TEXTS)
    with Collection(tmp_path / "c", encoder) as collection:
        assert collection.add(documents) == Written(added=5, encoded=5)
        assert collection.upsert(documents) == Written(unchanged=5)
        other = [Document("0", TEXTS[0], {"number": 7}), Document("1", "hot water", {"number": 1}), documents[2]]
        tokens = encoder.num_tokens
        assert collection.upsert(other) == Written(replaced=2, unchanged=1, encoded=1)
        assert encoder.num_tokens - tokens == 4  # two words and two special tokens
        assert collection.get(["0", "1", "9"]) == [other[0], other[1], None]
        assert collection.search(TEXTS[0], 1, mode="vector")[0].id == "0"
        assert collection.search("hot water", 1, mode="vector")[0].score == pytest.approx(1, abs=1e-3)
    with Collection(tmp_path / "c") as again:  # the model is found by its name
        assert again.search(TEXTS[2], 1, mode="vector")[0].id == "2"


def test_a_text_too_long_is_counted(tmp_path: Path, model_folder: Path) -> None:
    with Collection(tmp_path / "c", Encoder(model_folder)) as collection:
        assert collection.add([Document("1", "coffee " * 500), Document("2", "tea")]).truncated == 1


def test_add_refuses_what_is_there(tmp_path: Path) -> None:
    with open_collection(tmp_path / "c") as collection:
        collection.add([make_document(1)], vectors=vectors_of([make_document(1)]))
        both = [make_document(2), make_document(1, 1)]
        with pytest.raises(CollectionError, match="'dök 1' is there already"):
            collection.add(both, vectors=vectors_of(both))
        twice = [make_document(3), make_document(3, 1)]
        with pytest.raises(CollectionError, match="'dök 3' is given twice"):
            collection.add(twice, vectors=vectors_of(twice))
        assert [document.id for document in collection.documents()] == ["dök 1"]


def test_of_two_versions_in_a_batch_the_later_counts(tmp_path: Path) -> None:
    with open_collection(tmp_path / "c") as collection:
        batch = [make_document(1), make_document(2), make_document(1, 1)]
        put(collection, batch)
        assert collection.get(["dök 1"]) == [batch[2]]
        assert collection.count() == 2


def test_vectors_that_change_replace_those_before(tmp_path: Path) -> None:
    with open_collection(tmp_path / "c") as collection:
        document = make_document(1)
        first, second = np.eye(DIMENSIONS, dtype=np.float32)[:2]
        assert collection.upsert([document], vectors=first[None]).added == 1
        assert collection.upsert([document], vectors=first[None]).unchanged == 1
        assert collection.upsert([document], vectors=second[None]).replaced == 1
        assert collection.search(second, 1)[0].score == pytest.approx(1)


def test_near_duplicates_are_reported_among_new_ones_and_with_old_ones(tmp_path: Path) -> None:
    eye = np.eye(DIMENSIONS, dtype=np.float32)
    with open_collection(tmp_path / "c") as collection:
        collection.add([Document("old", "a"), Document("far", "b")], vectors=eye[:2])
        new = [Document("x", "c"), Document("y", "d"), Document("old", "e"), Document("z", "f")]
        vectors = np.stack([eye[0] + 0.1 * eye[5], eye[3], eye[9], eye[3] + 0.01 * eye[4]])
        written = collection.upsert(new, vectors=vectors, duplicates=0.95)
        assert [(one.id, one.of) for one in written.duplicates] == [("z", "y")]  # old is replaced by another text
        again = collection.upsert([Document("w", "g")], vectors=eye[1:2] + 0.1 * eye[7], duplicates=0.95)
        (near,) = again.duplicates
        assert near == Duplicate("w", "far", near.score) and near.score == pytest.approx(0.995, abs=1e-3)
        assert collection.upsert([Document("v", "h")], vectors=eye[2:3], duplicates=0.95).duplicates == ()


def test_hybrid_is_the_fusion_of_both(tmp_path: Path, model_folder: Path) -> None:
    with Collection(tmp_path / "c", Encoder(model_folder)) as collection:
        documents = [make_document(number) for number in range(60)]
        collection.add(documents)
        query = "hot coffee number7"
        ranks = [
            {hit.id: rank for rank, hit in enumerate(collection.search(query, FUSED_DEPTH, mode=mode), start=1)}
            for mode in ("vector", "words")
        ]
        for weights in ((1.0, 1.0), (0.2, 0.8)):
            collection.set_weights(vector=weights[0], words=weights[1])
            fused = {
                one.id: sum(
                    weight / (60 + rank[one.id]) for rank, weight in zip(ranks, weights, strict=True) if one.id in rank
                )
                for one in documents
            }
            hits = collection.search(query, 10)
            assert [hit.score for hit in hits] == pytest.approx(sorted(fused.values(), reverse=True)[:10])
            assert hits[0].score == pytest.approx(fused[hits[0].id])
        assert collection.weights == (0.2, 0.8)
    with Collection(tmp_path / "c") as again:
        assert again.weights == (0.2, 0.8)


def test_words_that_another_version_has_cut_are_listed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with open_collection(tmp_path / "c") as collection:
        put(collection, [make_document(number) for number in range(20)])
    monkeypatch.setattr("pairloom.search.words.search.segment", lambda text: text.replace("number7", "seven"))
    for module in ("ledger", "verifying"):
        monkeypatch.setattr(f"pairloom.search.{module}.WORDS_VERSION", 2)
    for times in (1, 1):
        with Collection(tmp_path / "c") as collection:
            assert [hit.id for hit in collection.search("seven", 5, mode="words")] == ["dök 7"]
            assert caplog.text.count("listed anew") == times
            collection.verify()


def test_words_are_highlighted(tmp_path: Path, model_folder: Path) -> None:
    with Collection(tmp_path / "c", Encoder(model_folder)) as collection:
        collection.add(documents_of(TEXTS))
        hit = collection.search("coffee", 1, mode="words")[0]
        assert [hit.text[begin:end] for begin, end in hit.highlights] == ["coffee"]


@pytest.mark.parametrize("number", [1, 3, 30])
def test_filters_are_exact_whatever_they_let_through(tmp_path: Path, number: int) -> None:
    with open_collection(tmp_path / "c") as collection:
        documents = [make_document(one) for one in range(300)]
        put(collection, documents)
        collection.wait()
        some = {"number": {"lt": number}}
        query = vector_of("query")
        assert [hit.id for hit in collection.search(query, 10, filter=some)] == expected(documents[:number], query, 10)
        assert collection.count(some) == number
        others = {"not": some}
        assert [hit.id for hit in collection.search(query, 10, filter=others)] == expected(
            documents[number:], query, 10
        )
        assert {hit.id for hit in collection.search("number0 the a of", 300, mode="words", filter=some)} <= {
            document.id for document in documents[:number]
        }
        assert collection.delete(filter=some) == number
        assert collection.count(some) == 0 and collection.count() == 300 - number


def test_declared_fields(tmp_path: Path) -> None:
    with open_collection(tmp_path / "c", fields={"tag": "keyword"}) as collection:
        put(collection, [make_document(1)])
        assert collection.count({"tag": "green"}) == 1
        with pytest.raises(UsageError, match="number"):
            collection.count({"number": 1})
    with Collection(tmp_path / "c") as again, pytest.raises(UsageError, match="number"):
        again.search(vector_of("x"), filter={"number": 1})


def test_no_row_one_row_and_none_any_more(tmp_path: Path) -> None:
    with open_collection(tmp_path / "c") as collection:
        for _ in range(2):
            assert collection.count() == 0
            assert collection.search(vector_of("x"), 5) == collection.search("x", 5, mode="words") == []
            assert collection.search_many(np.zeros((0, DIMENSIONS), np.float32), 5) == []
            assert collection.upsert([], vectors=np.zeros((0, DIMENSIONS), np.float32)) == Written()
            put(collection, [make_document(1)])
            assert [hit.id for hit in collection.search(vector_of("x"), 5)] == ["dök 1"]
            collection.rebuild()
            assert [hit.id for hit in collection.search(vector_of("x"), 5)] == ["dök 1"]
            assert collection.delete(["dök 1", "nobody"]) == 1
            collection.rebuild()


def test_many_queries_are_as_each_alone(tmp_path: Path) -> None:
    with open_collection(tmp_path / "c") as collection:
        put(collection, [make_document(one) for one in range(100)])
        queries = np.stack([vector_of(f"query {number}") for number in range(7)])
        together = collection.search_many(queries, 5)
        assert [[hit.id for hit in hits] for hits in together] == [found(collection, query, 5) for query in queries]


@pytest.mark.parametrize(
    "query", ['"', "*", "NEAR(coffee", "text:coffee", "coffee AND", "(", "x\0y", "'; DROP TABLE documents"]
)
def test_a_query_is_text(tmp_path: Path, query: str) -> None:
    with open_collection(tmp_path / "c") as collection:
        put(collection, [make_document(one) for one in range(20)])
        for hit in collection.search(query, 5, mode="words"):
            assert hit.score > 0


def test_a_query_of_a_megabyte(tmp_path: Path) -> None:
    with open_collection(tmp_path / "c") as collection:
        put(collection, [make_document(one) for one in range(20)])
        query = " ".join(f"word{number}" for number in range(120_000)) + " coffee"
        assert len(query) > 1_000_000
        collection.search(query, 5, mode="words")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"query": "  "}, "the query is empty"),
        ({"query": "x", "k": 0}, "k is 0"),
        ({"query": "x", "k": 10**9}, "k is 1000000000"),
        ({"query": "x", "mode": "magic"}, "mode is 'magic'"),
        ({"query": 7}, "neither a string nor an array"),
        ({"query": np.zeros(DIMENSIONS + 1)}, f"vectors are 1 × {DIMENSIONS + 1} of float64"),
        ({"query": np.full(DIMENSIONS, np.nan)}, "vector 0 is not finite"),
        ({"query": np.zeros(DIMENSIONS)}, "vector 0 is zero"),
        ({"query": np.zeros((2, 2, 2))}, "an array of 3 dimensions"),
        ({"query": "x"}, "was made without a model"),
    ],
)
def test_searches_that_make_no_sense(tmp_path: Path, given: dict[str, object], message: str) -> None:
    with open_collection(tmp_path / "c") as collection, pytest.raises(UsageError, match=message):
        collection.search(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("document", "vector", "message"),
    [
        (Document("1", "x"), np.ones(3), "vectors are 1 × 3"),
        (Document("1", "x"), np.full(DIMENSIONS, np.inf), "vector 0 is not finite"),
        (Document("1", "x"), np.zeros(DIMENSIONS), "vector 0 is zero"),
        (Document("", "x"), np.ones(DIMENSIONS), "is empty or longer"),
        (Document("a" * 2000, "x"), np.ones(DIMENSIONS), "is empty or longer"),
        (Document(7, "x"), np.ones(DIMENSIONS), "is int, not a string"),  # type: ignore[arg-type]
        (Document("\ud800", "x"), np.ones(DIMENSIONS), "half of a character"),
        (Document("1", "\udfff"), np.ones(DIMENSIONS), "document '1': its text holds half of a character"),
        (Document("1", None), np.ones(DIMENSIONS), "its text is NoneType"),  # type: ignore[arg-type]
        (Document("1", "x", {"a": object()}), np.ones(DIMENSIONS), "document '1': "),
        ("x", np.ones(DIMENSIONS), "a document is a pairloom.Document, not str"),
    ],
)
def test_documents_that_cannot_be_kept(tmp_path: Path, document: Document, vector: np.ndarray, message: str) -> None:
    with open_collection(tmp_path / "c") as collection:
        put(collection, [make_document(5)])
        with pytest.raises(UsageError, match=message):
            collection.upsert([document], vectors=vector[None])
        assert [one.id for one in collection.documents()] == ["dök 5"]


def test_documents_and_vectors_that_do_not_match_in_number(tmp_path: Path) -> None:
    with open_collection(tmp_path / "c") as collection:
        with pytest.raises(UsageError, match="there are 1 documents and 2 vectors"):
            collection.upsert([make_document(1)], vectors=np.ones((2, DIMENSIONS), np.float32))
        assert collection.count() == 0
        with pytest.raises(UsageError, match="there are more documents than the 1 vectors"):
            collection.upsert(iter([make_document(1), make_document(2)]), vectors=np.ones((1, DIMENSIONS), np.float32))


def test_numbers_too_large_for_half_precision(tmp_path: Path) -> None:
    settings = Settings(dimensions=2, similarity="dot")
    large = np.array([[1e6, 0]], np.float32)
    with (
        Collection(tmp_path / "c", settings=settings) as collection,
        pytest.raises(UsageError, match="storage float32"),
    ):
        collection.add([Document("1", "x")], vectors=large)


@pytest.mark.parametrize("id_", ["ü", "日本語", "a b", "🦜", "x\0y", "'\"; --", "../../etc", "\n", "e\u0301"])
def test_ids_are_any_unicode(tmp_path: Path, id_: str) -> None:
    with open_collection(tmp_path / "c") as collection:
        document = Document(id_, "a text", {"a.b": id_, id_: [1, True, None, {"x": 2.5}]})
        put(collection, [document, Document("\u00e9", "composed")])
        assert collection.get([id_]) == [document]
        assert collection.delete([id_]) == 1
        assert collection.get([id_, "\u00e9"])[1] == Document("\u00e9", "composed")


def test_another_model_is_refused_with_both_names(tmp_path: Path, model_folder: Path) -> None:
    Collection(tmp_path / "c", Encoder(model_folder)).close()
    model = read_model(model_folder, "the other one")
    model.weights["embeddings.norm.bias"] = model.weights["embeddings.norm.bias"] + np.float32(0.5)
    with pytest.raises(CollectionError) as caught:
        Collection(tmp_path / "c", Encoder(model))
    assert str(model_folder) in str(caught.value) and "the other one" in str(caught.value)


def test_questions_by_one_half_and_documents_by_the_other(tmp_path: Path, model_folder: Path) -> None:
    query, document = read_model(model_folder), read_model(model_folder)
    document.weights["embeddings.norm.bias"] = document.weights["embeddings.norm.bias"] + np.float32(0.5)
    both = DualEncoder(Encoder(query), Encoder(document))
    with Collection(tmp_path / "c", both) as collection:
        collection.add(documents_of(TEXTS))
        hits = collection.search("hot coffee", 5, mode="vector")
        scores = both.similarity(both.encode_query(["hot coffee"]), both.encode_document(TEXTS))[0]
        assert [hit.id for hit in hits] == [str(place) for place in np.argsort(-scores)]
        assert hits[0].score == pytest.approx(scores.max(), abs=1e-2)
    for half, message in ((query, "only the half of it that encodes queries"), (document, "with both halves")):
        with pytest.raises(CollectionError, match=message):
            Collection(tmp_path / "c", Encoder(half))


def test_a_collection_is_made_once(tmp_path: Path, model_folder: Path) -> None:
    with pytest.raises(UsageError, match="needs a model"):
        Collection(tmp_path / "c")
    with pytest.raises(CollectionError, match="no such collection"):
        Collection(tmp_path / "c", create=False)
    open_collection(tmp_path / "c").close()
    with pytest.raises(CollectionError, match="already a collection"):
        Collection(tmp_path / "c", create=True, settings=Settings(dimensions=2, similarity="dot"))
    with pytest.raises(UsageError, match="settings of its own"):
        Collection(tmp_path / "c", settings=Settings(dimensions=2, similarity="dot"))
    with pytest.raises(UsageError, match="came without a model"):
        Collection(tmp_path / "c", Encoder(model_folder))
    with pytest.raises(UsageError, match="dimensions is 5"):
        Collection(tmp_path / "d", Encoder(model_folder), settings=Settings(dimensions=5))


@pytest.mark.parametrize(
    "given", [{"storage": "int8"}, {"kind": "tree"}, {"target_recall": 0}, {"fields": {"a": "b"}}, {"dimensions": 0}]
)
def test_settings_that_make_no_sense(given: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Settings(**given)  # type: ignore[arg-type]


def test_what_a_collection_says_of_itself(tmp_path: Path, model_folder: Path) -> None:
    with Collection(tmp_path / "c", Encoder(model_folder)) as collection:
        collection.add(documents_of(TEXTS))
        collection.rebuild()
        facts = json.loads(json.dumps(collection.info()))
    assert (facts["count"], facts["similarity"], facts["model"]) == (5, "cosine", [str(model_folder)])
    assert facts["index"]["generation"] == "000001" and facts["beside_index"] == 0
    assert facts["bytes"] > 10_000


def test_a_closed_collection_says_so(tmp_path: Path) -> None:
    collection = open_collection(tmp_path / "c")
    collection.close()
    collection.close()
    for act in (collection.count, lambda: put(collection, [make_document(1)])):
        with pytest.raises(CollectionError, match="has been closed"):
            act()


def test_one_whose_making_was_interrupted_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    connection = sqlite3.connect(tmp_path / "c" / "ledger.db")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    (tmp_path / "c" / "ledger.db").touch()
    with pytest.raises(CollectionError, match="was interrupted"):
        Collection(tmp_path / "c", create=False)
    settings = Settings(dimensions=2, similarity="dot")
    Collection(tmp_path / "c", create=True, settings=settings).close()
    Collection(tmp_path / "c", create=False).close()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="who may do everything is not kept from writing")
def test_a_folder_that_cannot_be_written_is_searched(tmp_path: Path) -> None:
    with open_collection(tmp_path / "c") as collection:
        put(collection, [make_document(one) for one in range(10)])
    (tmp_path / "c").chmod(0o500)
    try:
        with Collection(tmp_path / "c") as collection:
            assert collection.search(vector_of("x"), 3)
            with pytest.raises(CollectionError, match="cannot be written"):
                put(collection, [make_document(11)])
    finally:
        (tmp_path / "c").chmod(0o700)


def test_searches_from_many_threads(tmp_path: Path) -> None:
    with open_collection(tmp_path / "c") as collection:
        documents = [make_document(one) for one in range(200)]
        put(collection, documents)
        collection.wait()
        right = {number: expected(documents, vector_of(f"query {number}"), 10) for number in range(8)}
        wrong: list[object] = []

        def search(number: int) -> None:
            for _ in range(30):
                if found(collection, vector_of(f"query {number}")) != right[number]:
                    wrong.append(number)

        threads = [threading.Thread(target=search, args=(number,)) for number in right]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_searches_of_an_event_loop(tmp_path: Path) -> None:
    async def search(collection: Collection) -> list[list[str]]:
        queries = [vector_of(f"query {number}") for number in range(8)]
        hits = await asyncio.gather(*(asyncio.to_thread(collection.search, query, 5) for query in queries))
        return [[hit.id for hit in one] for one in hits]

    with open_collection(tmp_path / "c") as collection:
        documents = [make_document(one) for one in range(100)]
        put(collection, documents)
        right = [expected(documents, vector_of(f"query {number}"), 5) for number in range(8)]
        assert asyncio.run(search(collection)) == right


def test_rows_come_in_order_with_their_vectors(tmp_path: Path) -> None:
    documents = [make_document(one) for one in range(50)]
    with open_collection(tmp_path / "c") as collection:
        put(collection, documents)
        put(collection, [make_document(3, 1)])
        rows = list(collection.rows())
        assert [row for row, _, _ in rows] == sorted(row for row, _, _ in rows)
        assert [document.id for _, document, _ in rows][-1] == "dök 3"
        for _, document, vector in rows:
            assert vector is not None
            np.testing.assert_allclose(vector, normalize(vector_of(document.text)[None])[0], atol=1e-3)
        assert [row for row, *_ in collection.rows(rows[20][0], with_vectors=False)] == [row for row, *_ in rows[21:]]


def test_models_are_named_so_that_they_are_found_from_anywhere(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model_folder.parent)
    with Collection(tmp_path / "c", Encoder(model_folder.name)) as collection:
        collection.add(documents_of(TEXTS))
    monkeypatch.chdir(tmp_path)
    with Collection("c") as again:
        assert isinstance(again.encoder, Encoder) and isinstance(again.encoder.model, Model)
        assert again.search("coffee", 2)
