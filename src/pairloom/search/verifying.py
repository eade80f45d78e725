"""Whether a collection is as it was written, and making anew what is derived from its documents."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any
from zlib import crc32

from pairloom.errors import ArtifactError, CollectionError
from pairloom.search import rows as tables
from pairloom.search.filters import facets
from pairloom.search.ledger import Ledger, get, put
from pairloom.search.state import open_index
from pairloom.search.words import search as words
from pairloom.search.words.segment import VERSION as WORDS_VERSION

_BLOCK_ROWS = 4_096
_FACETS = "SELECT name, kind, value, row FROM facets JOIN facet_fields USING (field)"
_WORDS_OF_OTHERS = """
SELECT (SELECT count(*) FROM words_docsize WHERE id NOT IN (SELECT row FROM documents)), (SELECT count(*) FROM words_docsize)
"""
_ADVICE = "restore the ledger from a backup"
_REBUILD = "pairloom collection rebuild makes it anew"


def verify(ledger: Ledger) -> dict[str, Any]:
    """Reads every byte of a collection; see `pairloom.search.collection.Collection.verify`."""
    folder = ledger.folder
    with ledger.reading() as connection:
        _verify_pages(connection, folder)
        num_documents = _verify_rows(connection, folder)
        count = get(connection, "count")
        if count != num_documents:
            raise CollectionError(f"{folder}: has {num_documents:,} documents and counted {count:,}; {_ADVICE}")
        if _facets_digest(connection) != _facets_digest_of_documents(connection):
            raise CollectionError(f"{folder}: what filters look at is not what follows from the documents; {_REBUILD}")
        if connection.execute(_WORDS_OF_OTHERS).fetchone() != (0, num_documents):
            raise CollectionError(f"{folder}: words are not kept of the documents that there are; {_REBUILD}")
        index = get(connection, "index")
    return {"count": num_documents, "index": _verify_index(ledger, index)}


def rebuild_tables(ledger: Ledger) -> None:
    """Makes the tables of words and filters anew from the documents, in one transaction."""
    with ledger.writing() as connection:
        facets.drop_facets(connection)
        words.drop_words(connection)
        facets.create_facets(connection)
        words.create_words(connection)
        last = 0
        while block := tables.documents_after(connection, last, _BLOCK_ROWS):
            facets.insert_facets(connection, [(row, document.metadata) for row, document in block])
            words.insert_words(connection, [(row, document.text) for row, document in block])
            last = block[-1][0]
        put(connection, "words", WORDS_VERSION)


def _verify_pages(connection: sqlite3.Connection, folder: Path) -> None:
    found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise CollectionError(f"{folder}: its ledger is damaged ({' '.join(str(found).split())}); {_ADVICE}")


def _verify_index(ledger: Ledger, index: dict[str, Any] | None) -> str | None:
    """Looks at the index; at its successor, if it has been replaced, and so removed, meanwhile."""
    while index is not None:
        try:
            open_index(ledger.folder, index["folder"])
            return str(index["folder"])
        except ArtifactError as error:
            with ledger.reading() as connection:
                now = get(connection, "index")
            if now is not None and now["folder"] == index["folder"]:
                raise CollectionError(f"{str(error).partition(';')[0]}; {_REBUILD}") from None
            index = now
    return None


def _verify_rows(connection: sqlite3.Connection, folder: Path) -> int:
    last = num_rows = 0
    while block := tables.documents_after(connection, last, _BLOCK_ROWS):
        first, last = block[0][0], block[-1][0]
        vectors = connection.execute(
            "SELECT row, vector, checksum FROM vectors WHERE row BETWEEN ? AND ? ORDER BY row", (first, last)
        ).fetchall()
        if [row for row, _ in block] != [row for row, _, _ in vectors]:
            raise CollectionError(f"{folder}: not every document has a vector; {_ADVICE}")
        for row, vector, checksum in vectors:
            if crc32(vector) != checksum:
                raise CollectionError(f"{folder}: the vector of row {row} is not as it was written; {_ADVICE}")
        num_rows += len(block)
    return num_rows


def _facets_digest(connection: sqlite3.Connection) -> int:
    """A sum that does not depend on the order, so that nothing needs to be sorted."""
    return sum(hash(facet) for facet in connection.execute(_FACETS)) % 2**64


def _facets_digest_of_documents(connection: sqlite3.Connection) -> int:
    total = last = 0
    while block := tables.documents_after(connection, last, _BLOCK_ROWS):
        last = block[-1][0]
        for row, document in block:
            found = facets.facets(document.metadata)
            total += sum(hash((name, facets.CODES[kind], value, row)) for name, kind, value in found)
    return total % 2**64
