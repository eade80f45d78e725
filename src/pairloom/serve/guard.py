"""What every request passes through: who it is, how long it may take, and what is noted of it."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from pairloom.serve.access import Access
from pairloom.serve.answers import error_response
from pairloom.serve.errors import RequestError
from pairloom.serve.exchange import Exchange
from pairloom.serve.logs import requests
from pairloom.serve.metrics import USAGE, Usage
from pairloom.serve.service import Service

# What asks every few seconds whether all is well would be most of the log.
_UNLOGGED = frozenset({"/health/live", "/health/ready", "/metrics"})
_NO_ROUTE = "none"
# Of a request that was never answered: its client had gone, or what answers it failed.
_UNANSWERED = 499


class Guard:
    """The outermost part of the application.

    It gives a request its id (``scope["request_id"]``; a client may bring one along) and says whose it is
    (``scope["client_name"]``), bounds its body and its time, counts it, and writes its line into the log.

    Args:
        app: What answers.
        service: Its settings say what is allowed, and its metrics count.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._settings = service.settings
        self._metrics = service.metrics
        self._access = Access(service.settings)
        self._entrance: ASGIApp = self._answer
        if service.settings.cors_origins:
            # Around all else: a browser asks whether it may without a key, and shows errors only of what it may.
            self._entrance = CORSMiddleware(
                self._answer,
                allow_origins=service.settings.cors_origins,
                allow_methods=("GET", "POST", "DELETE"),
                allow_headers=("*",),
                expose_headers=("X-Request-Id", "Retry-After"),
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._entrance if scope["type"] == "http" else self._app)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = perf_counter()
        usage = Usage()
        USAGE.set(usage)
        exchange = Exchange(scope, dict(scope["headers"]), receive, send, self._settings)
        try:
            refused = await self._within_limits(scope, exchange)
            if refused is not None and not exchange.status:
                await error_response(refused)(scope, exchange.receive, exchange.send)
        finally:
            self._note(scope, exchange, usage, perf_counter() - begun)

    async def _within_limits(self, scope: Scope, exchange: Exchange) -> RequestError | None:
        """Lets the application answer; returns why it did not, if that was not for it to say."""
        timer = asyncio.timeout(self._settings.request_s)
        try:
            async with timer:
                scope["client_name"] = self._access.check(scope, exchange.headers)
                await self._app(scope, exchange.receive, exchange.send)
        except RequestError as error:
            return error
        except TimeoutError:
            if not timer.expired():
                raise
            # 504 is a gateway's, and 408 would blame the client.
            seconds = self._settings.request_s
            return RequestError(f"the request could not be answered within {seconds:g} s", 503, code="timed_out")
        except asyncio.CancelledError:  # nothing else cancels a request than the end of the time to drain
            return RequestError("the server is being stopped", 503, code="stopping", retry_after_s=1)
        return None

    def _note(self, scope: Scope, exchange: Exchange, usage: Usage, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", _NO_ROUTE)
        method, status = scope["method"], exchange.status or _UNANSWERED
        self._metrics.observe_request(route, method, status, seconds)
        if (route in _UNLOGGED and status < 400) or not requests.isEnabledFor(logging.INFO):
            return
        line = {
            "id": exchange.request_id,
            "client": scope.get("client_name", "unknown"),
            "method": method,
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 1),
            "texts": usage.texts,
            "tokens": usage.tokens,
            "truncated": usage.truncated,
        }
        if exchange.body:
            line["body"] = exchange.body.decode("utf-8", "replace")
        requests.info(line)
