"""Which documents have a word, and how often: read from the index of words, and remembered until something is changed.

A word's documents are read from FTS5's own list of all places of a word (``fts5vocab``), and a document's length from the table in
which FTS5 keeps it. Words recur from query to query, the common ones, of which there is much to read, most of all. So what was read
stays in memory as long as it is right, which is until the next change of the collection.

Reference: https://www.sqlite.org/fts5.html (the fts5vocab virtual table; the tables of an index).
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pairloom.search.words.scratch import tokenized

Rows = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.integer[Any]]

# Five or six each is what postings take: enough for the words of thousands of queries to a hundred thousand documents.
_REMEMBERED_BYTES = 64 << 20
# What a word takes besides, also one that stands nowhere.
_BYTES_A_WORD = 512
# A word that stands in more places is left to SQLite, which does not have to hold them all.
_MOST_PLACES = 1_000_000
# FTS5 cuts longer words, at 32,768 bytes, within a character if need be.
_LONGEST_WORD = 8_000
_REMEMBERED_TERMS = 100_000
# Lengths of rows up to this number are remembered, in four bytes each.
_REMEMBERED_ROWS = 2**24

# The table lasts as long as the connection, and is nothing but a view.
_PLACES = "CREATE VIRTUAL TABLE IF NOT EXISTS temp.word_places USING fts5vocab(main, words, instance)"
_ROWS_OF_PLACES = "SELECT group_concat(doc) FROM (SELECT doc FROM temp.word_places WHERE term = ? LIMIT ?)"
_LENGTHS = "SELECT sz FROM words_docsize WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
# An accent that stands alone is an empty word.
_TERMS_OF_WORDS = "SELECT doc, term FROM places WHERE term <> '' ORDER BY doc, offset"
_AVERAGES = "SELECT block FROM words_data WHERE id = 1"


class Postings(NamedTuple):
    """The documents that have a word.

    Args:
        rows: [n], rising, in as few bytes as hold them.
        counts: [n], how often it stands in each; likewise.
    """

    rows: Numbers
    counts: Numbers


@dataclass
class _Remembered:
    """What is known of the collection as it is after some change."""

    change: int = -1
    postings: OrderedDict[str, Postings | None] = field(default_factory=OrderedDict)
    num_bytes: int = 0
    # By row, one more than the length; 0 where it is not known.
    lengths: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))


class PostingsReader:
    """Reads the index of words and remembers what it has read. Threads may share it, each with a connection of its own.

    Methods take the number of the collection's latest change that the transaction sees: what was read under one number is right
    for it, whoever asks. Without a number nothing is remembered.

    Args:
        capacity: How many bytes of postings are remembered; what has not been asked for the longest is forgotten first.
    """

    def __init__(self, capacity: int = _REMEMBERED_BYTES) -> None:
        self._capacity = capacity
        self._remembered = _Remembered()
        self._guard = threading.Lock()

    def postings(self, connection: sqlite3.Connection, term: str, change: int | None) -> Postings | None:
        """The documents that have a word, given as the index has it (`Terms`); None if it stands in more places than are read."""
        remembered = self._at(change)
        if remembered is None:
            return _read_postings(connection, term)
        with self._guard:
            if term in remembered.postings:
                remembered.postings.move_to_end(term)
                return remembered.postings[term]
        found = _read_postings(connection, term)
        with self._guard:
            if term not in remembered.postings:
                remembered.postings[term] = found
                remembered.num_bytes += _num_bytes(term, found)
            while remembered.num_bytes > self._capacity:
                remembered.num_bytes -= _num_bytes(*remembered.postings.popitem(last=False))
        return found

    def lengths(self, connection: sqlite3.Connection, rows: Rows, change: int | None) -> npt.NDArray[np.int64]:
        """How many words each of some documents has.

        Args:
            connection: In a transaction.
            rows: [n], rising, each of a document.
            change: The latest change.
        """
        remembered = self._at(change)
        if remembered is None or not len(rows) or rows[-1] >= _REMEMBERED_ROWS:
            return _read_lengths(connection, rows)
        with self._guard:
            if rows[-1] >= len(remembered.lengths):
                larger = np.zeros(min(_REMEMBERED_ROWS, 2 * int(rows[-1]) + 1), np.int32)
                larger[: len(remembered.lengths)] = remembered.lengths
                remembered.lengths = larger
            known = remembered.lengths
        unknown = rows[known[rows] == 0]
        if len(unknown):
            # Who writes into an array that another thread has just replaced has worked in vain, and done no harm.
            known[unknown] = _read_lengths(connection, unknown) + 1
        return known[rows].astype(np.int64) - 1

    def _at(self, change: int | None) -> _Remembered | None:
        """What is remembered of a change; None of one that is older than the latest."""
        if change is None:
            return None
        with self._guard:
            if change > self._remembered.change:
                self._remembered = _Remembered(change)
            return self._remembered if change == self._remembered.change else None


class Terms:
    """Makes of words what the index has of them, by the tokenizer that made the index. Threads may share it."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, ...]] = {}
        self._guard = threading.Lock()

    def of(self, words: Sequence[str]) -> list[tuple[str, ...]]:
        """Of each word the words of the index that it is made of: mostly one, of a phrase several, of a mere sign none.

        None, too, of a word longer than all that are written.
        """
        with self._guard:
            unknown = [word for word in dict.fromkeys(words) if word not in self._known]
            if unknown:
                if len(self._known) > _REMEMBERED_TERMS:
                    self._known, unknown = {}, list(dict.fromkeys(words))
                self._known.update(zip(unknown, _tokenize(unknown), strict=True))
            return [self._known[word] for word in words]


def averages(connection: sqlite3.Connection) -> tuple[int, float]:
    """How many documents an index has that is not empty, and how many words they have on average.

    Raises:
        sqlite3.DatabaseError: It does not say.
    """
    found = connection.execute(_AVERAGES).fetchone()
    numbers = [] if found is None else _varints(found).tolist()
    if len(numbers) < 2 or not all(numbers[:2]):
        raise sqlite3.DatabaseError("the average length of documents is missing")
    return numbers[0], numbers[1] / numbers[0]


def _num_bytes(term: str, postings: Postings | None) -> int:
    """What is taken by remembering them, about."""
    return _BYTES_A_WORD + len(term) + (0 if postings is None else postings.rows.nbytes + postings.counts.nbytes)


def _tokenize(words: Sequence[str]) -> Iterable[tuple[str, ...]]:
    found: list[list[str]] = [[] for _ in words]
    with tokenized(word if len(word) <= _LONGEST_WORD else "" for word in words) as connection:
        for number, term in connection.execute(_TERMS_OF_WORDS):
            found[number].append(term)
    return map(tuple, found)


def _read_postings(connection: sqlite3.Connection, term: str) -> Postings | None:
    connection.execute(_PLACES)
    # One string is read sooner than many numbers.
    (listed,) = connection.execute(_ROWS_OF_PLACES, (term, _MOST_PLACES + 1)).fetchone()
    places = np.fromstring(listed or "", dtype=np.int64, sep=",")
    if len(places) > _MOST_PLACES:
        return None
    begins = np.flatnonzero(np.diff(places, prepend=-1))
    counts = np.diff(begins, append=len(places))
    return Postings(_smallest(places[begins]), _smallest(counts))


def _smallest(numbers: Numbers) -> Numbers:
    """The same numbers in four bytes or one each, if they fit."""
    most = int(numbers.max(initial=0))
    return numbers.astype(np.uint8 if most < 2**8 else np.int32 if most < 2**31 else np.int64)


def _read_lengths(connection: sqlite3.Connection, rows: Rows) -> npt.NDArray[np.int64]:
    found = connection.execute(_LENGTHS, (json.dumps(rows.tolist()),))
    lengths = _varints(size for (size,) in found)
    if len(lengths) != len(rows):
        raise sqlite3.DatabaseError("lengths of documents are missing")
    return lengths


def _varints(encoded: Iterable[bytes]) -> npt.NDArray[np.int64]:
    """Numbers as SQLite writes them: seven bits a byte, the highest first, the eighth bit set where more follow (up to 2**56)."""
    try:
        data = np.frombuffer(b"".join(encoded), np.uint8)
    except TypeError:
        raise sqlite3.DatabaseError("lengths of documents are not as they were written") from None
    ends = np.flatnonzero(data < 0x80)
    begins = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    numbers = np.zeros(len(ends), np.int64)
    for place in range(int((ends - begins).max(initial=-1)) + 1):
        has = begins + place <= ends
        numbers[has] = numbers[has] << 7 | (data[begins[has] + place] & 0x7F)
    return numbers
