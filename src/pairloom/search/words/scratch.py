"""A place in memory where SQLite looks at some texts for a moment, by the tokenizer of the index of words."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pairloom.search.words.segment import TOKENIZER, segment

_own = threading.local()


class _Connection(sqlite3.Connection):
    """Closed when its thread ends."""

    def __del__(self) -> None:
        self.close()


@contextmanager
def tokenized(texts: Iterable[str]) -> Iterator[sqlite3.Connection]:
    """A database whose table ``texts(text)`` has these texts, numbered from 0, and whose table ``places`` all their words.

    Every thread has one, which is made only once, since that takes longer than to look at a few texts; what is in it goes when
    the block ends.
    """
    connection: sqlite3.Connection | None = getattr(_own, "connection", None)
    _own.connection = None  # a block within this one needs another
    if connection is None:
        # Who takes away what an ended thread has left may be another one.
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, factory=_Connection)
        connection.execute(f"CREATE VIRTUAL TABLE texts USING fts5(text, tokenize='{TOKENIZER}')")
        connection.execute("CREATE VIRTUAL TABLE places USING fts5vocab(texts, instance)")
    try:
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO texts(rowid, text) VALUES (?, ?)", enumerate(map(segment, texts)))
        yield connection
        connection.execute("ROLLBACK")
    except BaseException:
        connection.close()
        raise
    _own.connection = connection
