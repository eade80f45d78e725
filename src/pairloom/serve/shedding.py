"""What is refused before it is looked at, because there is more to do than can be done."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from pairloom.serve.answers import error_response
from pairloom.serve.errors import TooBusyError

if TYPE_CHECKING:
    from pairloom.serve.metrics import Metrics
    from pairloom.serve.scheduler import Scheduler

# Where texts are computed, and nothing else is done.
_PATHS = (b"/v1/embeddings", b"/v1/inference/", b"/v1/similarity")
_ROUTE = "none"


class Shedding:
    """Refuses requests for vectors while none could be computed in time.

    The scheduler would refuse them, too, but by then a request has cost nearly all that an answered one costs beside the model. When
    many times more come than can be computed, that is all that a server still does, and requests wait unread in their connections,
    where no deadline counts.

    Args:
        scheduler: Knows how long a text would wait.
        max_body_bytes: A request that declares a longer body, or none, takes the usual way.
        metrics: Where refusals are counted.
    """

    def __init__(self, scheduler: Scheduler, max_body_bytes: int, metrics: Metrics) -> None:
        self._scheduler, self._max_body_bytes, self._metrics = scheduler, max_body_bytes, metrics
        self._num_coming = 0

    def refusal(
        self, method: bytes, url: bytes, headers: Sequence[tuple[bytes, bytes]], *, keep_alive: bool
    ) -> bytes | None:
        """The whole answer to a request, if it is refused.

        Args:
            method: Of HTTP.
            url: As it was sent.
            headers: By their names in small letters.
            keep_alive: Whether the connection stays open.
        """
        if method != b"POST" or not url.startswith(_PATHS):
            return None
        busy_s = self._scheduler.busy_s(self._num_coming)
        if not busy_s or not self._is_short(headers):
            self._let_through()
            return None
        self._metrics.observe_refusal(_ROUTE, "POST", 429)
        return _answer(math.ceil(busy_s), keep_alive) % (random.getrandbits(128))

    def _let_through(self) -> None:
        """All requests that are read at once are read before the scheduler hears of the first of them."""
        if not self._num_coming:
            asyncio.get_running_loop().call_soon(self._arrived)
        self._num_coming += 1

    def _arrived(self) -> None:
        self._num_coming = 0

    def _is_short(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        for name, value in headers:
            if name == b"content-length":
                return value.isdigit() and len(value) < 19 and int(value) <= self._max_body_bytes
        return False


@lru_cache(maxsize=256)
def _answer(retry_after_s: int, keep_alive: bool) -> bytes:
    """As any error is answered, but for the number of the request."""
    response = error_response(TooBusyError(float(retry_after_s)))
    lines = [b"HTTP/1.1 429 Too Many Requests", *(b"%b: %b" % header for header in response.raw_headers)]
    if not keep_alive:
        lines.append(b"connection: close")
    return b"\r\n".join([*lines, b"x-request-id: %%032x\r\n\r\n%b" % bytes(response.body).replace(b"%", b"%%")])
