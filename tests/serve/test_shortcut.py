"""The shorter way answers as the longer one does."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pairloom.serve.errors import RequestError, TooBusyError
from pairloom.serve.shortcut import Shortcut

pytestmark = pytest.mark.anyio


class Seen:
    """Notes what the layers outside see of a request."""

    def __init__(self, app: Any) -> None:
        self.app, self.routes = app, list[str]()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)
        if scope["type"] == "http":
            self.routes.append(getattr(scope.get("route"), "path", "none"))


async def say(request: Request) -> Response:
    """Says what it was given, or fails as it is told to."""
    match word := (await request.body()).decode():
        case "busy":
            raise TooBusyError(3)
        case "wrong":
            raise RequestError("wrong", 422)
        case "fault":
            raise ZeroDivisionError
    return JSONResponse({"word": word, "path": request.url.path, "query": dict(request.query_params)})


async def on_error(request: Request, error: RequestError) -> Response:
    return JSONResponse({"kind": type(error).__name__}, error.status)


async def on_busy(request: Request, error: TooBusyError) -> Response:
    return JSONResponse({"kind": "busy"}, error.status)


HANDLERS: dict[Any, Any] = {RequestError: on_error, TooBusyError: on_busy}


def make_apps() -> tuple[Seen, Seen]:
    router = APIRouter()
    router.add_api_route("/v1/say", say, methods=["POST"])
    router.add_api_route("/v1/other", say, methods=["POST"])
    longer, shorter = FastAPI(exception_handlers=HANDLERS), FastAPI(exception_handlers=HANDLERS)
    longer.include_router(router)
    shorter.include_router(router)
    routes = [route for route in router.routes if isinstance(route, APIRoute) and route.path == "/v1/say"]
    shorter.add_middleware(Shortcut, routes=routes, handlers=HANDLERS)
    return Seen(longer), Seen(shorter)


@pytest.mark.parametrize("word", ["hello", "busy", "wrong", ""])
@pytest.mark.parametrize(("method", "path"), [
    ("POST", "/v1/say"), ("POST", "/v1/say?a=b"), ("POST", "/v1/other"), ("GET", "/v1/say"), ("POST", "/v1/say/"), ("POST", "/no"),
])  # fmt: skip
async def test_both_ways_answer_alike(method: str, path: str, word: str) -> None:
    answers, routes = [], []
    for app in make_apps():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
            answer = await client.request(method, path, content=word)
        answers.append((answer.status_code, answer.headers.get("content-type"), answer.text))
        routes.append(app.routes)
    assert answers[0] == answers[1]
    assert routes[0] == routes[1]


async def test_a_fault_is_left_to_who_is_outside() -> None:
    _, shorter = make_apps()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=shorter), base_url="http://test") as client:
        with pytest.raises(ZeroDivisionError):
            await client.post("/v1/say", content="fault")
