"""BM25 as sparse vectors."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.search.qdrant.sparse import SparseVector, count_words, document_vector, place_of, query_vector
from pairloom.search.words.search import MAX_WORDS, create_words, insert_words
from pairloom.search.words.segment import segment

TEXTS = [
    "the red coffee cup on the table",
    "coffee, Coffee and more COFFEE!",
    "trains to the north leave at seven",
    "Café au lait, naïve façade",
    "東京都に住む人は寺に行く",
    "",
    "a table of prices and numbers, a table of tables",
]


def inner(one: SparseVector, other: SparseVector) -> dict[int, float]:
    values = dict(zip(one.indices, one.values, strict=True))
    return {
        index: values[index] * value
        for index, value in zip(other.indices, other.values, strict=True)
        if index in values
    }


def test_the_formula_by_hand() -> None:
    (words,) = count_words(["tea tea milk"])
    assert words.length == 3
    assert words.counts == Counter({place_of("tea"): 2, place_of("milk"): 1})
    vector = document_vector(words, 6.0)
    norm = 1.2 * (0.25 + 0.75 * 3 / 6)
    values = dict(zip(vector.indices, vector.values, strict=True))
    assert values[place_of("tea")] == pytest.approx(2 * 2.2 / (2 + norm))
    assert values[place_of("milk")] == pytest.approx(1 * 2.2 / (1 + norm))
    assert vector.indices == sorted(vector.indices)


def test_words_never_move() -> None:
    assert [place_of(word) for word in ("coffee", "東京", "й")] == [597190839, 1168149181, 2963774245]


def test_the_scores_are_those_of_the_embedded_edition() -> None:
    """SQLite's own bm25 is the oracle; only its weight of rare words is another, so it is taken out of both."""
    counts = count_words(TEXTS)
    average = sum(words.length for words in counts) / len(TEXTS)
    with closing(sqlite3.connect(":memory:")) as connection:
        create_words(connection)
        insert_words(connection, enumerate(TEXTS))
        for word in ("coffee", "table", "the", "cafe", "north"):
            found = connection.execute("SELECT rowid, -bm25(words) FROM words WHERE words MATCH ?", (word,)).fetchall()
            rarity = max(1e-6, math.log((len(TEXTS) - len(found) + 0.5) / (len(found) + 0.5)))
            expected = {row: score / rarity for row, score in found}
            query = query_vector(word)
            ours = {
                row: sum(products.values())
                for row, words in enumerate(counts)
                if (products := inner(document_vector(words, average), query))
            }
            assert ours == pytest.approx(expected, rel=1e-6), word


@pytest.mark.parametrize(("query", "text", "is_found"), [
    ("CAFE", "Café", True),
    ("café", "CAFE\u0301", True),
    ("tables", "table", True),
    ("東京", "東京都", True),
    ("京都", "東京都", True),
    ("東都", "東京都", False),
    ("京", "東京都", True),
    ("東京 tower", "tower", True),
    ("ไทย", "ภาษาไทยง่าย", True),
    ("हिन्दी", "यह हिन्दी है", True),
    ("ｆｕｌｌ", "full", True),
    ("?!", "?!", False),
    ("\u0301", "\u0301", False),
    ("\u0301 tea", "tea", True),
])  # fmt: skip
def test_a_query_meets_the_texts_that_have_its_words(query: str, text: str, is_found: bool) -> None:
    (words,) = count_words([text])
    assert bool(inner(document_vector(words, 5.0), query_vector(query))) == is_found


def test_pairs_of_characters_do_not_make_a_text_longer() -> None:
    (words,) = count_words(["東京都 tower"])
    assert words.length == 4
    assert len(words.counts) == 4 + 2


def test_a_long_query_is_cut() -> None:
    vector = query_vector(" ".join(f"word{number}" for number in range(100_000)))
    assert len(vector.indices) == MAX_WORDS
    assert place_of("word0") in vector.indices


def test_no_texts_and_empty_ones() -> None:
    assert count_words([]) == []
    (words,) = count_words([""])
    assert document_vector(words, 5.0) == SparseVector([], [])
    assert query_vector("") == SparseVector([], [])


@settings(deadline=None, max_examples=80)
@given(st.lists(st.text(max_size=30), max_size=4))
def test_any_text_has_words_that_find_it(texts: list[str]) -> None:
    encodable = [segment(text) for text in texts]
    for text, words in zip(encodable, count_words(encodable), strict=True):
        vector = document_vector(words, 3.0)
        assert len(set(vector.indices)) == len(vector.indices)
        assert all(0 <= index < 2**32 for index in vector.indices)
        assert all(0 < value <= 2.2 for value in vector.values)
        assert bool(vector.indices) == bool(query_vector(text).indices)
        assert set(query_vector(text).indices) <= set(vector.indices)
