"""The scheduler: what is computed with what and in which order, who is refused, and what becomes of faults."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pairloom.encode.encoder import Encoder
from pairloom.models.model import Model
from pairloom.models.names import load_model
from pairloom.models.tokenizer import Tokens
from pairloom.serve.errors import RequestError, TooBusyError
from pairloom.serve.scheduler import Scheduler
from tests.serve.engines import ToldEngine, texts

Task = asyncio.Task[npt.NDArray[np.float32]]


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Model:
    return load_model(model_folder)


class Server:
    """An engine that is told when to compute, and the scheduler before it."""

    def __init__(self, model: Model, engine: ToldEngine, **settings: Any) -> None:
        self.engine = engine
        self.scheduler = Scheduler(**settings)
        self._encoder = Encoder(model, engine=engine)

    def compute(self, tokens: Tokens, client: str = "a", **settings: Any) -> Coroutine[Any, Any, Any]:
        return self.scheduler.compute(self._encoder, tokens, skip_tokens=0, client=client, **settings)

    async def ask(self, tokens: Tokens, client: str = "a", **settings: Any) -> Task:
        """A request that is accepted when this returns."""
        task = asyncio.create_task(self.compute(tokens, client, **settings))
        await asyncio.sleep(0)
        return task

    async def wait_for(self, count: int) -> None:
        await asyncio.to_thread(self.engine.wait_for, count)


@asynccontextmanager
async def served(model: Model, engine: ToldEngine, **settings: Any) -> AsyncIterator[Server]:
    server = Server(model, engine, **settings)
    try:
        yield server
    finally:
        engine.let_go()
        await server.scheduler.close()
    assert server.scheduler.num_waiting_tokens == 0


def test_every_request_has_the_vectors_of_its_own_texts(model: Model) -> None:
    dice = np.random.default_rng(0)
    requests = [
        texts(dice.integers(1, 64, size=dice.integers(1, 30)).tolist(), first=number) for number in range(1, 80)
    ]

    async def run() -> None:
        async with served(model, ToldEngine(3, seconds=0.001)) as server:
            found = await asyncio.gather(
                *(server.compute(tokens, f"client {number % 7}") for number, tokens in enumerate(requests))
            )
            for tokens, vectors in zip(requests, found, strict=True):
                np.testing.assert_allclose(vectors, server.engine.embed(tokens), atol=1e-6)
            assert any(len(set(batch.firsts)) > 1 for batch in server.engine.computed)

    asyncio.run(run())


def test_a_lone_request_has_all_cores_and_what_comes_meanwhile_shares_them(model: Model) -> None:
    async def run() -> None:
        engine = ToldEngine(2, held=True)
        async with served(model, engine) as server:
            lone = await server.ask(texts([9, 9, 12]))
            await server.wait_for(1)
            others = [await server.ask(texts([length])) for length in (9, 60, 120)]
            await asyncio.sleep(0.05)
            assert len(engine.computed) == 1, "the lone one has all cores for so long"
            engine.let_go(1)
            # Both are held until both have begun: were one done before, then the other would rightly be alone.
            await server.wait_for(2)
            engine.let_go()
            await asyncio.gather(lone, *others)
            assert [batch.alone for batch in engine.computed[:3]] == [True, False, False]
            await server.compute(texts([9]))
            assert engine.computed[-1].alone

    asyncio.run(run())


def test_texts_of_like_length_are_computed_together_and_micro_batches_are_full(model: Model) -> None:
    dice = np.random.default_rng(1)
    lengths = dice.permutation(np.repeat([5, 14, 30, 60], 16)).tolist()

    async def run() -> None:
        engine = ToldEngine(stream_tokens=256, held=True)
        async with served(model, engine) as server:
            first = await server.ask(texts([9]))
            await server.wait_for(1)
            tasks = [await server.ask(texts([length]), str(number)) for number, length in enumerate(lengths)]
            engine.let_go()
            await asyncio.gather(first, *tasks)
            batches = [batch.lengths for batch in engine.computed[1:]]
            # The leader's length as long as there are such texts, and of another one what fits in besides.
            assert all(len(set(one)) <= 2 for one in batches)
            assert sum(len(set(one)) == 1 for one in batches) >= 5
            assert len(batches) == 8
            assert all(sum(one) >= 200 for one in batches[:-1])

    asyncio.run(run())


def test_single_texts_wait_for_about_one_micro_batch_beside_a_huge_request(model: Model) -> None:
    async def run() -> None:
        engine = ToldEngine(held=True)
        async with served(model, engine) as server:
            huge = await server.ask(texts([17] * 2000), "huge")
            await server.wait_for(1)
            same = await server.ask(texts([18], first=801), "one")
            other = await server.ask(texts([60], first=802), "two")
            own = await server.ask(texts([100], first=803), "huge")
            engine.let_go()
            await asyncio.gather(same, other, own, huge)
            assert engine.place_of(801) <= 2
            assert engine.place_of(802) <= 2
            assert engine.place_of(803) <= 4, "not even those of the same client wait for all of it"
            assert len(engine.computed) > 300

    asyncio.run(run())


def test_one_of_many_clients_with_huge_requests_gets_its_share(model: Model) -> None:
    async def run() -> None:
        engine = ToldEngine(held=True)
        async with served(model, engine) as server:
            first = await server.ask(texts([9]))
            await server.wait_for(1)
            tasks = [
                await server.ask(texts([length] * 200, first=800 + number), f"client {number}")
                for number, length in enumerate([10, 17, 60, 120])
            ]
            engine.let_go()
            await asyncio.gather(first, *tasks)
            leaders = [batch.firsts[0] for batch in engine.computed[1:33]]
            assert {leader: leaders.count(leader) for leader in leaders} == {800: 8, 801: 8, 802: 8, 803: 8}

    asyncio.run(run())


def test_who_cannot_be_served_in_time_is_refused_at_once(model: Model) -> None:
    async def run() -> None:
        engine = ToldEngine(held=True)
        async with served(model, engine, deadline_s=30) as server:
            server.scheduler.set_pace(engine, 0.01)  # 3,000 tokens within the deadline
            with pytest.raises(
                RequestError, match="3,200 tokens cannot be computed within 30 s; about 3,000 can"
            ) as error:
                await server.compute(texts([64] * 50))
            assert (error.value.status, error.value.param) == (413, "input")
            tasks = [await server.ask(texts([64] * 46))]  # 29 s: on an idle server that is in time
            await server.wait_for(1)
            tasks.append(await server.ask(texts([8]), deadline_s=100))
            assert server.scheduler.num_waiting_tokens == 64 * 44 + 8
            for lengths in ([8], [8] * 10):
                with pytest.raises(TooBusyError) as busy:
                    await server.compute(texts(lengths))
                assert busy.value.status == 429
                late_s = (64 * 44 + 8 + 8 * len(lengths)) * 0.01 - 0.75 * 30
                assert busy.value.retry_after_s == pytest.approx(late_s)
            assert server.scheduler.busy_s(0) == pytest.approx(late_s - 8 * 0.01 * len(lengths))
            engine.let_go()
            await asyncio.gather(*tasks)
            assert server.scheduler.busy_s(0) == 0
            await server.compute(texts([8]))

    asyncio.run(run())


def test_one_huge_request_does_not_make_those_that_come_look_huge(model: Model) -> None:
    async def run() -> None:
        engine = ToldEngine()
        async with served(model, engine, deadline_s=30) as server:
            server.scheduler.set_pace(engine, 0.0001)
            for _ in range(5):
                await server.compute(texts([8]))
            with pytest.raises(RequestError, match="cannot be computed within"):
                await server.compute(texts([64] * 10_000))
            await server.compute(texts([64] * 1_000))  # 6 s
            assert server.scheduler.busy_s(coming=1_000) == 0
            assert server.scheduler.busy_s(coming=100_000) > 0

    asyncio.run(run())


def test_the_time_that_requests_wait_to_be_read_counts(model: Model) -> None:
    async def run() -> None:
        engine = ToldEngine(held=True)
        async with served(model, engine, deadline_s=30) as server:
            server.scheduler.set_pace(engine, 0.01)
            tasks = [await server.ask(texts([64] * 30))]  # 19 s, of 22 that are planned with
            await server.wait_for(1)
            tasks.append(await server.ask(texts([8])))
            assert server.scheduler.busy_s(0) == 0
            assert server.scheduler.busy_s(coming=100) > 0
            server.scheduler.loop_late_s = 10.0
            assert server.scheduler.busy_s(0) > 0
            with pytest.raises(TooBusyError):
                await server.compute(texts([8]))
            engine.let_go()
            await asyncio.gather(*tasks)
            await server.compute(texts([8]))  # nothing waits

    asyncio.run(run())


def test_the_pace_is_measured(model: Model) -> None:
    async def run() -> None:
        async with served(model, ToldEngine(2, seconds=0.02)) as server:
            await server.compute(texts([16] * 80))
            with pytest.raises(RequestError, match=r"within 0.05 s; about [\d,]+ can"):
                await server.compute(texts([16] * 800), deadline_s=0.05)

    asyncio.run(run())


def test_what_still_waits_at_its_deadline_is_given_up(model: Model) -> None:
    async def run() -> None:
        engine = ToldEngine(held=True)
        async with served(model, engine) as server:
            begun = await server.ask(texts([9]), deadline_s=0.05)
            await server.wait_for(1)
            late = await server.ask(texts([9] * 100, first=700), deadline_s=0.05)
            with pytest.raises(TooBusyError):
                await late
            assert server.scheduler.num_waiting_tokens == 0
            assert not begun.done(), "what is being computed may finish"
            engine.let_go()
            assert (await begun).shape == (1, 32)
            await server.compute(texts([9]))
            assert 700 not in [first for batch in engine.computed for first in batch.firsts]

    asyncio.run(run())


def test_what_was_given_up_is_not_kept_until_garbage_is_looked_for(model: Model) -> None:
    async def run() -> weakref.ref[Tokens]:
        engine = ToldEngine(held=True)
        async with served(model, engine) as server:
            begun = await server.ask(texts([9]))
            await server.wait_for(1)
            tokens = texts([9] * 100, first=700)
            with pytest.raises(TooBusyError):
                await server.compute(tokens, deadline_s=0.05)
            engine.let_go()
            await begun
            return weakref.ref(tokens)

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(run())() is None
    finally:
        gc.enable()


def test_who_hangs_up_frees_the_place(model: Model) -> None:
    async def run() -> None:
        engine = ToldEngine(held=True)
        async with served(model, engine) as server:
            huge = await server.ask(texts([17] * 500, first=700))
            await server.wait_for(1)
            waiting = await server.ask(texts([17]))
            other = await server.ask(texts([9], first=800))
            for task in (huge, waiting):
                task.cancel()
            await asyncio.wait([huge, waiting])
            assert huge.cancelled()
            assert server.scheduler.num_waiting_tokens == 12
            engine.let_go()
            await other
            assert len(engine.computed) == 2

    asyncio.run(run())


def test_a_fault_fails_the_requests_in_its_micro_batch_alone(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        engine = ToldEngine(held=True)
        async with served(model, engine) as server:
            first = await server.ask(texts([9]))
            await server.wait_for(1)
            bad = await server.ask(texts([17, *[60] * 40], first=666), "bad")
            beside = await server.ask(texts([60], first=801), "beside")
            elsewhere = await server.ask(texts([120], first=802), "elsewhere")
            engine.let_go()
            for task in (bad, beside):
                with pytest.raises(RequestError, match="the server's log says why") as error:
                    await task
                assert error.value.status == 500
            await asyncio.gather(first, elsewhere)
            assert sum(666 in batch.firsts for batch in engine.computed) == 1, "the rest of it is not computed"
            assert (await server.compute(texts([9]))).shape == (1, 32)
        assert "the number of the beast" in caplog.text

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())


def test_closing_finishes_what_was_accepted_and_refuses_the_rest(model: Model) -> None:
    async def run() -> None:
        engine = ToldEngine(2, held=True)
        server = Server(model, engine)
        tasks = [await server.ask(texts([17] * 50)), await server.ask(texts([9]))]
        await server.wait_for(2)
        closing = asyncio.create_task(server.scheduler.close())
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="shut down") as error:
            await server.compute(texts([9]))
        assert error.value.status == 503
        engine.let_go()
        await closing
        assert [vectors.shape for vectors in await asyncio.gather(*tasks)] == [(50, 32), (1, 32)]
        assert not any(thread.is_alive() for thread in server.scheduler._threads)
        await server.scheduler.close()

    asyncio.run(run())


def test_one_event_loop_after_another(model: Model) -> None:
    server = Server(model, ToldEngine(2))
    for _ in range(2):
        assert asyncio.run(server.compute(texts([9, 30]))).shape == (2, 32)
    asyncio.run(server.scheduler.close())


class Counts:
    """What a scheduler tells of."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.batches: list[tuple[int, int, int]] = []

    def observe_stage(self, stage: str, seconds: float) -> None:
        assert seconds >= 0
        self.stages.append(stage)

    def observe_batch(self, *, texts: int, tokens: int, max_tokens: int) -> None:
        self.batches.append((texts, tokens, max_tokens))

    def watch_queue(self, waiting_tokens: Any) -> None:
        self.waiting_tokens = waiting_tokens


def test_batches_and_times_are_told_of(model: Model) -> None:
    counts = Counts()

    async def run() -> None:
        engine = ToldEngine(held=True)
        async with served(model, engine, metrics=counts) as server:
            first = await server.ask(texts([9]))
            await server.wait_for(1)
            second = await server.ask(texts([17] * 5 + [20]))
            assert counts.waiting_tokens() == 6 * 20
            engine.let_go()
            await asyncio.gather(first, second)

    asyncio.run(run())
    assert sum(texts for texts, _, _ in counts.batches) == 7
    assert sum(tokens for _, tokens, _ in counts.batches) == 9 + 5 * 17 + 20
    assert counts.batches[0] == (1, 9, 128)
    assert counts.stages.count("queue") == 2, "once a request"
    assert counts.stages.count("compute") == len(counts.batches)


def test_random_traffic_leaves_nothing_behind(model: Model) -> None:
    """Requests that come, fail, hang up and run out of time at random moments."""
    dice = np.random.default_rng(3)

    async def request(server: Server, number: int) -> str:
        await asyncio.sleep(float(dice.random()) * 0.2)
        lengths = dice.integers(1, 120, size=int(dice.integers(1, 60))).tolist()
        first = 666 if number % 17 == 0 else 1 + number % 500
        deadline_s = 0.02 if number % 5 == 0 else None
        task = await server.ask(texts(lengths, first=first), f"client {number % 9}", deadline_s=deadline_s)
        if number % 7 == 0:
            await asyncio.sleep(float(dice.random()) * 0.02)
            task.cancel()
        try:
            vectors = await task
        except (asyncio.CancelledError, RequestError) as error:
            return type(error).__name__
        np.testing.assert_allclose(vectors, server.engine.embed(texts(lengths, first=first)), atol=1e-6)
        return "done"

    async def run() -> None:
        async with served(model, ToldEngine(3, seconds=0.001)) as server:
            ends = await asyncio.gather(*(request(server, number) for number in range(300)))
            assert set(ends) == {"done", "CancelledError", "RequestError", "TooBusyError"}
            scheduler = server.scheduler
            assert not scheduler._futures
            assert not any(vars(scheduler._waiting).values())

    logging.getLogger("pairloom").setLevel(logging.CRITICAL)
    asyncio.run(run())
