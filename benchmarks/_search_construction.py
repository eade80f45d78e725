"""The part ``construction``: what more effort in building a graph costs, and what it saves in every search."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks._search_bench import PAIRLOOM, Bench
from benchmarks._search_rows import Vectors
from benchmarks._search_stand_ins import sample_of
from pairloom.search.index.approximate import ApproximateSearch, Settings
from pairloom.search.index.calibrate import Sample, draw_sample, recalls
from pairloom.search.index.flat_file import FlatFile
from pairloom.search.index.graph import Graph, build_graph
from pairloom.search.index.vector_index import VectorIndex

_EFFORTS = (96, 128, 192, 256, 320, 384)


def construction(bench: Bench) -> None:
    """Graphs over the same vectors: time to build, and recall and time of a search by effort."""
    for size in bench.sizes:
        data = bench.at(size)
        bench.built(PAIRLOOM["graph"], data)
        folder = max((bench.store(PAIRLOOM["graph"], data) / "index").iterdir())
        flat = VectorIndex(folder, threads=bench.options.threads).flat
        titles = bench.data.questions()[1]
        samples = {"titles": sample_of(flat, titles), "stand-ins": draw_sample(flat, num_queries=1_000)}
        for links in bench.options.links:
            for effort in bench.options.construction_efforts:
                _show(bench, flat, titles, samples, links, effort)


def _show(bench: Bench, flat: FlatFile, titles: Vectors, samples: dict[str, Sample], links: int, effort: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, threads = Path(name), bench.options.threads
        begin = time.perf_counter()
        facts = build_graph(folder, flat, num_links=links, construction_effort=effort, threads=threads)
        print(f"  {len(flat):,} rows, {links} links, effort {effort}: {time.perf_counter() - begin:.1f} s", flush=True)
        graph = Graph(folder, flat, facts)
        for searched in _EFFORTS:
            search = ApproximateSearch(flat, graph, Settings(searched, searched, 10, 100))
            found = ", ".join(f"{name} {recalls(search, one, 10).mean():.4f}" for name, one in samples.items())
            taken = [_search_s(graph, title, searched) for title in titles]
            print(f"    {searched}: recall {found}; a title {1000 * float(np.median(taken)):.2f} ms", flush=True)


def _search_s(graph: Graph, title: Vectors, effort: int) -> float:
    begin = time.perf_counter()
    graph.nearest(title[None], 10, effort)
    return time.perf_counter() - begin
