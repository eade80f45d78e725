"""An encoder whose texts go through the server's scheduler, for those who call it from a thread of their own.

A collection encodes what it is given by itself. Were it to compute by itself, too, it would take cores away from the requests that
the scheduler has ordered; so it computes through the scheduler, as one client among others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pairloom.encode.dual_encoder import AnyEncoder, DualEncoder
from pairloom.encode.encoder import Encoder
from pairloom.models.tokenizer import Tokens

if TYPE_CHECKING:
    from pairloom.serve.metrics import Metrics
    from pairloom.serve.scheduler import Scheduler

# How often a thread that waits looks whether there is still a loop that could answer.
_LOOK_S = 1.0


@dataclass(frozen=True)
class _Asking:
    """For whom something is computed, and on which loop the scheduler runs."""

    loop: asyncio.AbstractEventLoop
    client: str


_asking: ContextVar[_Asking | None] = ContextVar("asking", default=None)


@contextmanager
def asking_for(client: str) -> Iterator[None]:
    """What is begun within, also in threads that are given the context, computes under the name of this client."""
    token = _asking.set(_Asking(asyncio.get_running_loop(), client))
    try:
        yield
    finally:
        _asking.reset(token)


class ScheduledEngine:
    """An engine that computes by a scheduler, for threads that `asking_for` knows of; never for the event loop's own.

    For others it computes by itself: before the server answers there is nobody whose turn it could be.

    Args:
        encoder: What computes in the end.
        scheduler: When it does so.
        name: Of the model, under which its texts are counted.
        metrics: What counts them.
    """

    def __init__(self, encoder: Encoder, scheduler: Scheduler, name: str, metrics: Metrics | None) -> None:
        self.precision = encoder.precision
        self.num_streams, self.stream_tokens = encoder.engine.num_streams, encoder.engine.stream_tokens
        self.embed_micro_batch = encoder.engine.embed_micro_batch
        self._encoder, self._scheduler, self._name, self._metrics = encoder, scheduler, name, metrics

    def embed(self, tokens: Tokens, *, skip_tokens: int = 0) -> npt.NDArray[np.float32]:
        """The vectors [N, D] of N texts; see `pairloom.encode.engine.Engine`.

        Raises:
            RequestError: They could not be computed in time.
        """
        asking = _asking.get()
        if asking is None:
            return self._encoder.engine.embed(tokens, skip_tokens=skip_tokens)
        computing = self._scheduler.compute(self._encoder, tokens, skip_tokens=skip_tokens, client=asking.client)
        waiting = asyncio.run_coroutine_threadsafe(computing, asking.loop)
        while not wait([waiting], _LOOK_S).done:
            if asking.loop.is_closed():
                raise CancelledError("the server has ended")
        vectors = waiting.result()
        if self._metrics is not None:
            num_tokens, num_truncated = int(tokens.lengths.sum()), int(tokens.truncated.sum())
            self._metrics.count_texts(self._name, texts=len(tokens), tokens=num_tokens, truncated=num_truncated)
        return vectors


def scheduled(
    encoder: AnyEncoder, scheduler: Scheduler, *, name: str = "", metrics: Metrics | None = None
) -> AnyEncoder:
    """The same encoder, or pair of them, computing by a scheduler: for a collection that a server opens.

    Args:
        encoder: The collection's model.
        scheduler: The server's.
        name: Under which it is served.
        metrics: What counts its texts.
    """

    def half(one: Encoder) -> Encoder:
        return Encoder(one.model, engine=ScheduledEngine(one, scheduler, name or one.model.name, metrics))

    if isinstance(encoder, DualEncoder):
        return DualEncoder(half(encoder.query), half(encoder.document))
    return half(encoder)
