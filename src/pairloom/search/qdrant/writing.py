"""Putting documents into a collection on a Qdrant server: what changed is encoded, and sent block by block."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from qdrant_client import models

from pairloom.encode.blocks import text_blocks
from pairloom.encode.dual_encoder import AnyEncoder, halves
from pairloom.errors import CollectionError, ModelError, UsageError
from pairloom.progress import meter
from pairloom.records import Document
from pairloom.search.checking import check_document
from pairloom.search.protocol import Duplicate, FieldType, Vectors, Written
from pairloom.search.qdrant.payloads import (
    HASHES,
    VECTOR,
    Hashes,
    make_payload,
    make_vectors,
    point_id,
    read_hashes,
)
from pairloom.search.qdrant.points import Points
from pairloom.search.qdrant.queries import by_vector
from pairloom.search.qdrant.sparse import WordCounts, count_words, document_vector

_FLOAT16_MAX = float(np.finfo(np.float16).max)
# A server keeps a vector in float16, and normalises it once more; what differs by less is the same vector.
_SAME = 2e-3


@dataclass
class _Change:
    """A document that is new or not as it was.

    Args:
        document: The document.
        hashes: Of it.
        is_new: Whether there is none of its id.
        vector: [D]; None if its text is the old one's, whose vector stays, or while it must be made.
        is_same_text: Whether its text is the old one's.
    """

    document: Document
    hashes: Hashes
    is_new: bool
    vector: npt.NDArray[np.float32] | None
    is_same_text: bool


class Writer:
    """Writes documents. One at a time writes to a collection from one process.

    Args:
        points: Of the collection.
        fields: The declared fields.
        encoder: What makes vectors; None if they are given.
        comparable: Makes of vectors [N, D] those that are kept.
        is_float16: Whether the server keeps vectors in float16.
        usual_length: Called with the words of a block; returns the average length of documents, by which all are measured.
    """

    def __init__(
        self,
        points: Points,
        fields: Mapping[str, FieldType],
        encoder: AnyEncoder | None,
        comparable: Callable[[npt.NDArray[np.floating]], Vectors],
        *,
        is_float16: bool,
        usual_length: Callable[[Sequence[WordCounts]], float],
    ) -> None:
        self._points, self._fields, self._comparable, self._usual_length = points, fields, comparable, usual_length
        self._encoder = None if encoder is None else halves(encoder)[1]
        self._is_float16 = is_float16
        self._order = 0

    def write(
        self,
        documents: Iterable[Document],
        vectors: Vectors | None,
        *,
        replacing: bool,
        duplicates: float | None,
        show_progress: bool,
    ) -> Written:
        """Writes documents, block by block; see `pairloom.search.any_collection.AnyCollection.add`."""
        total = len(documents) if isinstance(documents, Sized) else None
        if vectors is not None:
            if total not in (None, len(vectors)):
                raise UsageError(f"there are {total:,} documents and {len(vectors):,} vectors; each document has one")
            self._check_size(vectors)
        done, begin = Written(), 0
        with meter("writing", total=total, unit="texts", show=show_progress) as progress:
            for block in text_blocks(map(check_document, documents)):
                given = None if vectors is None else vectors[begin : begin + len(block)]
                begin += len(block)
                if vectors is not None and begin > len(vectors):
                    raise UsageError(f"there are more documents than the {len(vectors):,} vectors")
                done = self._write_block(block, given, done, replacing, duplicates)
                progress.advance(len(block))
        if vectors is not None and begin < len(vectors):
            raise UsageError(f"there are {begin:,} documents and {len(vectors):,} vectors; the others belong to none")
        return done

    def load(self, documents: Sequence[Document], vectors: Vectors) -> None:
        """Writes a block as it is given, whatever is there, without looking."""
        self._check_size(vectors)
        hashes = map(Hashes.of, documents)
        self._send(
            [
                _Change(document, known, True, vector, False)
                for document, known, vector in zip(documents, hashes, vectors, strict=True)
            ]
        )

    def _write_block(
        self,
        block: Sequence[Document],
        given: Vectors | None,
        done: Written,
        replacing: bool,
        duplicates: float | None,
    ) -> Written:
        changes = self._changes(block, given, replacing)
        fresh = [change for change in changes if change.vector is None and not change.is_same_text]
        encoded, truncated = self._encode(fresh)
        near = () if duplicates is None else tuple(self._duplicates(changes, duplicates))
        self._send(changes)
        num_new = sum(change.is_new for change in changes)
        return replace(
            done,
            added=done.added + num_new,
            replaced=done.replaced + len(changes) - num_new,
            unchanged=done.unchanged + len({document.id for document in block}) - len(changes),
            encoded=done.encoded + encoded,
            truncated=done.truncated + truncated,
            duplicates=done.duplicates + near,
        )

    def _changes(self, block: Sequence[Document], given: Vectors | None, replacing: bool) -> list[_Change]:
        """What of a block is to be written."""
        last = {document.id: number for number, document in enumerate(block)}
        where = self._points.where
        if not replacing and len(last) < len(block):
            repeated = next(document.id for number, document in enumerate(block) if last[document.id] != number)
            raise CollectionError(f"{where}: {repeated!r} is given twice; each id once, please")
        known: dict[str, tuple[Hashes, npt.NDArray[np.float32] | None]] = {}
        for point in self._points.read(list(last), HASHES, with_vectors=given is not None):
            id_, hashes = read_hashes(point.payload, where)
            known[id_] = hashes, _vector(point)
        if not replacing and known:
            raise CollectionError(f"{where}: {next(iter(known))!r} is there already; upsert replaces it")
        changes = []
        for number in sorted(last.values()):
            document = block[number]
            hashes, vector = Hashes.of(document), None if given is None else given[number]
            old, old_vector = known.get(document.id, (None, None))
            is_same_text = old is not None and old.text == hashes.text and _is_same(vector, old_vector)
            if not (is_same_text and old == hashes):
                changes.append(_Change(document, hashes, old is None, vector, is_same_text))
        return changes

    def _encode(self, changes: Sequence[_Change]) -> tuple[int, int]:
        """Makes the vectors that are missing; returns how many texts were encoded, and how many of them cut."""
        if not changes:
            return 0, 0
        assert self._encoder is not None
        places: dict[str, int] = {}
        texts: list[str] = []
        for change in changes:  # a text that comes several times is encoded once
            if places.setdefault(change.hashes.text, len(texts)) == len(texts):
                texts.append(change.document.text)
        (encoded,) = self._encoder.encode_blocks([texts], prompt_name=self._encoder.document_prompt)
        finite = np.isfinite(encoded.vectors).all(axis=1)
        if not finite.all():
            number = int(np.argmin(finite))
            name = next(change.document.id for change in changes if places[change.hashes.text] == number)
            raise ModelError(f"{self._encoder.model.name}: its vector of {name!r} is not finite; do not use it")
        vectors = self._comparable(encoded.vectors)
        self._check_size(vectors)
        for change in changes:
            change.vector = vectors[places[change.hashes.text]]
        return len(texts), encoded.num_truncated

    def _send(self, changes: Sequence[_Change]) -> None:
        whole = [change for change in changes if not change.is_same_text]
        words = count_words([change.document.text for change in whole])
        # All payloads are made before the first is sent: one that cannot be kept stops the block, not half of it.
        payloads = {change.document.id: self._payload(change) for change in changes}
        average = self._usual_length(words) if whole else 0.0
        points = []
        for change, counts in zip(whole, words, strict=True):
            assert change.vector is not None
            vectors = make_vectors(change.vector, document_vector(counts, average))
            id_ = change.document.id
            points.append(models.PointStruct(id=point_id(id_), vector=vectors, payload=payloads[id_]))
        self._points.write(points)
        self._points.write_payloads([payloads[change.document.id] for change in changes if change.is_same_text])

    def _payload(self, change: _Change) -> dict[str, object]:
        # There is no counter that several writers could share; the time is one, and it never goes back here.
        self._order = max(self._order + 1, time.time_ns())
        try:
            return make_payload(change.document, change.hashes, self._order, self._fields)
        except UsageError as error:
            raise UsageError(f"document {change.document.id!r}: {error}") from None

    def _duplicates(self, changes: Sequence[_Change], least: float) -> Iterator[Duplicate]:
        """Of each new vector the document most like it that was there before or comes before it, if it is so alike."""
        new = [change for change in changes if change.vector is not None]
        if not new:
            return
        ids = [change.document.id for change in new]
        vectors = np.stack([change.vector for change in new if change.vector is not None])
        similar = vectors @ vectors.T
        similar[np.triu_indices(len(ids))] = -np.inf
        # The nearest may be an older version of the document itself.
        requests = [by_vector(vector, 2, None, keys=HASHES[:1]) for vector in vectors]
        replaced = set(ids)
        for number, (id_, nearest) in enumerate(zip(ids, self._points.query(requests), strict=True)):
            there = [(point.score, str((point.payload or {}).get("id"))) for point in nearest]
            others = [(score, other) for score, other in there if other not in replaced]
            place = int(np.argmax(similar[number]))
            if np.isfinite(similar[number, place]):
                others.append((float(similar[number, place]), ids[place]))
            if others and max(others)[0] >= least:
                score, other = max(others)
                yield Duplicate(id_, other, score)

    def _check_size(self, vectors: Vectors) -> None:
        if self._is_float16 and len(vectors) and float(np.abs(vectors).max()) > _FLOAT16_MAX:
            raise UsageError(
                f"{self._points.where}: a vector has numbers too large for float16; make the collection with storage float32"
            )


def _vector(point: models.Record) -> npt.NDArray[np.float32] | None:
    if not isinstance(point.vector, dict) or VECTOR not in point.vector:
        return None
    return np.asarray(point.vector[VECTOR], dtype=np.float32)


def _is_same(given: npt.NDArray[np.float32] | None, old: npt.NDArray[np.float32] | None) -> bool:
    """Whether a given vector is the one that is kept; if none is given, the old one stays."""
    if given is None:
        return True
    return old is not None and bool(np.abs(given - old).max() <= _SAME * np.abs(given).max())
