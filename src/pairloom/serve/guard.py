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
from pairloom.serve.settings import Settings

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
        watch = _Watch(exchange, self._settings)
        try:
            scope["client_name"] = self._access.check(scope, exchange.headers)
            await self._app(scope, exchange.receive, exchange.send)
        except RequestError as error:
            return error
        except asyncio.CancelledError:
            if watch.overdue is not None and watch.task.uncancel() == 0:
                return watch.overdue
            # Nothing else cancels a request than the end of the time to drain.
            return RequestError("the server is being stopped", 503, code="stopping", retry_after_s=1)
        finally:
            watch.end()
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
        # As `info` does, without a search through the stack for who called it.
        requests.handle(requests.makeRecord(requests.name, logging.INFO, "", 0, line, (), None))


class _Watch:
    """Ends a request that takes too long, or whose body does: one timer for both, since each costs every request.

    Args:
        exchange: Of the request; the task that answers it is the current one.
        settings: How long it may take.
    """

    __slots__ = ("_begun", "_exchange", "_loop", "_settings", "_timer", "overdue", "task")

    def __init__(self, exchange: Exchange, settings: Settings) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.overdue: RequestError | None = None
        """Why the task was cancelled, if it was."""
        self._exchange, self._settings = exchange, settings
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()
        self._timer = self._loop.call_later(min(settings.request_s, settings.body_s), self._look)

    def end(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        settings, now = self._settings, self._loop.time()
        left_s = self._begun + settings.request_s - now
        if left_s <= 0:
            # 504 is a gateway's, and 408 would blame the client.
            message = f"the request could not be answered within {settings.request_s:g} s"
            self.overdue = RequestError(message, 503, code="timed_out")
        elif self._exchange.reading_since is not None:
            left_of_body_s = self._exchange.reading_since + settings.body_s - now
            if left_of_body_s <= 0:
                self.overdue = self._exchange.give_up()
            left_s = min(left_s, left_of_body_s)
        else:
            left_s = min(left_s, settings.body_s)
        if self.overdue is not None:
            self.task.cancel()
        else:
            self._timer = self._loop.call_later(left_s, self._look)
