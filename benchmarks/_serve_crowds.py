"""Who sends requests: clients that wait for their answers, or a stream at a rate of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from benchmarks._serve_connection import Connection, Notes
from benchmarks._serve_requests import Request

HOST = "127.0.0.1"
# After the end of a turn answers may take so long; then they are not waited for any more.
_PATIENCE_S = 60.0
_TICK_S = 0.002


class _Crowd:
    """What both kinds of load have in common: connections to a server."""

    def __init__(self, port: int, requests: list[Request], notes: Notes) -> None:
        self._port, self._requests, self.notes = port, requests, notes
        self._loop = asyncio.get_running_loop()
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def _connect(self) -> Connection:
        _, connection = await self._loop.create_connection(lambda: Connection(self._answered), HOST, self._port)
        self._connections.add(connection)
        return connection

    def _answered(self, connection: Connection) -> None:
        raise NotImplementedError

    def _send(self, connection: Connection) -> None:
        number = self.notes.take()
        connection.send(number, self._requests[number % len(self._requests)])

    def _start(self, task: Coroutine[Any, Any, None]) -> None:
        started = self._loop.create_task(task)
        self._tasks.add(started)
        started.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for connection in self._connections:
            connection.close()


class Clients(_Crowd):
    """So many clients, each of which sends its next request when it has the answer to the last one.

    Args:
        port: Of the server.
        requests: Are sent again and again in this order.
        notes: For what comes of it; no more requests are sent than there is room for.
        pause_s: Who is refused because the server is busy waits so long.
    """

    def __init__(self, port: int, requests: list[Request], notes: Notes, *, pause_s: float = 0.0) -> None:
        super().__init__(port, requests, notes)
        self._pause_s, self._end, self._active = pause_s, 0.0, 0
        self._done = self._loop.create_future()

    async def run(self, clients: int, seconds: float) -> None:
        """Until all requests or so many seconds are over, and all answers have come.

        Raises:
            TimeoutError: They do not come.
        """
        connected = [await self._connect() for _ in range(clients)]
        self._end, self._active = time.perf_counter() + seconds, clients
        for connection in connected:
            self._next(connection)
        try:
            await asyncio.wait_for(self._done, seconds + _PATIENCE_S)
        finally:
            self.close()

    def _next(self, connection: Connection) -> None:
        if self.notes.count == self.notes.most or time.perf_counter() >= self._end:
            self._leave()
        elif connection.is_open:
            self._send(connection)
        else:
            connection.close()
            self._connections.discard(connection)
            self._start(self._come_back())

    def _answered(self, connection: Connection) -> None:
        self.notes.note(connection)
        if connection.status == 429 and self._pause_s:
            self._loop.call_later(self._pause_s, self._next, connection)
        else:
            self._next(connection)

    async def _come_back(self) -> None:
        try:
            self._next(await self._connect())
        except OSError:  # the server is gone
            self._leave()

    def _leave(self) -> None:
        self._active -= 1
        if not self._active and not self._done.done():
            self._done.set_result(None)


class Stream(_Crowd):
    """Requests at a rate of their own, whatever the server does: a connection that is free, or a new one.

    Args:
        port: Of the server.
        requests: Are sent again and again in this order.
        rate: Requests a second.
        seconds: For so long.
        most: Connections; a request that is due while all are taken is not sent.
    """

    def __init__(self, port: int, requests: list[Request], *, rate: float, seconds: float, most: int) -> None:
        super().__init__(port, requests, Notes(int(rate * seconds) + 1))
        self._rate, self._seconds, self._most = rate, seconds, most
        self._free: list[Connection] = []
        self._num_open = self.num_due = self.num_unsent = 0
        self.late: list[float] = []
        """By how many seconds the load itself was late, tick by tick: so much of what an answer took may be its own."""

    async def run(self) -> None:
        begin, before = time.perf_counter(), 0.0
        while (passed := time.perf_counter() - begin) < self._seconds:
            self.late.append(max(0.0, passed - before - _TICK_S))
            before = passed
            due = int(passed * self._rate) - self.num_due
            for _ in range(due):
                self._offer()
            self.num_due += due
            await asyncio.sleep(_TICK_S)

    def _offer(self) -> None:
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                self._send(connection)
                return
            self._forget(connection)
        if self._num_open < self._most:
            self._num_open += 1
            self._start(self._open())
        else:
            self.num_unsent += 1

    async def _open(self) -> None:
        try:
            self._send(await self._connect())
        except OSError:
            self._num_open -= 1
            self.num_unsent += 1

    def _answered(self, connection: Connection) -> None:
        self.notes.note(connection)
        if connection.is_open:
            self._free.append(connection)
        else:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        connection.close()
        self._connections.discard(connection)
        self._num_open -= 1
