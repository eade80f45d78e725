"""Preparing a large dump: memory, rate, and what several processes bring, beside a parse into memory.

The rival reads the dump as the scripts behind the published models did: `xml.etree.ElementTree.parse`, a regular
expression that strips the tags, a dictionary of questions for the join.

How much two processes can bring depends on the machine, too: for comparison, two runs of one process each are started
at the same time.
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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks._dump import write_dump

RIVAL = """
import json, re, sys
import xml.etree.ElementTree as ElementTree
path, view, out = sys.argv[1:]
tags = re.compile("<[^<]+?>")
strip = lambda html: tags.sub("", html).strip()
root = ElementTree.parse(path).getroot()
with open(out, "w") as stream:
    if view == "title-body":
        for row in root:
            if row.get("PostTypeId") == "1" and int(row.get("Score")) >= 0:
                title, body = row.get("Title"), strip(row.get("Body"))
                if len(title) >= 20 and 20 <= len(body) <= 4096:
                    stream.write(json.dumps([title, body]) + "\\n")
    else:
        titles, best = {}, {}
        for row in root:
            if row.get("PostTypeId") == "1" and int(row.get("Score")) >= 0 and len(row.get("Title")) >= 20:
                titles[row.get("Id")] = row.get("Title")
            elif row.get("PostTypeId") == "2":
                score, parent = int(row.get("Score")), row.get("ParentId")
                if parent not in best or score > best[parent][0]:
                    best[parent] = score, row.get("Body")
        for number, title in titles.items():
            if number in best:
                answer = strip(best[number][1])
                if 20 <= len(answer) <= 4096 and best[number][0] >= 0:
                    stream.write(json.dumps([title, answer]) + "\\n")
"""


@dataclass
class Run:
    seconds: float
    peak_bytes: int
    rows: int


def measure(*commands: list[str]) -> tuple[float, int]:
    """Seconds until all commands are done that are started at once, and the largest sum of their resident memory.

    The memory is that of the commands and of all processes that they have started.
    """
    begin = time.perf_counter()
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for command in commands]
    peak = 0
    while any(process.poll() is None for process in processes):
        peak = max(peak, sum(_resident(pid) for process in processes for pid in _family(process.pid)))
        time.sleep(0.05)
    seconds = time.perf_counter() - begin
    for process, command in zip(processes, commands, strict=True):
        assert process.stderr is not None
        errors = process.stderr.read().decode()
        process.stderr.close()
        if process.returncode:
            sys.exit(f"{' '.join(command)}\n{errors}")
    return seconds, peak


def _family(pid: int) -> list[int]:
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(grandchild for child in children for grandchild in _family(child))]


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def pairloom(dump: Path, view: str, processes: int, folder: Path, *, at_once: int = 1) -> Run:
    """Prepares the dump, or so many times at once."""
    outs = [folder / f"out{number}" for number in range(at_once)]
    command = [sys.executable, "-m", "pairloom", "prepare", "stackexchange", str(dump), "--view", view, "--quiet"]
    command += ["--processes", str(processes), "--out"]
    seconds, peak = measure(*([*command, str(out)] for out in outs))
    rows = json.loads((outs[0] / "manifest.json").read_text())["facts"]["num_rows"]
    for out in outs:
        shutil.rmtree(out)
    return Run(seconds, peak, rows)


def rival(dump: Path, view: str, out: Path) -> Run:
    seconds, peak = measure([sys.executable, "-c", RIVAL, str(dump), view, str(out)])
    with out.open("rb") as stream:
        rows = sum(1 for _ in stream)
    out.unlink()
    return Run(seconds, peak, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, nargs=2, default=(1.0, 3.0), help="of the two dumps")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where there is room; by default the temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        dumps = folder / "small.xml", folder / "large.xml"
        for dump, gigabytes in zip(dumps, options.gigabytes, strict=True):
            write_dump(dump, int(gigabytes * 1e9))
        print("MB is 10^6 bytes of XML; memory is the peak of all processes together; rates are medians")
        for view in ("title-body", "title-answer"):
            compare(view, *dumps, folder, options.rounds)


def compare(view: str, small: Path, large: Path, folder: Path, num_rounds: int) -> None:
    rounds = []
    for _ in range(num_rounds):
        theirs, ours = rival(small, view, folder / "rival.jsonl"), pairloom(small, view, 1, folder)
        one, two = (pairloom(large, view, processes, folder) for processes in (1, 2))
        rounds.append((theirs, ours, one, two, pairloom(large, view, 1, folder, at_once=2)))
    print(view)
    names = (
        "ElementTree and a regular expression",
        "pairloom, 1 process",
        "pairloom, 1 process",
        "pairloom, 2 processes",
    )
    dumps = small, small, large, large
    for name, dump, runs in zip(names, dumps, zip(*rounds, strict=True), strict=False):
        size = dump.stat().st_size / 1e6
        print(
            f"  {name}, {size:,.0f} MB: {statistics.median(size / run.seconds for run in runs):.1f} MB/s, "
            f"{max(run.peak_bytes for run in runs) / 2**20:,.0f} MiB, {runs[0].rows:,} pairs",
            flush=True,
        )
    print(f"  one process to ElementTree: {median_ratio(rounds, 0, 1):.2f} times the rate")
    print(f"  two processes to one: {median_ratio(rounds, 2, 3):.2f} times the rate")
    print(f"  two runs at once to one: {2 * median_ratio(rounds, 2, 4):.2f} times the rate", flush=True)


def median_ratio(rounds: Sequence[tuple[Run, ...]], first: int, second: int) -> float:
    """Of the rates within a round, the second to the first."""
    return statistics.median(runs[first].seconds / runs[second].seconds for runs in rounds)


if __name__ == "__main__":
    main()
