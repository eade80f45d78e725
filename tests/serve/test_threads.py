"""Calls that block, in a few threads: in order, not too many of them, and none that nobody waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar

import pytest

from pairloom.serve.errors import TooBusyError
from pairloom.serve.threads import Threads

pytestmark = pytest.mark.anyio

_VARIABLE = ContextVar("variable", default="nothing")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


async def test_calls_are_done_in_the_order_in_which_they_come() -> None:
    threads, done = Threads("one", 1, deadline_s=30, most_waiting=100), list[int]()
    await asyncio.gather(*(threads.run(lambda number=number: done.append(number)) for number in range(50)))
    assert done == list(range(50))


async def test_so_many_calls_as_there_are_threads_go_on_at_once() -> None:
    threads, both = Threads("two", 2, deadline_s=30, most_waiting=100), threading.Barrier(2)
    assert sorted(await asyncio.gather(*(threads.run(lambda: both.wait(30)) for _ in range(2)))) == [0, 1]


async def test_who_finds_too_many_waiting_is_refused_and_told_when_to_come_again() -> None:
    threads, gate = Threads("one", 1, deadline_s=30, most_waiting=3), threading.Event()
    try:
        waiting = [asyncio.ensure_future(threads.run(lambda: gate.wait(30))) for _ in range(4)]
        await until(lambda: threads.num_waiting == 3)
        with pytest.raises(TooBusyError) as refused:
            await threads.run(lambda: None)
        assert refused.value.status == 429 and refused.value.retry_after_s is not None
    finally:
        gate.set()
    assert await asyncio.gather(*waiting) == [True] * 4
    assert await threads.run(lambda: "again") == "again"


async def test_who_would_wait_beyond_the_deadline_is_refused_at_once() -> None:
    threads, gate = Threads("one", 1, deadline_s=0.5, most_waiting=100), threading.Event()
    await threads.run(lambda: threading.Event().wait(0.4))  # so long do calls take
    try:
        first = asyncio.ensure_future(threads.run(lambda: gate.wait(30)))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(threads.run(lambda: "in time"))
        await asyncio.sleep(0)
        with pytest.raises(TooBusyError):
            await threads.run(lambda: "too late")
    finally:
        gate.set()
    assert await first
    assert await second == "in time"


async def test_what_has_waited_beyond_the_deadline_is_not_begun() -> None:
    threads, begun = Threads("one", 1, deadline_s=0.2, most_waiting=100), list[str]()
    first = asyncio.ensure_future(threads.run(lambda: threading.Event().wait(0.5)))
    await asyncio.sleep(0)
    with pytest.raises(TooBusyError):
        await threads.run(lambda: begun.append("late"))
    await first
    assert not begun


async def test_what_is_cancelled_while_it_waits_is_never_begun_and_leaves_its_place() -> None:
    threads, gate, begun = Threads("one", 1, deadline_s=30, most_waiting=1), threading.Event(), list[str]()
    first = asyncio.ensure_future(threads.run(lambda: gate.wait(30)))
    gone = asyncio.ensure_future(threads.run(lambda: begun.append("gone")))
    await until(lambda: threads.num_waiting == 1)
    gone.cancel()
    await until(lambda: threads.num_waiting == 0)
    last = asyncio.ensure_future(threads.run(lambda: begun.append("last")))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, last)
    assert begun == ["last"]
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_a_call_sees_the_context_of_who_made_it() -> None:
    threads = Threads("one", 1, deadline_s=30, most_waiting=100)
    token = _VARIABLE.set("mine")
    seen = await threads.run(_VARIABLE.get)
    _VARIABLE.reset(token)
    assert (seen, await threads.run(_VARIABLE.get)) == ("mine", "nothing")


async def test_an_error_comes_to_who_made_the_call() -> None:
    threads = Threads("one", 1, deadline_s=30, most_waiting=100)
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 / 0)
    assert await threads.run(lambda: 1) == 1
