"""Postings: what is read of the index of words is what stands in the texts, and is remembered as long as it is right."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.search.words import postings
from pairloom.search.words.postings import PostingsReader, Terms, averages
from pairloom.search.words.search import WordSearch, create_words, delete_words, insert_words
from tests.search.words.test_search import fresh, random_texts


def read(reader: PostingsReader, connection: sqlite3.Connection, term: str, change: int | None) -> dict[int, int]:
    found = reader.postings(connection, term, change)
    assert found is not None
    return dict(zip(found.rows.tolist(), found.counts.tolist(), strict=True))


def counted(texts: dict[int, str], word: str) -> dict[int, int]:
    return {row: text.split().count(word) for row, text in texts.items() if word in text.split()}


@pytest.mark.parametrize("far", [1, 1_000, 2**40])
def test_they_are_what_stands_in_the_texts(far: int) -> None:
    texts = {row * far: text for row, text in random_texts().items()}
    texts[max(texts) + 1] = "w1 " * 300 + "w2 " * 20_000
    lengths = {row: len(text.split()) for row, text in texts.items()}
    for change in (None, 3):
        reader = PostingsReader()
        with closing(fresh(texts)) as connection:
            for word in ("w0", "w1", "w2", "w59", "nothing"):
                for _ in range(2):
                    assert read(reader, connection, word, change) == counted(texts, word)
            for some in (list(texts), list(texts)[7:90:3], list(texts)[:1], []):
                found = reader.lengths(connection, np.array(some, dtype=np.int64), change)
                assert found.tolist() == [lengths[row] for row in some]
            assert averages(connection) == (len(texts), sum(lengths.values()) / len(texts))


def test_an_index_that_does_not_say_how_long_documents_are_is_damaged() -> None:
    texts = random_texts()
    for damage in (
        "DELETE FROM words_data WHERE id = 1",
        "UPDATE words_data SET block = x'' WHERE id = 1",
        "UPDATE words_data SET block = NULL WHERE id = 1",
        "UPDATE words_data SET block = 'text' WHERE id = 1",
        "UPDATE words_docsize SET sz = NULL",
        "UPDATE words_docsize SET sz = 7",
        "UPDATE words_docsize SET sz = x'8080'",
        "DELETE FROM words_docsize",
    ):
        with closing(fresh(texts)) as connection:
            assert WordSearch().search(connection, "w3 w50", 10, num_documents=300)
            connection.execute("PRAGMA writable_schema=ON")
            connection.execute(damage)
            with pytest.raises(sqlite3.DatabaseError) as error:
                WordSearch().search(connection, "w3 w50", 10, num_documents=300)
            assert type(error.value) is sqlite3.DatabaseError, damage


def test_a_word_in_too_many_places_is_left_to_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = random_texts()
    with closing(fresh(texts)) as connection:
        expected = WordSearch().search(connection, "w3 w50", 10, num_documents=300)
        monkeypatch.setattr(postings, "_MOST_PLACES", sum(counted(texts, "w50").values()))
        reader = PostingsReader()
        for _ in range(2):
            assert reader.postings(connection, "w3", 1) is None
            assert read(reader, connection, "w50", 1) == counted(texts, "w50")
        assert WordSearch().search(connection, "w3 w50", 10, num_documents=300, change=1) == expected


def test_words_longer_than_all_that_are_written() -> None:
    """The index cuts them, and maybe within a character."""
    for long in ("\u0905" * 11_000, "x" * 20_000, "\U00016800" * 9_000):
        with closing(fresh({1: "apple", 2: f"apple {long}"})) as connection:
            for query in (f"apple {long}", f"{long} apple", long):
                found = WordSearch().search(connection, query, 10, num_documents=2, change=1)
                assert found == ScoredBySQLite().search(connection, query, 10, num_documents=2)


def test_what_was_deleted_is_not_read() -> None:
    texts = random_texts()
    gone = {row: text for row, text in texts.items() if row % 2}
    rest = {row: text for row, text in texts.items() if row % 2 == 0}
    reader = PostingsReader()
    with closing(fresh(texts)) as connection:
        assert read(reader, connection, "w3", 1) == counted(texts, "w3")
        delete_words(connection, list(gone.items()))
        assert read(reader, connection, "w3", 2) == counted(rest, "w3")
        assert averages(connection)[0] == len(rest)
        with pytest.raises(sqlite3.DatabaseError, match="missing"):
            reader.lengths(connection, np.array(sorted(gone)[:3]), 3)


def test_nothing_is_read_twice_until_something_is_changed() -> None:
    texts = random_texts()
    rows = np.array(sorted(texts))
    reader = PostingsReader()
    with closing(fresh(texts)) as connection:
        statements: list[str] = []
        connection.set_trace_callback(statements.append)

        def asked(change: int | None) -> int:
            statements.clear()
            read(reader, connection, "w3", change)
            reader.lengths(connection, rows[:50], change)
            return sum("word_places WHERE" in one or "words_docsize WHERE" in one for one in statements)

        assert [asked(change) for change in (4, 4, 4, 5, 5)] == [2, 0, 0, 2, 0]
        # A transaction that began before a change sees what was, and what is known of the newer one stays.
        assert [asked(change) for change in (4, 4, None, 5)] == [2, 2, 2, 0]
        # Of lengths only those are read that are not known.
        reader.lengths(connection, rows[40:60], 5)
        assert any("words_docsize" in one and str(rows[59]) in one and f"[{rows[40]}," not in one for one in statements)


def test_no_more_is_remembered_than_there_is_room_for() -> None:
    texts = random_texts()
    reader = PostingsReader(20_000)
    with closing(fresh(texts)) as connection:
        for word in [f"w{number}" for number in range(60)] * 2:
            assert read(reader, connection, word, 1) == counted(texts, word)
            remembered = reader._remembered
            own = sum(one.rows.nbytes + one.counts.nbytes for one in remembered.postings.values() if one is not None)
            assert own < remembered.num_bytes <= 20_000
        assert "w59" in remembered.postings
        assert "w0" not in remembered.postings
        # Words that stand nowhere take room, too.
        for number in range(1_000):
            assert read(reader, connection, f"typo{number}", 1) == {}
        assert len(remembered.postings) < 100


def test_terms_are_those_of_the_index() -> None:
    words = ["running", "Café", "北 京", "x86", "東", "\u0301", "running", ""]
    terms = Terms()
    for _ in range(2):
        assert terms.of(words) == [("run",), ("cafe",), ("北", "京"), ("x86",), ("東",), (), ("run",), ()]
    assert terms.of([]) == []


TEXTS = st.lists(st.text(st.sampled_from("ab京都 東é"), max_size=30), min_size=1, max_size=12)


class ScoredBySQLite(WordSearch):
    """Takes every word for a phrase."""

    def _read(self, *_: Any) -> None:
        return None


@settings(deadline=None)
@given(texts=TEXTS, query=st.text(st.sampled_from("ab京都 東é"), max_size=12), gone=st.integers(0, 11))
def test_scores_are_those_of_sqlite_to_the_last_bit(texts: list[str], query: str, gone: int) -> None:
    with closing(fresh(texts)) as connection:
        if gone < len(texts):
            delete_words(connection, [(gone + 1, texts[gone])])
        num_documents = len(texts) - (gone < len(texts))
        search = WordSearch()
        for change in (1, 1, None):
            found = search.search(connection, query, 100, num_documents=num_documents, change=change)
            assert found == ScoredBySQLite().search(connection, query, 100, num_documents=num_documents)


def test_threads_share_what_is_remembered(tmp_path: Path) -> None:
    """Readers go on while a writer adds and deletes; each finds what its own transaction sees."""
    path = tmp_path / "words.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        create_words(connection)
        connection.execute("CREATE TABLE meta(change)")
        connection.execute("INSERT INTO meta VALUES (0)")
        insert_words(connection, [(row, "apple pear") for row in range(1, 101)])
        connection.commit()
    search = WordSearch()
    done = threading.Event()
    faults: list[str] = []
    answers: set[int] = set()

    def ask() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as own:
            while not done.is_set():
                own.execute("BEGIN")
                (change,) = own.execute("SELECT change FROM meta").fetchone()
                found = search.search(own, "apple plum", 1_000, num_documents=100, change=change)
                own.execute("COMMIT")
                answers.add(change)
                # The change number N has replaced the document N by another one.
                expected = set(range(change + 1, 101)) | {1_000 + row for row in range(1, change + 1)}
                if {row for row, _ in found} != expected:
                    faults.append(f"at change {change}: {len(found)} documents")

    def wait_for(change: int) -> None:
        until = time.monotonic() + 30
        while change not in answers and not faults:
            assert time.monotonic() < until, "nobody answers"
            time.sleep(0.001)

    readers = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        wait_for(0)
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            for number in range(1, 101):
                writer.execute("BEGIN IMMEDIATE")
                delete_words(writer, [(number, "apple pear")])
                insert_words(writer, [(1_000 + number, "plum plum")])
                writer.execute("UPDATE meta SET change = ?", (number,))
                writer.execute("COMMIT")
        wait_for(100)
    finally:
        done.set()
        for reader in readers:
            reader.join(30)
    assert not faults
