"""Gathers the texts of all requests into micro-batches, and computes them: as soon as a core is free, and fairly."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pairloom.encode.encoder import Encoder
from pairloom.encode.engine import Engine
from pairloom.models.tokenizer import Tokens
from pairloom.serve.errors import RequestError, TooBusyError
from pairloom.serve.waiting import Job, MicroBatch, Waiting

if TYPE_CHECKING:
    from pairloom.serve.metrics import Metrics

logger = logging.getLogger("pairloom")

Vectors = npt.NDArray[np.float32]

# How much the latest micro-batch counts in the measured pace, and the latest request in what is usual.
_SHARE_OF_LATEST = 0.1
# The pace is an estimate, and who is accepted is to be served: so much of the deadline is planned with.
_PLANNED_SHARE = 0.75
# What has not begun by then is given up, since an answer has to be computed and written, too.
_LATEST_SHARE = 0.9


class Scheduler:
    """Computes the texts of concurrent requests; one for a server and its event loop, all models together.

    There are as many threads as an engine computes micro-batches side by side. Whenever one of them is free it takes what
    waits, up to a micro-batch, at once: nothing is ever kept waiting for company, and company comes by itself as soon as there is
    more to do than can be done at once. What is alone has all cores. Who comes next is decided by
    `pairloom.serve.waiting.Waiting`.

    One lock guards what waits and what is known of the threads. It is held for as long as it takes to put a request's texts in or
    to take a micro-batch out, never while something is computed. Futures belong to the event loop, and only its thread
    touches them.

    Args:
        threads: How many micro-batches are computed side by side at most; by default as many as the engines can.
        deadline_s: How long a request may take.
        micro_batch_tokens: Limit of the tokens of a micro-batch; by default what suits the engine.
        metrics: Where batches and times are counted.
    """

    def __init__(
        self,
        *,
        threads: int | None = None,
        deadline_s: float = 30.0,
        micro_batch_tokens: int | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.deadline_s = deadline_s
        self.micro_batch_tokens = micro_batch_tokens
        self.loop_late_s = 0.0
        """How late the event loop is: about so long a request has waited before it came here."""
        self._most_threads = threads
        self._metrics = metrics
        # Guarded by the lock of the condition, which is told of whenever there is something for one more thread to do.
        self._changed = threading.Condition(threading.Lock())
        self._waiting = Waiting()
        self._threads: list[threading.Thread] = []
        self._num_computing = 0
        self._alone = False
        self._closing = False
        self._paces: dict[Engine, float] = {}
        self._usual_s = 0.0  # to compute a request
        # The event loop's.
        self._futures: dict[Job, asyncio.Future[Vectors]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        if metrics is not None:
            metrics.watch_queue(lambda: self.num_waiting_tokens)

    @property
    def num_waiting_tokens(self) -> int:
        """Tokens of all texts that wait, each text as wide as engines pad it."""
        with self._changed:
            return self._waiting.cost

    def busy_s(self, coming: int) -> float:
        """After how many seconds a request would be accepted again; 0 if it would be now.

        Args:
            coming: So many others are on their way here, and will be about as long as usual.
        """
        waiting_s = self._waiting_s()  # without the lock, for which those who refuse would wait: an estimate will do
        wait_s = waiting_s + coming * self._usual_s
        return max(0.0, self._over_s(wait_s, self.deadline_s)) if wait_s else 0.0

    async def compute(
        self,
        encoder: Encoder,
        tokens: Tokens,
        *,
        skip_tokens: int,
        client: str,
        deadline_s: float | None = None,
    ) -> Vectors:
        """The vectors [N, D] of N texts, in their order. Cancelling it gives up what is not computed yet.

        Args:
            encoder: Of which model.
            tokens: The texts, at least one, as `Encoder.tokenize` makes them.
            skip_tokens: As `Encoder.tokenize` says.
            client: Who asks: the machine's time is shared fairly among clients, and among the requests of a client.
            deadline_s: How long it may take; by default as long as any.

        Raises:
            TooBusyError: There is more to do than can be done within the deadline, or it has passed.
            RequestError: These texts alone could not be computed within the deadline (413), the server is being shut
                down (503), or the engine has failed (500).
        """
        assert len(tokens), "nobody asks for nothing"
        deadline_s = self.deadline_s if deadline_s is None else deadline_s
        job = Job(encoder.engine, tokens, skip_tokens=skip_tokens, client=client, dimensions=encoder.dimensions)
        loop = asyncio.get_running_loop()
        assert loop is self._loop or not self._futures, "a scheduler has one event loop at a time"
        with self._changed:
            self._admit(job, deadline_s)
            self._loop = loop
            self._waiting.add(job)
            self._start_threads(job.engine)
            self._changed.notify()
        # Nothing is lost by making the future now: what has been computed meanwhile is told of by this same loop, later.
        future: asyncio.Future[Vectors] = loop.create_future()
        self._futures[job] = future
        timer = loop.call_later(max(0.0, deadline_s * _LATEST_SHARE - self.loop_late_s), self._expire, job)
        try:
            return await future
        finally:
            timer.cancel()
            # An error of the future holds the frame of this call, and so the future itself, which nothing but a search for garbage ends.
            del self._futures[job], future
            if job.rows:  # which never become more
                with self._changed:
                    self._waiting.drop(job)

    def set_pace(self, engine: Engine, token_s: float) -> None:
        """Tells how long an engine takes for a token, with all its streams at work, before it has been measured."""
        with self._changed:
            self._paces.setdefault(engine, token_s)

    async def close(self) -> None:
        """Accepts nothing any more, and ends the threads when all that was accepted is computed."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _admit(self, job: Job, deadline_s: float) -> None:
        """Refuses a job that would not be done in time."""
        if self._closing:
            raise RequestError("the server is being shut down; try again", 503, code="shutting_down", retry_after_s=1.0)
        own_s = job.cost * self._paces.get(job.engine, 0.0)
        if own_s > deadline_s:
            num_tokens = int(job.tokens.lengths.sum())
            raise RequestError(
                f"{num_tokens:,} tokens cannot be computed within {deadline_s:g} s; about "
                f"{int(num_tokens * deadline_s / own_s):,} can: send fewer texts at once",
                413,
                param="input",
                code="too_many_tokens",
            )
        before_s = self._waiting_s()
        over_s = self._over_s(before_s + own_s, deadline_s)
        if before_s and over_s > 0:
            raise TooBusyError(max(1.0, over_s))
        if own_s:
            # By its logarithm: one huge request among thousands says nothing of the next one.
            self._usual_s = (
                self._usual_s ** (1 - _SHARE_OF_LATEST) * own_s**_SHARE_OF_LATEST if self._usual_s else own_s
            )

    def _over_s(self, wait_s: float, deadline_s: float) -> float:
        """By how much a wait is longer than what is planned for it."""
        return self.loop_late_s + wait_s - deadline_s * _PLANNED_SHARE

    def _waiting_s(self) -> float:
        """How long it takes to compute all that waits; what has no measured pace yet does not count."""
        costs = tuple(self._waiting.costs.items())  # at once, so that nothing changes between
        return sum(cost * self._paces.get(engine, 0.0) for engine, cost in costs)

    def _expire(self, job: Job) -> None:
        """The deadline has passed: what still waits is given up. If nothing does, the rest is there in a moment."""
        with self._changed:
            if not job.rows:
                return
            self._waiting.drop(job)
            waiting_s = self._waiting_s()
        if not self._futures[job].done():
            self._futures[job].set_exception(TooBusyError(max(1.0, waiting_s)))

    def _start_threads(self, engine: Engine) -> None:
        while len(self._threads) < self._num_streams(engine):
            # Daemons, so that a server that fails before it can close its scheduler ends all the same.
            thread = threading.Thread(target=self._work, name=f"compute-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _num_streams(self, engine: Engine) -> int:
        return min(engine.num_streams, self._most_threads or engine.num_streams)

    def _work(self) -> None:
        """A thread's life."""
        while (batch := self._next()) is not None:
            self._compute(batch)

    def _next(self) -> MicroBatch | None:
        """Waits for the next micro-batch; None if there will be none."""
        with self._changed:
            while self._alone or not self._waiting:
                if self._closing and not self._waiting:
                    self._changed.notify_all()  # so that all others see it, too
                    return None
                self._changed.wait()
            num_free = len(self._threads) - self._num_computing
            batch = self._waiting.take(max_tokens=self.micro_batch_tokens, num_free=num_free)
            self._num_computing += 1
            self._alone = batch.alone = self._num_computing == 1 and not self._waiting
            if self._waiting:
                self._changed.notify()  # whoever leaves something wakes the next one
            waited_s = [job.begin() for job, _ in batch.texts]
        if self._metrics is not None:
            for seconds in waited_s:
                if seconds is not None:
                    self._metrics.observe_stage("queue", seconds)
        return batch

    def _compute(self, batch: MicroBatch) -> None:
        began = time.perf_counter()
        failed = False
        try:
            tokens = batch.tokens()
            batch.scatter(
                batch.engine.embed_micro_batch(tokens, skip_tokens=batch.skip_tokens, alone=batch.alone),
            )
        except Exception:
            # Whatever it was, the server goes on with other requests.
            logger.exception("a micro-batch of %d texts could not be computed", len(batch.texts))
            failed = True
        took_s = time.perf_counter() - began
        with self._changed:
            self._num_computing -= 1
            self._alone = False
            if batch.alone and self._waiting:
                self._changed.notify()  # while this thread tells of it, another one goes on
            if not failed:
                self._measure(batch, took_s)
            ended = self._count(batch, failed=failed)
        self._tell(ended, failed=failed)
        if self._metrics is not None and not failed:
            self._metrics.observe_stage("compute", took_s)
            self._metrics.observe_batch(
                texts=len(tokens),
                tokens=int(tokens.lengths.sum()),
                max_tokens=batch.max_tokens,
            )

    def _measure(self, batch: MicroBatch, took_s: float) -> None:
        """Learns the pace from full micro-batches: a queue so long that the pace matters is computed in such ones.

        They are computed side by side, so each is as many times faster than it looks. One that had all cores to itself
        says nothing of that.
        """
        num_streams = self._num_streams(batch.engine)
        if not batch.full or (batch.alone and num_streams > 1):
            return
        latest = took_s / batch.cost / num_streams
        pace = self._paces.get(batch.engine, latest)
        self._paces[batch.engine] = pace + (latest - pace) * _SHARE_OF_LATEST

    def _count(self, batch: MicroBatch, *, failed: bool) -> list[Job]:
        """The jobs that this micro-batch ends: those that it completes, or all those in it if it failed."""
        ended = []
        for job, count in Counter(job for job, _ in batch.texts).items():
            if failed:
                self._waiting.drop(job)
            else:
                job.num_left -= count
            if failed or not job.num_left:  # of one that has failed something is left for ever
                ended.append(job)
        return ended

    def _tell(self, ended: Sequence[Job], *, failed: bool) -> None:
        """Lets the event loop know of ended jobs: of all of a micro-batch at once, for to wake it costs more than they do."""
        if not ended:
            return
        assert self._loop is not None, "it is set before a job comes"
        try:
            self._loop.call_soon_threadsafe(self._resolve, ended, failed)
        except RuntimeError:  # the loop was closed, and nobody waits any more
            logger.debug("vectors of %d requests came after the server had ended", len(ended))

    def _resolve(self, ended: Sequence[Job], failed: bool) -> None:
        for job in ended:
            future = self._futures.get(job)
            if future is None or future.done():  # its client has hung up, or its deadline has passed
                continue
            if failed:
                future.set_exception(
                    RequestError(
                        "the model could not compute this; the server's log says why", 500, code="engine_failed"
                    )
                )
            else:
                future.set_result(job.vectors)
