"""The documents of the server's collection: written, read and deleted by ``/v1/documents``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import Field, WithJsonSchema
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response

from pairloom.errors import UsageError
from pairloom.records import Document
from pairloom.search.any_collection import AnyCollection
from pairloom.search.checking import check_document, check_id
from pairloom.search.protocol import Filter, Written
from pairloom.serve.answers import answered, failing
from pairloom.serve.bodies import Body, described, read
from pairloom.serve.errors import RequestError
from pairloom.serve.gone import until_gone
from pairloom.serve.served_collection import ServedCollection, no_collection

if TYPE_CHECKING:
    from pairloom.serve.settings import Settings


class DocumentBody(Body):
    """A document."""

    id: str
    """The name under which it is found again: any text of at most 1,024 bytes."""

    text: str
    """What is searched in."""

    metadata: dict[str, Any] = Field(default_factory=dict)
    """JSON values by name, by which may be filtered."""


# Written out, for a description that refers to other classes is not understood where this one stands.
_DOCUMENTS = {"type": "array", "items": DocumentBody.model_json_schema()}


class DocumentsBody(Body):
    """What is written."""

    documents: Annotated[list[DocumentBody], WithJsonSchema(_DOCUMENTS)]
    """They replace those that have their ids; of two with one id the later counts."""


class DeletionBody(Body):
    """What is deleted: documents by their ids, or all that a filter lets through. One of the two must be given."""

    ids: list[str] | None = None
    """Which documents; those that there are not do not matter."""

    filter: dict[str, Any] | None = None
    """All whose metadata is so, in the language of filters."""


class _Anything(Convertor[str]):
    """All of the rest of a path. Starlette's own stops at a line break, and takes ``a`` for ``a`` and a line break."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


def add_document_routes(
    router: APIRouter, collection: ServedCollection | None, settings: Settings, *, can_encode: bool
) -> None:
    """Adds ``/v1/documents``.

    Args:
        router: To which.
        collection: What holds the documents.
        settings: How many may be written at once.
        can_encode: Whether the collection's model is at hand.
    """
    register_url_convertor("anything", _Anything())
    documents = _Documents(collection, settings, can_encode=can_encode)
    many, one = "/v1/documents", "/v1/documents/{document_id:anything}"
    deleted = answered("How many there were.", _DELETED, {"deleted": 2})
    router.add_api_route(
        many,
        documents.write_documents,
        methods=["POST"],
        responses=answered("What became of them.", _WRITTEN, _WRITTEN_EXAMPLE) | failing(400, 404, 415),
        openapi_extra=described(DocumentsBody, _UPSERT_EXAMPLES, documents={"maxItems": settings.max_documents}),
    )
    router.add_api_route(
        many,
        documents.delete_documents,
        methods=["DELETE"],
        responses=deleted | failing(400, 404, 415),
        openapi_extra=described(DeletionBody, _DELETE_EXAMPLES),
    )
    router.add_api_route(
        one,
        documents.get_document,
        methods=["GET"],
        responses=answered("The document.", _DOCUMENT, _DOCUMENT_EXAMPLE) | failing(400, 404),
    )
    router.add_api_route(one, documents.delete_document, methods=["DELETE"], responses=deleted | failing(400, 404))


class _Documents:
    """What is done to the documents of a collection."""

    def __init__(self, collection: ServedCollection | None, settings: Settings, *, can_encode: bool) -> None:
        self._collection, self._settings, self._can_encode = collection, settings, can_encode

    async def write_documents(self, request: Request) -> Response:
        """Adds documents, and replaces those whose ids are there. What is answered for is on the disk."""
        body = await read(request, DocumentsBody)
        collection = self._opened()
        self._check_number("documents", body.documents)
        if not self._can_encode:
            raise RequestError(
                "documents: the model that made the collection's vectors is not served here, so texts cannot be added"
            )
        writing = collection.write(partial(_upsert, bodies=body.documents), client=request.scope["client_name"])
        written = await until_gone(request, writing)
        return JSONResponse({name: getattr(written, name) for name in _COUNTS})

    async def delete_documents(self, request: Request) -> Response:
        """Deletes documents by their ids, or all that a filter lets through."""
        body = await read(request, DeletionBody)
        collection = self._opened()
        if (body.ids is None) == (body.filter is None):
            raise RequestError("the body: say which documents, by ids or by filter, one of the two")
        if body.filter == {}:
            raise RequestError("filter: is empty, and would delete everything", param="filter")
        ids = body.ids or []
        self._check_number("ids", ids)
        for number, id_ in enumerate(ids):
            _check_id(id_, f"ids[{number}]")
        deleting = collection.write(partial(_delete, ids=ids, filter=body.filter), client=request.scope["client_name"])
        return JSONResponse({"deleted": await until_gone(request, deleting)})

    async def get_document(self, document_id: str) -> Response:
        """A document by its id."""
        _check_id(document_id, "document_id")
        (found,) = await self._opened().read(lambda one: one.get([document_id]))
        if found is None:
            raise _unknown(document_id)
        return JSONResponse({"id": found.id, "text": found.text, "metadata": found.metadata})

    async def delete_document(self, request: Request, document_id: str) -> Response:
        """Deletes a document by its id."""
        _check_id(document_id, "document_id")
        client = request.scope["client_name"]
        deleted = await self._opened().write(lambda one: one.delete([document_id]), client=client)
        if not deleted:
            raise _unknown(document_id)
        return JSONResponse({"deleted": deleted})

    def _opened(self) -> ServedCollection:
        if self._collection is None:
            raise no_collection()
        return self._collection

    def _check_number(self, param: str, given: Sequence[Any]) -> None:
        most = self._settings.max_documents
        if len(given) > most:
            raise RequestError(
                f"{param}: {len(given):,} are more than the {most:,} that one request may have; send them in parts",
                param=param,
            )


def _upsert(collection: AnyCollection, *, bodies: Sequence[DocumentBody]) -> Written:
    """Writes documents. All are looked at before any is written."""
    documents = []
    for number, body in enumerate(bodies):
        try:
            documents.append(check_document(Document(body.id, body.text, body.metadata)))
        except UsageError as error:
            place = f"documents[{number}]"
            raise RequestError(f"{place}: {error}", param=place) from None
    return collection.upsert(documents)


def _delete(collection: AnyCollection, *, ids: Sequence[str], filter: Filter | None) -> int:
    try:
        return collection.delete(ids, filter=filter)
    except UsageError as error:  # the ids have been looked at
        raise RequestError(str(error), param="filter") from None


def _check_id(id_: str, param: str) -> None:
    try:
        check_id(id_)
    except UsageError as error:
        raise RequestError(f"{param}: {error}", param=param) from None


def _unknown(id_: str) -> RequestError:
    shown = id_ if len(id_) <= 80 else f"{id_[:80]}…"
    return RequestError(f"there is no document {shown!r}", 404, param="document_id", code="document_not_found")


_DELETED = {"type": "object", "required": ["deleted"], "properties": {"deleted": {"type": "integer"}}}
_COUNTS = {
    "added": "Were not there before.",
    "replaced": "Had another text or other metadata.",
    "unchanged": "Were there just so; nothing was done.",
    "encoded": "Texts that went through the model; a text that stays the same does not.",
    "truncated": "Of those, how many were longer than the model takes.",
}
_WRITTEN = {
    "type": "object",
    "required": list(_COUNTS),
    "properties": {name: {"type": "integer", "description": meaning} for name, meaning in _COUNTS.items()},
}
_WRITTEN_EXAMPLE = {"added": 1, "replaced": 0, "unchanged": 1, "encoded": 1, "truncated": 0}
_DOCUMENT = {
    "type": "object",
    "required": ["id", "text", "metadata"],
    "properties": {"id": {"type": "string"}, "text": {"type": "string"}, "metadata": {"type": "object"}},
}
_DOCUMENT_EXAMPLE: dict[str, Any] = {
    "id": "q17",
    "text": "How do I read a file line by line?",
    "metadata": {"tag": ["python", "io"], "year": 2021},
}
_UPSERT_EXAMPLES: dict[str, dict[str, Any]] = {
    "two documents": {"documents": [_DOCUMENT_EXAMPLE, {"id": "q18", "text": "How do I write one?"}]}
}
_DELETE_EXAMPLES: dict[str, dict[str, Any]] = {
    "by ids": {"ids": ["q17", "q18"]},
    "by metadata": {"filter": {"year": {"lt": 2015}}},
}
