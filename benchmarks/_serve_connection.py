"""A connection with one request at a time under way, and what is noted of requests.

Connections share the machine with the server, and so they do as little as they can: of an answer they look at the status and
the length, and what is noted goes into arrays that are there before.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks._serve_requests import Request

# Statuses of requests whose connection broke, and of those that are still under way.
BROKEN, UNANSWERED = 0, 65_535
_HEAD = -1


class Notes:
    """When each request was sent, how long its answer took, and with which status it came.

    Args:
        most: For how many there is room.
    """

    def __init__(self, most: int) -> None:
        self.most, self.count, self.missing = most, 0, 0
        self.sent = array("d", bytes(8 * most))
        self.taken = array("d", bytes(8 * most))
        self.status = array("H", b"\xff\xff" * most)
        self.retries: list[float] = []
        """Seconds that ``Retry-After`` of refused ones says."""

    def take(self) -> int:
        """The number of the next request."""
        self.count, self.missing = self.count + 1, self.missing + 1
        return self.count - 1

    def note(self, connection: Connection) -> None:
        """The answer to the request that was under way there."""
        number = connection.number
        self.sent[number], self.status[number] = connection.sent, connection.status
        self.taken[number] = time.perf_counter() - connection.sent
        self.missing -= 1
        if connection.retry_after_s is not None:
            self.retries.append(connection.retry_after_s)

    def arrays(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.uint16]]:
        """Sent, taken and status of all requests so far, [N] each."""
        sent, taken = (np.frombuffer(values)[: self.count] for values in (self.sent, self.taken))
        return sent, taken, np.frombuffer(self.status, np.uint16)[: self.count]


class Connection(asyncio.Protocol):
    """A connection that stays open, with one request at a time under way.

    Args:
        answered: Is called after every answer, and with the status `BROKEN` if the connection ends before it.
    """

    def __init__(self, answered: Callable[[Connection], None]) -> None:
        self._answered = answered
        self.number, self.sent, self.status = -1, 0.0, UNANSWERED
        self.retry_after_s: float | None = None
        self.is_open = self._busy = False
        self._head, self._left = b"", 0

    def connection_made(self, transport: Any) -> None:
        self._transport, self.is_open = transport, True

    def send(self, number: int, request: Request) -> None:
        self.number, self._head, self._left, self._busy = number, b"", _HEAD, True
        self.sent = time.perf_counter()
        self._transport.write(request.data)
        if request.hang_up_s is not None:
            asyncio.get_running_loop().call_later(request.hang_up_s, self._hang_up, number)

    def data_received(self, data: bytes) -> None:
        if self._left == _HEAD:
            data = self._head + data if self._head else data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._head = data
                return
            length = self._read_head(data[: end + 2])
            self._left = length - (len(data) - end - 4)
        else:
            self._left -= len(data)
        if self._left <= 0 and self._busy:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._busy:
            self.status = BROKEN
            self._finish()

    def close(self) -> None:
        self.is_open = False
        self._transport.close()

    def _read_head(self, head: bytes) -> int:
        """The status; returns the length of what follows."""
        self.status = int(head[9:12])
        fields = head.lower()
        retry_after = None if self.status == 200 else _field(fields, b"retry-after")
        self.retry_after_s = None if retry_after is None else float(retry_after)
        if _field(fields, b"connection") == b"close":
            self.is_open = False
        return int(_field(fields, b"content-length") or 0)

    def _finish(self) -> None:
        self._busy = False
        self._answered(self)

    def _hang_up(self, number: int) -> None:
        if self._busy and self.number == number:
            self._transport.abort()


def _field(head: bytes, name: bytes) -> bytes | None:
    """A header's value; ``head`` is in small letters, and every line of it ends."""
    begin = head.find(b"\r\n" + name + b":")
    return None if begin < 0 else head[begin + len(name) + 3 : head.index(b"\r\n", begin + 2)].strip()
