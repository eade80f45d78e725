"""The part ``overload``: much more is asked for than can be done, and then as much as usual again."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from benchmarks._encode_apart import Apart
from benchmarks._serve_bench import Bench, served_model
from benchmarks._serve_process import Glance, Server, Watch
from benchmarks._serve_requests import embeddings
from benchmarks._train_table import MIB, Figures, rates

CLIENTS = 64
# The rate is back when in a whole second it is so much of what it was; the waits, when half of them are at most so many
# times what they were.
_SHARE, _TIMES = 0.9, 2.0
_WINDOW_S, _STEP_S = 1.0, 0.05


def overload(bench: Bench) -> None:
    """Many times the measured capacity, offered at a rate of its own; who is accepted, memory, and how soon all is as before."""
    options = bench.options
    # As many as wait until the deadline must be able to wait: each has a connection.
    settings = {"deadline_s": options.deadline_s, "max_connections": 2 * options.connections}
    with bench.load() as load:
        for texts_each in options.overload_texts:
            with bench.ours(settings=settings) as server:
                print(f"  {texts_each} text{'s' * (texts_each > 1)} a request", flush=True)
                _overload(bench, load, server, texts_each)


def _overload(bench: Bench, load: Apart, server: Server, texts_each: int) -> None:
    options = bench.options
    made = embeddings(bench.titles.texts, served_model(server), "base64", texts_each)
    requests = bench.write(f"overload-{texts_each}", made)
    bench.warm(load, server, requests, CLIENTS)
    before = bench.turn(load, server, requests, CLIENTS)
    if "failed" in before:
        raise SystemExit(f"  {before['failed']}")
    capacity, usual_s = rates([before])[0], statistics.median(before["calls_s"])
    print(f"  capacity: {capacity:,.0f} requests/s by {CLIENTS} clients, p50 {1000 * usual_s:,.0f} ms", flush=True)
    with Watch(server, every_s=min(1.0, options.overload_s / 20)) as watch:
        found = load.call(
            "overload",
            requests=requests,
            port=server.port,
            rate=options.times * capacity,
            seconds=options.overload_s,
            most=options.connections,
            clients=CLIENTS,
            recover_s=options.recover_s,
        )
    if "failed" in found:
        raise SystemExit(f"  {found['failed']}: {server.last_words()}")
    show_overload(found, capacity, options.deadline_s)
    show_memory(watch.glances)
    show_recovery(found, capacity, usual_s)
    again = bench.turn(load, server, requests, CLIENTS)
    print(f"  afterwards: {rates([again])[0] / capacity:.2f} × the capacity before", flush=True)


def show_overload(found: Figures, capacity: float, deadline_s: float) -> None:
    statuses, sent = found["statuses"], sum(found["statuses"].values())
    accepted = statuses.get("200", 0)
    print(
        f"  in {found['seconds']:.0f} s {found['due']:,} requests were due ({found['due'] / found['seconds'] / capacity:.1f} × "
        f"capacity), {found['unsent']:,} of them not sent for want of a connection; of {sent:,} "
        + ", ".join(f"{name}: {count:,} ({count / sent:.1%})" for name, count in statuses.items()),
        flush=True,
    )
    print(f"  the load itself was late by {_milliseconds(found['late_s'])}", flush=True)
    if accepted:
        print(
            f"  accepted: {accepted / found['seconds'] / capacity:.2f} × capacity; {_milliseconds(found['accepted_s'])}; "
            f"the deadline is {1000 * deadline_s:,.0f} ms",
            flush=True,
        )
        print(f"  accepted, second by second: {' '.join(map(str, found['accepted_by_s']))}", flush=True)
    if statuses.get("429"):
        with_retry, *values = found["retries"]
        print(
            f"  refused by 429: {_milliseconds(found['refused_s'])}; {with_retry:,} of them say when to try again"
            + (f": after p50 {values[0]:.0f} s, at most {values[2]:.0f} s" if values else ""),
            flush=True,
        )


def show_memory(glances: Sequence[Glance]) -> None:
    """At the beginning, at about ten moments, and at the highest."""
    if not glances:
        return
    some = glances[:: max(1, len(glances) // 10)]
    print(
        "  resident MiB after s: "
        + ", ".join(f"{one.passed_s:.0f}: {one.resident_bytes / MIB:,.0f}" for one in some)
        + f"; the most {max(one.resident_bytes for one in glances) / MIB:,.0f}; "
        f"file handles at most {max(one.files for one in glances):,}",
        flush=True,
    )


def show_recovery(found: Figures, capacity: float, usual_s: float) -> None:
    rate_s = rate_back_s(found["finished_s"], _SHARE * capacity)
    good = [(sent, taken) for sent, taken, status in found["after"] if status == 200]
    wait_s = waits_back_s(good, _TIMES * usual_s)
    refused = [sent for sent, _, status in found["after"] if status == 429]
    print(
        f"  after the end: {_SHARE:.0%} of the rate again {_when(rate_s)}; waits at most {_TIMES:.0f} × the usual {_when(wait_s)}; "
        f"the last refusal {_when(max(refused) if refused else 0.0)}; {found['after_statuses']}",
        flush=True,
    )


def rate_back_s(finished_s: Sequence[float], wanted: float) -> float | None:
    """The first moment after which a whole second has as many answers as are wanted; None if there is none.

    Args:
        finished_s: Moments of answers, ascending.
        wanted: A second.
    """
    moments = np.asarray(finished_s)
    last = moments[-1] if len(moments) else 0.0
    for begin in np.arange(0.0, max(0.0, last - _WINDOW_S) + _STEP_S / 2, _STEP_S):
        if np.count_nonzero((moments >= begin) & (moments < begin + _WINDOW_S)) >= wanted * _WINDOW_S:
            return float(begin)
    return None


def waits_back_s(calls: Sequence[tuple[float, float]], wanted_s: float) -> float | None:
    """The first moment after which, of those that are sent within a second, half wait no longer than is wanted.

    Args:
        calls: Moment of sending, and how long the answer took.
        wanted_s: The longest median.
    """
    sent, taken = np.asarray(calls).reshape(-1, 2).T
    last = sent.max() if len(sent) else 0.0
    for begin in np.arange(0.0, max(0.0, last - _WINDOW_S) + _STEP_S / 2, _STEP_S):
        within = taken[(sent >= begin) & (sent < begin + _WINDOW_S)]
        if len(within) and np.median(within) <= wanted_s:
            return float(begin)
    return None


def _when(moment_s: float | None) -> str:
    return "never" if moment_s is None else "at once" if moment_s <= 0 else f"after {moment_s:.2f} s"


def _milliseconds(found: Sequence[float]) -> str:
    return ", ".join(f"{what} {1000 * one:,.0f} ms" for what, one in zip(("p50", "p99", "most"), found, strict=True))
