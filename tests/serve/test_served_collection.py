"""A collection in threads: writers wait for each other and for other processes, and what follows from it is made once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pairloom import Collection, Document
from pairloom.search import ledger
from pairloom.search.any_collection import AnyCollection
from pairloom.search.settings import Settings
from pairloom.serve.errors import RequestError
from pairloom.serve.metrics import Metrics
from pairloom.serve.served_collection import ServedCollection

pytestmark = pytest.mark.anyio

SETTINGS = Settings(dimensions=4, similarity="cosine")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collection]:
    monkeypatch.setattr(ledger, "WAIT_S", 0.05)
    with Collection(tmp_path / "c", settings=SETTINGS) as opened:
        yield opened


def served(collection: AnyCollection, deadline_s: float = 30.0) -> ServedCollection:
    return ServedCollection(collection, cores=2, deadline_s=deadline_s, metrics=Metrics())


def put(collection: AnyCollection, id_: str) -> int:
    return collection.upsert([Document(id_, "text")], vectors=np.ones((1, 4), np.float32)).added


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


async def test_writers_come_one_after_another_and_each_is_answered_when_it_is_on_the_disk(
    collection: Collection,
) -> None:
    opened = served(collection)

    async def write(number: int) -> None:
        assert await opened.write(lambda one: put(one, str(number)), client="a") == 1
        with Collection(collection.path) as other:  # as another process would see it
            assert other.get([str(number)]) == [Document(str(number), "text")]

    await asyncio.gather(*map(write, range(20)))
    assert [document.id for document in collection.documents()] == [str(number) for number in range(20)]


async def test_a_writer_waits_for_another_process_and_then_writes(collection: Collection) -> None:
    opened = served(collection)
    with Collection(collection.path) as other:
        with other._ledger.locked():
            writing = asyncio.ensure_future(opened.write(lambda one: put(one, "a"), client="a"))
            await asyncio.sleep(0.5)
            assert not writing.done()
            assert await opened.read(lambda one: one.count()) == 0
        assert await writing == 1


async def test_a_writer_that_waited_for_another_process_in_vain_says_so(collection: Collection) -> None:
    opened = served(collection, deadline_s=0.3)
    with (
        Collection(collection.path) as other,
        other._ledger.locked(),
        pytest.raises(RequestError, match="another process is writing") as refused,
    ):
        await opened.write(lambda one: put(one, "a"), client="a")
    assert (refused.value.status, refused.value.code) == (503, "collection_busy")
    assert refused.value.retry_after_s is not None
    assert await opened.write(lambda one: put(one, "a"), client="a") == 1


async def test_what_follows_from_a_collection_is_made_once_for_each_change(collection: Collection) -> None:
    opened, made, gate = served(collection), list[int](), threading.Event()

    def count(one: AnyCollection) -> int:
        gate.wait(30)
        made.append(one.count())
        return made[-1]

    asking = [asyncio.ensure_future(opened.derive("count", count)) for _ in range(10)]
    await asyncio.sleep(0.05)
    asking[0].cancel()  # who hangs up does not take it away from the others
    gate.set()
    assert await asyncio.gather(*asking[1:]) == [0] * 9
    assert await opened.derive("count", count) == 0 and made == [0]
    put(collection, "a")
    assert await opened.derive("count", count) == 1 and made == [0, 1]
    assert await opened.derive("another", count) == 1 and made == [0, 1, 1]


async def test_what_is_being_made_is_not_begun_anew_because_something_was_written(collection: Collection) -> None:
    opened, begun, gate = served(collection), list[int](), threading.Event()

    def count(one: AnyCollection) -> int:
        begun.append(one.count())
        gate.wait(30)
        return begun[-1]

    first = asyncio.ensure_future(opened.derive("count", count))
    await until(lambda: len(begun) == 1)
    put(collection, "a")
    second = asyncio.ensure_future(opened.derive("count", count))
    await asyncio.sleep(0.1)
    gate.set()
    assert (await first, await second) == (0, 0)
    assert await opened.derive("count", count) == 1


async def test_what_could_not_be_made_is_tried_again(collection: Collection) -> None:
    opened, attempts = served(collection), list[int]()

    def fail_once(one: AnyCollection) -> str:
        attempts.append(1)
        return "made" if len(attempts) > 1 else str(1 / 0)

    with pytest.raises(ZeroDivisionError):
        await opened.derive("key", fail_once)
    assert await opened.derive("key", fail_once) == "made"


async def test_few_results_are_kept(collection: Collection) -> None:
    opened, made = served(collection), list[int]()

    def make(one: AnyCollection, *, number: int) -> int:
        made.append(number)
        return number

    for number in (*range(20), 19, 0):
        assert await opened.derive(number, partial(make, number=number)) == number
    assert made == [*range(20), 0]
