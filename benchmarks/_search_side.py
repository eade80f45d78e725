"""What all contestants have in common: each lives in a process of its own (`benchmarks._encode_apart`), limited to some cores.

A contestant *builds* its store of the first rows of a data folder, *opens* it, and *asks*: `Side.asker` gives a function from
the number of a question to the rows that were found, best first. Times are of that call, as the contestant's users make it.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks._encode_sides import memory_bytes
from benchmarks._search_data import Data
from benchmarks._search_rows import Vectors
from benchmarks._search_truth import K
from pairloom.records import Document

Figures = dict[str, Any]
Asker = Callable[[int], list[int]]
# Rows that are added by one call.
BLOCK_ROWS = 8_192
_WARM_S = 1.0
_GLANCE_S = 0.02


class Side(ABC):
    """A contestant.

    Args:
        data: The folder of `benchmarks._search_data`.
        size: How many of its rows.
        store: The contestant's own folder.
        cores: To how many the process is limited.
        settings: What else it takes.
    """

    def __init__(self, data: str, size: int, store: str, cores: int, **settings: Any) -> None:
        limit(cores)
        self.data, self.store, self.cores = Data(Path(data), size), Path(store), cores
        self.settings = settings
        questions, self.vectors = self.data.questions()
        self.texts = [question.text for question in questions]

    @abstractmethod
    def make(self) -> Figures:
        """Builds the store; what is measured on the way, in seconds."""

    @abstractmethod
    def open(self) -> Figures:
        """Makes the store ready to be asked."""

    @abstractmethod
    def asker(self, *_: Any, **how: Any) -> Asker:
        """A function that answers a question, in some way."""

    def build(self) -> Figures:
        """`make`, with its memory and what lies on the disk afterwards."""
        self.store.mkdir(parents=True)
        with Memory() as memory:
            figures = self.make()
        return figures | memory.figures() | {"rows": self.data.size, "files": sizes(self.store)}

    def found(self, numbers: Sequence[int] | None = None, k: int = K, **how: Any) -> Figures:
        """Answers to all questions, or to some, and the seconds of them together."""
        ask = self.asker(**how) if k == K else self.asker(k=k, **how)
        begin = time.perf_counter()
        found = [ask(number) for number in self._numbers(numbers)]
        return {"found": found, "seconds": time.perf_counter() - begin}

    def search(
        self, clients: int, calls: int, seconds: float, numbers: Sequence[int] | None = None, **how: Any
    ) -> Figures:
        """Seconds of each call, and of all together: ``calls`` of them, or as many as fit into ``seconds``."""
        ask, asked = self.asker(**how), self._numbers(numbers)
        warm_until = time.perf_counter() + min(seconds, _WARM_S)
        for number in asked:  # so that files that are mapped are there, and caches filled
            ask(number)
            if time.perf_counter() > warm_until:
                break
        start = threading.Barrier(clients)

        def work(client: int) -> list[float]:
            start.wait()
            end = time.perf_counter() + seconds
            taken: list[float] = []
            for call in range(client, calls, clients):
                begin = time.perf_counter()
                if begin > end and taken:
                    break
                ask(asked[call % len(asked)])
                taken.append(time.perf_counter() - begin)
            return taken

        with ThreadPoolExecutor(clients) as pool:
            begin = time.perf_counter()
            taken = [one for part in pool.map(work, range(clients)) for one in part]
            wall = time.perf_counter() - begin
        return {"calls_s": taken, "batch_size": len(taken), "step_s": [wall]}

    def memory(self) -> Figures:
        """Of the process as it is now."""
        return {"resident_bytes": memory_bytes("VmRSS"), "own_bytes": memory_bytes("RssAnon")}

    def blocks(self) -> Iterator[tuple[list[Document], Vectors]]:
        """All rows, some at a time. Reading them is in nobody's time."""
        documents = self.data.documents()
        for block in self.data.rows.blocks(BLOCK_ROWS):
            yield list(itertools.islice(documents, len(block))), block

    def _numbers(self, numbers: Sequence[int] | None) -> Sequence[int]:
        return range(len(self.texts)) if numbers is None else numbers


class Memory:
    """The most memory that this process has while it is open: all, and what belongs to no file (mapped files can go)."""

    def __enter__(self) -> Self:
        self._resident = self._own = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def figures(self) -> Figures:
        return {"peak_bytes": self._resident, "own_bytes": self._own}

    def _watch(self) -> None:
        while True:
            self._resident = max(self._resident, memory_bytes("VmRSS"))
            self._own = max(self._own, memory_bytes("RssAnon"))
            if self._stop.wait(_GLANCE_S):
                return


class Stopwatch:
    """Adds up the seconds in which it is open."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._begin = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._begin


def limit(cores: int) -> None:
    """Keeps this process on so many cores: threads that it has (libraries start some when they are loaded) and will have."""
    threads = Path("/proc/self/task")
    if hasattr(os, "sched_setaffinity") and threads.exists():
        chosen = sorted(os.sched_getaffinity(0))[:cores]
        for thread in threads.iterdir():
            os.sched_setaffinity(int(thread.name), chosen)


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of files, and of folders in it and in those, by name."""
    found: dict[str, int] = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            parts = file.relative_to(folder).parts
            name = "/".join(parts) if len(parts) < 3 else f"{'/'.join(parts[:2])}/"
            found[name] = found.get(name, 0) + file.stat().st_size
    return found


def as_ints(ids: Sequence[str]) -> list[int]:
    """Rows of ids; those that were added later are none of the rows that were there."""
    return [int(one) if one.isdigit() else -1 for one in ids]


def contiguous(vectors: Vectors) -> Vectors:
    return np.ascontiguousarray(vectors, dtype=np.float32)
