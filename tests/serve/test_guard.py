"""What every request passes through, around a small application."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pairloom.serve.answers import error_response
from pairloom.serve.errors import RequestError
from pairloom.serve.guard import Guard
from pairloom.serve.metrics import Metrics
from pairloom.serve.settings import Settings

KEY = "reader-reader-reader-reader"


async def _echo(request: Request) -> Response:
    body = await request.body()
    return JSONResponse({"size": len(body), "id": request.scope["request_id"], "client": request.scope["client_name"]})


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error_response(error)


class Guarded:
    """A guarded application with a metrics registry of its own."""

    def __init__(self, handler: Callable[[Request], Awaitable[Response]] = _echo, **settings: Any) -> None:
        self.metrics = Metrics()
        service = cast("Any", SimpleNamespace(settings=Settings(**settings), metrics=self.metrics))
        routes = [Route("/items/{item}", handler, methods=["GET", "POST"])]
        app = Starlette(routes=routes, exception_handlers={RequestError: _refused})
        self.app = Guard(app, service)

    async def request(self, method: str = "POST", path: str = "/items/7", **options: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=cast("Any", self.app))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **options)

    def __call__(self, method: str = "POST", path: str = "/items/7", **options: Any) -> httpx.Response:
        return asyncio.run(self.request(method, path, **options))

    def counted(self, line: str) -> bool:
        return line in self.metrics.render()[0].decode()


def code(response: httpx.Response) -> str:
    return str(response.json()["error"]["code"])


def test_an_id_that_a_client_brings_along_comes_back() -> None:
    answer = Guarded()(headers={"X-Request-Id": "order-17.a_b"})
    assert answer.headers["x-request-id"] == answer.json()["id"] == "order-17.a_b"


@pytest.mark.parametrize("given", ["", "a b", "a" * 129, "a;b", "ä", "a\tb"])
def test_an_id_that_could_do_harm_in_a_log_is_replaced(given: str) -> None:
    answer = Guarded()(headers=[(b"x-request-id", given.encode())])
    assert answer.headers["x-request-id"] == answer.json()["id"]
    assert len(answer.json()["id"]) == 32


def test_every_request_has_an_id_of_its_own_even_a_refused_one() -> None:
    guarded = Guarded(api_keys=SecretStr(f"web:{KEY}"))
    answers = [guarded() for _ in range(5)]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.headers["x-request-id"] for answer in answers}) == 5


def test_a_client_is_named_by_its_key_or_its_address() -> None:
    guarded = Guarded(api_keys=SecretStr(f"web:{KEY}"))
    assert guarded(headers={"X-API-Key": KEY}).json()["client"] == "web"
    assert Guarded()().json()["client"] == "127.0.0.1"


def test_a_refusal_tells_how_to_do_better() -> None:
    guarded = Guarded(api_keys=SecretStr(f"web:{KEY}"))
    answer = guarded()
    assert (answer.status_code, code(answer)) == (401, "missing_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["type"] == "authentication_error"


def test_a_body_of_just_the_limit_is_taken_and_a_byte_more_is_not() -> None:
    guarded = Guarded(max_body_bytes=1_000)
    assert guarded(content=b"x" * 1_000).json()["size"] == 1_000
    answer = guarded(content=b"x" * 1_001)
    assert (answer.status_code, code(answer)) == (413, "body_too_large")


def test_a_body_of_undeclared_length_is_counted_while_it_comes() -> None:
    guarded = Guarded(max_body_bytes=1_000)
    sent = 0

    async def parts(count: int) -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(count):
            sent += 1
            yield b"x" * 100

    assert guarded(content=parts(10)).json()["size"] == 1_000
    sent = 0
    answer = guarded(content=parts(10_000))
    assert (answer.status_code, code(answer)) == (413, "body_too_large")
    assert sent < 20


@pytest.mark.parametrize("declared", ["x", "-1", "1e3", "9" * 30, "٣"])
def test_a_length_that_is_none_is_refused(declared: str) -> None:
    answer = Guarded()(content=b"x", headers=[(b"content-length", declared.encode())])
    assert answer.status_code in (400, 413)


def test_a_body_that_does_not_arrive_in_time_is_refused_and_the_connection_closed() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(60)

    answer = Guarded(body_s=0.1)(content=parts())
    assert (answer.status_code, code(answer)) == (408, "body_too_slow")
    assert answer.headers["connection"] == "close"


def test_parts_that_come_again_and_again_do_not_lengthen_the_time() -> None:
    async def parts() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.02)
            yield b"x"

    assert Guarded(body_s=0.2)(content=parts()).status_code == 408


def test_the_time_of_a_body_begins_when_it_is_asked_for() -> None:
    async def late(request: Request) -> Response:
        await asyncio.sleep(0.3)
        return await _echo(request)

    async def parts(pause_s: float) -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(pause_s)
        yield b"y"

    assert Guarded(late, body_s=0.2)(content=parts(0.1)).json()["size"] == 2
    begun = time.monotonic()
    answer = Guarded(late, body_s=0.2)(content=parts(60))
    assert (answer.status_code, code(answer)) == (408, "body_too_slow")
    assert 0.5 <= time.monotonic() - begun < 5


def test_a_request_may_take_longer_than_its_body() -> None:
    async def slow(request: Request) -> Response:
        await request.body()
        await asyncio.sleep(0.3)
        return Response()

    assert Guarded(slow, body_s=0.1, request_s=5)(content=b"x").status_code == 200


def test_a_body_may_not_take_longer_than_its_request() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(60)

    answer = Guarded(body_s=5, request_s=0.1)(content=parts())
    assert (answer.status_code, code(answer)) == (503, "timed_out")


def test_a_request_that_takes_too_long_is_answered_all_the_same() -> None:
    ended: list[str] = []

    async def slow(request: Request) -> Response:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return Response()

    answer = Guarded(slow, request_s=0.1)()
    assert (answer.status_code, code(answer)) == (503, "timed_out")
    assert ended == ["cancelled"]


def test_a_timeout_of_the_application_is_not_taken_for_the_servers() -> None:
    async def fails(request: Request) -> Response:
        raise TimeoutError("something else")

    with pytest.raises(TimeoutError, match="something else"):
        Guarded(fails)()


def test_requests_are_counted_by_template_and_status() -> None:
    guarded = Guarded(max_body_bytes=10)
    for item in ("a", "b"):
        guarded("GET", f"/items/{item}")
    guarded(content=b"x" * 11)
    guarded("GET", "/nothing/secret")
    assert guarded.counted('pairloom_requests_total{method="GET",route="/items/{item}",status="200"} 2.0')
    assert guarded.counted('pairloom_requests_total{method="POST",route="/items/{item}",status="413"} 1.0')
    assert guarded.counted('pairloom_requests_total{method="GET",route="none",status="404"} 1.0')
    assert guarded.counted('pairloom_request_seconds_count{method="GET",route="/items/{item}"} 2.0')
    assert not guarded.counted("secret")


def test_a_request_whose_client_goes_is_counted_as_such() -> None:
    async def goes(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = SimpleNamespace(path="/items/{item}")

    async def nothing(message: Any = None) -> Any:
        raise AssertionError("there is nobody")

    guarded = Guarded()
    guarded.app._app = goes
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/items/7", "headers": [], "client": None}
    asyncio.run(guarded.app(scope, nothing, nothing))
    assert guarded.counted('pairloom_requests_total{method="GET",route="/items/{item}",status="499"} 1.0')


def _lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [cast("dict[str, Any]", record.msg) for record in caplog.records if record.name == "pairloom.serve.requests"]


def test_a_line_tells_what_a_request_was_but_not_what_was_in_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pairloom")

    async def encodes(request: Request) -> Response:
        metrics.count_texts("m", texts=3, tokens=20, truncated=1)
        await asyncio.to_thread(metrics.count_texts, "m", texts=1, tokens=5, truncated=0)
        return JSONResponse(await request.json())

    guarded = Guarded(encodes)
    metrics = guarded.metrics
    guarded(path="/items/secret-item?q=secret-query", json={"input": "secret-text"}, headers={"X-Request-Id": "r1"})
    (line,) = _lines(caplog)
    assert line.pop("ms") >= 0
    assert line == {
        "id": "r1",
        "client": "127.0.0.1",
        "method": "POST",
        "route": "/items/{item}",
        "status": 200,
        "texts": 4,
        "tokens": 25,
        "truncated": 1,
    }
    assert "secret" not in json.dumps(line)


def test_bodies_are_logged_if_that_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pairloom")
    Guarded(log_texts=True)(content=b"a secret \xff" + b"x" * 100_000)
    (line,) = _lines(caplog)
    assert line["body"].startswith("a secret �xxx")
    assert len(line["body"]) < 10_000


def test_what_watches_over_the_server_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pairloom")

    async def live(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = SimpleNamespace(path="/health/live")
        await Response(status_code=200 if scope["path"] == "/good" else 503)(scope, receive, send)

    guarded = Guarded()
    guarded.app._app = live
    guarded("GET", "/good")
    assert _lines(caplog) == []
    guarded("GET", "/bad")
    assert [line["status"] for line in _lines(caplog)] == [503]


def test_other_origins_are_not_answered_to_unless_configured() -> None:
    shop, other = {"Origin": "https://shop.example"}, {"Origin": "https://other.example"}
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, x-stainless-os"}
    assert "access-control-allow-origin" not in Guarded()("GET", headers=shop).headers
    guarded = Guarded(cors_origins=("https://shop.example",), api_keys=SecretStr(f"web:{KEY}"))
    before = guarded("OPTIONS", headers={**shop, **asks})
    assert before.status_code == 200
    assert before.headers["access-control-allow-origin"] == "https://shop.example"
    assert "x-stainless-os" in before.headers["access-control-allow-headers"]
    refused = guarded("GET", headers=shop)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://shop.example")
    assert "access-control-allow-origin" not in guarded("GET", headers=other).headers
