"""The server against clients that say too little or too much: real connections to a real one."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pairloom.serve.answers import error_response
from pairloom.serve.errors import RequestError
from pairloom.serve.guard import Guard
from pairloom.serve.metrics import Metrics
from pairloom.serve.readiness import Readiness
from pairloom.serve.server import Server, listen
from pairloom.serve.settings import Settings
from tests.serve.running import head, read_all, read_answer

PATIENCE_S = 30.0


async def _size(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error_response(error)


@contextmanager
def running(**settings: Any) -> Iterator[tuple[Server, int]]:
    told = Settings(port=0, **settings)
    service = cast("Any", SimpleNamespace(settings=told, metrics=Metrics(), readiness=Readiness()))
    app = Starlette(routes=[Route("/size", _size, methods=["POST"])], exception_handlers={RequestError: _refused})
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
