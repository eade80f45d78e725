"""The place where texts are looked at for a moment: nothing stays, and nobody meets anybody there."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from pairloom.search.words.scratch import tokenized


def seen(connection: sqlite3.Connection) -> list[tuple[int, str]]:
    return connection.execute("SELECT doc, term FROM places ORDER BY doc, offset").fetchall()


def test_it_has_the_words_of_these_texts_and_of_none_before() -> None:
    for _ in range(3):
        with tokenized(["running fast", "", "東京"]) as connection:
            assert seen(connection) == [(0, "run"), (0, "fast"), (2, "東"), (2, "京")]
        with tokenized([]) as connection:
            assert seen(connection) == []


def test_it_is_made_once() -> None:
    with tokenized(["one"]) as first:
        pass
    with tokenized(["two"]) as again, tokenized(["three"]) as within:
        assert again is first
        assert within is not first
        assert seen(again) == [(0, "two")]
        assert seen(within) == [(0, "three")]


def test_what_fails_leaves_nothing_behind() -> None:
    with pytest.raises(ZeroDivisionError), tokenized(["one"]):
        raise ZeroDivisionError
    with tokenized(["two"]) as connection:
        assert seen(connection) == [(0, "two")]


def test_each_thread_has_its_own() -> None:
    def look(number: int) -> None:
        for _ in range(20):
            with tokenized([f"word{number}"]) as connection:
                assert seen(connection) == [(0, f"word{number}")]

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(look, range(16)))
