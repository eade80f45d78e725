"""The points of a collection on a Qdrant server: reading, writing and asking in requests that the server takes at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from uuid import UUID

import numpy as np
from qdrant_client import QdrantClient, models

from pairloom.errors import CollectionError
from pairloom.records import Document
from pairloom.search.qdrant.payloads import DOCUMENT, HASHES, ORDER, VECTOR, WORDS, point_id, read_document
from pairloom.search.qdrant.server import asking, is_completed, is_imitation

# Some megabytes of vectors and texts, while servers take 32 MiB if they are not told otherwise.
WRITTEN_AT_ONCE = 256
READ_AT_ONCE = 1_024
_QUERIES_AT_ONCE = 64


class Points:
    """What is asked of the server, with what goes wrong as a `CollectionError`. Safe to use from several threads.

    Args:
        client: Of the server.
        name: Of the collection.
        where: What it is called in messages.
    """

    def __init__(self, client: QdrantClient, name: str, where: str) -> None:
        self.client, self.name, self.where = client, name, where
        # A client of a server is made for threads; the imitation of one is not.
        self._turn: AbstractContextManager[Any] = threading.RLock() if is_imitation(client) else nullcontext()

    @contextmanager
    def asking(self) -> Iterator[QdrantClient]:
        """The client, while it is this thread's turn; errors become sentences."""
        with self._turn, asking(self.where):
            yield self.client

    def write(self, points: Sequence[models.PointStruct]) -> None:
        """Writes whole points, and waits until they are there."""
        for batch in _batches(points, WRITTEN_AT_ONCE):
            with self.asking() as client:
                self._check(client.upsert(self.name, batch, wait=True))

    def write_payloads(self, payloads: Sequence[dict[str, Any]]) -> None:
        """Replaces the payloads of points that are there, and leaves their vectors alone."""
        for batch in _batches(payloads, WRITTEN_AT_ONCE):
            operations = [
                models.OverwritePayloadOperation(
                    overwrite_payload=models.SetPayload(payload=payload, points=[point_id(payload["id"])])
                )
                for payload in batch
            ]
            with self.asking() as client:
                for result in client.batch_update_points(self.name, operations, wait=True):
                    self._check(result)

    def write_words(self, words: Sequence[tuple[str, models.SparseVector]]) -> None:
        """Replaces the sparse vectors of documents that are there."""
        for batch in _batches(words, WRITTEN_AT_ONCE):
            points = [models.PointVectors(id=point_id(id_), vector={WORDS: vector}) for id_, vector in batch]
            with self.asking() as client:
                self._check(client.update_vectors(self.name, points, wait=True))

    def read(
        self, ids: Sequence[str], keys: Sequence[str] = DOCUMENT, *, with_vectors: bool = False
    ) -> list[models.Record]:
        """The points of those of some documents that are there, in any order."""
        return self.read_points([point_id(id_) for id_ in ids], keys, with_vectors=with_vectors)

    def read_points(
        self, points: Sequence[str], keys: Sequence[str] = DOCUMENT, *, with_vectors: bool = False
    ) -> list[models.Record]:
        """The same by the points' own ids."""
        found: list[models.Record] = []
        for batch in _batches(points, READ_AT_ONCE):
            with self.asking() as client:
                found += client.retrieve(
                    self.name, batch, with_payload=list(keys), with_vectors=[VECTOR] if with_vectors else False
                )
        return found

    def documents(self) -> Iterator[Document]:
        """All documents in the order in which they were written last."""
        order: int | None = None
        seen: list[str | int | Any] = []
        while True:
            # Of a page that ended among equal numbers the others are still to come, and those seen are not.
            skipped = models.Filter(must_not=[models.HasIdCondition(has_id=seen)]) if seen else None
            with self.asking() as client:
                page, _ = client.scroll(
                    self.name,
                    skipped,
                    limit=READ_AT_ONCE,
                    order_by=models.OrderBy(key=ORDER, start_from=order),
                    with_payload=[*DOCUMENT, ORDER],
                )
            for point in page:
                yield read_document(point.payload, self.where)
            if not page:
                return
            last = (page[-1].payload or {})[ORDER]
            if last != order:
                order, seen = last, []
            seen += [point.id for point in page if (point.payload or {})[ORDER] == last]

    def sample(self, count: int, seed: int) -> list[models.Record]:
        """Some points with documents and vectors: those whose ids follow a random one, and then from the beginning.

        Ids of points are digests, so that what lies together among them has nothing else in common.
        """
        start = str(UUID(bytes=np.random.default_rng(seed).bytes(16)))
        chosen: dict[str, None] = {}
        for begin in (start, None):
            offset: Any = begin
            while len(chosen) < count:
                with self.asking() as client:
                    page, offset = client.scroll(
                        self.name, limit=min(READ_AT_ONCE, count - len(chosen)), offset=offset, with_payload=False
                    )
                chosen.update((str(point.id), None) for point in page)
                if offset is None:
                    break
        return self.read_points(list(chosen), with_vectors=True)

    def facet(self, key: str, count: int) -> list[tuple[str | int | bool, int]]:
        """The most frequent values at a place in payloads that has an index, and how many points have each."""
        with self.asking() as client:
            return [(hit.value, hit.count) for hit in client.facet(self.name, key, limit=count, exact=True).hits]

    def delete(self, ids: Sequence[str]) -> int:
        """Deletes documents by their ids; returns how many there were."""
        found = [point.id for point in self.read(ids, HASHES[:1])]
        for batch in _batches(found, READ_AT_ONCE):
            with self.asking() as client:
                self._check(client.delete(self.name, models.PointIdsList(points=batch), wait=True))
        return len(found)

    def delete_all(self, condition: models.Filter) -> int:
        """Deletes what a filter lets through; returns how many there were."""
        deleted = self.count(condition)
        if deleted:
            with self.asking() as client:
                self._check(client.delete(self.name, models.FilterSelector(filter=condition), wait=True))
        return deleted

    def count(self, condition: models.Filter | None = None) -> int:
        """How many points a filter lets through, exactly."""
        with self.asking() as client:
            return client.count(self.name, condition, exact=True).count

    def query(self, requests: Sequence[models.QueryRequest]) -> list[list[models.ScoredPoint]]:
        """What each request finds, best first."""
        found: list[list[models.ScoredPoint]] = []
        for batch in _batches(requests, _QUERIES_AT_ONCE):
            with self.asking() as client:
                found += [answer.points for answer in client.query_batch_points(self.name, batch)]
        return found

    def _check(self, result: models.UpdateResult) -> None:
        if not is_completed(result):
            raise CollectionError(
                f"{self.where}: the server took note of a change and did not make it in time ({result.status}); run again"
            )


def _batches(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for begin in range(0, len(items), size):
        yield list(items[begin : begin + size])
