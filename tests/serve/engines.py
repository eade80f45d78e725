"""An engine that computes at once or when it is told to, and remembers what it was given together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pairloom.models.tokenizer import Tokens
from tests.encode.jobs import MeanEngine

PATIENCE_S = 30
_ALL = 10_000  # more micro-batches than any test has


@dataclass(frozen=True)
class Computed:
    """A micro-batch: the first token and the length of each text, and whether it had the machine to itself."""

    firsts: list[int]
    lengths: list[int]
    alone: bool


class ToldEngine(MeanEngine):
    """Fails for a text that begins with the token 666.

    Args:
        num_streams: As an engine's.
        stream_tokens: As an engine's.
        held: Whether micro-batches wait until `let_go`.
        seconds: How long each of them takes.
    """

    def __init__(
        self, num_streams: int = 1, stream_tokens: int = 128, *, held: bool = False, seconds: float = 0.0
    ) -> None:
        super().__init__(seconds=seconds)
        self.num_streams = num_streams
        self.stream_tokens = stream_tokens
        self.computed: list[Computed] = []
        self._lock = threading.Lock()
        self._begun = threading.Semaphore(0)
        self._free = threading.Semaphore(0 if held else _ALL)

    def embed_micro_batch(
        self, tokens: Tokens, *, skip_tokens: int = 0, alone: bool = False
    ) -> npt.NDArray[np.float32]:
        firsts = tokens.ids[np.cumsum(tokens.lengths) - tokens.lengths].tolist()
        with self._lock:
            self.computed.append(Computed(firsts, tokens.lengths.tolist(), alone))
        self._begun.release()
        assert self._free.acquire(timeout=PATIENCE_S)
        if 666 in firsts:
            raise ValueError("the number of the beast")
        return self.embed(tokens, skip_tokens=skip_tokens)

    def wait_for(self, count: int) -> None:
        """Until so many more micro-batches have begun."""
        for _ in range(count):
            assert self._begun.acquire(timeout=PATIENCE_S), "no micro-batch has begun"

    def let_go(self, count: int = _ALL) -> None:
        """Lets so many micro-batches be computed, by default all there are and come."""
        self._free.release(count)

    def place_of(self, first: int) -> int:
        """The number of the micro-batch in which the text that begins so was computed."""
        return next(place for place, batch in enumerate(self.computed) if first in batch.firsts)


def texts(lengths: Sequence[int], *, first: int = 1) -> Tokens:
    """Random texts of these lengths, each beginning with the same token."""
    dice = np.random.default_rng(len(lengths))
    ids = dice.integers(1, 600, size=sum(lengths)).astype(np.int32)
    array = np.array(lengths, dtype=np.int64)
    ids[np.cumsum(array) - array] = first
    return Tokens(ids, array, np.zeros(len(array), dtype=np.bool_))
