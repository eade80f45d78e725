"""Servers of collections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from pairloom import Collection, Document, Encoder
from pairloom.models.tokenizer import Tokens
from pairloom.search.any_collection import AnyCollection
from pairloom.serve.scheduled import scheduled
from pairloom.serve.scheduler import Scheduler
from pairloom.serve.service import Service
from tests.serve.servers import make_service, running

DOCUMENTS = (
    Document("coffee", "hot coffee in a cup", {"tag": ["drink", "hot"], "year": 2020}),
    Document("water", "cold water", {"tag": ["drink"], "year": 2021}),
    Document("file", "how do i read a python file", {"tag": ["code"], "year": 2021, "author": {"name": "Ada"}}),
    Document("bean", "grind the coffee bean", {"tag": ["drink"], "open": True}),
    Document("model", "train a model", {"year": 2022}),
)


class RecordingScheduler(Scheduler):
    """Notes who had how many texts computed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.computed: list[tuple[str, int]] = []

    async def compute(
        self, encoder: Encoder, tokens: Tokens, *, skip_tokens: int, client: str, deadline_s: float | None = None
    ) -> npt.NDArray[np.float32]:
        self.computed.append((client, len(tokens)))
        return await super().compute(encoder, tokens, skip_tokens=skip_tokens, client=client, deadline_s=deadline_s)


def collection_service(encoder: Encoder, path: Path, documents: Sequence[Document] = (), **settings: Any) -> Service:
    """A service of one model, called tiny, and a new collection of its vectors, opened as a server opens it."""
    service = make_service({"tiny": encoder}, **settings)
    with Collection(path, encoder) as collection:
        collection.add(documents)
    scheduler = RecordingScheduler(threads=1, deadline_s=service.settings.deadline_s, metrics=service.metrics)
    model = type(service.models["tiny"])("tiny", encoder, scheduler, metrics=service.metrics)
    opened = Collection(path, scheduled(encoder, scheduler, name="tiny", metrics=service.metrics), create=False)
    return replace(service, scheduler=scheduler, models={"tiny": model}, collection=opened, collection_model=model)


@contextmanager
def client_of(service: Service) -> Iterator[httpx.Client]:
    """A client of a server that answers for a service; in the end its collection is closed."""
    try:
        with running(service) as address, httpx.Client(base_url=address, timeout=60) as client:
            yield client
    finally:
        close(service.collection)


def close(collection: AnyCollection | None) -> None:
    if collection is not None:
        collection.close()


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    """The error that was answered, of this status."""
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    return error
