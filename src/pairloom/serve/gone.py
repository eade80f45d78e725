"""A client that hangs up: nothing more is computed for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

Result = TypeVar("Result")


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

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        waiting.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if not gone or waiting.uncancel() > 0:  # the server ends, or the time of the request is up
            raise
        raise ClientDisconnect from None
    finally:
        watcher.cancel()
