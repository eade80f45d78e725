"""The ledger of a collection: all that is known, in one SQLite file that changes by transactions.

Whatever was acknowledged is in it, whole; everything else in the folder is derived from it. Many threads and processes may
read while one writes: a reader sees the ledger as it was when it began to read.

References: https://www.sqlite.org/wal.html, https://www.sqlite.org/isolation.html
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from pairloom.artifacts import only_one
from pairloom.errors import BusyError, CollectionError, OccupiedError
from pairloom.search.filters import facets
from pairloom.search.words import search as words
from pairloom.search.words.segment import VERSION as WORDS_VERSION

SCHEMA = 1
FILE = "ledger.db"
LOCK = ".lock"
# A writer of a few documents is done by then; one of millions is not, and who waits shall hear of it.
WAIT_S = 2.0
_BUSY_MS = 10_000
_CACHE_KIB = 65_536

# A row is a version of a document and never changes; the next version has a new and larger number. So whatever is derived from
# rows up to some number stays right but for what `deletions` has gathered since.
_TABLES = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE documents(
    row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL, metadata TEXT NOT NULL,
    hash BLOB NOT NULL, checksum INTEGER NOT NULL
);
CREATE TABLE vectors(row INTEGER PRIMARY KEY, vector BLOB NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE deletions(number INTEGER PRIMARY KEY AUTOINCREMENT, row INTEGER NOT NULL);
"""


def is_collection(path: Path) -> bool:
    """Whether a folder is a collection."""
    return (path / FILE).is_file()


class Ledger:
    """The open ledger of a collection; safe to use from several threads.

    Args:
        folder: The collection.

    Raises:
        CollectionError: There is none, it is damaged, or a newer version made it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / FILE
        if not self.path.is_file():
            what = "is no collection" if folder.exists() else "no such collection"
            raise CollectionError(f"{folder}: {what}; make one with pairloom index")
        self._idle: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._writing = threading.RLock()
        self._writer: sqlite3.Connection | None = None
        self._has_lock = self._is_closed = False
        with self.reading() as connection:
            if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
                raise CollectionError(f"{folder}: its making was interrupted; make it again with pairloom index")
            if get(connection, "schema") > SCHEMA:
                raise CollectionError(f"{folder}: written by a newer pairloom; upgrade to read it")
            self.about: dict[str, Any] = get(connection, "about")
            """What was decided when the collection was made."""
            self.has_old_words = get(connection, "words") != WORDS_VERSION
            """Whether the words were cut by other rules than today's, and must be made anew before anything is changed."""

    @classmethod
    def create(cls, folder: Path, about: dict[str, Any]) -> Ledger:
        """Makes the ledger of a new collection; the folder may be there if it has no other in it.

        Raises:
            CollectionError: There is one, or none can be written there.
        """
        try:
            with only_one(folder, name=LOCK), _said(folder), closing(_connect(folder / FILE, "rwc")) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("BEGIN IMMEDIATE")
                if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
                    _create_tables(connection, about)
                    connection.execute("COMMIT")
                    return cls(folder)
        except OccupiedError as error:
            raise BusyError(str(error)) from None
        raise CollectionError(f"{folder}: already a collection; add to it with pairloom collection add")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees the ledger as it is now, whatever is written meanwhile."""
        with self._guard:
            self._refuse_if_closed()
            connection = self._idle.pop() if self._idle else None
        with _said(self.folder):
            if connection is None:
                connection = _connect(self.path, "ro")
            try:
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.close()
                raise
        with self._guard:
            if not self._is_closed:
                self._idle.append(connection)
                return
        connection.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes this thread the only writer; within it `writing` may be used any number of times.

        Raises:
            BusyError: Another process writes, and did not end within some seconds.
        """
        with self._writing:
            if self._has_lock:
                yield
                return
            try:
                lock = only_one(self.folder, name=LOCK, wait_s=WAIT_S)
                lock.__enter__()
            except OccupiedError:
                raise BusyError(
                    f"{self.folder}: another process is writing to it; wait until it is done, or stop it (searching is "
                    "possible meanwhile)"
                ) from None
            try:
                self._has_lock = True
                yield
            finally:
                self._has_lock = False
                lock.__exit__(None, None, None)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is on the disk when the block ends, or nothing if it ends by an error."""
        with self.locked(), _said(self.folder):
            self._refuse_if_closed()
            connection = self._writer = self._writer or _connect(self.path, "rw")
            try:
                with _transaction(connection):
                    yield connection
            except BaseException:
                self._writer = None  # which undoes what was not committed
                connection.close()
                raise

    @contextmanager
    def amending(self) -> Iterator[sqlite3.Connection]:
        """A small transaction that goes well with documents being written: it waits for a block of them, not for all."""
        with _said(self.folder):
            self._refuse_if_closed()
            with closing(_connect(self.path, "rw")) as connection, _transaction(connection):
                yield connection

    def close(self) -> None:
        """Closes the file, after a write that is under way; who is reading finishes first."""
        with self._writing, self._guard:
            self._is_closed = True
            for connection in (*self._idle, *([self._writer] if self._writer else [])):
                connection.close()
            self._idle.clear()
            self._writer = None

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise CollectionError(f"{self.folder}: has been closed; open it again")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commits a change when the block ends; if that fails, the connection is of no use any more."""
    connection.execute("BEGIN IMMEDIATE")
    yield
    put(connection, "change", get(connection, "change") + 1)
    connection.execute("COMMIT")


def get(connection: sqlite3.Connection, key: str, *, default: Any = ...) -> Any:
    """A value of ``meta``, as JSON has it."""
    found = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    if found is None:
        if default is ...:
            raise sqlite3.DatabaseError(f"{key!r} is missing")
        return default
    return json.loads(found[0])


def put(connection: sqlite3.Connection, key: str, value: Any) -> None:
    """Sets a value of ``meta``."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))


def _create_tables(connection: sqlite3.Connection, about: dict[str, Any]) -> None:
    for statement in _TABLES.split(";"):
        connection.execute(statement)
    facets.create_facets(connection)
    words.create_words(connection)
    start = {
        "schema": SCHEMA,
        "about": about,
        "change": 0,
        "count": 0,
        "next_row": 1,
        "index": None,
        "pruned": 0,
        "words": WORDS_VERSION,
    }
    for key, value in start.items():
        put(connection, key, value)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    if mode == "ro" and not os.access(path.parent, os.W_OK) and not _has_log(path):
        mode = "ro&immutable=1"  # on a medium that cannot be written to, the files that readers share cannot be made
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    connection.execute("PRAGMA synchronous=FULL")  # what was acknowledged outlives a loss of power, too
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA cell_size_check=ON")
    return connection


def _has_log(path: Path) -> bool:
    log = path.with_name(f"{path.name}-wal")
    return log.is_file() and log.stat().st_size > 0


@contextmanager
def _said(folder: Path) -> Iterator[None]:
    """Makes SQLite's complaints ours."""
    try:
        yield
    except sqlite3.Error as error:
        match getattr(error, "sqlite_errorcode", 0) & 0xFF:
            case sqlite3.SQLITE_FULL:
                sentence = "the disk is full; free some space and run again (what was written before is there)"
            case sqlite3.SQLITE_IOERR:
                sentence = f"cannot be read or written ({error}); is the disk full, or failing?"
            case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
                sentence = f"cannot be written ({error}); look at the permissions of the folder and its files"
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                raise BusyError(f"{folder}: another program holds its ledger; end that one") from None
            case code if (
                code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or type(error) is sqlite3.DatabaseError
            ):
                sentence = f"its ledger is damaged ({error}); restore {FILE} from a backup, or index the texts anew"
            case _:
                raise
        raise CollectionError(f"{folder}: {sentence}") from None
