"""A process that answers: when it is ready, and what it leaves behind."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI

from pairloom.errors import ModelError
from pairloom.serve.answering import run_until_ended
from pairloom.serve.health import health_router
from pairloom.serve.metrics import Metrics
from pairloom.serve.readiness import Readiness
from pairloom.serve.server import Server, listen
from pairloom.serve.settings import Settings


class Parts:
    """What is warmed up and closed, and in which order that was done."""

    def __init__(self, error: Exception | None = None) -> None:
        self.done: list[str] = []
        self.may_be_warm = asyncio.Event()
        self.error = error

    async def warm_up(self) -> None:
        await self.may_be_warm.wait()
        if self.error is not None:
            raise self.error
        self.done.append("warm")

    def service(self, settings: Settings) -> Any:
        async def close_scheduler() -> None:
            self.done.append("scheduler closed")

        return SimpleNamespace(
            settings=settings,
            metrics=Metrics(),
            readiness=Readiness(),
            models={"m": SimpleNamespace(warm_up=self.warm_up)},
            collection=SimpleNamespace(close=lambda: self.done.append("collection closed")),
            scheduler=SimpleNamespace(close=close_scheduler),
        )


def test_it_is_ready_when_it_is_warm_and_closes_what_it_opened() -> None:
    async def run() -> None:
        parts = Parts()
        service = parts.service(Settings(port=0))
        app = FastAPI()
        app.include_router(health_router(service))
        server = Server(app, service)
        listening = listen(service.settings)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        ended = asyncio.create_task(run_until_ended(server, cast("Any", service), listening))
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            assert (await client.get("/health/live")).status_code == 200
            assert (await client.get("/health/ready")).status_code == 503
            parts.may_be_warm.set()
            while (await client.get("/health/ready")).status_code != 200:
                await asyncio.sleep(0.01)
            assert parts.done == ["warm"]
        server.should_exit = True
        await asyncio.wait_for(ended, 30)
        assert parts.done == ["warm", "collection closed", "scheduler closed"]

    asyncio.run(run())


def test_a_model_that_cannot_compute_ends_it_with_what_it_said() -> None:
    async def run() -> None:
        parts = Parts(ModelError("the model is not well"))
        parts.may_be_warm.set()
        service = parts.service(Settings(port=0))
        server = Server(FastAPI(), service)
        with pytest.raises(ModelError, match="not well"):
            await asyncio.wait_for(run_until_ended(server, service, listen(service.settings)), 30)
        assert service.readiness.phase == "starting"
        assert parts.done == ["collection closed", "scheduler closed"]

    asyncio.run(run())
