"""uvicorn, with what it lacks against clients that say too little or too much, and an end that is no failure."""

from __future__ import annotations

import asyncio
import signal
import socket
from types import FrameType
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pairloom.serve.service import Service
from pairloom.serve.settings import Settings
from pairloom.serve.shedding import Shedding

# More than any proxy keeps an idle connection open by default (nginx 60 s), so that it is not we who close one just as it is used.
_KEEP_ALIVE_S = 75
# As much as nginx takes; tokens and cookies of a company fit.
_MAX_HEAD_BYTES = 32 * 1024
_TICKS_A_SECOND = 10
_LAST_WORDS_S = 1.0
_ACCEPTED_AT_ONCE = 16


class Server(uvicorn.Server):
    """Runs an application until it is asked to end, by SIGTERM or Ctrl-C; a second Ctrl-C does not wait for requests in hand.

    Args:
        app: What answers.
        service: Its settings have the limits on connections and times; it is told at once when the server is asked to end.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        settings = service.settings
        config = Config(
            Shedding(service.scheduler, settings.max_body_bytes, service.metrics),
            app,
            http=Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            limit_concurrency=settings.max_connections + 1,  # it refuses who reaches it
            backlog=settings.max_connections,
            timeout_keep_alive=_KEEP_ALIVE_S,
            # Only whole seconds by its annotation; it waits for fractions as well.
            timeout_graceful_shutdown=settings.drain_s,
        )
        super().__init__(config)
        self._readiness, self._metrics, self._scheduler = service.readiness, service.metrics, service.scheduler
        self._ticked_s = 0.0
        self._ticks_of_a_round = max(1, round(settings.body_s * _TICKS_A_SECOND))
        self._silent: dict[Any, Any] = {}

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Answers what comes to listening sockets, until it is asked to end."""
        listening = sockets or []
        # uvloop accepts one connection of each socket in a round, and a busy round takes long: what does not fit into the
        # system's queue meanwhile would try again after seconds.
        again = [one.dup() for one in listening for _ in range(_ACCEPTED_AT_ONCE - 1)]
        try:
            await super().serve(sockets=[*listening, *again])
        finally:
            for one in again:
                one.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Other than uvicorn's own it does not note the signal to raise it again in the end: to have drained is to have done well.
        self._readiness.phase = "draining"
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.server_state.tasks:  # which took too long and were cancelled: they tell their clients
            await asyncio.wait(self.server_state.tasks, timeout=_LAST_WORDS_S)

    async def on_tick(self, counter: int) -> bool:
        now_s = asyncio.get_running_loop().time()
        # From one tick to the next all that was to be read was read once.
        self._scheduler.loop_late_s = max(0.0, now_s - self._ticked_s - 1 / _TICKS_A_SECOND) if self._ticked_s else 0.0
        self._ticked_s = now_s
        if counter % _TICKS_A_SECOND == 0:
            self._metrics.refresh()
        if counter % self._ticks_of_a_round == 0:
            self._close_silent()
        return await super().on_tick(counter)

    def _close_silent(self) -> None:
        """Closes connections that have been for a whole round where they were: without a request, and not idle after one.

        Their client has not sent a whole head, or goes on with a body that was refused. A timer for each would cost every request.
        """
        connections: set[Any] = set(self.server_state.connections)
        silent = {connection: connection.cycle for connection in connections if _is_silent(connection)}
        for connection, cycle in silent.items():
            if connection in self._silent and self._silent[connection] is cycle:
                connection.transport.close()
        self._silent = silent


class Config(uvicorn.Config):
    """uvicorn's, with what connections need besides.

    Args:
        shedding: Says what is refused at once.
        app: What answers all else.
        options: As uvicorn takes them.
    """

    def __init__(self, shedding: Shedding, app: ASGIApp, **options: Any) -> None:
        super().__init__(app, **options)
        self.shedding = shedding


class Protocol(HttpToolsProtocol):
    """uvicorn's, which itself would take a head of any length, and look at every request whether or not it can be answered."""

    config: Config
    _in_head = False
    _head_bytes = 0
    _refusal: bytes | None = None
    """Of the request that is being read, if it is refused."""

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        self._refusal = self._refused()
        if self._refusal is None:
            super().on_headers_complete()
            # Otherwise the first that is written is not the head of the answer, or also the last.
            if not self.expect_100_continue and self.scope["method"] != "HEAD":
                self.cycle.transport = cast("asyncio.Transport", _Whole(self.transport))

    def on_body(self, body: bytes) -> None:
        if self._refusal is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        refusal, self._refusal = self._refusal, None
        if refusal is None:
            super().on_message_complete()
        elif not self.transport.is_closing():
            self.transport.write(refusal)
            if not self._keeps_alive():
                self.transport.close()
            self.on_response_complete()

    def _refused(self) -> bytes | None:
        """The answer, if the request is refused at once; never while an earlier one of the connection is in hand."""
        if (
            self.expect_100_continue
            or self.flow.write_paused
            or not (self.cycle is None or self.cycle.response_complete)
        ):
            return None
        method, keep_alive = self.parser.get_method(), self._keeps_alive()
        return self.config.shedding.refusal(method, self.url, self.headers, keep_alive=keep_alive)

    def _keeps_alive(self) -> bool:
        return bool(self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive())

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The head of the request is too long.")


class _Whole:
    """A connection as the answer to one request sees it: its head goes out together with what follows it.

    Each by itself would be a call of the system and a packet of its own, and wake the client twice.

    Args:
        transport: Of the connection.
    """

    __slots__ = ("_has_begun", "_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self._has_begun = False

    def write(self, data: bytes) -> None:
        if self._has_begun:
            self._transport.write(self._head + data if self._head else data)
            self._head = b""
        else:
            self._has_begun, self._head = True, data

    def close(self) -> None:
        if self._head:
            self.write(b"")
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


def listen(settings: Settings) -> socket.socket:
    """A socket that listens where the settings say.

    Raises:
        OSError: The address is none of this machine's, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    made = socket.socket(family)
    try:
        # Or a server could not begin again for a minute after it ended.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((settings.host, settings.port))
        # At once, as only this makes the port ours. Who comes while models are loaded waits, and is answered.
        made.listen(settings.max_connections)
    except BaseException:
        made.close()
        raise
    made.setblocking(False)
    return made


def _is_silent(connection: Any) -> bool:
    cycle = connection.cycle
    is_between = cycle is None or cycle.response_complete
    return is_between and connection.timeout_keep_alive_task is None and not connection.transport.is_closing()
