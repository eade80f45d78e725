"""Putting documents into a collection: what changed is encoded, and each block is written by one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.encode.blocks import text_blocks
from pairloom.encode.dual_encoder import AnyEncoder, halves
from pairloom.errors import CollectionError, ModelError, UsageError
from pairloom.progress import meter
from pairloom.records import Document
from pairloom.search import rows as tables
from pairloom.search.checking import check_document
from pairloom.search.ledger import Ledger
from pairloom.search.protocol import Duplicate, Vectors, Written
from pairloom.search.rows import NewRow, Stored, as_json, text_hash
from pairloom.search.settings import Settings

Nearest = Callable[[Vectors, int], list[list[tuple[str, float]]]]
_Vector = npt.NDArray[Any]


@dataclass
class _Change:
    """A document that is new or not as it was."""

    document: Document
    hash: bytes
    metadata: str
    stored: Stored | None
    vector: _Vector | None = None
    """As it is stored; None while it must be made."""


@dataclass
class _Counts:
    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    encoded: int = 0
    truncated: int = 0
    duplicates: list[Duplicate] = field(default_factory=list)


class Writer:
    """Writes documents to a ledger. The caller has made sure that nobody else does.

    Args:
        ledger: The ledger.
        settings: Of the collection.
        encoder: What makes vectors; None if they are given.
        comparable: Makes of vectors [N, D] those that are kept.
        nearest: Ids and similarities of the documents nearest to vectors.
        on_written: Called when a block has been written.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings,
        encoder: AnyEncoder | None,
        comparable: Callable[[npt.NDArray[Any]], Vectors],
        nearest: Nearest,
        on_written: Callable[[], None],
    ) -> None:
        self._ledger, self._comparable, self._nearest = ledger, comparable, nearest
        self._encoder = None if encoder is None else halves(encoder)[1]
        self._dtype = np.dtype(settings.storage).newbyteorder("<")
        self._dimensions: int = ledger.about["dimensions"]
        self._on_written = on_written

    def write(
        self,
        documents: Iterable[Document],
        vectors: Vectors | None,
        *,
        replace: bool,
        duplicates: float | None,
        show_progress: bool,
    ) -> Written:
        """Writes documents, block by block; see `pairloom.search.any_collection.AnyCollection.add`."""
        total = len(documents) if isinstance(documents, Sized) else None
        if vectors is not None and total not in (None, len(vectors)):
            raise UsageError(f"there are {total:,} documents and {len(vectors):,} vectors; each document has one")
        counts, begin = _Counts(), 0
        with meter("writing", total=total, unit="texts", show=show_progress) as progress:
            for block in text_blocks(map(check_document, documents)):
                given = None if vectors is None else self._stored(vectors[begin : begin + len(block)])
                begin += len(block)
                if given is not None and len(given) < len(block):
                    raise UsageError(f"there are more documents than the {begin - len(block) + len(given):,} vectors")
                self._write_block(block, given, counts, replace, duplicates)
                progress.advance(len(block))
        if vectors is not None and begin < len(vectors):
            raise UsageError(f"there are {begin:,} documents and {len(vectors):,} vectors; the others belong to none")
        return Written(
            counts.added,
            counts.replaced,
            counts.unchanged,
            counts.encoded,
            counts.truncated,
            tuple(counts.duplicates),
        )

    def _write_block(
        self, block: list[Document], given: _Vector | None, counts: _Counts, replace: bool, duplicates: float | None
    ) -> None:
        changes = self._changes(block, given, replace)
        fresh = [change for change in changes if change.vector is None]
        self._encode(fresh, counts)
        if duplicates is not None:
            counts.duplicates += self._duplicates(changes, duplicates)
        if changes:
            rows = []
            for change in changes:
                assert change.vector is not None
                rows.append(NewRow(change.document, change.hash, change.metadata, change.vector))
            old = [change.stored.row for change in changes if change.stored is not None]
            with self._ledger.writing() as connection:
                tables.remove(connection, old)
                tables.insert(connection, rows)
            counts.replaced += len(old)
            counts.added += len(rows) - len(old)
            self._on_written()
        counts.unchanged += len({document.id for document in block}) - len(changes)

    def _changes(self, block: list[Document], given: _Vector | None, replace: bool) -> list[_Change]:
        """What of a block is to be written, with the vectors that are at hand already."""
        last = {document.id: number for number, document in enumerate(block)}
        if not replace and len(last) < len(block):
            raise CollectionError(f"{self._ledger.folder}: {_repeated(block)!r} is given twice; each id once, please")
        with self._ledger.reading() as connection:
            stored = tables.find(connection, list(last))
            if not replace and stored:
                raise CollectionError(
                    f"{self._ledger.folder}: {next(iter(stored))!r} is there already; upsert replaces it"
                )
            old = tables.read_vectors(connection, [one.row for one in stored.values()], self._dtype, self._dimensions)
        changes = []
        for number in sorted(last.values()):
            document = block[number]
            change = _Change(document, text_hash(document.text), as_json(document.metadata), stored.get(document.id))
            before = change.stored
            if given is not None:
                change.vector = given[number]
            elif before is not None and before.hash == change.hash:
                change.vector = old[before.row]
            is_same = (
                before is not None
                and (before.hash, before.metadata) == (change.hash, change.metadata)
                and (given is None or np.array_equal(given[number], old[before.row]))
            )
            if not is_same:
                changes.append(change)
        return changes

    def _encode(self, changes: list[_Change], counts: _Counts) -> None:
        if not changes:
            return
        assert self._encoder is not None
        places: dict[bytes, int] = {}
        texts: list[str] = []
        for change in changes:  # a text that comes several times is encoded once
            if places.setdefault(change.hash, len(texts)) == len(texts):
                texts.append(change.document.text)
        (encoded,) = self._encoder.encode_blocks([texts], prompt_name=self._encoder.document_prompt)
        finite = np.isfinite(encoded.vectors).all(axis=1)
        if not finite.all():
            number = int(np.argmin(finite))
            name = next(change.document.id for change in changes if places[change.hash] == number)
            raise ModelError(f"{self._encoder.model.name}: its vector of {name!r} is not finite; do not use it")
        vectors = self._stored(self._comparable(encoded.vectors))
        for change in changes:
            change.vector = vectors[places[change.hash]]
        counts.encoded += len(texts)
        counts.truncated += encoded.num_truncated

    def _stored(self, vectors: Vectors) -> _Vector:
        with np.errstate(over="ignore"):
            stored = vectors.astype(self._dtype)
        if not np.isfinite(stored).all():
            raise UsageError(
                f"{self._ledger.folder}: a vector has numbers too large for {self._dtype.name}; make the collection with "
                "storage float32"
            )
        return stored

    def _duplicates(self, changes: list[_Change], least: float) -> Iterator[Duplicate]:
        """Of each document the one most like it that was there before or comes before it, if it is so alike."""
        if not changes:
            return
        ids = [change.document.id for change in changes]
        vectors = np.stack([change.vector for change in changes if change.vector is not None]).astype(np.float32)
        similar = np.tril(vectors @ vectors.T, -1)
        np.fill_diagonal(similar, -np.inf)
        similar[np.triu_indices(len(ids))] = -np.inf
        replaced = set(ids)
        for number, (id_, there) in enumerate(zip(ids, self._nearest(vectors, 2), strict=True)):
            others = [(score, other) for other, score in there if other not in replaced]
            place = int(np.argmax(similar[number]))
            if np.isfinite(similar[number, place]):
                others.append((float(similar[number, place]), ids[place]))
            if others and max(others)[0] >= least:
                score, other = max(others)
                yield Duplicate(id_, other, score)


def _repeated(block: list[Document]) -> str:
    return Counter(document.id for document in block).most_common(1)[0][0]
