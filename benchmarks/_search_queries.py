"""The parts ``queries``, ``filtered`` and ``hybrid``: how quickly what is found, and how much of it is right."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks._encode_apart import Apart
from benchmarks._search_bench import (
    FAISS_EXACT,
    FAISS_GRAPH,
    LANCE_COMPACT,
    LANCE_GRAPH,
    PAIRLOOM,
    RIVALS,
    Bench,
    Contestant,
    How,
)
from benchmarks._search_data import SHARES, Data
from benchmarks._search_side import Figures
from benchmarks._search_table import described, show_calls
from benchmarks._search_truth import Truth, recall, truth
from benchmarks._train_table import show

REFERENCE = "pairloom, graph"
# By which efforts that are much too small are told.
_FIRST_QUESTIONS = 200
_FAR = 0.01


@dataclass(frozen=True)
class Load:
    """So many threads ask at once, on so many cores."""

    clients: int
    cores: int

    def __str__(self) -> str:
        return f"{self.clients} client{'s' * (self.clients > 1)}, {self.cores} core{'s' * (self.cores > 1)}"


def loads(cores: int) -> list[Load]:
    """One on one core, one on all, and as many as there are cores."""
    return list(dict.fromkeys([Load(1, 1), Load(1, cores), Load(cores, cores)]))


def queries(bench: Bench) -> None:
    """Latencies and queries/s at a recall that is measured, exact and by indexes."""
    contestants = bench.present(*(PAIRLOOM[kind] for kind in bench.options.kinds), *RIVALS)
    for size in bench.sizes:
        data, known = bench.at(size), bench.truth(size)
        hows: dict[str, How] = {}
        notes: dict[str, str] = {}
        with bench.opened(contestants, data) as aparts:
            for one in contestants:
                if one.name in aparts:
                    hows[one.name], found = tuned(aparts[one.name], one, data, known, bench.options.recall)
                    notes[one.name] = note(found, bench.options.recall)
                    about = bench.built(one, data).get("about") or hows[one.name]
                    print(f"  {data.size:,} rows: {one.name}: {described(about)}; recall found {found:.4f}", flush=True)
            together(bench, {name: aparts[name] for name in hows}, hows)
        for load in loads(bench.options.threads):
            print(f"  {data.size:,} rows, {load}", flush=True)
            able = [one for one in contestants if one.name in hows]
            with bench.opened(able, data, clients=load.clients, cores=load.cores) as aparts:
                show_calls(searched(bench, aparts, hows, load.clients), REFERENCE, notes)
                show_memory(aparts)


def searched(
    bench: Bench, aparts: dict[str, Apart], hows: dict[str, How], clients: int = 1, numbers: list[int] | None = None
) -> dict[str, list[Figures]]:
    """Rounds of questions."""
    common = {"clients": clients, "calls": bench.options.calls, "seconds": bench.options.seconds, "numbers": numbers}
    return bench.alternate({name: (apart, "search", {**common, **hows[name]}) for name, apart in aparts.items()})


def together(bench: Bench, aparts: dict[str, Apart], hows: dict[str, How]) -> None:
    """All questions in one call, of those who can."""
    able = {name: apart for name, apart in aparts.items() if not name.startswith("LanceDB")}
    print("  all questions in one call", flush=True)
    given = {name: {"effort": hows[name]["effort"]} if "effort" in hows[name] else {} for name in able}
    measured = bench.alternate({name: (apart, "together", given[name]) for name, apart in able.items()})
    show(measured, REFERENCE if REFERENCE in measured else None, unit="queries")


def show_memory(aparts: dict[str, Apart]) -> None:
    for name, apart in aparts.items():
        found = apart.call("memory")
        if "failed" not in found:
            resident, own = (found[what] / 2**20 for what in ("resident_bytes", "own_bytes"))
            print(f"  {name}: memory after that {resident:,.0f} MiB, of it no file's {own:,.0f}", flush=True)


def tuned(apart: Apart, one: Contestant, data: Data, known: Truth, wanted: float) -> tuple[How, float]:
    """How it is asked, and what is found so.

    Of each ladder the first step that reaches the recall on these very questions is a candidate; the quickest is taken. If none
    reaches it, the one that finds most. Steps that are far from it for the first questions are not tried on all.
    """
    some = list(range(min(_FIRST_QUESTIONS, len(known.questions))))
    of_some = replace(known, questions=known.questions[: len(some)], floors=known.floors[: len(some)])
    reached: list[tuple[float, How, float]] = []
    missed: list[tuple[float, How]] = []
    for ladder in one.ladders or ((one.how,),):
        for step in ladder:
            answer = apart.call("found", numbers=some, **step)
            if "failed" not in answer:
                found = recall(answer["found"], data.rows, of_some)
                if found < wanted - _FAR and step is not ladder[-1]:
                    missed.append((found, step))
                    continue
                answer = apart.call("found", **step)
            if "failed" in answer:
                print(f"  {one.name}, {described(step)}: {answer['failed']}", flush=True)
                missed.append((0.0, step))
                continue
            found = recall(answer["found"], data.rows, known)
            if found >= wanted:
                reached.append((answer["seconds"], step, found))
                break
            missed.append((found, step))
    if reached:
        _, how, found = min(reached, key=lambda step: step[0])
        return how, found
    found, how = max(missed, key=lambda step: step[0])
    return how, found


def note(found: float, wanted: float) -> str:
    return f"recall {found:.4f}{' ' if found >= wanted else '!'} "


def filtered(bench: Bench) -> None:
    """Filters that let through a tenth, a hundredth and a ten-thousandth of the rows, and one by what questions are not about."""
    contestants = bench.present(
        PAIRLOOM["exact"], PAIRLOOM["graph"], FAISS_EXACT, FAISS_GRAPH, LANCE_GRAPH, LANCE_COMPACT
    )
    for size in bench.sizes:
        data, unfiltered = bench.at(size), bench.truth(size)
        with bench.opened(contestants, data) as aparts:
            present = [one for one in contestants if one.name in aparts]
            hows = {
                one.name: tuned(aparts[one.name], one, data, unfiltered, bench.options.recall)[0] for one in present
            }
        for title, condition, numbers in filters(data):
            mask = data.mask(*condition)
            _, asked = data.questions()
            known = truth(data.rows, asked[numbers], mask)
            print(f"  {data.size:,} rows, {title}: {mask.sum():,} rows are let through", flush=True)
            with bench.opened(present, data, clients=1, cores=1) as aparts:
                given = {name: {**hows[name], "filter": condition} for name in aparts}
                notes = {}
                for name, apart in aparts.items():
                    answer = apart.call("found", numbers=numbers, **given[name])
                    if "failed" in answer:
                        print(f"  {name}: {answer['failed']}", flush=True)
                    else:
                        found = recall(answer["found"], data.rows, known)
                        notes[name] = note(found, bench.options.recall)
                measured = searched(bench, {name: aparts[name] for name in notes}, given, numbers=numbers)
                show_calls(measured, REFERENCE, notes)


def filters(data: Data) -> list[tuple[str, tuple[str, Any], list[int]]]:
    """A title, field and value, and the numbers of the questions that are asked."""
    questions, _ = data.questions()
    numbers = list(range(len(questions)))
    found: list[tuple[str, tuple[str, Any], list[int]]] = [
        (f"{1 / share:.2%} at random", (field, 3), numbers) for field, share in SHARES.items()
    ]
    sources = [source for _, source in data.texts()]
    names, counts = np.unique(sources, return_counts=True)
    if len(names) > 1:
        # The one with the most rows that is not most of them, so that there is somebody else to ask.
        source = str(names[np.argsort(counts)[-2]])
        others = [number for number in numbers if questions[number].source != source]
        found.append((f"only {source}, questions of others", ("source", source), others))
    return found


def hybrid(bench: Bench) -> None:
    """Texts as questions, with encoding: by meaning, by words, and by both."""
    size = bench.options.hybrid_size
    data = bench.at(size)
    texts = {"words": True, "model": bench.model}
    ours = Contestant("pairloom", PAIRLOOM["graph"].side, "pairloom-texts", {"kind": "auto", "model": bench.model})
    theirs = Contestant(
        "LanceDB", LANCE_GRAPH.side, "lancedb-texts", {"kind": "graph", **texts}, {}, LANCE_GRAPH.ladders, "lancedb"
    )
    contestants = bench.present(ours, theirs)
    with bench.opened(contestants, data) as aparts:
        present = [one for one in contestants if one.name in aparts]
        hows = {
            one.name: tuned(aparts[one.name], one, data, bench.truth(size), bench.options.recall)[0] for one in present
        }
    for load in loads(bench.options.threads):
        print(f"  {data.size:,} rows, {load}", flush=True)
        with bench.opened(present, data, clients=load.clients, cores=load.cores) as aparts:
            workers: dict[str, tuple[Apart, str, dict[str, Any]]] = {}
            common = {"clients": load.clients, "calls": bench.options.calls, "seconds": bench.options.seconds}
            for name, apart in aparts.items():
                for mode in ("vector", "words", "hybrid"):
                    given = {**common, **hows[name], "mode": mode, "by": "text"}
                    workers[f"{name}, {mode}"] = (apart, "search", given)
            if ours.name in aparts and load.clients == 1:
                workers["encoding alone"] = (aparts[ours.name], "encode", {"calls": bench.options.calls})
            show_calls(bench.alternate(workers), "pairloom, hybrid", {})
