"""One request on its way in and its answer on its way out, within their limits."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Mapping

from starlette.types import Message, Receive, Scope, Send

from pairloom.serve.errors import RequestError
from pairloom.serve.settings import Settings

_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
# Of a body that shall be logged; more than enough to see what somebody sends.
_LOGGED_BYTES = 8_192


class Exchange:
    """What the application receives and sends through.

    A body that is larger than it may be, or takes longer, ends in a `RequestError` where the application reads it: it is
    answered as any other, and counted for its route.

    Args:
        scope: Of the request; gets its id, as ``request_id``.
        headers: The request's.
        receive: From the server.
        send: To the server.
        settings: The limits.
    """

    __slots__ = (
        "_arrived",
        "_num_bytes",
        "_receive",
        "_send",
        "_settings",
        "_too_slow",
        "body",
        "headers",
        "reading_since",
        "request_id",
        "status",
    )

    def __init__(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, send: Send, settings: Settings
    ) -> None:
        given = headers.get(b"x-request-id", b"")
        self.request_id = given.decode() if _SAFE_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
        scope["request_id"] = self.request_id
        self.headers = headers
        self.status = 0
        """Of the answer, as soon as it begins."""
        self.body = bytearray()
        """The first bytes of the request, if texts are logged."""
        self.reading_since: float | None = None
        """Since when, by the loop's clock, the body is waited for; None before anybody asks for it, and when it is there."""
        self._receive, self._send, self._settings = receive, send, settings
        self._num_bytes = 0
        self._arrived = False
        self._too_slow = False

    async def receive(self) -> Message:
        if self._arrived:  # now it is only waited for that the client goes
            return await self._receive()
        if self.reading_since is None:
            self._check_declared()
            self.reading_since = asyncio.get_running_loop().time()
        message = await self._receive()
        if message["type"] == "http.request":
            self._count(message)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            added = [(b"x-request-id", self.request_id.encode())]
            if self._too_slow:  # what comes yet belongs to no request
                added.append((b"connection", b"close"))
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await self._send(message)

    def give_up(self) -> RequestError:
        """The body has taken too long; the error says so."""
        self._too_slow = True
        seconds = self._settings.body_s
        return RequestError(f"the body did not arrive within {seconds:g} s", 408, code="body_too_slow")

    def _check_declared(self) -> None:
        declared = self.headers.get(b"content-length", b"0")
        if not declared.isdigit():
            raise RequestError("the header Content-Length is no number", 400, param="Content-Length")
        if len(declared) > 19 or int(declared) > self._settings.max_body_bytes:
            raise self._too_large()

    def _count(self, message: Message) -> None:
        body = message.get("body", b"")
        self._arrived = not message.get("more_body", False)
        if self._arrived:
            self.reading_since = None
        self._num_bytes += len(body)
        if self._num_bytes > self._settings.max_body_bytes:
            raise self._too_large()
        if self._settings.log_texts:
            self.body += body[: _LOGGED_BYTES - len(self.body)]

    def _too_large(self) -> RequestError:
        limit = self._settings.max_body_bytes
        return RequestError(
            f"the body has more than {limit:,} bytes; send fewer texts at once", 413, code="body_too_large"
        )
