"""What stands in a ledger's tables: documents, their vectors, and what has been deleted. All inside the caller's transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from pairloom.records import Document
from pairloom.search.filters import facets
from pairloom.search.ledger import get, put
from pairloom.search.words import search as words

# SQLite takes at least 999 values in a statement, however it was built.
_VALUES = 500
_HASH_BYTES = 16
# As `json.loads`, for what begins and ends without white space: half of the time, which counts where a search takes a millisecond.
_decode = json.JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True)
class Stored:
    """What the ledger knows of a document without reading its text.

    Args:
        row: Its number.
        hash: Of its text.
        metadata: As JSON.
    """

    row: int
    hash: bytes
    metadata: str


@dataclass(frozen=True, slots=True)
class NewRow:
    """A version of a document that is to be written.

    Args:
        document: The document.
        hash: Of its text.
        metadata: Its metadata as JSON.
        vector: [D], of the stored type.
    """

    document: Document
    hash: bytes
    metadata: str
    vector: npt.NDArray[Any]


def text_hash(text: str) -> bytes:
    """By which it is seen that a text has not changed."""
    return blake2b(text.encode(), digest_size=_HASH_BYTES).digest()


def as_json(metadata: object) -> str:
    """Metadata in the one form in which it is compared and kept."""
    return json.dumps(metadata, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def find(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, Stored]:
    """What there is of some ids."""
    query = "SELECT id, row, hash, metadata FROM documents WHERE id IN "
    return {id_: Stored(row, hash_, metadata) for id_, row, hash_, metadata in _select(connection, query, ids)}


def read_documents(connection: sqlite3.Connection, rows: Sequence[int]) -> dict[int, Document]:
    """The documents of some rows; those that are not there are left out.

    Raises:
        sqlite3.DatabaseError: One is not as it was written.
    """
    query = "SELECT row, id, text, metadata, checksum FROM documents WHERE row IN "
    return {row: _document(row, *columns) for row, *columns in _select(connection, query, rows)}


def read_by_id(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, Document]:
    """The documents of some ids; those that are not there are left out. Raises as `read_documents`."""
    query = "SELECT row, id, text, metadata, checksum FROM documents WHERE id IN "
    return {columns[0]: _document(row, *columns) for row, *columns in _select(connection, query, ids)}


def documents_after(connection: sqlite3.Connection, row: int, limit: int) -> list[tuple[int, Document]]:
    """Some documents in the order of their rows, from the one after ``row`` on. Raises as `read_documents`."""
    found = connection.execute(
        "SELECT row, id, text, metadata, checksum FROM documents WHERE row > ? ORDER BY row LIMIT ?", (row, limit)
    )
    return [(number, _document(number, *columns)) for number, *columns in found]


def metadata_between(connection: sqlite3.Connection, after: int, upto: int) -> Iterator[tuple[int, Any]]:
    """The metadata of the rows behind ``after``, up to ``upto``."""
    query = "SELECT row, metadata FROM documents WHERE row > ? AND row <= ?"
    return ((row, json.loads(metadata)) for row, metadata in connection.execute(query, (after, upto)))


def vectors_after(
    connection: sqlite3.Connection, row: int, limit: int, dtype: np.dtype[Any], dimensions: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Rows and vectors [n, D], as they are stored, in the order of their rows, from the one after ``row`` on."""
    found = connection.execute("SELECT row, vector FROM vectors WHERE row > ? ORDER BY row LIMIT ?", (row, limit))
    return _stack(found.fetchall(), dtype, dimensions)


def read_vectors(
    connection: sqlite3.Connection, rows: Sequence[int], dtype: np.dtype[Any], dimensions: int
) -> dict[int, npt.NDArray[Any]]:
    """The vectors of some rows, as they are stored."""
    found = _select(connection, "SELECT row, vector FROM vectors WHERE row IN ", rows)
    numbers, vectors = _stack(found, dtype, dimensions)
    return dict(zip(numbers.tolist(), vectors, strict=True))


def deleted_after(connection: sqlite3.Connection, number: int) -> tuple[npt.NDArray[np.int64], int]:
    """Which rows have gone since deletion ``number``, and the number of the last one."""
    found = connection.execute("SELECT number, row FROM deletions WHERE number > ? ORDER BY number", (number,))
    pairs = found.fetchall()
    return np.array([row for _, row in pairs], dtype=np.int64), pairs[-1][0] if pairs else number


def insert(connection: sqlite3.Connection, rows: Sequence[NewRow]) -> None:
    """Writes new versions of documents, none of which is there."""
    first = get(connection, "next_row")
    numbered = list(enumerate(rows, start=first))
    connection.executemany(
        "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?)",
        [
            (number, row.document.id, row.document.text, row.metadata, row.hash, _checksum(row.document, row.metadata))
            for number, row in numbered
        ],
    )
    blobs = [(number, row.vector.tobytes()) for number, row in numbered]
    connection.executemany("INSERT INTO vectors VALUES (?, ?, ?)", [(n, blob, crc32(blob)) for n, blob in blobs])
    facets.insert_facets(connection, [(number, row.document.metadata) for number, row in numbered])
    words.insert_words(connection, [(number, row.document.text) for number, row in numbered])
    put(connection, "next_row", first + len(rows))
    put(connection, "count", get(connection, "count") + len(rows))


def remove(connection: sqlite3.Connection, rows: Sequence[int]) -> int:
    """Deletes rows with all that belongs to them; returns how many were there."""
    found = _select(connection, "SELECT row, text, metadata FROM documents WHERE row IN ", rows)
    words.delete_words(connection, [(row, text) for row, text, _ in found])
    facets.delete_facets(connection, [(row, json.loads(metadata)) for row, _, metadata in found])
    numbers = [(row,) for row, _, _ in found]
    connection.executemany("DELETE FROM documents WHERE row = ?", numbers)
    connection.executemany("DELETE FROM vectors WHERE row = ?", numbers)
    connection.executemany("INSERT INTO deletions(row) VALUES (?)", numbers)
    put(connection, "count", get(connection, "count") - len(found))
    return len(found)


def _document(row: int, id_: str, text: str, metadata: str, checksum: int) -> Document:
    try:
        document = Document(id_, text, _decode(metadata)[0])
        is_sound = _checksum(document, metadata) == checksum
    except (TypeError, ValueError):
        is_sound = False
    if not is_sound:
        raise sqlite3.DatabaseError(f"document {id_!r}, row {row}, is not as it was written")
    return document


def _checksum(document: Document, metadata: str) -> int:
    return crc32(f"{document.id}\0{document.text}\0{metadata}".encode())


def _stack(
    found: list[tuple[int, bytes]], dtype: np.dtype[Any], dimensions: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    joined = b"".join(blob for _, blob in found)
    if len(joined) != len(found) * dimensions * dtype.itemsize:
        raise sqlite3.DatabaseError("vectors are not of the size that they were written in")
    numbers = np.fromiter((row for row, _ in found), dtype=np.int64, count=len(found))
    return numbers, np.frombuffer(joined, dtype).reshape(len(found), dimensions)


def _select(connection: sqlite3.Connection, query: str, values: Iterable[Any]) -> list[Any]:
    listed, found = list(values), []
    for begin in range(0, len(listed), _VALUES):
        part = listed[begin : begin + _VALUES]
        found += connection.execute(f"{query} ({','.join('?' * len(part))})", part).fetchall()
    return found
