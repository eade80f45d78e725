"""How fast this machine would train: measured in a few seconds, by the code that trains."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from pairloom.encode.micro_batches import micro_batches
from pairloom.models.architecture import Architecture
from pairloom.models.tokenizer import Tokens
from pairloom.recipe import TrainSection
from pairloom.train.gradient_cache import GradientCache
from pairloom.train.learner import Learner
from pairloom.train.memory import graph_memory

# That a measurement aims at, and that is enough. One micro-batch is measured in any case.
_SECONDS, _LEAST_SECONDS = 3.0, 1.0
# Of a batch that stands for the run's: from so many on, micro-batches hold texts of like length, as in any larger one.
MOST_PAIRS = 4096
_KEEP_ALL = 2**62


@dataclass(frozen=True)
class Rate:
    """What was measured.

    Args:
        tokens_per_s: Forward and backward pass, with the graph kept in between.
        replayed_tokens_per_s: The same with another forward pass, of what is computed twice because its graph is not kept;
            None if all graphs of a batch fit, and it was not measured.
        graph_bytes_per_token: That a graph takes.
        graph_limit_bytes: That all graphs of a batch may take.
        update_s: Clipping the gradient and the optimizer's step.
        spent_s: That measuring took.
    """

    tokens_per_s: float
    replayed_tokens_per_s: float | None
    graph_bytes_per_token: float
    graph_limit_bytes: int
    update_s: float
    spent_s: float

    def share_replayed(self, num_tokens: float) -> float:
        """The share of a batch's tokens whose graphs do not fit."""
        return 1 - self.graph_bytes(num_tokens) / (num_tokens * self.graph_bytes_per_token)

    def graph_bytes(self, num_tokens: float) -> float:
        """That the graphs take which a batch of so many tokens keeps."""
        return min(self.graph_limit_bytes, num_tokens * self.graph_bytes_per_token)

    def step_s(self, num_tokens: float) -> float:
        """Seconds of a step of so many tokens; drawing pairs, which goes on meanwhile, and the loss are not in it."""
        replayed = self.share_replayed(num_tokens)
        seconds = num_tokens * (1 - replayed) / self.tokens_per_s + self.update_s
        return seconds + num_tokens * replayed / (self.replayed_tokens_per_s or self.tokens_per_s)


def measure_rate(
    learner: Learner,
    architecture: Architecture,
    section: TrainSection,
    lengths: npt.NDArray[np.int64],
    *,
    num_tokens: float,
    device: torch.device,
) -> Rate:
    """Trains on micro-batches of random tokens, and updates the weights.

    Args:
        learner: Its weights change.
        architecture: Of its network.
        section: Precision, micro-batches and memory for graphs.
        lengths: Tokens of the texts of a batch like those of the run; some of its micro-batches, spread over the long and
            the short ones, are measured.
        num_tokens: Of a batch of the run.
        device: Where the learner computes.

    Raises:
        TrainingError: There is not enough memory for a micro-batch.
    """
    begin = time.perf_counter()
    batches = list(micro_batches(lengths, section.micro_batch_tokens))
    passes = _Passes(learner, architecture, section, lengths, device)
    limit = section.graph_memory_mib
    limit_bytes = graph_memory(device, num_processes=1) if limit == "auto" else limit * 2**20
    kept = passes.measure(batches, most_bytes=limit_bytes)
    bytes_per_token = max(1, kept.graph_bytes) / kept.num_tokens
    token_s, again_s = kept.seconds / kept.num_tokens, None
    if num_tokens * bytes_per_token > limit_bytes:
        first = passes.measure(batches, backward=False)
        again_s = token_s + first.seconds / first.num_tokens
    return Rate(
        tokens_per_s=1 / token_s,
        replayed_tokens_per_s=None if again_s is None else 1 / again_s,
        graph_bytes_per_token=bytes_per_token,
        graph_limit_bytes=limit_bytes,
        update_s=passes.update(),
        spent_s=time.perf_counter() - begin,
    )


@dataclass(frozen=True)
class _Measured:
    num_tokens: int
    graph_bytes: int
    seconds: float


class _Passes:
    """Passes over micro-batches of random tokens, with the time that they take."""

    def __init__(
        self,
        learner: Learner,
        architecture: Architecture,
        section: TrainSection,
        lengths: npt.NDArray[np.int64],
        device: torch.device,
    ) -> None:
        self._learner, self._section, self._lengths, self._device = learner, section, lengths, device
        self._vocabulary_size = architecture.vocabulary_size

    def measure(
        self, batches: list[npt.NDArray[np.int64]], *, backward: bool = True, most_bytes: float = math.inf
    ) -> _Measured:
        """Measures as many micro-batches as the time allows, and as have graphs of ``most_bytes`` at most.

        Args:
            batches: Rows of all micro-batches.
            backward: Both passes, with the graph kept in between; otherwise the forward pass alone, without a graph, which
                is what computing it twice adds.
            most_bytes: Of the graphs.
        """
        # The first pass chooses kernels and gets memory. Where it takes long, that hardly counts.
        found = self._run(_spread(batches, 1), backward=backward)
        most = max(1, int(min(len(batches), most_bytes / max(1, found.graph_bytes))))
        count = 1
        while found.seconds < _SECONDS:
            found = self._run(_spread(batches, count), backward=backward)
            if found.seconds > _LEAST_SECONDS or count == most:
                break
            count = min(most, math.ceil(count * min(8, _SECONDS / found.seconds)))
        return found

    def _run(self, rows: list[npt.NDArray[np.int64]], *, backward: bool) -> _Measured:
        # The texts of some micro-batches make the same ones again: each but the last is as full as can be.
        lengths = self._lengths[np.concatenate(rows)]
        dice = np.random.default_rng(0)
        ids = dice.integers(self._vocabulary_size, size=int(lengths.sum()), dtype=np.int32)
        cache = GradientCache(
            self._learner.network,
            Tokens(ids, lengths, np.zeros(len(lengths), dtype=np.bool_)),
            dice.integers(2**63, size=len(lengths), dtype=np.uint64),
            device=self._device,
            precision=self._section.precision,
            micro_batch_tokens=self._section.micro_batch_tokens,
            graph_memory_bytes=_KEEP_ALL if backward else 0,
        )
        begin = self._now()
        vectors = cache.embed()
        if backward:
            cache.backward(torch.full_like(vectors, 1e-3))
        return _Measured(len(ids), cache.num_graph_bytes, self._now() - begin)

    def update(self) -> float:
        """Seconds of an update; the first one, which makes the moments, does not count."""
        # Of two encoders only the first has gone through the passes; the other takes as long.
        towers, seconds = self._learner.towers, 0.0
        for number in (1, 2):
            begin = self._now()
            towers[0].clip()
            towers[0].update(number, self._section.learning_rate)
            seconds = len(towers) * (self._now() - begin)
        return seconds

    def _now(self) -> float:
        if self._device.type != "cpu":
            torch.get_device_module(self._device).synchronize()
        return time.perf_counter()


def _spread(batches: list[npt.NDArray[np.int64]], count: int) -> list[npt.NDArray[np.int64]]:
    """So many of them, at least one and at most all, evenly over the long and the short ones."""
    return [batches[int((number + 0.5) * len(batches) / count)] for number in range(count)]
