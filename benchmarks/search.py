"""Searching collections beside FAISS alone, sentence-transformers' `util.semantic_search` and LanceDB.

What is searched are real texts, encoded once and kept in the folder `--cache`, and more rows by a documented perturbation; what
is asked are titles that are in no document. Contestants take turns, each in a process of its own that stays loaded, on the same
cores; ratios are taken within a round. Recall is measured against an exact search; rivals are asked with the least effort that
reaches it.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks._encode_texts import random_model
from benchmarks._search_bench import PAIRLOOM, Bench
from benchmarks._search_changes import stall, upserts
from benchmarks._search_construction import construction
from benchmarks._search_ingest import ingest
from benchmarks._search_quality import quality
from benchmarks._search_queries import filtered, hybrid, queries
from benchmarks._search_stand_ins import stand_ins
from benchmarks._train_pairs import MODEL
from benchmarks.encode import installed, processor
from pairloom.search.index.graph import CONSTRUCTION_EFFORT, NUM_LINKS


def vectors(bench: Bench) -> None:
    """Texts, questions, their vectors, and more rows by perturbation."""
    print(f"  {bench.data.folder}", flush=True)


PARTS: dict[str, Callable[[Bench], None]] = {
    "vectors": vectors,
    "ingest": ingest,
    "stand_ins": stand_ins,
    "construction": construction,
    "queries": queries,
    "filtered": filtered,
    "hybrid": hybrid,
    "upserts": upserts,
    "stall": stall,
    "quality": quality,
}
LIBRARIES = ("faiss-cpu", "lancedb", "sentence-transformers", "torch", "numpy")
REAL_ROWS = 115_000


def main() -> None:
    options = read_options()
    logging.getLogger("pairloom").setLevel(logging.ERROR)  # random models begin as bare backbones, as is known
    print(
        f"{processor()}, {os.cpu_count()} processors, {options.threads} threads; "
        + ", ".join(map(installed, LIBRARIES))
    )
    with tempfile.TemporaryDirectory() as folder:
        cache = (options.cache or Path(folder) / "cache").resolve()
        model = str(toy_model(Path(folder))) if options.toy else options.model
        bench = Bench(options, cache, model)
        for name in options.part or PARTS:
            print(f"{name}: {(PARTS[name].__doc__ or '').splitlines()[0]}", flush=True)
            PARTS[name](bench)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS, help="one part, repeatable; default: all")
    parser.add_argument(
        "--cache", type=Path, help="a folder for vectors and stores, which stay; default: one that goes"
    )
    parser.add_argument("--model", default=MODEL, help="a folder or a name")
    parser.add_argument(
        "--pairs",
        type=Path,
        action="append",
        default=[],
        help="jsonl[.gz] of [title, body], repeatable; default: docstrings of this environment",
    )
    parser.add_argument("--task", type=Path, help="a retrieval task; its documents are more texts")
    parser.add_argument("--texts", type=int, help="at most so many pairs of each file; default: all")
    parser.add_argument("--sizes", type=int, nargs="+", default=[REAL_ROWS, 300_000, 1_000_000], help="rows")
    parser.add_argument(
        "--kinds", nargs="+", choices=PAIRLOOM, default=["exact", "graph", "compact"], help="pairloom's"
    )
    parser.add_argument("--links", type=int, nargs="+", default=[NUM_LINKS], help="of the part construction")
    parser.add_argument(
        "--construction-efforts",
        type=int,
        nargs="+",
        default=[100, CONSTRUCTION_EFFORT],
        help="of the part construction",
    )
    parser.add_argument("--recall", type=float, default=0.99, help="that rivals' efforts must reach, at 10")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--builds", type=int, default=1, help="rounds of the part ingest")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of every contestant")
    parser.add_argument("--questions", type=int, default=1_000, help="titles that are asked")
    parser.add_argument("--calls", type=int, default=1_000, help="of a contestant in a round")
    parser.add_argument("--seconds", type=float, default=10.0, help="after which a turn ends, even with fewer calls")
    parser.add_argument("--encode-texts", type=int, default=1_000, help="of the part ingest: texts to encode")
    parser.add_argument("--hybrid-size", type=int, default=300_000, help="of the part hybrid: rows")
    parser.add_argument("--upserts", type=int, default=200, help="of the part upserts: single ones, in a round")
    parser.add_argument("--further", type=int, default=20_000, help="rows that are kept to be added later")
    parser.add_argument("--stall-rows", type=int, default=10_000, help="of the part stall: rows to add")
    parser.add_argument("--stall-block", type=int, default=1_000, help="of the part stall: rows a call")
    parser.add_argument("--questions-per-s", type=float, default=50.0, help="of the part stall: of each reader")
    parser.add_argument("--quiet-s", type=float, default=10.0, help="of the part stall: before and after")
    parser.add_argument("--toy", action="store_true", help="a random model and few texts: only to see it work")
    options = parser.parse_args()
    if options.toy:
        small = {
            "texts": 300,
            "sizes": [1_500],
            "kinds": ["exact", "graph"],
            "rounds": 1,
            "threads": 1,
            "questions": 40,
            "calls": 40,
            "seconds": 1.0,
        }
        parts = {
            "encode_texts": 20,
            "hybrid_size": 1_500,
            "upserts": 5,
            "further": 60,
            "stall_rows": 40,
            "stall_block": 20,
        }
        for name, value in {**small, **parts, "quiet_s": 0.3}.items():
            setattr(options, name, value)
    return options


def toy_model(folder: Path) -> Path:
    """Random weights, which need no download."""
    return random_model(folder / "toy", "bert", layers=2, width=32, max_tokens=64, toy=True, spread=0.2)


if __name__ == "__main__":
    main()
