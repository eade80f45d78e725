"""The server as an ASGI application: what it answers, and what it says when it cannot."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import pairloom
from pairloom.errors import BusyError, OccupiedError, UsageError
from pairloom.serve.answers import error_response
from pairloom.serve.bodies import refused
from pairloom.serve.embeddings import embeddings_router
from pairloom.serve.errors import RequestError
from pairloom.serve.guard import Guard
from pairloom.serve.health import health_router
from pairloom.serve.map import map_router
from pairloom.serve.models import models_router
from pairloom.serve.native import native_router
from pairloom.serve.page import page_router
from pairloom.serve.searching import search_router
from pairloom.serve.service import Service
from pairloom.serve.shortcut import Shortcut
from pairloom.serve.similarity import similarity_router

logger = logging.getLogger("pairloom")

# As nginx calls a request whose client did not wait. It is counted; nobody receives it.
_CLIENT_GONE = 499

_ROUTERS = (
    embeddings_router,
    health_router,
    models_router,
    native_router,
    similarity_router,
    search_router,
    map_router,
)
# Both have nothing but the request for an argument.
_ASKED_OFTEN = ("/v1/embeddings", "/v1/search")

_DESCRIPTION = "Sentence embeddings, as OpenAI's clients ask for them, and search in a collection of texts."


class Application(FastAPI):
    """FastAPI behind what every request passes through.

    Middleware of its own would stand behind the framework's, which take longer for each request than all that there is here.
    """

    entrance: ASGIApp
    """Where a request comes in; what it does not answer goes on to `framework`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.entrance(scope, receive, send)

    async def framework(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What FastAPI makes of a request."""
        await super().__call__(scope, receive, send)


def create_app(service: Service) -> Application:
    """The application of a server.

    There is no page of documentation that loads programs from foreign hosts; ``/openapi.json`` describes everything.
    """
    app = Application(
        title="pairloom",
        version=pairloom.__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=_HANDLERS,
    )
    routers = [make_router(service) for make_router in _ROUTERS]
    for router in routers:
        app.include_router(router)
    if service.settings.page:
        app.include_router(page_router(service))
    often = [
        route
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute) and route.path in _ASKED_OFTEN
    ]
    handlers = {kind: handler for kind, handler in _HANDLERS.items() if kind is not Exception}
    # Also within, so that no middleware of the framework sees what went wrong: it might tell others of it, with a text in it.
    app.add_middleware(Unexpected, log_texts=service.settings.log_texts)
    shortcut = Shortcut(app.framework, routes=often, handlers=handlers)
    app.entrance = Guard(Unexpected(shortcut, log_texts=service.settings.log_texts), service)
    return app


class Unexpected:
    """Answers 500 for whatever went wrong, and leaves one line in the log.

    The line says where it was, and not the error's own words, which may hold a text of the request.

    Args:
        app: What may go wrong.
        log_texts: Whether the log may hold texts; then it has the whole traceback.
    """

    def __init__(self, app: ASGIApp, *, log_texts: bool) -> None:
        self._app = app
        self._log_texts = log_texts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if scope["type"] != "http":
                raise
            request_id = scope.get("request_id", "-")
            where = " < ".join(
                f"{Path(frame.filename).name}:{frame.lineno}"
                for frame in reversed(traceback.extract_tb(error.__traceback__))
            )
            logger.error(
                "request %s failed: %s at %s",
                request_id,
                type(error).__name__,
                where,
                exc_info=error if self._log_texts else None,
            )
            if not begun:
                await _fault(request_id)(scope, receive, send)


async def _on_request_error(request: Request, error: Any) -> Response:
    return error_response(error)


async def _on_invalid(request: Request, error: Any) -> Response:
    return error_response(refused(error.errors()))


async def _on_invalid_parameter(request: Request, error: Any) -> Response:
    # What FastAPI found: the first word of the place is "query" or "path".
    return error_response(refused([{**fault, "loc": fault["loc"][1:]} for fault in error.errors()]))


async def _on_usage_error(request: Request, error: Any) -> Response:
    return error_response(RequestError(str(error)))


async def _on_occupied(request: Request, error: Any) -> Response:
    message = "the collection is being written to by another process; try again"
    return error_response(RequestError(message, 503, code="busy", retry_after_s=1))


async def _on_http_error(request: Request, error: Any) -> Response:
    what, headers = f"{request.method} {request.url.path[:200]}", error.headers or {}
    message, code = str(error.detail), None
    if error.status_code == 404 and message == "Not Found":
        message, code = f"there is no {what} here; /openapi.json says what there is", "not_found"
    elif error.status_code == 405:
        message, code = f"there is no {what} here, but {headers.get('Allow', 'another method')}", "method_not_allowed"
    response = error_response(RequestError(message, error.status_code, code=code))
    response.headers.update(headers)
    return response


async def _on_gone(request: Request, error: Any) -> Response:
    return Response(status_code=_CLIENT_GONE)


async def _on_fault(request: Request, error: Any) -> Response:
    # Of what FastAPI answers; then it raises the error again, for the log.
    return _fault(request.scope["request_id"])


def _fault(request_id: str) -> Response:
    return error_response(RequestError(f"a fault of the server; its log says more of request {request_id}", 500))


_HANDLERS: dict[Any, Any] = {
    RequestError: _on_request_error,
    ValidationError: _on_invalid,
    RequestValidationError: _on_invalid_parameter,
    UsageError: _on_usage_error,
    OccupiedError: _on_occupied,
    BusyError: _on_occupied,
    HTTPException: _on_http_error,
    ClientDisconnect: _on_gone,
    Exception: _on_fault,
}
