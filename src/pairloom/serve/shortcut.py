"""A shorter way to the endpoints that are asked for all the time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

Handler = Callable[[Request, Any], Awaitable[Response]]


class Shortcut:
    """Calls endpoints that read their requests by themselves as soon as the path is known.

    What a framework puts between (looking through all routes, stacks of what is to be closed, arguments) takes about as long as the
    endpoint of a short text, and on few cores it is taken from the model. What is answered is the same.

    Args:
        app: Answers everything else.
        routes: Of endpoints whose only argument is the request and whose path is fixed.
        handlers: What becomes of errors, by their kind; those of other kinds are not caught.
    """

    def __init__(
        self, app: ASGIApp, *, routes: Sequence[APIRoute], handlers: Mapping[type[Exception], Handler]
    ) -> None:
        self._app = app
        self._routes = {(method, route.path): route for route in routes for method in route.methods or ()}
        self._handlers = handlers
        self._caught = tuple(handlers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get((scope.get("method", ""), scope.get("path", "")))
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive, send)
        try:
            response = await route.endpoint(request)
        except self._caught as error:
            handler = next(self._handlers[kind] for kind in type(error).__mro__ if kind in self._handlers)
            response = await handler(request, error)
        await response(scope, receive, send)
