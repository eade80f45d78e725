"""The server against clients that say too little or too much: real connections to a real one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from pairloom.serve.answers import error_response
from pairloom.serve.errors import RequestError
from pairloom.serve.guard import Guard
from pairloom.serve.metrics import Metrics
from pairloom.serve.readiness import Readiness
from pairloom.serve.scheduler import Scheduler
from pairloom.serve.server import Server, listen
from pairloom.serve.settings import Settings
from tests.serve.running import head, read_all, read_answer, read_answers

PATIENCE_S = 30.0


async def _size(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error_response(error)


async def _slow(request: Request) -> Response:
    time.sleep(0.5)  # as nothing should: the loop stands still
    return PlainTextResponse("done")


async def _parts(request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.sleep(0.5)
        yield b"second"

    return StreamingResponse(parts(), headers={"Content-Length": "11"})


@contextmanager
def running(scheduler: Any = None, metrics: Metrics | None = None, **settings: Any) -> Iterator[tuple[Server, int]]:
    told, metrics = Settings(port=0, **settings), metrics or Metrics()
    scheduler = scheduler or Scheduler()
    service = cast("Any", SimpleNamespace(settings=told, metrics=metrics, readiness=Readiness(), scheduler=scheduler))
    routes = [Route(path, _size, methods=["POST"]) for path in ("/size", "/v1/embeddings", "/v1/search")]
    routes += [Route("/slow", _slow), Route("/parts", _parts)]
    app = Starlette(routes=routes, exception_handlers={RequestError: _refused})
    server = Server(Guard(app, service), service)
    listening = listen(told)
    port = listening.getsockname()[1]
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
    thread.start()
    try:
        yield server, port
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def test_an_answer_comes_in_one_piece() -> None:
    with running() as (_, port), connect(port) as connection:
        for _ in range(5):
            connection.sendall(head("/size", 3) + b"abc")
            answer = connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(b"\r\n\r\n3")


def test_what_comes_bit_by_bit_is_passed_on_so() -> None:
    with running() as (_, port), connect(port) as connection:
        connection.sendall(b"GET /parts HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = connection.recv(65_536)
        assert answer.endswith(b"\r\n\r\nfirst")
        assert connection.recv(65_536) == b"second"


def test_an_answer_without_a_body_is_not_waited_for() -> None:
    with running() as (_, port), connect(port) as connection:
        connection.sendall(b"HEAD /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = connection.recv(65_536)
        assert b"content-length: 4\r\n" in answer
        assert answer.endswith(b"\r\n\r\n")


def test_who_asks_whether_to_send_a_body_is_told_to() -> None:
    with running() as (_, port), connect(port) as connection:
        connection.sendall(head("/size", 3).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert connection.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert read_answer(connection) == (200, b"3")


def test_a_head_that_never_ends_is_not_waited_for() -> None:
    with running(body_s=0.3) as (_, port), connect(port) as silent, connect(port) as slow:
        slow.sendall(b"POST /size HTTP/1.1\r\nHost: loc")
        assert read_all(silent) == b""
        assert read_all(slow) == b""


def test_a_head_that_grows_and_grows_is_refused() -> None:
    with running() as (_, port), connect(port) as connection:
        connection.sendall(b"POST /size HTTP/1.1\r\nHost: localhost\r\n")
        answer = b""
        try:
            for _ in range(10_000):
                connection.sendall(b"X-More: " + b"x" * 1_000 + b"\r\n")
            pytest.fail("ten megabytes of head were taken")
        except ConnectionError:
            pass
        try:
            answer = read_all(connection)
        except ConnectionError:  # it was closed while more came, and so the answer may be lost
            return
        assert answer.startswith(b"HTTP/1.1 400 ") or answer == b""


def test_a_long_head_within_the_limit_is_taken() -> None:
    with running() as (_, port), connect(port) as connection:
        more = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 1_000) for number in range(20))
        connection.sendall(head("/size", 3).replace(b"\r\n\r\n", b"\r\n" + more + b"\r\n") + b"abc")
        assert read_answer(connection) == (200, b"3")


def test_a_body_that_is_not_sent_is_answered_and_the_connection_closed() -> None:
    with running(body_s=0.3) as (_, port), connect(port) as connection:
        connection.sendall(head("/size", 100) + b"only so much")
        answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"body_too_slow" in answer


def test_a_refused_body_is_read_to_its_end_and_the_connection_goes_on() -> None:
    with running(max_body_bytes=1_000) as (_, port), connect(port) as connection:
        connection.sendall(head("/size", 500_000))
        status, body = read_answer(connection)
        assert (status, b"body_too_large" in body) == (413, True)
        connection.sendall(b"x" * 500_000 + head("/size", 4) + b"abcd")
        assert read_answer(connection) == (200, b"4")


def test_a_refused_body_that_goes_on_and_on_is_cut() -> None:
    with running(max_body_bytes=1_000, body_s=0.3) as (_, port), connect(port) as connection:
        connection.sendall(head("/size", 10**12))
        assert read_answer(connection)[0] == 413
        until = time.monotonic() + PATIENCE_S
        with pytest.raises(ConnectionError):
            while time.monotonic() < until:
                connection.sendall(b"x" * 1_000)
                time.sleep(0.01)


def test_a_connection_that_idles_after_a_request_is_kept() -> None:
    with running(body_s=0.2) as (server, port), connect(port) as connection:
        connection.sendall(head("/size", 2) + b"ab")
        assert read_answer(connection) == (200, b"2")
        time.sleep(1.0)  # several rounds
        connection.sendall(head("/size", 3) + b"abc")
        assert read_answer(connection) == (200, b"3")
        assert len(server.server_state.connections) == 1


def test_more_connections_than_allowed_are_told_so() -> None:
    with running(max_connections=2) as (_, port), connect(port) as first, connect(port) as second:
        first.sendall(head("/size", 1))
        second.sendall(head("/size", 1))
        with connect(port) as third:
            third.sendall(head("/size", 1) + b"x")
            assert read_answer(third)[0] == 503


def test_a_signal_makes_the_server_not_ready_at_once() -> None:
    with running() as (server, _):
        server.handle_exit(signal.SIGTERM, None)
        assert server._readiness.phase == "draining"
        assert not server.force_exit
        server.handle_exit(signal.SIGINT, None)
        assert server.force_exit


def test_a_request_in_hand_is_answered_while_the_server_drains() -> None:
    with running() as (server, port), connect(port) as connection, connect(port) as idle:
        connection.sendall(head("/size", 4) + b"ab")
        idle.sendall(head("/size", 1) + b"x")
        assert read_answer(idle) == (200, b"1")
        server.handle_exit(signal.SIGTERM, None)
        assert read_all(idle) == b""  # closed at once: it has nothing in hand
        connection.sendall(b"cd")
        answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"4")


def test_what_is_not_done_when_draining_ends_is_told_so() -> None:
    with running(drain_s=0.2) as (server, port), connect(port) as connection:
        connection.sendall(head("/size", 4) + b"ab")
        time.sleep(0.3)
        server.handle_exit(signal.SIGTERM, None)
        answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"stopping" in answer


def test_two_servers_cannot_listen_on_one_port() -> None:
    with listen(Settings(port=0)) as first, pytest.raises(OSError, match="in use"):
        listen(Settings(port=first.getsockname()[1]))


class Busy:
    """Instead of a scheduler.

    Args:
        seconds: After which something would be accepted again.
        room: For so many requests, until then.
    """

    def __init__(self, seconds: float, room: int = 0) -> None:
        self.seconds, self.room, self.loop_late_s = seconds, room, 0.0

    def busy_s(self, coming: int) -> float:
        return self.seconds if coming >= self.room else 0.0


def test_of_requests_that_come_at_once_as_many_are_let_through_as_can_be_computed() -> None:
    with running(Busy(2.0, room=3)) as (_, port), contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(port)) for _ in range(8)]
        slow = stack.enter_context(connect(port))
        slow.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.1)  # the loop stands still, and will find all of them
        for connection in connections:
            connection.sendall(head("/v1/embeddings", 3) + b"abc")
        assert sorted(read_answer(connection)[0] for connection in connections) == [200] * 3 + [429] * 5
        connections[0].sendall(head("/v1/embeddings", 3) + b"abc")
        assert read_answer(connections[0]) == (200, b"3")


def test_many_connections_at_once_are_all_accepted() -> None:
    with running() as (_, port), contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(port)) for _ in range(100)]
        for connection in connections:
            connection.sendall(head("/size", 2) + b"ab")
        assert {read_answer(connection) for connection in connections} == {(200, b"2")}


def test_what_cannot_be_computed_in_time_is_refused_at_once() -> None:
    scheduler, metrics = Busy(2.5), Metrics()
    with running(scheduler, metrics) as (_, port), connect(port) as connection:
        for _ in range(2):
            connection.sendall(head("/v1/embeddings", 3) + b"abc")
            with connection.makefile("rb") as answer:
                lines = [line.strip().lower() for line in iter(answer.readline, b"\r\n")]
                assert lines[0] == b"http/1.1 429 too many requests"
                fields = dict(line.split(b": ", 1) for line in lines[1:])
                error = json.loads(answer.read(int(fields[b"content-length"])))["error"]
            assert fields[b"retry-after"] == b"3"
            assert len(fields[b"x-request-id"]) == 32
            assert (error["type"], error["code"]) == ("rate_limit_error", "too_busy")
        # What computes nothing goes on.
        for path in ("/size", "/v1/search"):
            connection.sendall(head(path, 3) + b"abc")
            assert read_answer(connection) == (200, b"3")
        scheduler.seconds = 0.0
        connection.sendall(head("/v1/embeddings", 4) + b"abcd")
        assert read_answer(connection) == (200, b"4")
    assert b'pairloom_requests_total{method="POST",route="none",status="429"} 2.0' in metrics.render()[0]


def test_a_refused_request_in_pieces_and_several_at_once() -> None:
    with running(Busy(1.0)) as (_, port), connect(port) as connection:
        request = head("/v1/embeddings", 5) + b"abcde"
        for byte in request:
            connection.sendall(bytes([byte]))
        assert read_answer(connection)[0] == 429
        connection.sendall(request * 3 + head("/size", 1) + b"x")
        assert [status for status, _ in read_answers(connection, 4)] == [429, 429, 429, 200]
        # Behind one that is in hand a request is looked at, so that answers keep their order.
        connection.sendall(head("/size", 2) + b"ab" + request)
        assert read_answers(connection, 2) == [(200, b"2"), (200, b"5")]


@pytest.mark.parametrize(("version", "field"), [(b"HTTP/1.0", b""), (b"HTTP/1.1", b"Connection: close\r\n")])
def test_a_refused_connection_that_shall_be_closed_is_closed(version: bytes, field: bytes) -> None:
    with running(Busy(1.0)) as (_, port), connect(port) as connection:
        request = (
            head("/v1/embeddings", 1).replace(b"HTTP/1.1", version).replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n")
        )
        connection.sendall(request + b"x")
        answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"connection: close" in answer


@pytest.mark.parametrize("length", [b"Content-Length: 1001", b"Content-Length: -1", b"Transfer-Encoding: chunked"])
def test_a_body_of_unknown_length_is_not_read_to_its_end_for_a_refusal(length: bytes) -> None:
    with running(Busy(1.0), max_body_bytes=1_000, body_s=0.3) as (_, port), connect(port) as connection:
        connection.sendall(head("/v1/embeddings", 1).replace(b"Content-Length: 1", length))
        assert read_answer(connection)[0] in (413, 400, 408)


class Lateness(Busy):
    """Keeps all that it is told."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.told = list[float]()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "loop_late_s" and hasattr(self, "told"):
            self.told.append(value)


def test_how_late_the_loop_is_is_known() -> None:
    scheduler = Lateness()
    with running(scheduler) as (_, port), connect(port) as connection:
        until = time.monotonic() + PATIENCE_S
        while not scheduler.told and time.monotonic() < until:  # what comes before the first tick is not seen
            time.sleep(0.01)
        connection.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_answer(connection) == (200, b"done")
        while max(scheduler.told, default=0.0) < 0.3 and time.monotonic() < until:
            time.sleep(0.01)
        # It stood still for half a second, of which a tick may have waited for a tenth anyway.
        assert max(scheduler.told) >= 0.3
        least = len(scheduler.told)
        while min(scheduler.told[least:], default=1.0) > 0.2 and time.monotonic() < until:
            time.sleep(0.01)
        assert min(scheduler.told[least:]) <= 0.2, "and it is forgotten"
