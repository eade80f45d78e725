"""Search by words: BM25 against its formula, any text as document and query, deletion, filters, common words."""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from unicodedata import category

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pairloom.search.words.search import (
    MAX_WORDS,
    WordSearch,
    create_words,
    delete_words,
    drop_words,
    insert_words,
    matching,
)
from pairloom.search.words.segment import query_words

HOSTILE = (
    '"',
    '"" OR ""',
    "*",
    "a*",
    'NEAR("a b", 1)',
    "NEAR(",
    "text:a",
    "{text words}: a",
    "AND",
    "a AND",
    "NOT a",
    "(a",
    "^a",
    "a + b",
    "-a",
    "a\0b",
    "\ud800\udfff",
    "'; DROP TABLE words; --",
    "%_",
    "\u0301\u0302",
    "\ue000\uffff\U0010ffff",
    "\x1d\x1e\x1f",
)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(fresh()) as made:
        yield made


def fresh(texts: Mapping[int, str] | Sequence[str] = ()) -> sqlite3.Connection:
    """A connection to an index of these texts, by row or numbered from 1."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    create_words(connection)
    insert_words(connection, list(texts.items() if isinstance(texts, Mapping) else enumerate(texts, start=1)))
    return connection


def rows(connection: sqlite3.Connection, query: str, k: int = 1_000) -> list[int]:
    return [row for row, _ in WordSearch().search(connection, query, k, num_documents=10)]


def random_texts(count: int = 300, *, seed: int = 0) -> dict[int, str]:
    """Words that no stemmer changes, some of them much more common than others, under row numbers with gaps."""
    dice = np.random.default_rng(seed)
    chance = 1 / (np.arange(60) + 1.5)
    return {
        3 * number + 2: " ".join(
            f"w{word}" for word in dice.choice(60, size=dice.integers(0, 40), p=chance / chance.sum())
        )
        for number in range(count)
    }


def bm25(texts: Mapping[int, str], words: Sequence[str]) -> dict[int, float]:
    """FTS5's documented formula in float64: rows with at least one of the words, and their scores."""
    k1, b = 1.2, 0.75
    tokens = {row: text.split() for row, text in texts.items()}
    mean = sum(map(len, tokens.values())) / len(tokens)
    scores: dict[int, float] = {}
    for word in words:
        having = {row: of_row.count(word) for row, of_row in tokens.items() if word in of_row}
        idf = math.log((len(texts) - len(having) + 0.5) / (len(having) + 0.5))
        for row, frequency in having.items():
            length = k1 * (1 - b + b * len(tokens[row]) / mean)
            scores[row] = scores.get(row, 0) + max(idf, 1e-6) * frequency * (k1 + 1) / (frequency + length)
    return scores


def ranked(scores: Mapping[int, float]) -> list[int]:
    return sorted(scores, key=lambda row: (-scores[row], row))


@pytest.mark.parametrize("query", ["w0", "w59", "w3 w1 w40", "w0 w1 w2 nothing", "w5 W5 w5"])
def test_scores_are_those_of_the_formula(query: str) -> None:
    texts = random_texts()
    expected = bm25(texts, list(dict.fromkeys(query.lower().split())))
    with closing(fresh(texts)) as connection:
        found = WordSearch().search(connection, query, 1_000, num_documents=len(texts))
        assert WordSearch().search(connection, query, 7, num_documents=len(texts)) == found[:7]
    assert dict(found) == pytest.approx(expected, rel=1e-9)
    assert [row for row, _ in found] == [row for row, _ in sorted(found, key=lambda one: (-one[1], one[0]))]
    assert all(score > 0 for _, score in found)


def test_of_equal_documents_the_older_comes_first() -> None:
    with closing(fresh({9: "red apple", 4: "apple red", 7: "green", 5: "red apple", 1: "blue"})) as connection:
        assert rows(connection, "apple") == [4, 5, 9]


@pytest.mark.parametrize(
    ("text", "queries"),
    [
        ("Brewing coffee", ["brew", "BREWS", "coffees"]),
        ("Café Ångström naïve", ["cafe", "CAFE\u0301", "angstrom", "naive", "ångström"]),
        ("cafe\u0301", ["café", "cafe"]),
        ("東京都庁は新宿にある。", ["東京", "京都", "新宿にある", "都", "東京 パリ"]),
        ("我爱北京天安门", ["北京", "天安门", "爱"]),
        ("한국어를 배우다", ["한국", "배우다", "국어를"]),
        ("ฉันกินน้ำ", ["กินน้ำ", "น้ำ", "ฉัน"]),
        ("हिन्दी में खोज", ["हिन्दी", "खोज"]),
        ("البحث بالعربية", ["بالعربية", "البحث"]),
        ("Поиск по словам", ["ПОИСК", "словам"]),
        ("ＡＰＩ ｋｅｙ", ["api", "KEY"]),
        ("got ❤\ufe0f and🤣🥲", ["got", "and"]),
        ("x86_64 C3PO 3.14", ["x86", "64", "c3po", "14"]),
    ],
)
def test_words_are_found_in_any_script(text: str, queries: list[str]) -> None:
    with closing(fresh(["something else", text])) as connection:
        for query in queries:
            assert rows(connection, query) == [2], query


@pytest.mark.parametrize(
    ("text", "query"),
    [("हिन्दी", "हिन"), ("東京", "京東"), ("東 大京", "東京都"), ("❤\ufe0f", "☀\ufe0f"), ("cafeteria", "cafe")],
)
def test_parts_of_words_and_other_orders_are_not(text: str, query: str) -> None:
    with closing(fresh([text])) as connection:
        assert rows(connection, query) == []


@pytest.mark.parametrize("query", HOSTILE)
def test_a_query_is_text_whatever_stands_in_it(connection: sqlite3.Connection, query: str) -> None:
    insert_words(connection, [(1, "nothing"), (2, f"{query} zebra"), (3, "text a b near and not drop table words")])
    assert rows(connection, f"{query} zebra")[0] == 2
    for row in rows(connection, query):
        assert row > 1


# Letters of all kinds, and signs but for those of scripts that are hardly ever written, which FTS5 takes for letters.
TEXTS = st.text(
    st.one_of(
        st.characters(categories=["L", "M", "N", "Z", "Cc", "Co", "Cs"]),
        st.characters(max_codepoint=0x570, exclude_categories=["Cn"]),
        st.characters(min_codepoint=0x2000, max_codepoint=0x2BFF, exclude_categories=["Cn"]),
        st.characters(min_codepoint=0x1F300, max_codepoint=0x1FAFF, exclude_categories=["Cn"]),
    ),
    max_size=60,
)


@settings(deadline=None)
@example(document="\u0301 a\u0301", query="\u0301")
@example(document="漢\u0301字", query="漢\u0301")
@given(document=TEXTS, query=TEXTS)
def test_a_document_is_found_by_each_of_its_words(document: str, query: str) -> None:
    with closing(fresh([document, "other", query])) as connection:
        rows(connection, query)
        for word in query_words(document, 1_000):
            if any(category(character)[0] in "LN" for character in word):
                assert 1 in rows(connection, word), word
        delete_words(connection, [(1, document), (3, query)])
        assert contents(connection) == [("other", 2, "text", 0)]


def contents(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    connection.execute("CREATE VIRTUAL TABLE IF NOT EXISTS temp.inside USING fts5vocab(main, words, instance)")
    return sorted(connection.execute("SELECT term, doc, col, offset FROM inside"))


def test_deletion_leaves_nothing_behind() -> None:
    texts = random_texts()
    gone = {row: text for row, text in texts.items() if row % 2}
    rest = {row: text for row, text in texts.items() if row % 2 == 0}
    with closing(fresh(texts)) as connection, closing(fresh(rest)) as other:
        connection.execute("BEGIN")
        delete_words(connection, list(gone.items()))
        connection.execute("COMMIT")
        connection.execute("INSERT INTO words(words) VALUES ('integrity-check')")
        assert contents(connection) == contents(other)
        search = WordSearch()
        for query in ("w1 w7", "w55", "w0"):
            found = search.search(connection, query, 100, num_documents=len(rest))
            assert found == search.search(other, query, 100, num_documents=len(rest))
        insert_words(connection, list(gone.items()))
        assert dict(search.search(connection, "w1 w7", 1_000, num_documents=len(texts))) == pytest.approx(
            bm25(texts, ["w1", "w7"])
        )


def test_what_is_rolled_back_never_was(connection: sqlite3.Connection) -> None:
    insert_words(connection, [(1, "red apple")])
    connection.execute("BEGIN")
    delete_words(connection, [(1, "red apple")])
    insert_words(connection, [(2, "red pear")])
    assert rows(connection, "red") == [2]
    connection.execute("ROLLBACK")
    assert rows(connection, "red") == [1]


def test_the_index_can_be_made_anew(connection: sqlite3.Connection) -> None:
    insert_words(connection, [(1, "red apple")])
    drop_words(connection)
    create_words(connection)
    assert rows(connection, "apple") == []
    insert_words(connection, [(1, "green pear")])
    assert rows(connection, "pear") == [1]


def test_nothing_to_look_for_finds_nothing(connection: sqlite3.Connection) -> None:
    assert rows(connection, "apple") == []
    insert_words(connection, [(1, ""), (2, "apple")])
    assert rows(connection, "") == []
    assert rows(connection, "?!") == []
    assert rows(connection, "apple", k=0) == []
    assert rows(connection, "apple", k=10**30) == [2]


def test_a_long_query_takes_no_more_work_than_its_first_words(connection: sqlite3.Connection) -> None:
    insert_words(connection, [(number, f"word{number}") for number in range(1, 1_000)])
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    query = " ".join(f"word{number}" for number in range(1, 200_000))
    assert len(query) > 1_000_000
    assert sorted(rows(connection, query)) == list(range(1, MAX_WORDS + 1))
    connection.set_trace_callback(None)
    assert len([one for one in statements if one.lstrip().startswith("SELECT") and "MATCH" in one]) <= MAX_WORDS + 2
    assert rows(connection, "word7 " * 200_000) == [7]
    assert rows(connection, " " * 1_000_000 + "word7") == []


# Common words: of the random texts w0 stands in most, w59 in few.


def count(texts: Mapping[int, str], word: str) -> int:
    return sum(word in text.split() for text in texts.values())


def test_the_most_common_words_are_left_out() -> None:
    texts = random_texts()
    rare, common = ["w50", "w30"], ["w0", "w1"]
    budget = sum(count(texts, word) for word in rare) + 5
    assert count(texts, "w1") > 5
    with closing(fresh(texts)) as connection:
        found = WordSearch(budget).search(connection, "w0 w50 w1 w30", 10, num_documents=len(texts))
    assert dict(found) == pytest.approx({row: bm25(texts, rare)[row] for row in ranked(bm25(texts, rare))[:10]})
    assert dict(found) != pytest.approx(
        {row: bm25(texts, rare + common)[row] for row in ranked(bm25(texts, rare + common))[:10]}
    )


def test_they_come_back_where_the_others_find_too_few() -> None:
    texts = random_texts()
    budget = count(texts, "w50") + 1
    expected = bm25(texts, ["w50", "w0"])
    with closing(fresh(texts)) as connection:
        search = WordSearch(budget)
        found = search.search(connection, "w0 w50", budget + 20, num_documents=len(texts))
        short = search.search(connection, "w0 w50", budget + 20, num_documents=len(texts), complete=False)
    assert [row for row, _ in found] == ranked(expected)[: budget + 20]
    assert [row for row, _ in short] == ranked(bm25(texts, ["w50"]))


def test_of_common_words_only_all_must_be_there() -> None:
    texts = random_texts()
    both = [row for row, text in texts.items() if {"w0", "w1"} <= set(text.split())]
    assert len(both) > 20
    with closing(fresh(texts)) as connection:
        search = WordSearch(5)
        found = search.search(connection, "w0 w1", 10, num_documents=len(texts))
        assert len(found) == 10
        assert {row for row, _ in found} <= set(both)
        one = search.search(connection, "w0", 10, num_documents=len(texts))
        assert [row for row, _ in one] == ranked(bm25(texts, ["w0"]))[:10]
        # No text has all of sixty words; then one is enough.
        every = " ".join(f"w{number}" for number in range(60))
        texts_with_one = search.search(connection, every, 1, num_documents=len(texts), complete=False)
        assert len(texts_with_one) == 1


def test_of_a_very_common_word_the_newest_documents_are_ranked() -> None:
    texts = random_texts()
    newest = [row for row, text in texts.items() if "w0" in text.split()][-20:]
    expected = bm25(texts, ["w0"])
    with closing(fresh(texts)) as connection:
        found = WordSearch(5, newest=20).search(connection, "w0", 10, num_documents=len(texts))
    assert [row for row, _ in found] == ranked({row: expected[row] for row in newest})[:10]


@pytest.mark.parametrize("far", [1, 2**40])
def test_of_many_documents_those_with_the_heaviest_words_are_scored(far: int) -> None:
    """The far ones are too far apart to be counted in a table."""
    texts = {row * far: text for row, text in random_texts(600).items()}
    words = ["w0", "w4", "w20", "w55"]
    having = {word: {row for row, text in texts.items() if word in text.split()} for word in words}
    idf = {word: max(1e-6, math.log((600 - len(rows) + 0.5) / (len(rows) + 0.5))) for word, rows in having.items()}
    weights = {row: sum(idf[word] for word in words if row in having[word]) for row in set().union(*having.values())}
    heaviest = sorted(weights, key=lambda row: (-round(weights[row], 9), -row))[:40]
    scores = bm25(texts, words)
    with closing(fresh(texts)) as connection:
        search = WordSearch(scored_postings=3, candidates=40)
        found = search.search(connection, " ".join(words), 40, num_documents=600)
        assert search.search(connection, " ".join(words), 10, num_documents=600) == found[:10]
        # Who asks for more gets more.
        assert len(search.search(connection, " ".join(words), 1_000, num_documents=600)) == len(scores)
    assert dict(found) == pytest.approx({row: scores[row] for row in heaviest})
    assert [row for row, _ in found] == ranked({row: scores[row] for row in heaviest})


@pytest.mark.parametrize("query", ["w0", "w0 nothing", "nothing w0 nowhere"])
def test_where_one_word_is_all_there_is_every_document_with_it_is_scored(query: str) -> None:
    texts = random_texts(600)
    scores = bm25(texts, ["w0"])
    assert len(scores) > 200
    even = {row: score for row, score in scores.items() if row % 2 == 0}
    newest = {row: scores[row] for row in sorted(scores)[-60:]}
    with closing(fresh(texts)) as connection:
        for change in (None, 1, 1):
            search = WordSearch(scored_postings=3, candidates=40)
            found = search.search(connection, query, 20, num_documents=600, change=change)
            assert [row for row, _ in found] == ranked(scores)[:20]
            some = search.search(
                connection, query, 20, num_documents=600, change=change, allowed=lambda rows: rows % 2 == 0
            )
            assert [row for row, _ in some] == ranked(even)[:20]
            few = WordSearch(scored_postings=3, candidates=40, newest=60)
            assert [row for row, _ in few.search(connection, query, 20, num_documents=600)] == ranked(newest)[:20]


def test_of_phrases_in_few_documents_nothing_is_read_before_they_are_scored(connection: sqlite3.Connection) -> None:
    insert_words(connection, [(number, "東京都庁" if number % 2 else "京都") for number in range(1, 100)])
    search = WordSearch()
    expected = search.search(connection, "東京都庁", 60, num_documents=99)
    assert len(expected) == 60
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    assert search.search(connection, "東京都庁", 60, num_documents=99) == expected
    assert len([one for one in statements if "MATCH" in one]) == 1


def test_a_word_that_has_become_common_is_not_taken_for_rare(connection: sqlite3.Connection) -> None:
    """How common words are is remembered; what is scored is not decided by that."""
    search = WordSearch()
    insert_words(connection, [(1, "apple"), (2, "pear"), *((row, "plum") for row in range(3, 100))])
    assert search.search(connection, "apple pear", 2, num_documents=99) != []
    texts = {row: "apple pear " * (row % 7 + 1) for row in range(100, 109)}
    insert_words(connection, list(texts.items()))
    found = search.search(connection, "apple pear", 2, num_documents=108)
    expected = WordSearch().search(connection, "apple pear", 2, num_documents=108)
    assert found == expected


def test_a_rare_word_is_not_lost_among_newer_documents_with_a_common_one() -> None:
    texts = {1: "zebra", **dict.fromkeys(range(2, 60), "apple"), 60: "apple pear", 61: "pear"}
    with closing(fresh(texts)) as connection:
        found = WordSearch(1, newest=10).search(connection, "apple zebra pear", 12, num_documents=len(texts))
        assert len(found) == 12
        assert found[0][0] == 1
        assert [row for row, _ in found][1:3] == [61, 60] or [row for row, _ in found][1:3] == [60, 61]
        few = WordSearch(1, newest=10).search(connection, "apple zebra pear", 3, num_documents=len(texts))
        # The next rarest comes back first.
        assert {row for row, _ in few} == {1, 60, 61}


def test_how_common_words_are_is_asked_again_when_the_collection_has_grown(connection: sqlite3.Connection) -> None:
    search = WordSearch(10)
    insert_words(connection, [(1, "apple pear"), (2, "pear")])
    assert len(search.search(connection, "apple pear", 1, num_documents=2)) == 1
    insert_words(connection, [(number, "apple " * 9) for number in range(3, 40)])
    # As yet apple is taken for rare, and ranks.
    assert search.search(connection, "apple pear", 1, num_documents=2)[0][1] > 0
    with_apple = search.search(connection, "apple pear", 2, num_documents=2)
    without_apple = search.search(connection, "apple pear", 2, num_documents=39)
    assert {row for row, _ in without_apple} == {1, 2}
    assert dict(without_apple)[1] < dict(with_apple)[1]


def test_a_word_that_was_not_there_is_found_when_it_is(connection: sqlite3.Connection) -> None:
    search = WordSearch(3)
    insert_words(connection, [(number, "apple") for number in range(1, 31)])
    assert 31 not in dict(search.search(connection, "apple zebra", 5, num_documents=30))
    insert_words(connection, [(31, "zebra")])
    assert search.search(connection, "apple zebra", 1, num_documents=31)[0][0] == 31


def test_telling_words(connection: sqlite3.Connection) -> None:
    insert_words(connection, [(number, "how to brew" if number % 20 == 0 else "how to") for number in range(1, 201)])
    search = WordSearch(3)
    assert search.telling_words(connection, "How to brew it?", 200) == ("brew", "it")
    assert search.telling_words(connection, "how to", 200) == ("how", "to")
    assert search.telling_words(connection, "?", 200) == ()


@pytest.mark.parametrize("part", [0.0, 0.003, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("budget", [10, 10_000])
@pytest.mark.parametrize("scored", [3, 10_000])
def test_a_filter_finds_as_many_as_if_there_were_no_others(part: float, budget: int, scored: int) -> None:
    texts = random_texts(600)
    allowed_rows = {row for row in texts if np.random.default_rng([row, 1]).random() < part}
    given: list[int] = []

    def allowed(asked: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        assert asked.dtype == np.int64
        given.extend(asked.tolist())
        return np.array([row in allowed_rows for row in asked.tolist()], dtype=np.bool_)

    expected = {row: score for row, score in bm25(texts, ["w0", "w4", "w55"]).items() if row in allowed_rows}
    with closing(fresh(texts)) as connection:
        search = WordSearch(budget, scored_postings=scored)
        found = search.search(connection, "w0 w4 w55", 25, num_documents=len(texts), allowed=allowed)
        everything = search.search(connection, "w0 w4 w55", 1_000, num_documents=len(texts), allowed=allowed)
    assert set(given) <= set(texts)
    assert len(found) == min(25, len(expected))
    assert {row for row, _ in found} <= set(expected)
    # Asked for more than there are, no word is left out.
    assert [row for row, _ in everything] == ranked(expected)
    assert dict(everything) == pytest.approx(expected)
    if budget == 10_000:
        assert found == everything[:25]


def test_threads_search_at_once(tmp_path: Path) -> None:
    texts = random_texts(200)
    path = tmp_path / "words.db"
    with closing(sqlite3.connect(path)) as connection:
        create_words(connection)
        insert_words(connection, list(texts.items()))
        connection.commit()
    search = WordSearch(50)
    queries = [f"w{one} w{other}" for one in range(0, 60, 7) for other in range(1, 60, 5)]
    results: list[list[list[tuple[int, float]]]] = []

    def ask() -> None:
        with closing(sqlite3.connect(path)) as own:
            results.append([search.search(own, query, 10, num_documents=len(texts)) for query in queries])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(result == results[0] for result in results)


def test_matching_by_hand() -> None:
    assert matching(["a", "b c"]) == '"a" OR "b c"'
    assert matching(["a", "b c"], "AND") == '"a" AND "b c"'
    assert matching([]) == ""
