"""The part ``search``: questions to a collection, over HTTP."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks._search_bench import PAIRLOOM, Contestant
from benchmarks._search_bench import Bench as SearchBench
from benchmarks._search_data import Data
from benchmarks._serve_bench import Bench
from benchmarks._serve_requests import searches
from benchmarks._serve_table import show_served
from benchmarks._train_table import Figures, alternate

MODES = ("hybrid", "vector", "words")
_K = 10


def search(bench: Bench) -> None:
    """Titles that ask for their bodies: by meaning, by words, and by both, with encoding."""
    for kind in bench.options.index_kinds:
        _search(bench, kind)


def _search(bench: Bench, kind: str) -> None:
    data, store = documents(bench, kind)
    questions = [question.text for question in data.questions()[0]]
    print(f"  {data.size:,} documents, index {kind}, {len(questions):,} questions", flush=True)
    with bench.load() as load, bench.ours("--collection", str(store)) as server:
        files = {mode: bench.write(f"search-{mode}", searches(questions, mode, _K)) for mode in MODES}
        for mode in MODES:
            hits = server.post("/v1/search", {"query": questions[0], "k": _K, "mode": mode})["hits"]
            if not hits or len(hits) > _K:
                raise SystemExit(f"  {mode}: {len(hits)} hits")
        for clients in bench.options.search_clients:
            print(f"  {clients} client{'s' * (clients > 1)}", flush=True)
            contestants: dict[str, Callable[[], Figures]] = {}
            for mode in MODES:
                bench.warm(load, server, files[mode], clients)
                contestants[mode] = partial(bench.turn, load, server, files[mode], clients, bench.options.calls)
            show_served(alternate(contestants, bench.options.rounds), MODES[0], unit="searches")


def documents(bench: Bench, kind: str) -> tuple[Data, Path]:
    """The texts, as `benchmarks.search` keeps them in its cache, and a collection of them; made if they are not there.

    Args:
        bench: What is measured.
        kind: Of the collection's index.
    """
    options = bench.options
    cache = (options.cache or bench.folder / "cache").resolve()
    given = {
        "pairs": options.pairs,
        "task": options.task,
        "questions": options.questions,
        "texts": options.pairs_of_each,
        "threads": options.threads,
        "sizes": [],
    }
    kept = SearchBench(argparse.Namespace(**given), cache, bench.model)
    data = Data(kept.real.folder, options.documents)
    name = "served" if kind == "auto" else f"served-{kind}"
    one = Contestant(name, PAIRLOOM["graph"].side, name, {"kind": kind, "model": bench.model})
    built = kept.built(one, data)
    if "failed" in built:
        raise SystemExit(f"  {built['failed']}")
    return data, kept.store(one, data)
