"""The part ``start``: from the start of a process until its server is ready."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks._serve_bench import Bench, served_model
from benchmarks._serve_process import Server
from benchmarks._serve_speed import PEER
from benchmarks._train_table import Figures, alternate


def start(bench: Bench) -> None:
    """Process start to ready, with the files in the system's cache, and the first request after that."""
    text = bench.titles.texts[0]

    def ours() -> Figures:
        with bench.ours() as server:
            return _started(server, "/v1/embeddings", {"input": text, "model": served_model(server)})

    def peer() -> Figures:
        with bench.peer("float32") as server:
            return _started(server, "/embed", {"text": text})

    contestants: dict[str, Callable[[], Figures]] = {
        "pairloom serve": ours,
        **({PEER: peer} if bench.has_peer() else {}),
    }
    alternate(contestants, 1)  # reads the files into the cache
    for name, runs in alternate(contestants, bench.options.rounds).items():
        ready, first = ([run[what] for run in runs] for what in ("start_s", "first_s"))
        print(
            f"  {name}: ready after {statistics.median(ready):.2f} s ({min(ready):.2f} to {max(ready):.2f}); "
            f"the first request took {1000 * statistics.median(first):.1f} ms",
            flush=True,
        )


def _started(server: Server, path: str, body: Any) -> Figures:
    begin = time.perf_counter()
    server.post(path, body)
    return {"start_s": server.start_s, "first_s": time.perf_counter() - begin}
