"""Search by words: BM25 over the full-text index that SQLite keeps (FTS5), in the caller's transaction.

The index holds no texts, only which words stand where; the texts are the documents'. To delete a text from it, the index must be
given the text again.

How long a search takes follows from how many places it reads: a word that stands in a third of the documents costs a thousand times
what a rare one does, and says next to nothing. So the rarest words of a query are ranked by, as many as stand in `POSTINGS`
documents together. No list of stop words is needed, in no language.

References:
    https://www.sqlite.org/fts5.html (tokenizers, contentless tables, the formula of ``bm25``); Robertson and Zaragoza 2009, *The
    Probabilistic Relevance Framework: BM25 and Beyond*, https://doi.org/10.1561/1500000019.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Literal

import numpy as np
import numpy.typing as npt

from pairloom.search.segment import query_words, segment

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# Marks are part of words: without them a Hindi or Thai word would end at each vowel. Accents, which are marks, too, are taken off.
TOKENIZER = "porter unicode61 remove_diacritics 2 categories ''L* N* M* Co''"
"""What a word is, as FTS5 reads it in a statement: letters, digits and marks, without case, accents and English endings."""

POSTINGS = 10_000
"""In how many documents the words of a query may stand together before the most common of them are left out."""

MAX_WORDS = 128
"""Different words of a query that are looked at: a model, too, reads the beginning only, and each word costs a look-up."""

# Of the documents that have nothing but a very common word, so many are ranked: the newest.
_RANKED_ROWS = 50_000
# What is known of a word's frequency is asked again when the collection has become larger or smaller by a tenth.
_DRIFT = 0.1
# Words that stand in more than a tenth of the documents show nothing when they are marked.
_COMMON = 0.1
_FEW_DOCUMENTS = 10
_REMEMBERED_WORDS = 100_000
_LARGEST = 2**62  # that SQLite takes for a limit

_COUNT = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)"
_ROWS = "SELECT json_group_array(rowid) FROM words WHERE words MATCH ?"
# The plus keeps SQLite from asking the index once for each row of the list.
_RANKED = """
SELECT row, score FROM (
    SELECT rowid AS row, bm25(words) AS score FROM words
    WHERE words MATCH ? AND +rowid {} (SELECT value FROM json_each(?)) ORDER BY rowid DESC LIMIT ?
) ORDER BY score, row LIMIT ?
"""
_RANKED_OF, _RANKED_WITHOUT = _RANKED.format("IN"), _RANKED.format("NOT IN")


def create_words(connection: sqlite3.Connection) -> None:
    """Makes the empty index."""
    connection.execute(f"CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize='{TOKENIZER}')")


def drop_words(connection: sqlite3.Connection) -> None:
    """Removes the index, so that it can be made anew."""
    connection.execute("DROP TABLE IF EXISTS words")


def insert_words(connection: sqlite3.Connection, texts: Iterable[tuple[int, str]]) -> None:
    """Adds texts under row numbers that are not in the index."""
    connection.executemany(
        "INSERT INTO words(rowid, text) VALUES (?, ?)", [(row, segment(text)) for row, text in texts]
    )


def delete_words(connection: sqlite3.Connection, texts: Iterable[tuple[int, str]]) -> None:
    """Removes texts. Each must be what was inserted under its row: what is left of another one stays for ever."""
    connection.executemany(
        "INSERT INTO words(words, rowid, text) VALUES ('delete', ?, ?)", [(row, segment(text)) for row, text in texts]
    )


def matching(words: Iterable[str], operator: Literal["OR", "AND"] = "OR") -> str:
    """The FTS5 query that finds texts with at least one of some `query_words`, or with all of them."""
    return f" {operator} ".join(f'"{word}"' for word in words)


class WordSearch:
    """Ranks documents by the words of a query. Safe to use from several threads, each with a connection of its own.

    It remembers how common words are. That decides which ones are left out, and never a score, so it may be a little out of date.

    Args:
        postings: In how many documents the words of a query may stand together.
        ranked_rows: How many documents are ranked at most.
    """

    def __init__(self, postings: int = POSTINGS, ranked_rows: int = _RANKED_ROWS) -> None:
        self._postings, self._ranked_rows = postings, ranked_rows
        self._frequencies: dict[str, int] = {}
        self._asked_at = 0

    def search(
        self,
        connection: sqlite3.Connection,
        query: str,
        k: int,
        *,
        num_documents: int,
        allowed: Callable[[Rows], Mask] | None = None,
        complete: bool = True,
    ) -> list[tuple[int, float]]:
        """The ``k`` documents in which the words of a query weigh most, fewer if there are no more.

        A document is found if one of the words stands in it that are not left out; if all of them are very common, if all stand in
        it. When that finds too few, the rarest of the others comes back, and when that is not enough, all of them.

        Args:
            connection: In a transaction.
            query: Any text; nothing in it is syntax.
            k: How many.
            num_documents: How many documents there are.
            allowed: Says of row numbers, in any order, which may be found; as many are found as if there were no others.
            complete: Whether fewer than ``k`` are too few; otherwise only none are. The others have nothing but common words, which
                take time and are the last of the ranking.

        Returns:
            Row numbers with their BM25 (k1 = 1.2, b = 0.75) by the words that count, best first, the older of equal ones first. Of
            documents that have nothing but a very common word, the newest 50,000 are looked at.
        """
        words = query_words(query, MAX_WORDS)
        if not words or k < 1:
            return []
        frequencies = self._ask(connection, words, num_documents)
        rarest_first = sorted(words, key=frequencies.__getitem__)
        totals = accumulate(frequencies[word] for word in rarest_first)
        num_kept = sum(total <= self._postings for total in totals)
        attempts = (
            matching(rarest_first[:num_kept]) or matching(words, "AND"),
            matching(rarest_first[: num_kept + 1]),
            matching(rarest_first),
        )
        found: dict[int, float] = {}
        for match in dict.fromkeys(attempts):
            for row, score in self._rank(connection, match, k, allowed):
                found[row] = max(score, found.get(row, 0.0))  # the more words count, the higher
            if len(found) >= (k if complete else 1):
                break
        return sorted(found.items(), key=lambda one: (-one[1], one[0]))[:k]

    def telling_words(self, connection: sqlite3.Connection, query: str, num_documents: int) -> tuple[str, ...]:
        """The words of a query that are worth marking in a text: those in at most a tenth of the documents, or all if none is."""
        words = query_words(query, MAX_WORDS)
        frequencies = self._ask(connection, words, num_documents)
        return tuple(word for word in words if frequencies[word] <= _common_from(num_documents)) or words

    def _ask(self, connection: sqlite3.Connection, words: Sequence[str], num_documents: int) -> dict[str, int]:
        """In how many documents each word stands; of the most common ones only that they are many."""
        known = self._frequencies
        if abs(num_documents - self._asked_at) > _DRIFT * self._asked_at or len(known) > _REMEMBERED_WORDS:
            # Threads that still hold the old one fill that one, which does no harm.
            known = self._frequencies = {}
            self._asked_at = num_documents
        enough = int(max(self._postings, _common_from(num_documents))) + 1
        for word in words:
            if word not in known:
                (known[word],) = connection.execute(_COUNT, (matching([word]), enough)).fetchone()
        return {word: known[word] for word in words}

    def _rank(
        self, connection: sqlite3.Connection, match: str, k: int, allowed: Callable[[Rows], Mask] | None
    ) -> list[tuple[int, float]]:
        statement, listed = _RANKED_WITHOUT, "[]"
        if allowed is not None:
            # To read the rows alone is far quicker than to rank them.
            rows = np.array(json.loads(connection.execute(_ROWS, (match,)).fetchone()[0]), dtype=np.int64)
            mask = allowed(rows)
            few = np.count_nonzero(mask) * 2 < len(mask)
            statement = _RANKED_OF if few else _RANKED_WITHOUT
            listed = json.dumps(rows[mask if few else ~mask].tolist())
        most = min(max(k, self._ranked_rows), _LARGEST)
        found = connection.execute(statement, (match, listed, most, min(k, most)))
        return [(row, -score) for row, score in found]


def _common_from(num_documents: int) -> float:
    return max(_FEW_DOCUMENTS, _COMMON * num_documents)
