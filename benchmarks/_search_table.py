"""Lines of the tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks._train_table import MIB, Figures, Rounds, rates, ratio

# A kernel's page of a disk and up: what is smaller is not worth a word.
_LEAST_BYTES = 2**16


def show_calls(measured: Rounds, reference: str | None, notes: Mapping[str, str], unit: str = "queries") -> None:
    """A line a contestant: its notes, p50 and p99 over all rounds, calls a second, and those beside the reference's within a
    round."""
    width = max((*map(len, measured), 0))
    for name, runs in measured.items():
        ran = [run for run in runs if run.get("calls_s")]
        if not ran:
            print(f"  {name:{width}}  {runs[-1].get('failed', 'did not run')}", flush=True)
            continue
        found = rates(ran)
        line = f"  {name:{width}}  {notes.get(name, '')}{latency(ran)}  {statistics.median(found):9,.1f} {unit}/s"
        line += f" ({min(found):,.1f} to {max(found):,.1f})" if len(found) > 1 else ""
        if reference in measured and (times := ratio(runs, measured[reference])) is not None:
            line += f"  {times:6.3f}× {reference}" if name != reference else ""
        print(line, flush=True)


def latency(runs: Sequence[Figures]) -> str:
    """Quantiles over all calls of all rounds."""
    middle, late = 1000 * np.quantile([seconds for run in runs for seconds in run["calls_s"]], [0.5, 0.99])
    return f"p50 {middle:8.2f} ms  p99 {late:8.2f} ms"


def show_builds(name: str, builds: Sequence[Figures], width: int) -> None:
    """How rows went in; medians of what was built several times."""
    ran = [build for build in builds if "failed" not in build]
    if not ran:
        print(f"  {name:{width}}  {builds[-1]['failed']}", flush=True)
        return
    added = statistics.median(build["add_s"] for build in ran)
    parts = [f"{ran[0]['rows'] / added:,.0f} rows/s" if added else "nothing is built"]
    parts += [
        f"{what} {statistics.median(build['build_s'][what] for build in ran):,.1f} s" for what in ran[0]["build_s"]
    ]
    peaks = [statistics.median(build[what] for build in ran) / MIB for what in ("peak_bytes", "own_bytes")]
    parts.append(f"peak {peaks[0]:,.0f} MiB, of it no file's {peaks[1]:,.0f}")
    parts.append(f"disk {sum(ran[-1]['files'].values()) / MIB:,.0f} MiB{_files(ran[-1]['files'])}")
    print(f"  {name:{width}}  {'; '.join(parts)}", flush=True)
    if "about" in ran[-1]:
        print(f"  {'':{width}}  index: {described(ran[-1]['about'])}", flush=True)


def described(about: Mapping[str, object]) -> str:
    """What an index says of itself."""
    return ", ".join(f"{key} {value}" for key, value in about.items())


def _files(files: Mapping[str, int]) -> str:
    large = {name: size for name, size in files.items() if size >= _LEAST_BYTES}
    return f" ({', '.join(f'{name} {size / MIB:,.1f}' for name, size in large.items())})" if len(large) > 1 else ""
