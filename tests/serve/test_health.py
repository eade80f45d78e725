"""What those ask that look after the server."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI

from pairloom.serve.health import health_router
from pairloom.serve.metrics import Metrics
from pairloom.serve.readiness import Phase, Readiness


def get(path: str, phase: Phase = "ready") -> httpx.Response:
    readiness, metrics = Readiness(), Metrics()
    readiness.phase = phase
    metrics.observe_stage("search", 0.1)
    app = FastAPI()
    app.include_router(health_router(cast("Any", SimpleNamespace(readiness=readiness, metrics=metrics))))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost") as client:
            return await client.get(path)

    return asyncio.run(ask())


def test_a_server_is_not_ready_before_it_was_said_to_be() -> None:
    assert Readiness().phase == "starting"


@pytest.mark.parametrize(("phase", "status"), [("starting", 503), ("ready", 200), ("draining", 503)])
def test_readiness_follows_the_phase_and_liveness_does_not(phase: Phase, status: int) -> None:
    answer = get("/health/ready", phase)
    assert (answer.status_code, answer.json()) == (status, {"status": phase})
    assert ("retry-after" in answer.headers) is (status == 503)
    assert get("/health/live", phase).status_code == 200


def test_what_was_counted_is_told_as_prometheus_reads_it() -> None:
    answer = get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert 'pairloom_stage_seconds_count{stage="search"} 1.0' in answer.text
