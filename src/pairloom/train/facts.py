"""What a finished run tells of where, how long and with what it was trained."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pairloom import __version__
from pairloom.errors import ModelError
from pairloom.models.names import find_here

_VERSIONS_OF = ("torch", "tokenizers", "numpy")
_NO_LIMIT = ("max", "")


def run_facts(
    base: str,
    records: Sequence[dict[str, Any]],
    *,
    device: torch.device,
    num_devices: int,
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """What the manifest and the card say of a run besides its recipe and its data.

    Args:
        base: Its name in the recipe.
        records: The lines of ``metrics.jsonl``.
        device: Of the first process.
        num_devices: That worked together.
        command: The words that were typed, if it was a command.
    """
    facts: dict[str, Any] = {
        "hardware": {
            "device": device_name(device),
            "num_devices": num_devices,
            "memory_bytes": device_memory(device),
            "peak_memory_bytes": max((record.get("memory_bytes", 0) for record in records), default=0),
        },
        "training_s": round(training_seconds(records), 1),
        "versions": {"pairloom": __version__, "python": platform.python_version()}
        | {name: version(name) for name in _VERSIONS_OF},
        "base_on_hub": _hub_name(base),
    }
    if (joules := training_joules(records)) is not None:
        facts["energy_wh"] = round(joules / 3600, 4)
    if command:
        facts["command"] = shlex.join(command)
    return facts


def training_seconds(records: Sequence[dict[str, Any]]) -> float:
    """Seconds in the steps that made the model, over all resumptions.

    What a crash undid and was computed again counts once; evaluations and checkpoints do not count.

    Args:
        records: The lines of ``metrics.jsonl``: each tells its pairs and how many it made a second.
    """
    seconds = 0.0
    for record in records:
        rate, parts = record.get("pairs_per_s"), record.get("datasets")
        if rate and isinstance(parts, dict):
            seconds += sum(part["pairs"] for part in parts.values()) / rate
    return seconds


def training_joules(records: Sequence[dict[str, Any]]) -> float | None:
    """Energy of the steps that made the model, as in `training_seconds`; None unless each of them tells.

    Args:
        records: The lines of ``metrics.jsonl``.
    """
    steps = [record for record in records if "loss" in record]
    if not steps or not all("energy_j" in record for record in steps):
        return None
    return float(sum(record["energy_j"] for record in steps))


def device_name(device: torch.device, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What a person calls the device: the GPU's name, or the processor's with its cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    name = _processor(cpuinfo) or platform.processor() or platform.machine() or "processor"
    return f"{name}, {cores} core{'s' if cores > 1 else ''}"


def device_memory(device: torch.device, cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of the GPU's memory, or of main memory within the limit of a container; 0 where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if not hasattr(os, "sysconf"):
        return 0
    amounts = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (cgroup / name).read_text().strip()
        except OSError:
            continue
        if text not in _NO_LIMIT:
            amounts.append(int(text))
    return min(amounts)


def _processor(cpuinfo: Path) -> str:
    try:
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return " ".join(value.split())
    except OSError:
        pass  # not Linux
    return ""


def _hub_name(base: str) -> str | None:
    """The base's full name on the hub, if that is where it came from."""
    try:
        found = find_here(base)
    except ModelError:
        return None
    return found.repository if found.place == "cache" else None
