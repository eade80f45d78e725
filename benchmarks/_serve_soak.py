"""The part ``soak``: a long time of requests of all kinds, and what the server has more of afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks._encode_watch import course
from benchmarks._serve_bench import Bench, served_model
from benchmarks._serve_process import Glance, Watch
from benchmarks._serve_requests import mixed
from benchmarks._train_table import MIB, Figures

_CLIENTS = 8
# More than any machine answers in the time.
_MOST_A_SECOND = 5_000
_NUM_DIFFERENT = 5_000
# Which statuses are right.
EXPECTED = {
    "a long text, not to be cut": {"422"},
    "hanging up": {"200", "broken"},
    "no JSON": {"400"},
    "an unknown model": {"404"},
    "an unknown path": {"404"},
}
# The beginning, in which caches fill: a share of the time, and at most so long.
_BEGINNING, _BEGINNING_S = 0.2, 60.0


def soak(bench: Bench) -> None:
    """Requests of all kinds, mistakes and hang-ups among them, for a long time: memory, threads and file handles."""
    options, seconds = bench.options, bench.options.soak_s
    with bench.load() as load, bench.ours("--collection", str(bench.collection_of_titles())) as server:
        requests = bench.write("soak", mixed(bench.titles.texts, served_model(server), _NUM_DIFFERENT))
        with Watch(server, every_s=min(1.0, seconds / 100)) as watch:
            found = load.call(
                "kinds",
                requests=requests,
                port=server.port,
                clients=_CLIENTS,
                count=int(seconds * _MOST_A_SECOND) + _CLIENTS,
                seconds=seconds,
            )
        if "failed" in found:
            raise SystemExit(f"  {found['failed']}: {server.last_words()}")
        show_kinds(found)
        beginning_s = min(_BEGINNING_S, _BEGINNING * seconds)
        show_growth([one for one in watch.glances if beginning_s <= one.passed_s <= seconds], beginning_s)
        code = server.close()
    print(f"  ended by SIGTERM with {code}; {options.soak_s:,.0f} s", flush=True)


def show_kinds(found: Figures) -> None:
    width = max(map(len, found))
    for kind, figures in found.items():
        wrong = set(figures["statuses"]) - EXPECTED.get(kind, {"200"})
        middle, late, most = (1000 * one for one in figures["taken_s"])
        print(
            f"  {kind:{width}}  p50 {middle:8,.1f} ms  p99 {late:8,.1f} ms  most {most:8,.1f} ms  "
            + ", ".join(f"{status}: {count:,}" for status, count in figures["statuses"].items())
            + (f"  NOT AS IT SHOULD BE: {', '.join(sorted(wrong))}" if wrong else ""),
            flush=True,
        )


def show_growth(glances: Sequence[Glance], beginning_s: float) -> None:
    """The first and the last tenth after the beginning, by their medians."""
    if not glances:
        print("  too few glances: take a longer soak")
        return
    print(f"  after the first {beginning_s:,.0f} s, {len(glances)} glances:", flush=True)
    columns: dict[str, Callable[[Glance], float]] = {
        "resident MiB": lambda one: one.resident_bytes / MIB,
        "of it no file's, MiB": lambda one: one.own_bytes / MIB,
        "threads": lambda one: one.threads,
        "file handles": lambda one: one.files,
    }
    for name, value in columns.items():
        values = [value(one) for one in glances]
        print(
            f"  {name}: {values[0]:,.0f} at first, {values[-1]:,.0f} at last, {max(values):,.0f} at most; "
            f"the last tenth {course([round(1000 * one) for one in values]).growth:+.1%} beside the first",
            flush=True,
        )
