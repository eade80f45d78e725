"""What every collection does, wherever it lies: one suite for all backends. `test_contract.py` runs it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairloom import DualEncoder, Encoder
from pairloom.encode.dual_encoder import AnyEncoder
from pairloom.errors import CollectionError, PairloomError, UsageError
from pairloom.records import Document, Hit
from pairloom.search.any_collection import AnyCollection
from pairloom.search.filters.conditions import matches
from pairloom.search.filters.language import parse_filter
from pairloom.search.protocol import FieldType, Mode

MODES: tuple[Mode, ...] = ("vector", "words", "hybrid")
DIMENSIONS = 8
FIELDS: Mapping[str, FieldType] = {
    "tag": "keyword",
    "year": "number",
    "open": "boolean",
    "when": "datetime",
    "author.name": "keyword",
}
TEXTS = [
    "the red coffee cup on the table",
    "how to brew coffee without a machine",
    "trains to the north leave at seven",
    "a table of prices and numbers",
    "Café au lait, naïve façade",
    "東京都に住む人",
    "京都の寺",
    "the cat sat on the mat",
]


class Make(Protocol):
    """Makes an empty collection, which is closed after the test."""

    def __call__(
        self,
        encoder: AnyEncoder | None = None,
        *,
        fields: Mapping[str, FieldType] | None = None,
        similarity: str = "cosine",
    ) -> AnyCollection: ...


@dataclass(frozen=True)
class Backend:
    """Where collections lie.

    Args:
        make: Makes an empty one.
        again: Opens the one that was made last once more, with a model.
    """

    make: Make
    again: Callable[[AnyEncoder | None], AnyCollection]


def numbered(texts: Sequence[str] = TEXTS) -> list[Document]:
    """A document of each text."""
    return [Document(f"d{number}", text) for number, text in enumerate(texts)]


def vectors_of(count: int, *, seed: int = 0) -> npt.NDArray[np.float32]:
    """Random vectors."""
    return np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)


def ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.id for hit in hits]


def of_vectors(backend: Backend, count: int = 0, **options: Any) -> AnyCollection:
    """A collection without a model, of some random vectors."""
    collection = backend.make(**options)
    documents = [Document(f"d{number}", f"text {number}") for number in range(count)]
    if documents:
        collection.add(documents, vectors=vectors_of(count))
    return collection


# Metadata as people have it: of the declared kinds mostly, and sometimes not.
_TAGS = st.sampled_from(["a", "b", "A", "", "true", "1", "x" * 300, "x" * 299 + "y", "\0", "𝄞", "2020-01-01"])
_NUMBERS = st.sampled_from([0, -0.0, 1, 1.0, 1.5, -3, 2**53, -(2**53), 1e300, 5e-324, 2019, 2020, 2020.5])
_DATES = st.sampled_from(
    [
        "2020-01-01",
        "2020-01-01T00:00:00Z",
        "2020-01-01T01:00+01:00",
        "2019-12-31 23:59:59.999999",
        "2019-12-31T23:59:59.9999999Z",
        "0001-01-01",
        "9999-12-31T23:59:59Z",
        "yesterday",
        "2020-13-01",
        "20200101",
    ]
)
_SCALARS = st.one_of(_TAGS, _NUMBERS, st.booleans(), _DATES, st.none())


def _field(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(usual, _SCALARS, st.lists(st.one_of(usual, _SCALARS), max_size=3))


METADATA = st.fixed_dictionaries(
    {},
    optional={
        "tag": _field(_TAGS),
        "year": _field(_NUMBERS),
        "open": _field(st.booleans()),
        "when": _field(_DATES),
        "author": st.one_of(
            st.fixed_dictionaries({}, optional={"name": _field(_TAGS)}),
            st.lists(st.fixed_dictionaries({"name": _TAGS}), max_size=2),
            _SCALARS,
        ),
        "undeclared": _SCALARS,
    },
)


def _bounds(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    low = st.one_of(st.just({}), *(st.fixed_dictionaries({name: values}) for name in ("gt", "gte")))
    high = st.one_of(st.just({}), *(st.fixed_dictionaries({name: values}) for name in ("lt", "lte")))
    return st.tuples(low, high).map(lambda both: both[0] | both[1]).filter(bool)


def _of_field(field: str, values: st.SearchStrategy[Any], ranges: st.SearchStrategy[Any] | None) -> Any:
    wanted = [
        values,
        st.lists(values, min_size=1, max_size=3).map(lambda several: {"in": several}),
        st.booleans().map(lambda is_there: {"exists": is_there}),
        *([] if ranges is None else [_bounds(ranges)]),
    ]
    return st.one_of(wanted).map(lambda condition: {field: condition})


_REAL_DATES = _DATES.filter(lambda date: date not in ("yesterday", "2020-13-01", "20200101"))
_BEYOND = st.sampled_from(["0001-01-01T00:00+01:00", "9999-12-31T23:59:59-01:00"])
_LEAVES = st.one_of(
    _of_field("tag", _TAGS, None),
    _of_field("author.name", _TAGS, None),
    _of_field("open", st.booleans(), None),
    _of_field("year", _NUMBERS, st.one_of(_NUMBERS, st.sampled_from([2**53 + 1, -(2**53) - 1, 2**63 - 1]))),
    _of_field("when", _REAL_DATES, st.one_of(_REAL_DATES, _BEYOND)),
)
FILTERS: st.SearchStrategy[dict[str, Any]] = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        inner.map(lambda one: {"not": one}),
        st.lists(inner, min_size=1, max_size=3).map(lambda several: {"and": several}),
        st.lists(inner, min_size=1, max_size=3).map(lambda several: {"or": several}),
    ),
    max_leaves=6,
)
STRANGE_IDS = [
    "with space",
    "a/b?c#d",
    "%2e%2e",
    "..",
    "nul\0nul",
    "'; DROP TABLE documents; --",
    '{"json": "id"}',
    "\u00e9",
    "e\u0301",
    "\u202eright to left",
    "\N{SNOWMAN}" * 300,
    "\U0010ffff",
    "\ufeff",
    "1",
    "01",
    "00000000-0000-0000-0000-000000000000",
]
SYNTAX = [
    '"',
    '"coffee',
    "*",
    "cof*",
    "NEAR(coffee, 2)",
    "text:coffee",
    "coffee AND",
    "NOT coffee",
    "^coffee",
    "-coffee +table",
    "(coffee",
    "coffee\0table",
    "'; DROP TABLE words; --",
    "{}[]<>|&!~",
    "\ud800 coffee",
    "🙂",
    "\N{COMBINING ACUTE ACCENT}",
    "coffee " * 10_000,
    "x" * 1_000_000,
]


class CollectionContract:
    """The suite; a subclass says which backends there are."""

    # Adding, replacing, deleting.

    def test_what_was_added_is_there(self, backend: Backend, encoder: Encoder) -> None:
        collection = backend.make(encoder)
        written = collection.add(numbered())
        assert (written.added, written.replaced, written.unchanged, written.encoded) == (len(TEXTS), 0, 0, len(TEXTS))
        assert collection.count() == len(TEXTS)
        assert collection.get(["d3", "nobody", "d0", "d3"]) == [
            Document("d3", TEXTS[3]),
            None,
            Document("d0", TEXTS[0]),
            Document("d3", TEXTS[3]),
        ]
        for mode in MODES:
            assert collection.search(TEXTS[2], 1, mode=mode)[0].text == TEXTS[2]

    def test_metadata_comes_back_as_it_was(self, backend: Backend) -> None:
        metadata = {
            "tag": ["a", "b"],
            "deep": {"er": {"list": [1, [2, [3.5, None]], {}], "none": None}},
            "": "no name",
            "with.dot": "x",
            "numbers": [0, -1, 2**53, 2**63 - 1, -(2**63), 0.1, 1e300, 5e-324],
            "text": 'quotes " and \\ and \0 and \u2028 and 𝄞',
            "yes": True,
        }
        collection = of_vectors(backend)
        collection.add([Document("a", "text", metadata)], vectors=vectors_of(1))
        (found,) = collection.get(["a"])
        assert found == Document("a", "text", metadata)
        assert collection.search(vectors_of(1)[0])[0].metadata == metadata

    def test_an_id_that_is_there_is_not_added(self, backend: Backend) -> None:
        collection = of_vectors(backend, 3)
        with pytest.raises(CollectionError, match=r"'d1' is there already; upsert replaces it"):
            collection.add([Document("new", "text"), Document("d1", "other")], vectors=vectors_of(2))
        assert collection.get(["new", "d1"]) == [None, Document("d1", "text 1")]
        with pytest.raises(CollectionError, match="'new' is given twice"):
            collection.add([Document("new", "text"), Document("new", "text")], vectors=vectors_of(2))
        assert collection.count() == 3

    def test_what_did_not_change_is_not_written(self, backend: Backend, encoder: Encoder) -> None:
        collection = backend.make(encoder)
        collection.add(numbered())
        assert collection.upsert(numbered()).unchanged == len(TEXTS)
        changed = [
            Document("d0", TEXTS[0], {"tag": "new metadata"}),
            Document("d1", "another text"),
            Document("d2", TEXTS[2]),
            Document("new", "a new one"),
        ]
        written = collection.upsert(changed)
        assert (written.added, written.replaced, written.unchanged, written.encoded) == (1, 2, 1, 2)
        assert collection.get(["d0", "d1", "d2", "new"]) == changed
        assert collection.search(TEXTS[0], 1, mode="vector")[0].metadata == {"tag": "new metadata"}
        assert "d1" not in ids(collection.search("brew", mode="words"))
        assert ids(collection.search("another", mode="words")) == ["d1"]

    def test_of_two_with_one_id_the_later_counts(self, backend: Backend, encoder: Encoder) -> None:
        collection = backend.make(encoder)
        assert collection.upsert([Document("a", "first"), Document("b", "other"), Document("a", "second")]).added == 2
        assert collection.count() == 2
        assert collection.get(["a"]) == [Document("a", "second")]
        assert collection.search("first", mode="words") == []

    def test_given_vectors_replace_those_that_are_there(self, backend: Backend) -> None:
        collection = of_vectors(backend, 3)
        documents = [Document(f"d{number}", f"text {number}") for number in range(3)]
        assert collection.upsert(documents, vectors=vectors_of(3)).unchanged == 3
        vectors = vectors_of(3)
        vectors[1] = -vectors[1]
        written = collection.upsert(documents, vectors=vectors)
        assert (written.replaced, written.unchanged, written.encoded) == (1, 2, 0)
        assert ids(collection.search(vectors[1], 1)) == ["d1"]

    def test_what_is_deleted_is_gone(self, backend: Backend, encoder: Encoder) -> None:
        collection = backend.make(encoder)
        collection.add(numbered())
        assert collection.delete(["d0", "d2", "nobody", "d0"]) == 2
        assert collection.delete(["d0"]) == 0
        assert collection.delete([]) == 0
        assert collection.count() == len(TEXTS) - 2
        assert collection.get(["d0", "d1"]) == [None, Document("d1", TEXTS[1])]
        for mode in MODES:
            assert not {"d0", "d2"} & set(ids(collection.search(TEXTS[0], mode=mode)))
        assert collection.add([Document("d0", TEXTS[0])]).added == 1
        assert collection.search(TEXTS[0], 1, mode="hybrid")[0].id == "d0"
        assert collection.delete(f"d{number}" for number in range(len(TEXTS))) == len(TEXTS) - 1
        for mode in MODES:
            assert collection.search("coffee", mode=mode) == []

    def test_documents_come_in_the_order_in_which_they_were_written(self, backend: Backend) -> None:
        collection = of_vectors(backend, 5)
        collection.upsert([Document("d1", "changed"), Document("d0", "text 0")], vectors=vectors_of(2, seed=1))
        assert [document.id for document in collection.documents()] == ["d2", "d3", "d4", "d1", "d0"]

    def test_an_empty_collection_answers(self, backend: Backend, encoder: Encoder) -> None:
        collection = backend.make(encoder, fields=FIELDS)
        for mode in MODES:
            assert collection.search("coffee", mode=mode) == []
            assert collection.search("coffee", mode=mode, filter={"tag": "a"}) == []
        assert collection.count() == 0
        assert collection.get(["a"]) == [None]
        assert list(collection.documents()) == []
        assert collection.delete(["a"]) == 0
        assert collection.delete(filter={"tag": "a"}) == 0
        assert collection.add([]).added == 0
        assert collection.search_many([]) == []

    def test_it_is_still_there_when_it_is_opened_again(self, backend: Backend, encoder: Encoder) -> None:
        collection = backend.make(encoder, fields=FIELDS)
        collection.add([Document("a", "red coffee", {"tag": "x"}), Document("b", "blue tea", {"tag": "y"})])
        again = backend.again(None)
        assert again.similarity_name == "cosine"
        assert [document.id for document in again.documents()] == ["a", "b"]
        for mode in MODES:  # the model is found again by its name
            (hit,) = again.search("red coffee", 1, mode=mode)
            assert (hit.id, hit.text, hit.metadata) == ("a", "red coffee", {"tag": "x"})
        assert again.count({"tag": "y"}) == 1

    @pytest.mark.parametrize("id_", STRANGE_IDS)
    def test_any_unicode_is_an_id(self, backend: Backend, id_: str) -> None:
        collection = of_vectors(backend, 2)
        collection.add([Document(id_, "strange")], vectors=vectors_of(1, seed=9))
        assert collection.get([id_]) == [Document(id_, "strange")]
        assert ids(collection.search(vectors_of(1, seed=9)[0], 1)) == [id_]
        assert collection.delete([id_]) == 1
        assert collection.count() == 2

    def test_ids_that_look_alike_are_different(self, backend: Backend) -> None:
        collection = of_vectors(backend)
        collection.add([Document(id_, f"text of {number}") for number, id_ in enumerate(STRANGE_IDS)],
                       vectors=vectors_of(len(STRANGE_IDS)))  # fmt: skip
        assert collection.count() == len(STRANGE_IDS)
        assert [cast("Document", one).text for one in collection.get(STRANGE_IDS)] == [
            f"text of {number}" for number in range(len(STRANGE_IDS))
        ]

    @pytest.mark.parametrize("document", [
        Document("\ud800", "text"),
        Document("", "text"),
        Document("a", "half \udfff"),
        Document("a", "text", {"half": "\ud800"}),
        Document("a", "text", {"nan": math.nan}),
        Document("a", "text", {"object": object()}),
        Document("a", "text", {"large": 2**64}),
        Document(1, "text"),  # type: ignore[arg-type]
        Document("a", None),  # type: ignore[arg-type]
        Document("a", "text", [1]),  # type: ignore[arg-type]
        "a",
    ])  # fmt: skip
    def test_what_cannot_be_kept_is_refused(self, backend: Backend, document: Any) -> None:
        collection = of_vectors(backend, 1)
        with pytest.raises(UsageError):
            collection.upsert([Document("before", "text"), document], vectors=vectors_of(2))
        assert collection.count() == 1

    # Vectors.

    @pytest.mark.parametrize(("vectors", "message"), [
        (np.full((2, DIMENSIONS), np.nan, np.float32), "vector 0 is not finite"),
        (np.array([[1.0] * DIMENSIONS, [np.inf] * DIMENSIONS], np.float32), "vector 1 is not finite"),
        (np.zeros((2, DIMENSIONS), np.float32), "vector 0 is zero"),
        (np.ones((2, DIMENSIONS + 1), np.float32), f"{DIMENSIONS} each"),
        (np.ones(DIMENSIONS, np.float32), f"{DIMENSIONS} each"),
        (np.ones((3, DIMENSIONS), np.float32), "2 documents and 3 vectors"),
        (np.ones((1, DIMENSIONS), np.float32), "2 documents and 1 vectors"),
    ])  # fmt: skip
    def test_vectors_that_cannot_be_compared_are_refused(
        self, backend: Backend, vectors: npt.NDArray[np.float32], message: str
    ) -> None:
        collection = of_vectors(backend)
        with pytest.raises(UsageError, match=message):
            collection.add([Document("a", "one"), Document("b", "two")], vectors=vectors)
        assert collection.count() == 0
        assert collection.search(vectors_of(1)[0]) == []

    @pytest.mark.parametrize("query", [
        np.full(DIMENSIONS, np.nan, np.float32), np.zeros(DIMENSIONS, np.float32), np.ones(DIMENSIONS + 1, np.float32),
        np.ones((2, DIMENSIONS), np.float32),
    ])  # fmt: skip
    def test_a_vector_that_cannot_be_compared_is_no_query(
        self, backend: Backend, query: npt.NDArray[np.float32]
    ) -> None:
        with pytest.raises(UsageError):
            of_vectors(backend, 2).search(query)

    def test_a_zero_vector_has_an_inner_product(self, backend: Backend) -> None:
        collection = of_vectors(backend, similarity="dot")
        vectors = np.stack([np.zeros(DIMENSIONS), np.ones(DIMENSIONS)]).astype(np.float32)
        collection.add([Document("zero", "a"), Document("one", "b")], vectors=vectors)
        hits = collection.search(np.ones(DIMENSIONS, np.float32))
        assert ids(hits) == ["one", "zero"]
        assert [hit.score for hit in hits] == pytest.approx([DIMENSIONS, 0])

    @pytest.mark.parametrize("similarity", ["cosine", "dot"])
    def test_the_nearest_vectors_are_found(self, backend: Backend, similarity: str) -> None:
        count = 60
        collection = of_vectors(backend, count, similarity=similarity)
        queries = vectors_of(5, seed=1)
        there, asked = vectors_of(count).astype(np.float64), queries.astype(np.float64)
        if similarity == "cosine":
            there /= np.linalg.norm(there, axis=1, keepdims=True)
            asked /= np.linalg.norm(asked, axis=1, keepdims=True)
        scores = asked @ there.T
        found = collection.search_many(queries, 10)
        for number, hits in enumerate(found):
            wanted = np.sort(scores[number])[::-1][:10]
            np.testing.assert_allclose([hit.score for hit in hits], wanted, atol=5e-3)
            own = [scores[number][int(hit.id[1:])] for hit in hits]
            np.testing.assert_allclose(own, wanted, atol=5e-3)
            assert len(set(ids(hits))) == 10
            alone = collection.search(queries[number], 10)
            assert ids(alone) == ids(hits)
            assert [hit.score for hit in alone] == pytest.approx([hit.score for hit in hits], abs=1e-6)

    def test_more_hits_than_documents(self, backend: Backend, encoder: Encoder) -> None:
        collection = backend.make(encoder)
        collection.add(numbered())
        assert sorted(ids(collection.search("coffee", 10_000, mode="vector"))) == [
            document.id for document in numbered()
        ]
        assert sorted(ids(collection.search("coffee", 10_000, mode="hybrid"))) == [
            document.id for document in numbered()
        ]
        assert sorted(ids(collection.search("coffee", 10_000, mode="words"))) == ["d0", "d1"]

    @pytest.mark.parametrize("k", [0, -1, 10_001, 1.5, True])
    def test_numbers_of_hits_that_make_no_sense(self, backend: Backend, k: Any) -> None:
        with pytest.raises(UsageError, match="k is"):
            of_vectors(backend, 1).search(vectors_of(1)[0], k)

    def test_near_duplicates_are_reported(self, backend: Backend) -> None:
        collection = of_vectors(backend, 5)
        vectors = vectors_of(4, seed=7)
        vectors[0] = vectors_of(5)[2] * 3 + 1e-3
        vectors[3] = vectors[1] + 1e-3
        documents = [Document(f"n{number}", "text") for number in range(4)]
        found = collection.add(documents, vectors=vectors, duplicates=0.99).duplicates
        assert [(one.id, one.of) for one in found] == [("n0", "d2"), ("n3", "n1")]
        assert all(one.score == pytest.approx(1, abs=5e-3) for one in found)
        assert collection.count() == 9
        assert collection.upsert(documents, vectors=vectors, duplicates=0.99).duplicates == ()

    # Queries whose vectors are known.

    @pytest.mark.parametrize("mode", MODES)
    def test_a_query_that_has_been_encoded_finds_the_same(self, backend: Backend, encoder: Encoder, mode: Mode) -> None:
        collection = backend.make(encoder)
        collection.add(numbered())
        queries = ["coffee numbers", "the cat", "?!"]
        vectors = encoder.encode_query(queries)
        before = encoder.num_tokens
        given = collection.search_many(queries, 4, mode=mode, vectors=vectors * 3)  # their lengths do not matter
        alone = collection.search(queries[0], 4, mode=mode, vectors=vectors[0].astype(np.float64))
        assert encoder.num_tokens == before
        for one, other in zip([*given, alone], [*collection.search_many(queries, 4, mode=mode), given[0]], strict=True):
            assert ids(one) == ids(other)
            assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-5)
            assert [hit.highlights for hit in one] == [hit.highlights for hit in other]

    def test_given_vectors_make_a_search_by_both_without_a_model(self, backend: Backend) -> None:
        collection = of_vectors(backend)
        collection.add(numbered(), vectors=vectors_of(len(TEXTS)))
        hits = collection.search("brew", 8, mode="hybrid", vectors=vectors_of(len(TEXTS))[6])
        assert set(ids(hits)[:2]) == {"d1", "d6"}
        assert ids(collection.search("brew", 1, mode="vector", vectors=vectors_of(len(TEXTS))[6])) == ["d6"]

    @pytest.mark.parametrize(("queries", "vectors", "message"), [
        (["a", "b"], np.ones((1, DIMENSIONS)), "2 queries and 1 vectors"),
        (["a"], np.ones(DIMENSIONS), f"1 queries and {DIMENSIONS} vectors"),
        (["a"], np.float32(1.0), "1 queries and 1 vectors"),
        (["a"], np.ones((1, DIMENSIONS + 1)), f"{DIMENSIONS} each"),
        (["a"], np.full((1, DIMENSIONS), np.nan), "vector 0 is not finite"),
        (["a"], np.zeros((1, DIMENSIONS)), "vector 0 is zero"),
        (np.ones((1, DIMENSIONS)), np.ones((1, DIMENSIONS)), "another one is given"),
    ])  # fmt: skip
    def test_vectors_that_are_none_of_the_queries_are_refused(
        self, backend: Backend, queries: Any, vectors: Any, message: str
    ) -> None:
        with pytest.raises(UsageError, match=message):
            of_vectors(backend, 2).search_many(queries, vectors=vectors)

    # What a person wants to know of it.

    def test_a_sample_has_documents_and_their_vectors(self, backend: Backend) -> None:
        collection = of_vectors(backend, 50)
        collection.delete([f"d{number}" for number in range(10)])
        there = vectors_of(50)
        documents, vectors = collection.sample(20, seed=3)
        assert len(documents) == 20 and vectors.shape == (20, DIMENSIONS)
        numbers = [int(document.id[1:]) for document in documents]
        assert len(set(numbers)) == 20 and min(numbers) >= 10
        assert [document.text for document in documents] == [f"text {number}" for number in numbers]
        for number, vector in zip(numbers, vectors, strict=True):
            np.testing.assert_allclose(vector, there[number] / np.linalg.norm(there[number]), atol=2e-3)
        again, _ = collection.sample(20, seed=3)
        other, _ = collection.sample(20, seed=4)
        assert again == documents
        assert {one.id for one in other} != {one.id for one in documents}

    def test_a_sample_of_more_than_there_are_is_all(self, backend: Backend) -> None:
        collection = of_vectors(backend, 5)
        documents, vectors = collection.sample(100)
        assert sorted(document.id for document in documents) == [f"d{number}" for number in range(5)]
        assert vectors.shape == (5, DIMENSIONS)
        documents, vectors = of_vectors(backend).sample(3)
        assert documents == [] and vectors.shape == (0, DIMENSIONS)

    def test_the_most_frequent_values_of_fields_are_counted(self, backend: Backend) -> None:
        collection = of_vectors(backend, fields=FIELDS)
        documents = [
            Document(
                f"d{number}",
                "text",
                {
                    "tag": ["all", "half"] if number % 2 else ["all", "all"],
                    "year": 2020 if number < 7 else 2021.5 if number < 9 else 2022,
                    "open": number < 4,
                    "when": "2020-01-31" if number < 8 else "2020-02-01T12:00:00Z",
                    "author": {"name": "x" * 300},
                },
            )
            for number in range(10)
        ]
        collection.add(documents, vectors=vectors_of(10))
        found = {field.name: field for field in collection.field_values()}
        assert {name: (field.type, field.values) for name, field in found.items()} == {
            "tag": ("keyword", (("all", 10), ("half", 5))),
            "year": ("number", ((2020, 7), (2021.5, 2), (2022, 1))),
            "open": ("boolean", ((False, 6), (True, 4))),
            "when": ("datetime", (("2020-01-31", 8), ("2020-02-01T12:00:00Z", 2))),
        }
        assert all(type(value) is bool for value, _ in found["open"].values)
        assert all(collection.count({name: value}) == n for name, one in found.items() for value, n in one.values)
        assert [field.values for field in collection.field_values(max_fields=1, max_values=1)] == [(("all", 10),)]
        collection.delete(f"d{number}" for number in range(10))
        assert collection.field_values() == []

    def test_it_says_of_itself_what_it_is(self, backend: Backend, encoder: Encoder) -> None:
        collection = backend.make(encoder)
        collection.add(numbered())
        facts = collection.info()
        assert facts["count"] == len(TEXTS)
        assert facts["dimensions"] == collection.dimensions == encoder.dimensions
        assert collection.model is not None and collection.model.fingerprint == encoder.fingerprint
        assert facts["weights"] == {"vector": 1.0, "words": 1.0}

    def test_each_change_has_its_number_if_changes_are_numbered(self, backend: Backend) -> None:
        collection = of_vectors(backend, 3)
        first = collection.change()
        collection.search("text", mode="words")
        assert collection.change() == first
        collection.upsert([Document("d0", "other")], vectors=vectors_of(1))
        second = collection.change()
        collection.delete(["d0"])
        third = collection.change()
        assert (first, second, third) == (None, None, None) or len({first, second, third}) == 3

    # Words, and both.

    @pytest.mark.parametrize(("query", "wanted"), [
        ("coffee", ["d0", "d1"]),
        ("COFFEE!", ["d0", "d1"]),
        ("brew", ["d1"]),
        ("cafe", ["d4"]),
        ("naive facade", ["d4"]),
        ("東京", ["d5"]),
        ("京都", ["d5", "d6"]),
        ("寺", ["d6"]),
        ("neither nor", []),
        ("seven numbers", ["d2", "d3"]),
    ])  # fmt: skip
    def test_words_find_the_texts_that_have_them(
        self, backend: Backend, encoder: Encoder, query: str, wanted: list[str]
    ) -> None:
        collection = backend.make(encoder)
        collection.add(numbered())
        hits = collection.search(query, mode="words")
        assert sorted(ids(hits)) == sorted(wanted)
        assert all(hit.score > 0 for hit in hits)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    def test_rare_words_weigh_more_and_long_texts_less(self, backend: Backend) -> None:
        collection = of_vectors(backend)
        texts = ["common rare", "common word", "common word word", "common thing " * 20, "rare " + "common thing " * 20]
        texts += [f"common filler {number}" for number in range(10)]
        collection.add(numbered(texts), vectors=vectors_of(len(texts)))
        hits = collection.search("common rare", 3, mode="words")
        assert ids(hits)[:2] == ["d0", "d4"]
        assert ids(collection.search("word", mode="words")) == ["d2", "d1"]

    def test_words_of_the_query_are_marked(self, backend: Backend, encoder: Encoder) -> None:
        collection = backend.make(encoder)
        collection.add(numbered())
        for mode in MODES[1:]:
            hit = next(hit for hit in collection.search("brew", mode=mode) if hit.id == "d1")
            assert [hit.text[begin:end] for begin, end in hit.highlights] == ["brew"]

    def test_who_is_first_in_both_lists_is_first(self, backend: Backend, encoder: Encoder) -> None:
        collection = backend.make(encoder)
        collection.add(numbered())
        hits = collection.search(TEXTS[3], mode="hybrid")
        assert hits[0].id == "d3"
        assert hits[0].score == pytest.approx(2 / 61)
        assert len(hits) == len(TEXTS)

    def test_a_query_without_words_finds_by_meaning(self, backend: Backend, encoder: Encoder) -> None:
        collection = backend.make(encoder)
        collection.add(numbered())
        assert collection.search("?!", mode="words") == []
        assert ids(collection.search("?!", mode="hybrid")) == ids(collection.search("?!", mode="vector"))

    def test_weights_say_what_counts(self, backend: Backend, encoder: Encoder) -> None:
        collection: Any = backend.make(encoder)
        collection.add(numbered())
        assert collection.weights == (1.0, 1.0)
        query = "coffee numbers"
        by_vector, by_words = (collection.search(query, 8, mode=mode) for mode in ("vector", "words"))
        collection.set_weights(vector=1.0, words=0.0)
        assert ids(collection.search(query, 8)) == ids(by_vector)
        collection.set_weights(vector=0.0, words=2.0)
        assert ids(collection.search(query, 8)) == ids(by_words)
        collection.set_weights(vector=1.0, words=3.0)
        ranks = [{hit.id: rank for rank, hit in enumerate(hits, 1)} for hits in (by_vector, by_words)]
        wanted = {
            id_: sum(weight / (60 + found[id_]) for weight, found in zip((1, 3), ranks, strict=True) if id_ in found)
            for id_ in ranks[0]
        }
        assert {hit.id: hit.score for hit in collection.search(query, 8)} == pytest.approx(wanted)
        again: Any = backend.again(None)
        assert again.weights == (1.0, 3.0)
        for weights in ((-1.0, 1.0), (0.0, 0.0), (math.nan, 1.0)):
            with pytest.raises(UsageError, match="weights are"):
                collection.set_weights(vector=weights[0], words=weights[1])

    @pytest.mark.parametrize("mode", MODES)
    def test_several_queries_find_what_each_finds(self, backend: Backend, encoder: Encoder, mode: Mode) -> None:
        collection = backend.make(encoder)
        collection.add(numbered())
        queries = ["coffee", "?!", "京都", "trains and tables"]
        together = collection.search_many(queries, 4, mode=mode)
        for query, hits in zip(queries, together, strict=True):
            alone = collection.search(query, 4, mode=mode)
            assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in alone], abs=1e-4)
            assert sorted(ids(hits)) == sorted(ids(alone))

    @pytest.mark.parametrize("query", SYNTAX, ids=range(len(SYNTAX)))
    def test_nothing_in_a_query_is_syntax(self, backend: Backend, query: str) -> None:
        collection = of_vectors(backend)
        collection.add(numbered(), vectors=vectors_of(len(TEXTS)))
        wanted = {"d0", "d1"} if "coffee" in query else set()
        if "table" in query:
            wanted |= {"d0", "d3"}
        assert set(ids(collection.search(query, mode="words"))) >= wanted
        if not query.isascii() or "coffee" not in query:
            return
        assert set(ids(collection.search(query, mode="words"))) <= {"d0", "d1", "d2", "d3"}

    @settings(
        deadline=None,
        max_examples=60,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(query=st.text(min_size=1, max_size=40).filter(lambda text: bool(text.strip())))
    def test_any_text_is_a_query(self, few: AnyCollection, query: str) -> None:
        hits = few.search(query, mode="words")
        assert len(hits) <= few.count()

    @pytest.mark.parametrize("query", ["", "  ", "\n\t"])
    @pytest.mark.parametrize("mode", MODES)
    def test_an_empty_query_is_refused(self, backend: Backend, encoder: Encoder, query: str, mode: Mode) -> None:
        with pytest.raises(UsageError, match="the query is empty"):
            backend.make(encoder).search(query, mode=mode)

    def test_a_mode_that_there_is_not(self, backend: Backend, encoder: Encoder) -> None:
        with pytest.raises(UsageError, match=r"mode is 'magic'; it is one of vector, words, hybrid"):
            backend.make(encoder).search("coffee", mode=cast("Mode", "magic"))

    def test_long_texts_and_none(self, backend: Backend, encoder: Encoder) -> None:
        collection = backend.make(encoder)
        long = "coffee " * 150_000 + "needle"
        written = collection.add([Document("long", long), Document("none", ""), Document("b", "tea")])
        assert (written.added, written.truncated) == (3, 1)
        assert ids(collection.search("needle", mode="words")) == ["long"]
        assert len(collection.search("coffee", mode="vector")) == 3
        assert collection.get(["none", "long"]) == [Document("none", ""), Document("long", long)]

    # Filters.

    @settings(
        deadline=None,
        max_examples=200,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(wanted=FILTERS)
    def test_a_filter_lets_through_what_matches(
        self, filtered: tuple[AnyCollection, Mapping[str, dict[str, Any]]], wanted: dict[str, Any]
    ) -> None:
        collection, metadata = filtered
        condition = parse_filter(wanted)
        passing = sorted(id_ for id_, one in metadata.items() if matches(condition, one))
        assert collection.count(wanted) == len(passing)
        assert sorted(ids(collection.search(vectors_of(1)[0], len(metadata), filter=wanted))) == passing
        assert sorted(ids(collection.search("every", len(metadata), mode="words", filter=wanted))) == passing

    def test_hits_of_all_modes_pass_the_filter(self, backend: Backend, encoder: Encoder) -> None:
        collection = backend.make(encoder, fields=FIELDS)
        texts = [TEXTS[number % len(TEXTS)] for number in range(40)]
        collection.add(
            Document(f"d{number}", text, {"year": number, "tag": ["even" if number % 2 == 0 else "odd"]})
            for number, text in enumerate(texts)
        )
        for mode in MODES:
            hits = collection.search(TEXTS[0], 5, mode=mode, filter={"tag": "odd", "year": {"gte": 20}})
            assert hits
            assert all(hit.metadata["year"] >= 20 and hit.metadata["tag"] == ["odd"] for hit in hits)
        (hit,) = collection.search(TEXTS[0], 5, mode="hybrid", filter={"year": 33})
        assert hit.id == "d33"

    def test_what_a_filter_lets_through_is_deleted(self, backend: Backend) -> None:
        collection = of_vectors(backend, fields=FIELDS)
        documents = [Document(f"d{number}", "text", {"year": number}) for number in range(10)]
        collection.add(documents, vectors=vectors_of(10))
        assert collection.delete(filter={"year": {"lt": 3}}) == 3
        assert collection.delete(filter={"year": {"lt": 3}}) == 0
        assert collection.delete(["d9", "d0"], filter={"year": 5}) == 2
        assert [document.id for document in collection.documents()] == ["d3", "d4", "d6", "d7", "d8"]

    def test_a_filter_sees_what_metadata_became(self, backend: Backend, encoder: Encoder) -> None:
        collection = backend.make(encoder, fields=FIELDS)
        collection.add([Document("a", "text", {"tag": "old"})])
        collection.upsert([Document("a", "text", {"tag": "new"})])
        assert (collection.count({"tag": "old"}), collection.count({"tag": "new"})) == (0, 1)
        assert ids(collection.search("text", filter={"tag": "new"})) == ["a"]

    @pytest.mark.parametrize(("wanted", "message"), [
        ({"other": 1}, '"other", which is not declared'),
        ({"author": "x"}, '"author", which is not declared'),
        ({"year": "2020"}, 'declared as number'),
        ({"tag": {"gt": 3}}, 'declared as keyword'),
        ({}, "empty"),
        ({"tag": {"$where": "1"}}, "where"),
    ])  # fmt: skip
    def test_a_filter_that_makes_no_sense_is_refused(
        self, backend: Backend, wanted: dict[str, Any], message: str
    ) -> None:
        collection = of_vectors(backend, 2, fields=FIELDS)
        for ask in (
            lambda: collection.count(wanted),
            lambda: collection.search(vectors_of(1)[0], filter=wanted),
            lambda: collection.delete(filter=wanted),
        ):
            with pytest.raises(UsageError, match=message):
                ask()
        assert collection.count() == 2

    # Models.

    def test_another_model_is_refused_with_both_names(
        self, backend: Backend, encoder: Encoder, other_encoder: Encoder
    ) -> None:
        backend.make(encoder)
        with pytest.raises(CollectionError) as refused:
            backend.again(other_encoder)
        assert encoder.model.name in str(refused.value)
        assert other_encoder.model.name in str(refused.value)

    def test_queries_by_one_half_and_documents_by_the_other(self, backend: Backend, dual_encoder: DualEncoder) -> None:
        collection = backend.make(dual_encoder)
        collection.add(numbered())
        scores = dual_encoder.similarity(dual_encoder.encode_query("coffee"), dual_encoder.encode_document(TEXTS))[0]
        hits = collection.search("coffee", 3, mode="vector")
        np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1][:3], atol=5e-3)
        for half in (dual_encoder.query, dual_encoder.document):
            with pytest.raises(CollectionError, match="both halves"):
                backend.again(half)

    def test_a_collection_without_a_model_takes_vectors_only(self, backend: Backend, encoder: Encoder) -> None:
        collection = of_vectors(backend, 3)
        assert len(collection.search("text", mode="words")) == 3
        with pytest.raises(UsageError, match="without a model"):
            collection.search("text")
        with pytest.raises(UsageError, match="without a model"):
            collection.add([Document("new", "text")])
        assert collection.count() == 3
        with pytest.raises(PairloomError, match=r"without a model|without one"):
            backend.again(encoder)

    # Threads.

    def test_threads_read_while_one_writes(self, backend: Backend) -> None:
        collection = of_vectors(backend, 20)
        stop, faults = threading.Event(), []

        def read() -> None:
            try:
                while not stop.is_set():
                    for hit in collection.search(vectors_of(1, seed=3)[0], 30):
                        number, version = hit.text.split()[1], hit.text.split()[2:]
                        assert hit.id == f"d{number}" and len(version) <= 1
                    assert collection.count() >= 20
            except BaseException as error:
                faults.append(error)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for version in range(5):
            documents = [Document(f"d{number}", f"text {number} v{version}") for number in range(10 + version * 5)]
            collection.upsert(documents, vectors=vectors_of(len(documents), seed=version))
        stop.set()
        for thread in threads:
            thread.join()
        assert not faults
        assert collection.count() == 30


def random_metadata(count: int) -> Iterator[dict[str, Any]]:
    """Metadata of all kinds, the same each time."""
    found: list[dict[str, Any]] = []

    @settings(max_examples=count, deadline=None, database=None, derandomize=True)
    @given(METADATA)
    def draw(metadata: dict[str, Any]) -> None:
        found.append(metadata)

    draw()
    yield from found[:count]
