"""Pairloom's collection as a contestant."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks._search_changing import Changing
from benchmarks._search_data import metadata
from benchmarks._search_side import Asker, Figures, Stopwatch, as_ints
from benchmarks._search_truth import K
from pairloom import Encoder
from pairloom.records import Document
from pairloom.search.collection import Collection
from pairloom.search.settings import Settings

# What an index says of itself.
_ABOUT = ("kind", "recall", "masked_recall", "settings", "unreached")


class Pairloom(Changing):
    """A collection. Settings: ``kind`` of its index, and ``model`` if texts are asked for."""

    def make(self) -> Figures:
        """Adds all rows while indexes are built in the background, as they are; then builds one by itself, to see how long it takes."""
        rows, adding = self.data.rows, Stopwatch()
        settings = Settings(kind=self.settings["kind"])
        if not self.settings.get("model"):
            settings = replace(settings, dimensions=rows.dimensions, similarity="cosine")
        with Collection(self.store, self._encoder(), create=True, settings=settings) as collection:
            for documents, vectors in self.blocks():
                with adding:
                    collection.add(documents, vectors=vectors)
            with Stopwatch() as waiting:
                collection.wait()
            with Stopwatch() as building:
                collection._builder.build(anew=True)
            about = collection.info()["index"] or {}
        return {
            "add_s": adding.seconds,
            "build_s": {"waiting for the background": waiting.seconds, "index anew": building.seconds},
            "about": {key: about[key] for key in _ABOUT if about.get(key) is not None},
        }

    def open(self) -> Figures:
        self.collection = Collection(self.store, self._encoder(), create=False)
        return {"count": self.collection.count()}

    def asker(self, by: str = "vector", mode: Any = "vector", filter: Any = None, k: int = K) -> Asker:
        """By a question's vector or by its text; ``filter`` is (field, value)."""
        queries: Any = self.vectors if by == "vector" else self.texts
        condition = None if filter is None else dict([filter])

        def ask(number: int) -> list[int]:
            hits = self.collection.search(queries[number], k, mode=mode, filter=condition)
            return as_ints([hit.id for hit in hits])

        return ask

    def together(self) -> Figures:
        """All questions in one call."""
        begin = time.perf_counter()
        self.collection.search_many(self.vectors, K, mode="vector")
        return {"batch_size": len(self.vectors), "step_s": [time.perf_counter() - begin]}

    def encode(self, calls: int) -> Figures:
        """Only the encoding of questions, one by one."""
        encoder, taken = self.collection.encoder, []
        for call in range(calls):
            begin = time.perf_counter()
            encoder.encode_query(self.texts[call % len(self.texts)])
            taken.append(time.perf_counter() - begin)
        return {"calls_s": taken, "batch_size": calls, "step_s": [sum(taken)]}

    def replace(self, rows: Sequence[int], first: int) -> None:
        """By one call; it is on the disk when that returns."""
        texts, vectors = self.further
        documents = [
            Document(str(row), text, metadata(row, source))
            for row, (text, source) in zip(rows, texts[first : first + len(rows)], strict=True)
        ]
        self.collection.upsert(documents, vectors=vectors[first : first + len(rows)])

    def add_further(self, begin: int, end: int) -> None:
        """Adds rows that were not there."""
        texts, vectors = self.further
        documents = [
            Document(f"new {number}", text, metadata(number, source))
            for number, (text, source) in enumerate(texts[begin:end], begin)
        ]
        self.collection.add(documents, vectors=vectors[begin:end])

    def renew_index(self) -> None:
        """As it is built in the background: by one thread, from the one before."""
        self.collection._builder.build(threads=1)

    def knows(self, number: int) -> bool:
        """Whether the further row of this number is found by its own vector."""
        return self.collection.search(self.further[1][number], 1, mode="vector")[0].id == f"new {number}"

    def _encoder(self) -> Encoder | None:
        model = self.settings.get("model")
        return Encoder(model, device="cpu", threads=self.cores) if model else None
