"""A job seen from outside: how far its reader is, what memory it has; and two of its results compared."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks._encode_sides import memory_bytes

MANIFEST = "manifest.json"
# How often a process is looked at that is to be killed at a certain moment.
_GLANCE_S = 0.02


@dataclass(frozen=True)
class Glance:
    """A process at a moment.

    Args:
        share: How much of its input it has read, 0 to 1.
        resident_bytes: All of its memory, files that are mapped included, and that of its children.
        own_bytes: Of it what belongs to no file.
    """

    share: float
    resident_bytes: int
    own_bytes: int


@dataclass
class Watched:
    """A run that has ended.

    Args:
        seconds: From its start to its end.
        reading_s: From the first time that its input was seen open to its end.
        exit_code: Negative after a signal.
        peak_bytes: Resident memory of the process itself at its highest.
        glances: In the order of time.
        messages: What it wrote on stderr.
    """

    seconds: float = 0.0
    reading_s: float = 0.0
    exit_code: int = 0
    peak_bytes: int = 0
    glances: list[Glance] = field(default_factory=list)
    messages: str = ""


def watch(
    command: Sequence[str], source: Path, messages: Path, *, every_s: float, kill_after_s: float | None = None
) -> Watched:
    """Runs a command until it ends, or until it is killed.

    Args:
        command: What to run.
        source: Its input, a plain file: its place in it tells how far it is, whatever the command itself says.
        messages: A file for its stderr.
        every_s: Time between glances.
        kill_after_s: Kill it so long after it began to read.
    """
    watched, size = Watched(), source.stat().st_size
    begin = time.monotonic()
    read_since: float | None = None
    next_glance = begin
    pause_s = every_s / 4 if kill_after_s is None else _GLANCE_S
    with messages.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)
        while process.poll() is None:
            now = time.monotonic()
            try:
                position = _position(process.pid, source)
                if position is not None:
                    read_since = read_since or now
                if position is not None and now >= next_glance:
                    watched.glances.append(_glance(process.pid, position / size))
                    next_glance = now + every_s
                watched.peak_bytes = memory_bytes("VmHWM", process.pid)
            except OSError:  # it has just ended
                pass
            if kill_after_s is not None and read_since is not None and now - read_since >= kill_after_s:
                process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(pause_s)
    end = time.monotonic()
    watched.seconds, watched.reading_s = end - begin, end - (read_since or end)
    watched.exit_code, watched.messages = process.returncode, messages.read_text()
    return watched


@dataclass(frozen=True)
class Course:
    """Memory after the beginning.

    Args:
        num_glances: How many there are.
        middle_bytes: The median.
        above, below: The largest deviations from it, as shares of it.
        growth: The median of the last tenth over that of the first tenth, less one.
    """

    num_glances: int
    middle_bytes: float
    above: float
    below: float
    growth: float


def course(values: Sequence[int]) -> Course:
    """Of the values of glances, in order."""
    middle = statistics.median(values)
    tenth = max(1, len(values) // 10)
    growth = statistics.median(values[-tenth:]) / statistics.median(values[:tenth]) - 1
    return Course(len(values), middle, max(values) / middle - 1, 1 - min(values) / middle, growth)


def differing(one: Path, other: Path) -> list[str]:
    """Files that are not the same byte by byte in both folders; of the manifests, which facts differ instead."""
    names = sorted({file.relative_to(folder).as_posix() for folder in (one, other) for file in _files(folder)})
    found = []
    for name in names:
        both = (one / name, other / name)
        if name == MANIFEST and all(path.exists() for path in both):
            found += [
                f"{MANIFEST}: {key}" for key in _differing_facts(*(json.loads(path.read_text()) for path in both))
            ]
        elif not all(path.exists() for path in both) or not _same_bytes(*both):
            found.append(name)
    return found


def _position(process: int, source: Path) -> int | None:
    """Where a process is in a file that it has open; None if it has not."""
    for link in Path(f"/proc/{process}/fd").iterdir():
        try:
            if link.readlink() == source:
                lines = Path(f"/proc/{process}/fdinfo/{link.name}").read_text().splitlines()
                return int(lines[0].split()[1])
        except OSError:  # closed in this moment
            continue
    return None


def _glance(process: int, share: float) -> Glance:
    family = [process, *_children(process)]
    resident = sum(memory_bytes("VmRSS", member) for member in family)
    return Glance(share, resident, sum(memory_bytes("RssAnon", member) for member in family))


def _children(process: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:  # the kernel does not say
        return []


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _same_bytes(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as left, other.open("rb") as right:
        while block := left.read(1 << 20):
            if block != right.read(1 << 20):
                return False
    return True


def _differing_facts(one: dict[str, Any], other: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key in sorted({*one, *other}):
        own, beside = one.get(key), other.get(key)
        if isinstance(own, dict) and isinstance(beside, dict):
            yield from _differing_facts(own, beside, f"{prefix}{key}.")
        elif own != beside:
            yield prefix + key
