"""Real servers on free ports, and engines that compute when they are told to."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import uvicorn

from pairloom import Encoder
from pairloom.encode.engine import Engine
from pairloom.models.tokenizer import Tokens
from pairloom.serve.app import create_app
from pairloom.serve.metrics import Metrics
from pairloom.serve.scheduler import Scheduler
from pairloom.serve.served_model import ServedModel, serve_models
from pairloom.serve.service import Service
from pairloom.serve.settings import Settings


def make_service(encoders: Mapping[str, Encoder], names: Sequence[str] = (), **settings: Any) -> Service:
    """A service of these encoders and of models by their names, without a collection."""
    read, metrics = Settings(**settings), Metrics()
    scheduler = Scheduler(threads=1, deadline_s=read.deadline_s, metrics=metrics)
    models = {name: ServedModel(name, encoder, scheduler, metrics=metrics) for name, encoder in encoders.items()}
    models |= serve_models(names, scheduler, precision="float32", threads=1, metrics=metrics)
    return Service(read, scheduler, models, None, None, metrics)


@contextmanager
def running(service: Service) -> Iterator[str]:
    """Its address, while a server answers for it in another thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(service), log_config=None, timeout_graceful_shutdown=5))

    async def serve() -> None:
        await server.serve(sockets=[listener])
        await service.scheduler.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="server")
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        assert server.started, "the server did not start"
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
    assert not thread.is_alive(), "the server did not end"


def until(condition: Callable[[], bool]) -> None:
    """Waits for what must come sooner or later."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)


class GatedEngine:
    """Another engine, that computes only while its gate is open."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.precision = engine.precision
        self.num_streams = engine.num_streams
        self.stream_tokens = engine.stream_tokens
        self.gate = threading.Event()
        self.arrived = threading.Event()
        """Something is to be computed."""
        self.num_texts = 0

    def embed(self, tokens: Tokens, *, skip_tokens: int = 0) -> npt.NDArray[np.float32]:
        self._wait(tokens)
        return self._engine.embed(tokens, skip_tokens=skip_tokens)

    def embed_micro_batch(
        self, tokens: Tokens, *, skip_tokens: int = 0, alone: bool = False
    ) -> npt.NDArray[np.float32]:
        self._wait(tokens)
        return self._engine.embed_micro_batch(tokens, skip_tokens=skip_tokens, alone=alone)

    def _wait(self, tokens: Tokens) -> None:
        self.num_texts += len(tokens)
        self.arrived.set()
        assert self.gate.wait(60), "the gate stayed shut"
