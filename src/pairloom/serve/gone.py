"""A client that hangs up: nothing more is computed for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

Result = TypeVar("Result")

# Most requests are answered by then; a task that watches costs more than it could save.
_PATIENCE_S = 0.2


async def until_gone(request: Request, work: Awaitable[Result]) -> Result:
    """What ``work`` comes to, as long as somebody waits for it.

    Args:
        request: Whose body was read.
        work: Is cancelled if the client goes.

    Raises:
        ClientDisconnect: The client went.
    """
    waiting = asyncio.current_task()
    assert waiting is not None
    gone = False
    watcher: asyncio.Task[None] | None = None

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        waiting.cancel()

    def begin() -> None:
        nonlocal watcher
        watcher = asyncio.create_task(watch())

    timer = asyncio.get_running_loop().call_later(_PATIENCE_S, begin)
    try:
        return await work
    except asyncio.CancelledError:
        if not gone or waiting.uncancel() > 0:  # the server ends, or the time of the request is up
            raise
        raise ClientDisconnect from None
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()
