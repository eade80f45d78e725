"""A contestant that is changed while it is searched."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks._search_data import Labelled
from benchmarks._search_rows import Vectors
from benchmarks._search_side import Figures, Side

# A phase: its name, when it began and when it ended.
Phase = tuple[str, float, float]
# A prime, so that the documents of two turns are others.
_PLACES = 7_919


class Changing(Side):
    """What changes documents that are on the disk, and is searched by threads and processes meanwhile."""

    @cached_property
    def further(self) -> tuple[list[Labelled], Vectors]:
        """Rows that are not among the others; read before anything is timed."""
        return self.data.further()

    @abstractmethod
    def replace(self, rows: Sequence[int], first: int) -> None:
        """Replaces the documents of some rows by further ones, from the one of number ``first`` on."""

    @abstractmethod
    def add_further(self, begin: int, end: int) -> None:
        """Adds rows that were not there."""

    @abstractmethod
    def renew_index(self) -> None:
        """Takes the rows that were added into the index."""

    @abstractmethod
    def knows(self, number: int) -> bool:
        """Whether the further row of this number is found by its own vector."""

    def upsert(self, turn: int, count: int, block: int) -> Figures:
        """Replaces documents, some at a time; in each turn the same texts take the places of others, so that all is new."""
        taken, size = [], self.data.size
        assert count <= len(self.further[0])
        for first in range(0, count, block):
            rows = [(number + turn * _PLACES) % size for number in range(first, min(first + block, count))]
            begin = time.perf_counter()
            self.replace(rows, first)
            taken.append(time.perf_counter() - begin)
        return {"batch_size": count, "step_s": [sum(taken)], "calls_s": taken}

    def change(self, count: int, block: int, every_s: float, quiet_s: float, calls: str) -> Figures:
        """Adds rows, some at a time, and then renews the index, while a thread of this process asks.

        Args:
            count: Rows to add.
            block: By one call.
            every_s: Time between questions.
            quiet_s: Before and after, nothing is changed for so long.
            calls: A file for what the thread found out; see `watch`.
        """
        phases: list[Phase] = []
        over = threading.Event()
        assert count <= len(self.further[0])

        def phase(name: str, begin: float) -> float:
            end = time.monotonic()
            phases.append((name, begin, end))
            return end

        with ThreadPoolExecutor(1) as pool:
            reader = pool.submit(self._ask_until, over.is_set, every_s)
            try:
                begin = time.monotonic()
                time.sleep(quiet_s)
                begin = phase("before", begin)
                for first in range(0, count, block):
                    self.add_further(first, min(first + block, count))
                begin = phase("adding", begin)
                self.renew_index()
                begin = phase("new index", begin)
                time.sleep(quiet_s)
                phase("after", begin)
            finally:
                over.set()
            np.save(calls, reader.result())
        return {"phases": phases}

    def watch(self, stop: str, every_s: float, calls: str) -> Figures:
        """Asks until there is a file of a certain name. When each question was due, and how long its answer took from then,
        go to a file, float64 [N, 2]."""
        over = Path(stop)
        np.save(calls, self._ask_until(over.exists, every_s))
        return {"calls": calls}

    def sees(self, number: int) -> Figures:
        """See `knows`."""
        return {"sees": self.knows(number)}

    def _ask_until(self, is_over: Callable[[], bool], every_s: float) -> npt.NDArray[np.float64]:
        """A question is due at fixed times, whether the one before has been answered or not: who is held up once does not
        make up for it by asking less."""
        ask, taken = self.asker(), []
        due = time.monotonic()
        number = 0
        while not is_over():
            time.sleep(max(0.0, due - time.monotonic()))
            ask(number % len(self.texts))
            taken.append((due, time.monotonic() - due))
            due += every_s
            number += 1
        return np.array(taken, dtype=np.float64).reshape(-1, 2)
