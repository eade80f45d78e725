"""The server under load: throughput beside the encoder alone and beside the plainest peer, overload, a soak, and searches.

The load comes over loopback from a process of its own, with connections that stay open; it shares the machine with the
server, and how much of it either has is shown. Contestants take turns, each in a process of its own that stays loaded, on the
same number of threads; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks._encode_bench import PRECISIONS
from benchmarks._serve_bench import Bench
from benchmarks._serve_overload import overload
from benchmarks._serve_search import search
from benchmarks._serve_soak import soak
from benchmarks._serve_speed import micro_batches, throughput
from benchmarks._serve_start import start
from benchmarks._train_pairs import MODEL
from benchmarks.encode import installed, processor

PARTS: dict[str, Callable[[Bench], None]] = {
    "throughput": throughput,
    "micro_batches": micro_batches,
    "overload": overload,
    "soak": soak,
    "search": search,
    "start": start,
}
LIBRARIES = ("openvino", "fastapi", "uvicorn", "uvloop", "httptools", "sentence-transformers", "torch")


def main() -> None:
    options = read_options()
    logging.getLogger("pairloom").setLevel(logging.ERROR)  # random models begin as bare backbones, as is known
    more_files()
    print(
        f"{processor()}, {os.cpu_count()} processors, {options.threads} threads; "
        + ", ".join(map(installed, LIBRARIES))
    )
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder).resolve())
        for name in options.part or PARTS:
            print(f"{name}: {(PARTS[name].__doc__ or '').splitlines()[0]}", flush=True)
            PARTS[name](bench)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS, help="one part, repeatable; default: all")
    parser.add_argument("--model", default=MODEL, help="a folder or a name")
    parser.add_argument(
        "--pairs",
        type=Path,
        action="append",
        default=[],
        help="jsonl[.gz] of [title, body], repeatable; default: docstrings of this environment",
    )
    parser.add_argument("--texts", type=int, default=8_000, help="titles, each of them a request of a turn")
    parser.add_argument("--clients", type=int, nargs="+", default=[64, 1, 8, 256], help="of the part throughput")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="after which a turn ends, even with fewer requests")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of every contestant")
    parser.add_argument("--precision", choices=PRECISIONS, help="pairloom's; default: its own choice")
    parser.add_argument("--budget", type=int, nargs="+", default=[256, 384, 512, 768, 1024])
    parser.add_argument("--times", type=float, default=10.0, help="of the part overload: the capacity")
    parser.add_argument("--deadline-s", type=float, default=5.0, help="of the part overload: the server's")
    parser.add_argument("--overload-texts", type=int, nargs="+", default=[1, 8], help="of a request; each is a run")
    parser.add_argument("--overload-s", type=float, default=60.0)
    parser.add_argument("--recover-s", type=float, default=15.0, help="of the part overload: afterwards")
    parser.add_argument("--connections", type=int, default=8_192, help="of the part overload: at most")
    parser.add_argument("--soak-s", type=float, default=600.0)
    parser.add_argument("--search-clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument(
        "--index-kinds",
        nargs="+",
        choices=("auto", "exact", "graph", "compact"),
        default=["auto", "graph"],
        help="of the part search: each is a collection",
    )
    parser.add_argument("--calls", type=int, default=2_000, help="of the part search: of a mode in a round")
    parser.add_argument("--questions", type=int, default=1_000, help="of the part search: titles that are asked")
    parser.add_argument("--documents", type=int, help="of the part search: at most so many; default: all")
    parser.add_argument("--pairs-of-each", type=int, help="of the part search: of each file; default: all")
    parser.add_argument("--task", type=Path, help="of the part search: a retrieval task; its documents are more texts")
    parser.add_argument(
        "--cache", type=Path, help="of the part search: the folder of `search --cache`; default: one that goes"
    )
    parser.add_argument("--toy", action="store_true", help="a tiny model and few texts: only to see it work")
    options = parser.parse_args()
    if options.toy:
        small = {"texts": 300, "clients": [8, 1], "rounds": 1, "seconds": 1.0, "threads": 1, "budget": [64, 256]}
        parts = {
            "times": 3.0,
            "overload_s": 2.0,
            "overload_texts": [1],
            "recover_s": 2.0,
            "connections": 256,
            "soak_s": 3.0,
        }
        of_search = {"search_clients": [1, 2], "calls": 40, "questions": 40, "pairs_of_each": 300}
        for name, value in {**small, **parts, **of_search}.items():
            setattr(options, name, value)
    return options


def more_files() -> None:
    """Every connection is a file handle, of the load and of the server; many shells allow 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
