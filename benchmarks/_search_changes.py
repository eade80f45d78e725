"""The parts ``upserts`` and ``stall``: changing what is there, and what readers notice of it."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks._encode_apart import Apart
from benchmarks._search_bench import LANCE_GRAPH, PAIRLOOM, Bench, Contestant
from benchmarks._search_changing import Phase
from benchmarks._search_data import Data
from benchmarks._search_side import Figures
from benchmarks._search_table import latency
from benchmarks._train_table import Rounds, alternate, rates

UPSERT_BLOCK = 1_000
_STALL_S = 0.1
Calls = npt.NDArray[np.float64]


def upserts(bench: Bench) -> None:
    """Documents replaced one by one and by the thousand, each on the disk when the call returns."""
    data = bench.at(bench.sizes[0])
    print(f"  {data.size:,} rows; FAISS and util.semantic_search keep nothing on the disk: left out", flush=True)
    turns = itertools.count()
    with contextlib.ExitStack() as stack:
        aparts: dict[str, Apart] = {}
        for one in bench.present(PAIRLOOM["graph"], LANCE_GRAPH):
            built = bench.built(one, data)
            if "failed" not in built:
                store = stack.enter_context(changeable(bench, one, data))
                aparts[one.name] = stack.enter_context(bench.apart(one, data, store))
                built = aparts[one.name].call("open")
            if "failed" in built:
                print(f"  {one.name}: {built['failed']}", flush=True)
                aparts.pop(one.name, None)
        for block, count in ((1, bench.options.upserts), (UPSERT_BLOCK, bench.data.facts["further"])):
            print(f"  {min(block, count):,} a call", flush=True)

            def run(apart: Apart, count: int = count, block: int = block) -> Figures:
                return apart.call("upsert", turn=next(turns), count=count, block=block)

            show_upserts(alternate({name: partial(run, apart) for name, apart in aparts.items()}, bench.options.rounds))


@contextlib.contextmanager
def changeable(bench: Bench, one: Contestant, data: Data) -> Iterator[Path]:
    """A copy of a store, which goes."""
    work = bench.cache / "changed" / one.store
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(bench.store(one, data), work)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def show_upserts(measured: Rounds) -> None:
    for name, runs in measured.items():
        ran = [run for run in runs if "failed" not in run]
        found = f"{np.median(rates(ran)):,.0f} upserts/s, a call {latency(ran)}" if ran else runs[-1]["failed"]
        print(f"  {name}: {found}", flush=True)


def stall(bench: Bench) -> None:
    """Rows added to the largest set while a thread of the same process and another process ask: their longest wait."""
    data = bench.at(bench.sizes[-1])
    count, block = min(bench.data.facts["further"], bench.options.stall_rows), bench.options.stall_block
    every_s = 1 / bench.options.questions_per_s
    print(
        f"  {count:,} rows added to {data.size:,}, {block:,} a call; each reader has a question due every {1000 * every_s:g} ms, "
        "and waits from then on",
        flush=True,
    )
    for one in bench.present(PAIRLOOM["graph"], LANCE_GRAPH):
        built = bench.built(one, data)
        for number in range(bench.options.rounds if "failed" not in built else 0):
            print(f"  round {number + 1} of {bench.options.rounds}: {one.name} ...", flush=True)
            stall_round(bench, one, data, count, block, every_s)


def stall_round(bench: Bench, one: Contestant, data: Data, count: int, block: int, every_s: float) -> None:
    """Of one contestant, on a copy of its store."""
    current = replace(one, settings={**one.settings, "current": True})
    with (
        changeable(bench, one, data) as store,
        tempfile.TemporaryDirectory() as folder,
        bench.apart(current, data, store) as writer,
        bench.apart(current, data, store) as reader,
    ):
        work = Path(folder)
        opened = [apart.call("open") for apart in (writer, reader)]
        if bad := [answer["failed"] for answer in opened if "failed" in answer]:
            print(f"  {one.name}: {bad[0]}", flush=True)
            return
        for apart in (writer, reader):  # loaded and warm
            apart.call("search", clients=1, calls=bench.options.calls, seconds=1.0)
        watched: list[Figures] = []
        given = {"stop": str(work / "stop"), "every_s": every_s, "calls": str(work / "reader.npy")}
        watching = threading.Thread(target=lambda: watched.append(reader.call("watch", **given)))
        watching.start()
        done = writer.call(
            "change",
            count=count,
            block=block,
            every_s=every_s,
            quiet_s=bench.options.quiet_s,
            calls=str(work / "writer.npy"),
        )
        (work / "stop").touch()
        watching.join()
        sees = [apart.call("sees", number=count - 1).get("sees", False) for apart in (writer, reader)]
        if bad := [answer["failed"] for answer in (done, *watched) if "failed" in answer]:
            print(f"  {one.name}: {bad[0]}", flush=True)
            return
        phases = [(str(name), float(begin), float(end)) for name, begin, end in done["phases"]]
        readers = {name: load(work / f"{file}.npy") for name, file in (("thread", "writer"), ("process", "reader"))}
    show_phases(one.name, phases, readers, count)
    print(
        f"  {one.name}: the last row is found by the writer's process and by the other: {sees[0]}, {sees[1]}",
        flush=True,
    )


@dataclass(frozen=True)
class Waits:
    """Of the questions that were due, or not yet answered, in a phase; in seconds."""

    count: int
    middle: float
    late: float
    longest: float
    num_stalls: int


def waits(calls: Calls, begin: float, end: float) -> Waits:
    """Of calls [N, 2]: when due, and how long from then."""
    there = calls[(calls[:, 0] < end) & (calls[:, 0] + calls[:, 1] > begin), 1]
    if not len(there):
        return Waits(0, 0.0, 0.0, 0.0, 0)
    middle, late = np.quantile(there, [0.5, 0.99])
    return Waits(len(there), float(middle), float(late), float(there.max()), int((there > _STALL_S).sum()))


def show_phases(name: str, phases: Sequence[Phase], readers: Mapping[str, Calls], count: int) -> None:
    """A line a phase and reader."""
    for what, begin, end in phases:
        rate = f", {count / (end - begin):,.0f} rows/s" if what == "adding" else ""
        for reader, calls in readers.items():
            found = waits(calls, begin, end)
            print(
                f"  {name}, {what} ({end - begin:,.1f} s{rate}), {reader}: p50 {1000 * found.middle:,.1f} ms  p99 "
                f"{1000 * found.late:,.1f} ms  longest {1000 * found.longest:,.1f} ms  {found.num_stalls} of {found.count:,} over "
                f"{1000 * _STALL_S:.0f} ms",
                flush=True,
            )


def load(path: Path) -> Calls:
    return np.asarray(np.load(path), dtype=np.float64)
