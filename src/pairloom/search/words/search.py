"""Search by words: BM25 over the full-text index that SQLite keeps (FTS5), in the caller's transaction.

The index holds no texts, only which words stand where; the texts are the documents'. To delete a text from it, the index must be
given the text again.

How long a search takes follows from how many places it reads: a word that stands in every third document says next to nothing, and
takes longer than all others together. So the rarest words of a query count, as many as stand in `POSTINGS` documents together; no list
of stop words is needed, in no language. Where many documents have one of the words, those are scored that have the most of them,
weighed by how rare they are (a cascade: Wang et al. 2011, *A Cascade Ranking Model for Efficient Ranked Retrieval*,
https://doi.org/10.1145/2009916.2009934). What is read of a word is remembered (`pairloom.search.words.postings`), and scored here;
phrases, and words that are too common for that, FTS5 scores itself, in the same way.

References:
    https://www.sqlite.org/fts5.html (tokenizers, contentless tables, the formula and the constants of ``bm25``); Robertson and
    Zaragoza 2009, *The Probabilistic Relevance Framework: BM25 and Beyond*, https://doi.org/10.1561/1500000019.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Literal

import numpy as np
import numpy.typing as npt

from pairloom.search.words.postings import Numbers, Postings, PostingsReader, Rows, Terms, averages
from pairloom.search.words.segment import TOKENIZER, query_words, segment

Mask = npt.NDArray[np.bool_]
Weights = npt.NDArray[np.float64]
Operator = Literal["OR", "AND"]

K1, B = 1.2, 0.75
"""Of BM25, as FTS5 has them."""

POSTINGS = 80_000
"""In how many documents the words of a query may stand together before the most common of them are left out."""

# Up to so many are all scored.
_SCORED_POSTINGS = 5_000
# Of more, and of several words, so many documents are scored.
_CANDIDATES = 500

MAX_WORDS = 128
"""Different words of a query that are looked at: a model, too, reads the beginning only, and each word costs a look-up."""

# Of the documents that have nothing but a very common word, so many are scored: the newest.
_NEWEST = 50_000
# What is known of a word's frequency is asked again when the collection has become larger or smaller by a tenth.
_DRIFT = 0.1
# Words that stand in more than a tenth of the documents show nothing when they are marked.
_COMMON = 0.1
_FEW_DOCUMENTS = 10
_REMEMBERED_WORDS = 100_000
_LEAST_WEIGHT = 1e-6
_DENSE_ROWS = 2**22  # of which a number each is held, which is quicker than to sort
_LARGEST = 2**62  # that SQLite takes for a limit

_COUNT = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)"
_ROWS = "SELECT group_concat(rowid) FROM words WHERE words MATCH ?"  # one string is read sooner than many numbers
# The plus keeps SQLite from asking the index once for each row of the list.
_SCORED = """
SELECT row, score FROM (
    SELECT rowid AS row, bm25(words) AS score FROM words WHERE words MATCH ? {} ORDER BY rowid DESC LIMIT ?
) ORDER BY score, row LIMIT ?
"""
_BEST, _BEST_OF = _SCORED.format(""), _SCORED.format("AND +rowid IN (SELECT value FROM json_each(?))")


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


def matching(words: Iterable[str], operator: Operator = "OR") -> str:
    """The FTS5 query that finds texts with at least one of some `query_words`, or with all of them."""
    return f" {operator} ".join(f'"{word}"' for word in words)


class WordSearch:
    """Ranks documents by the words of a query. Safe to use from several threads, each with a connection of its own.

    It remembers how common words are. That decides which ones are left out, and never a score, so it may be a little out of date.

    Args:
        postings: In how many documents the words of a query may stand together.
        scored_postings: In how many, if all these documents are scored.
        candidates: How many documents are scored otherwise, at least.
        newest: How many documents are scored of those that have nothing but a very common word.
    """

    def __init__(
        self,
        postings: int = POSTINGS,
        *,
        scored_postings: int = _SCORED_POSTINGS,
        candidates: int = _CANDIDATES,
        newest: int = _NEWEST,
    ) -> None:
        self._postings, self._scored_postings = postings, scored_postings
        self._candidates, self._newest = candidates, newest
        self._frequencies: dict[str, int] = {}
        self._asked_at = 0
        self._terms, self._reader = Terms(), PostingsReader()

    def search(
        self,
        connection: sqlite3.Connection,
        query: str,
        k: int,
        *,
        num_documents: int,
        change: int | None = None,
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
            change: The number of the latest change of the collection that the transaction sees: what is read for one query is
                remembered for the next until there is another one. Without a number nothing is.
            allowed: Says of row numbers, in any order, which may be found; as many are found as if there were no others.
            complete: Whether fewer than ``k`` are too few; otherwise only none are, and of documents that have nothing but a very
                common word a fifth as many are looked at. That is enough where the ranking is one of several.

        Returns:
            Row numbers with their BM25 (k1 = 1.2, b = 0.75) by the words that count, best first, the older of equal ones first. Of
            documents that have nothing but a very common word, the newest 50,000 are looked at.
        """
        words = query_words(query, MAX_WORDS)
        if not words or k < 1:
            return []
        frequencies = self._ask(connection, words, num_documents)
        rarest_first = tuple(sorted(words, key=frequencies.__getitem__))
        totals = accumulate(frequencies[word] for word in rarest_first)
        num_kept = 1 if len(words) == 1 else sum(total <= self._postings for total in totals)
        attempts: list[tuple[tuple[str, ...], Operator]] = [
            (rarest_first[:num_kept], "OR") if num_kept else (words, "AND"),
            (rarest_first[: num_kept + 1], "OR"),
            (rarest_first, "OR"),
        ]
        newest = max(k, self._newest if complete else self._newest // 5)
        found: dict[int, float] = {}
        for some, operator in dict.fromkeys(attempts):
            num_postings = sum(frequencies[word] for word in some)
            is_bounded = num_postings <= self._postings
            postings = self._read(connection, some, change) if operator == "OR" and is_bounded else None
            if postings is not None:
                rows = self._worth_scoring([part.rows for part in postings], k, num_documents, allowed, newest)
                lengths = self._reader.lengths(connection, rows, change)
                ranked = _bm25(postings, rows, lengths, averages(connection), k) if len(rows) else ()
            else:
                scored = None
                are_many = operator == "OR" and len(some) > 1 and num_postings > self._scored_postings
                if are_many and (is_bounded or allowed is not None):
                    parts = [_read_rows(connection, matching([word])) for word in some]
                    scored = self._worth_scoring(parts, k, num_documents, allowed, newest)
                elif allowed is not None:
                    scored = _read_rows(connection, matching(some, operator))
                    scored = scored[allowed(scored)][-newest:]
                ranked = _score(connection, matching(some, operator), scored, k, newest)
            for row, score in ranked:
                found[row] = max(score, found.get(row, 0.0))  # the more words count, the higher
            if len(found) >= (k if complete else 1):
                break
        return sorted(found.items(), key=lambda one: (-one[1], one[0]))[:k]

    def telling_words(self, connection: sqlite3.Connection, query: str, num_documents: int) -> tuple[str, ...]:
        """The words of a query that are worth marking in a text: those in at most a tenth of the documents, or all if none is."""
        words = query_words(query, MAX_WORDS)
        frequencies = self._ask(connection, words, num_documents)
        return tuple(word for word in words if frequencies[word] <= _common_from(num_documents)) or words

    def _read(self, connection: sqlite3.Connection, words: Sequence[str], change: int | None) -> list[Postings] | None:
        """The postings of each word; None if one is no single word to the index, but a phrase, or is too much to read."""
        terms = self._terms.of(words)
        if any(len(parts) != 1 for parts in terms):
            return None
        found: list[Postings] = []
        for (term,) in terms:
            postings = self._reader.postings(connection, term, change)
            if postings is None:
                return None
            found.append(postings)
        return found

    def _worth_scoring(
        self,
        parts: Sequence[Numbers],
        k: int,
        num_documents: int,
        allowed: Callable[[Rows], Mask] | None,
        newest: int,
    ) -> Rows:
        """Of the documents that have one of some words those that are scored, rising.

        Args:
            parts: The rows with each word, rising.
            k: How many are wanted.
            num_documents: Of the collection.
            allowed: As `search` takes it.
            newest: How many are scored if only one of the words stands anywhere: then nothing tells them apart before.
        """
        rows, weights = _weigh(parts, num_documents)
        if allowed is not None:
            mask = allowed(rows)
            rows, weights = rows[mask], weights[mask]
        num_postings = sum(map(len, parts))
        if sum(map(bool, map(len, parts))) == 1:
            return rows[-newest:]
        return _heaviest(
            rows, weights, max(k, num_postings if num_postings <= self._scored_postings else self._candidates)
        )

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


def _read_rows(connection: sqlite3.Connection, match: str) -> Rows:
    """The rows that match, in rising order."""
    (listed,) = connection.execute(_ROWS, (match,)).fetchone()
    return np.fromstring(listed or "", dtype=np.int64, sep=",")


def _weigh(parts: Sequence[Numbers], num_documents: int) -> tuple[Rows, Weights]:
    """The rows with at least one of some words, in rising order, and how much the words in each weigh together.

    Args:
        parts: The rows with each word, rising.
        num_documents: Of the collection.
    """
    parts = [part for part in parts if len(part)]
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0)
    sizes = np.array([len(part) for part in parts])
    each = [_idf(size, num_documents) for size in sizes.tolist()]
    first, last = min(int(part[0]) for part in parts), max(int(part[-1]) for part in parts)
    if last - first < _DENSE_ROWS:
        weights = np.zeros(last - first + 1)
        for part, weight in zip(parts, each, strict=True):
            weights[part - first] += weight
        places = np.flatnonzero(weights > 0)  # of numbers it takes much longer than of truth values
        return places + first, weights[places]
    rows, inverse = np.unique(np.concatenate(parts), return_inverse=True)
    return rows, np.asarray(np.bincount(inverse, weights=np.repeat(each, sizes)), dtype=np.float64)


def _idf(num_having: int, num_documents: int) -> float:
    """How much a word weighs; as FTS5 has it, one of most documents next to nothing."""
    odds = (num_documents - num_having + 0.5) / (num_having + 0.5)
    return math.log(odds) if odds > 1 else _LEAST_WEIGHT


def _bm25(
    postings: Sequence[Postings], rows: Rows, lengths: Rows, average: tuple[int, float], k: int
) -> Iterable[tuple[int, float]]:
    """The best ``k`` of some documents, each of which has one of the words; the same to the last bits as FTS5's ``bm25``.

    Args:
        postings: Of each word.
        rows: [n], rising.
        lengths: [n], how many words each document has.
        average: How many documents there are, and their average length.
        k: How many.
    """
    num_documents, average_length = average
    norms = K1 * (1 - B + B * lengths / average_length)
    scores = np.zeros(len(rows))
    for part in postings:
        if len(part.rows):
            # Of the same type, or all of the word's rows would be copied.
            places = np.minimum(np.searchsorted(part.rows, rows.astype(part.rows.dtype)), len(part.rows) - 1)
            counts = np.where(part.rows[places] == rows, part.counts[places], 0).astype(np.float64)
            scores += _idf(len(part.rows), num_documents) * (counts * (K1 + 1) / (counts + norms))
    best = np.lexsort((rows, -scores))[:k]
    return zip(rows[best].tolist(), scores[best].tolist(), strict=True)


def _heaviest(rows: Rows, weights: Weights, count: int) -> Rows:
    """So many rows of the largest weights, of equal ones the newest; in rising order, as they came."""
    if len(rows) <= count:
        return rows
    least = np.partition(weights, -count)[-count]
    certain, equal = rows[weights > least], rows[weights == least]
    return np.sort(np.concatenate([certain, equal[len(equal) - (count - len(certain)) :]]))


def _score(
    connection: sqlite3.Connection, match: str, rows: Rows | None, k: int, newest: int
) -> Iterable[tuple[int, float]]:
    """The best ``k`` of some rows that match, or of the newest that do."""
    k, newest = min(k, _LARGEST), min(newest, _LARGEST)
    if rows is None:
        found = connection.execute(_BEST, (match, newest, k))
    else:
        found = connection.execute(_BEST_OF, (match, json.dumps(rows.tolist()), newest, k))
    return [(row, -score) for row, score in found]


def _common_from(num_documents: int) -> float:
    return max(_FEW_DOCUMENTS, _COMMON * num_documents)
