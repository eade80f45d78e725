"""Preparing a large dump: memory, rate, and what several processes bring, beside a parse into memory.

The rival reads the dump as the scripts behind the published models did: `xml.etree.ElementTree.parse`, a regular
expression that strips the tags, a dictionary of questions for the join.
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


def measure(command: list[str]) -> tuple[float, int]:
    """Seconds, and the largest sum of resident memory of the command and the processes that it has started."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(_resident, _family(process.pid))))
        time.sleep(0.05)
    seconds = time.perf_counter() - begin
    if process.returncode:
        assert process.stderr is not None
        sys.exit(f"{' '.join(command)}\n{process.stderr.read().decode()}")
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


def pairloom(dump: Path, view: str, processes: int, out: Path) -> Run:
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "pairloom", "prepare", "stackexchange", str(dump), "--view", view]
    seconds, peak = measure([*command, "--out", str(out), "--processes", str(processes), "--quiet"])
    rows = json.loads((out / "manifest.json").read_text())["facts"]["num_rows"]
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
        small, large = folder / "small.xml", folder / "large.xml"
        for dump, gigabytes in zip((small, large), options.gigabytes, strict=True):
            write_dump(dump, int(gigabytes * 1e9))
        print("rate and memory; MB is 10^6 bytes of XML")
        for view in ("title-body", "title-answer"):
            rounds = []
            for _ in range(options.rounds):
                theirs = rival(small, view, folder / "rival.jsonl")
                ours = [pairloom(small, view, processes, folder / "out") for processes in (1, 2)]
                rounds.append((theirs, *ours))
            show(f"{view}, {options.gigabytes[0]:g} GB", small, rounds)
            runs = [pairloom(large, view, processes, folder / "out") for processes in (1, 2)]
            for processes, run in zip((1, 2), runs, strict=True):
                print(
                    f"  {options.gigabytes[1]:g} GB, {processes} processes: {rate(large, run):.1f} MB/s, "
                    f"{run.peak_bytes / 2**20:,.0f} MiB, {run.rows:,} pairs"
                )


def rate(dump: Path, run: Run) -> float:
    return dump.stat().st_size / 1e6 / run.seconds


def show(title: str, dump: Path, rounds: list[tuple[Run, ...]]) -> None:
    print(title)
    names = ("ElementTree and a regular expression", "pairloom, 1 process", "pairloom, 2 processes")
    for number, name in enumerate(names):
        runs = [each[number] for each in rounds]
        print(
            f"  {name}: {statistics.median(rate(dump, run) for run in runs):.1f} MB/s, "
            f"{max(run.peak_bytes for run in runs) / 2**20:,.0f} MiB, {runs[0].rows:,} pairs, "
            f"{statistics.median(each[0].seconds / each[number].seconds for each in rounds):.2f} times the rate of the first"
        )
    print(f"  two processes to one: {statistics.median(each[1].seconds / each[2].seconds for each in rounds):.2f}")


if __name__ == "__main__":
    main()
