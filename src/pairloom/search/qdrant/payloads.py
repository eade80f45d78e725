"""A document as a point: its vectors, and a payload that gives it back whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

import numpy as np
import numpy.typing as npt
from qdrant_client import models

from pairloom.errors import CollectionError
from pairloom.records import Document
from pairloom.search.protocol import FieldType
from pairloom.search.qdrant.filters import facet_payload
from pairloom.search.qdrant.sparse import SparseVector
from pairloom.search.rows import as_json, text_hash

VECTOR = "vector"
"""The name of the vectors that the model makes."""
WORDS = "words"
"""The name of the sparse vectors, for BM25."""
ORDER = "order"
"""The number in a payload by which documents stand in the order in which they were written."""
ORDER_INDEX = {ORDER: models.PayloadSchemaType.INTEGER}
HASHES = ("id", "text_hash", "metadata_hash")
"""The keys of a payload by which is seen what has changed."""
DOCUMENT = ("id", "text", "metadata")
"""The keys that a document is made of."""

# Ids of points follow from those of documents by it, so it must stay as it is for ever.
_NAMESPACE = UUID("1d373006-2e4f-53cb-8760-1156041a6d8a")


@dataclass(frozen=True, slots=True)
class Hashes:
    """What is compared of a document, so that its text need not be fetched."""

    text: str
    metadata: str

    @classmethod
    def of(cls, document: Document) -> Hashes:
        """Those of a document that is at hand."""
        return cls(text_hash(document.text).hex(), text_hash(as_json(document.metadata)).hex())


def point_id(id_: str) -> str:
    """The id of a document's point; servers know only numbers and UUIDs."""
    return str(uuid5(_NAMESPACE, id_))


def make_payload(document: Document, hashes: Hashes, order: int, fields: Mapping[str, FieldType]) -> dict[str, Any]:
    """All of a document but its vectors.

    Its metadata is a text of JSON: a server that reads and writes numbers as JSON may change their last digit.

    Raises:
        UsageError: A declared field has a value that a server cannot compare.
    """
    return {
        "id": document.id,
        "text": document.text,
        "metadata": as_json(document.metadata),
        "text_hash": hashes.text,
        "metadata_hash": hashes.metadata,
        ORDER: order,
        **facet_payload(document.metadata, fields),
    }


def read_document(payload: Mapping[str, Any] | None, where: str) -> Document:
    """The document of a payload.

    Raises:
        CollectionError: It is not one that was written here.
    """
    id_, text, metadata = ((payload or {}).get(key) for key in DOCUMENT)
    try:
        if isinstance(id_, str) and isinstance(text, str) and isinstance(read := json.loads(str(metadata)), dict):
            return Document(id_, text, read)
    except ValueError:
        pass
    raise _foreign(where)


def read_vectors(points: Sequence[models.Record], dimensions: int, where: str) -> npt.NDArray[np.float32]:
    """The vectors [N, D] of points that were read with them. Raises as `read_document`."""
    vectors = [point.vector.get(VECTOR) if isinstance(point.vector, Mapping) else None for point in points]
    if any(vector is None for vector in vectors):
        raise _foreign(where)
    return np.array(vectors, np.float32).reshape(-1, dimensions)


def read_hashes(payload: Mapping[str, Any] | None, where: str) -> tuple[str, Hashes]:
    """The id and the hashes of a payload. Raises as `read_document`."""
    id_, text, metadata = ((payload or {}).get(key) for key in HASHES)
    if not isinstance(id_, str) or not isinstance(text, str) or not isinstance(metadata, str):
        raise _foreign(where)
    return id_, Hashes(text, metadata)


def make_vectors(vector: npt.NDArray[np.float32], words: SparseVector) -> dict[str, Any]:
    """Both vectors of a document. One without words has none of them, and does not count in BM25's statistics."""
    vectors: dict[str, Any] = {VECTOR: vector.tolist()}
    if words.indices:
        vectors[WORDS] = as_sparse(words)
    return vectors


def as_sparse(words: SparseVector) -> models.SparseVector:
    """A sparse vector as the client has it."""
    return models.SparseVector(indices=words.indices, values=words.values)


def _foreign(where: str) -> CollectionError:
    return CollectionError(f"{where}: holds a point that pairloom has not written, or not whole; remove it")
