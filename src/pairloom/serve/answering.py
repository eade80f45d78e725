"""A process that answers: from the first connection to the last answer."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable

from pairloom.serve import logs
from pairloom.serve.app import create_app
from pairloom.serve.server import Server
from pairloom.serve.service import Service

# New objects until the interpreter looks for unreachable ones among them, instead of 700: a request makes about a hundred.
_NEW_OBJECTS = 20_000


def answer(service: Service, listening: socket.socket) -> None:
    """Answers what comes to a socket, until the process is asked to end.

    Raises:
        PairloomError: A model cannot be computed.
    """
    server = Server(create_app(service), service)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(run_until_ended(server, service, listening))
    if server.force_exit:
        raise KeyboardInterrupt


async def run_until_ended(server: Server, service: Service, listening: socket.socket) -> None:
    warming = asyncio.create_task(_warm_up(server, service))
    try:
        await server.serve(sockets=[listening])
        if warming.done():
            warming.result()
    finally:
        warming.cancel()
        if service.collection is not None:
            await asyncio.to_thread(service.collection.close)
        await service.scheduler.close()
        logs.logger.info("ended")


async def _warm_up(server: Server, service: Service) -> None:
    try:
        for model in service.models.values():
            await model.warm_up()
    except BaseException:
        server.should_exit = True
        raise
    # What is there now stays, and need not be looked through again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)
    if service.readiness.phase == "starting":
        service.readiness.phase = "ready"
        logs.logger.info("ready")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return asyncio.new_event_loop
    return uvloop.new_event_loop
