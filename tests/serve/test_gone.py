"""A client that hangs up."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from pairloom import Encoder
from pairloom.serve.gone import until_gone
from tests.serve.servers import GatedEngine, make_service, running, until


def request_that_ends(gone: asyncio.Event) -> Request:
    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "headers": []}, receive)


def test_the_result_comes_as_long_as_the_client_is_there() -> None:
    async def run() -> int:
        async def work() -> int:
            await asyncio.sleep(0)
            return 3

        result = await until_gone(request_that_ends(asyncio.Event()), work())
        assert len(asyncio.all_tasks()) <= 2  # this one, and the watcher that is just ending
        return result

    assert asyncio.run(run()) == 3


def test_an_error_of_the_work_is_passed_on() -> None:
    async def run() -> None:
        async def work() -> None:
            raise KeyError("a")

        await until_gone(request_that_ends(asyncio.Event()), work())

    with pytest.raises(KeyError):
        asyncio.run(run())


def test_the_work_is_cancelled_when_the_client_goes() -> None:
    ended: list[str] = []

    async def run() -> None:
        async def work() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        gone = asyncio.Event()
        asyncio.get_running_loop().call_soon(gone.set)
        with pytest.raises(ClientDisconnect):
            await until_gone(request_that_ends(gone), work())
        await asyncio.sleep(0)  # the task itself is not cancelled

    asyncio.run(run())
    assert ended == ["cancelled"]


def test_another_one_who_cancels_is_heeded() -> None:
    async def run() -> None:
        async with asyncio.timeout(0.01):
            await until_gone(request_that_ends(asyncio.Event()), asyncio.Event().wait())

    with pytest.raises(TimeoutError):
        asyncio.run(run())


def test_a_client_that_hangs_up_frees_its_place_before_anything_of_it_is_computed(
    encoder: Encoder, gated: GatedEngine
) -> None:
    service = make_service({"tiny": Encoder(encoder.model, engine=gated)})
    body = json.dumps({"input": ["the water is hot and the cup is cold " * 7] * 2000}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with running(service) as url:
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(head.encode() + b"\r\n\r\n" + body)
            until(lambda: service.scheduler.num_waiting_tokens > 0)
        until(lambda: service.scheduler.num_waiting_tokens == 0)
        assert gated.num_texts < 2000
        gated.gate.set()
