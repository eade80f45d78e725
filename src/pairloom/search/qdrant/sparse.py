"""BM25 as sparse vectors: what a server needs that knows nothing of words.

A document's vector has a number for each of its words: that part of BM25 which depends on the document alone. A query's has a
1 for each of its words. The server weighs words by how rare they are, and the inner product is the BM25 score::

    sum over words: idf(word) · f · (k1 + 1) / (f + k1 · (1 - b + b · length / average length))

Words are those of the embedded edition (`pairloom.search.words.search`), cut and folded by the very same tokenizer, which is SQLite's. A
vector knows no places, so where that edition looks for two neighbouring characters of a script without spaces as a phrase, here
each such pair is a word of its own, beside the characters.

Reference: Robertson and Zaragoza 2009, *The Probabilistic Relevance Framework: BM25 and Beyond*,
https://doi.org/10.1561/1500000019.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

from pairloom.search.words.search import K1, MAX_WORDS, B
from pairloom.search.words.segment import SEPARATOR, TOKENIZER, segment

_QUERY_CHARACTERS = 20_000
_PLACE_BYTES = 4
_REMEMBERED_WORDS = 1 << 16
# `segment` puts a separator before and behind each character of a run.
_RUN = re.compile(f"(?:{SEPARATOR}[^{SEPARATOR}]+{SEPARATOR})+")


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Numbers at some of 2**32 places, each of which stands for a word (now and then for two)."""

    indices: list[int]
    values: list[float]


@dataclass(frozen=True, slots=True)
class WordCounts:
    """How often each word stands in a text.

    Args:
        counts: By place.
        length: How many words the text has. Pairs of characters do not count, since each character does.
    """

    counts: Counter[int]
    length: int


def count_words(texts: Sequence[str]) -> list[WordCounts]:
    """The words of some texts."""
    counts: list[Counter[int]] = [Counter() for _ in texts]
    lengths = [0] * len(texts)
    segmented = map(segment, texts)
    rows = ((number, text, " ".join(_pairs(text))) for number, text in enumerate(segmented))
    with closing(_tokenized(rows)) as connection:
        for number, word, column in connection.execute("SELECT doc, term, col FROM terms WHERE term <> ''"):
            counts[number][place_of(word)] += 1
            lengths[number] += column == "text"
    return [WordCounts(*both) for both in zip(counts, lengths, strict=True)]


def document_vector(words: WordCounts, average_words: float) -> SparseVector:
    """The vector of a document.

    Args:
        words: Of the document.
        average_words: The average length of documents. It is the same for all of a collection, or they cannot be compared.
    """
    norm = K1 * (1 - B + B * words.length / max(average_words, 1.0))
    counts = sorted(words.counts.items())
    return SparseVector([place for place, _ in counts], [count * (K1 + 1) / (count + norm) for _, count in counts])


def query_vector(query: str) -> SparseVector:
    """The vector of a query: its first different words, as many as the embedded edition looks at. Nothing in it is syntax."""
    text = segment(query[:_QUERY_CHARACTERS])
    # Of a run, its pairs say more than its characters; a character that stands alone is in no pair.
    singles = _RUN.sub(lambda run: run[0] if len(_characters(run[0])) == 1 else " ", text)
    with closing(_tokenized([(0, singles, " ".join(_pairs(text)))])) as connection:
        found = connection.execute("SELECT term FROM terms WHERE term <> '' GROUP BY term ORDER BY min(offset)")
        places = sorted({place_of(word) for (word,) in itertools.islice(found, MAX_WORDS)})
    return SparseVector(places, [1.0] * len(places))


@lru_cache(_REMEMBERED_WORDS)
def place_of(word: str) -> int:
    """The place of a word, from its letters alone: the same in all collections, machines and versions, for ever."""
    return int.from_bytes(blake2b(word.encode(), digest_size=_PLACE_BYTES).digest(), "little")


def _pairs(segmented: str) -> Iterator[str]:
    """The pairs of neighbouring characters of scripts without spaces."""
    if SEPARATOR in segmented:
        for run in _RUN.finditer(segmented):
            yield from map("".join, itertools.pairwise(_characters(run[0])))


def _characters(run: str) -> list[str]:
    return [character for character in run.split(SEPARATOR) if character]


def _tokenized(rows: Iterable[tuple[int, str, str]]) -> sqlite3.Connection:
    """A database whose table ``terms`` has every word of some rows, with the row (doc), the column (col) and the place.

    An accent that stands alone is an empty word.
    """
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(f"CREATE VIRTUAL TABLE words USING fts5(text, pairs, content='', tokenize='{TOKENIZER}')")
    connection.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(words, instance)")
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO words(rowid, text, pairs) VALUES (?, ?, ?)", rows)
    connection.execute("COMMIT")
    return connection
