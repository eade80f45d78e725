"""The load: a process of its own, which `benchmarks._encode_apart` calls, with requests that are prepared to the byte."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks._serve_connection import BROKEN, UNANSWERED, Notes
from benchmarks._serve_crowds import Clients, Stream
from benchmarks._serve_requests import Request, read_requests

Figures = dict[str, Any]
# A refused client would not try again at once; if these did, what that costs would be measured.
_PAUSE_S = 0.05


def statuses(status: npt.NDArray[np.uint16]) -> dict[str, int]:
    """How many requests ended how."""
    names = {BROKEN: "broken", UNANSWERED: "unanswered"}
    return {names.get(one, str(one)): count for one, count in sorted(Counter(status.tolist()).items())}


class Load:
    """What `benchmarks._encode_apart` calls. It runs for a bounded time, with a bounded number of requests."""

    def __init__(self) -> None:
        self._read: dict[str, list[Request]] = {}

    def closed(self, requests: str, port: int, clients: int, count: int, seconds: float) -> Figures:
        """Clients that wait for each answer. Seconds of each call that was answered well, and of all together.

        Args:
            requests: A file of them.
            port: Of the server.
            clients: At once.
            count: Requests at most.
            seconds: After which no more are sent.
        """
        notes, cpu = Notes(count), time.process_time()
        _run(_clients(port, self._requests(requests), notes, clients, seconds))
        sent, taken, status = notes.arrays()
        found: Figures = {"statuses": statuses(status), "load_cpu_s": time.process_time() - cpu}
        good = status == 200
        if not good.any():
            return found | {"failed": f"no good answer: {found['statuses']}"}
        wall = float((sent + taken).max() - sent.min())
        return found | {"calls_s": taken[good].tolist(), "batch_size": int(good.sum()), "step_s": [wall]}

    def kinds(self, requests: str, port: int, clients: int, count: int, seconds: float) -> Figures:
        """The same; by kind of request how they ended, and quantiles of what they took (p50, p99, most)."""
        mixed, notes = self._requests(requests), Notes(count)
        _run(_clients(port, mixed, notes, clients, seconds))
        _, taken, status = notes.arrays()
        kind = np.array([one.kind for one in mixed])[np.arange(notes.count) % len(mixed)]
        return {
            str(name): {"statuses": statuses(status[kind == name]), "taken_s": quantiles(taken[kind == name])}
            for name in np.unique(kind)
        }

    def overload(
        self, requests: str, port: int, rate: float, seconds: float, most: int, clients: int, recover_s: float
    ) -> Figures:
        """Offers more than can be done, and then looks how clients of the usual kind fare.

        Args:
            requests: A file of them.
            port: Of the server.
            rate: Requests a second, of the overload.
            seconds: For so long.
            most: Connections of the overload.
            clients: Afterwards.
            recover_s: For so long.
        """
        found: Figures = _run(_overload(port, self._requests(requests), rate, seconds, most, clients, recover_s))
        return found

    def _requests(self, path: str) -> list[Request]:
        if path not in self._read:
            self._read[path] = read_requests(Path(path))
        return self._read[path]


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    import uvloop

    return uvloop.run(coroutine)


async def _clients(port: int, requests: list[Request], notes: Notes, clients: int, seconds: float) -> None:
    await Clients(port, requests, notes).run(clients, seconds)


async def _overload(
    port: int, requests: list[Request], rate: float, seconds: float, most: int, clients: int, recover_s: float
) -> Figures:
    stream = Stream(port, requests, rate=rate, seconds=seconds, most=most)
    begin = time.perf_counter()
    await stream.run()
    end = time.perf_counter()
    after = Clients(port, requests, Notes(int(rate * recover_s) + clients), pause_s=_PAUSE_S)
    await after.run(clients, recover_s)
    stream.close()
    sent, taken, status = stream.notes.arrays()
    new_sent, new_taken, new_status = after.notes.arrays()
    good, refused, done = status == 200, status == 429, sent + taken
    finished = np.concatenate([done[good & (done > end)], (new_sent + new_taken)[new_status == 200]]) - end
    return {
        "seconds": end - begin,
        "due": stream.num_due,
        "unsent": stream.num_unsent,
        "statuses": statuses(status),
        "accepted_s": quantiles(taken[good]),
        "refused_s": quantiles(taken[refused]),
        "late_s": quantiles(np.array(stream.late)),
        "retries": [len(stream.notes.retries), *quantiles(np.array(stream.notes.retries))],
        "accepted_by_s": np.bincount((done[good] - begin).astype(int)).tolist(),
        "finished_s": np.sort(finished).tolist(),
        "after": _rows(new_sent - end, new_taken, new_status),
        "after_statuses": statuses(new_status),
    }


def _rows(*columns: npt.NDArray[Any]) -> list[list[float]]:
    return [list(row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def quantiles(values: npt.NDArray[np.float64]) -> list[float]:
    """p50, p99 and the most; nothing of nothing."""
    return [float(one) for one in np.quantile(values, [0.5, 0.99, 1.0])] if len(values) else []
