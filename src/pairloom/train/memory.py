"""How much memory there is, for what a run keeps between its two passes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment, unused-ignore]

# What is left to the rest of the process and of the machine.
_HOST_SHARE, _GPU_SHARE = 0.5, 0.85
# Files of the limit, of what is used and of its kinds, and what the kinds' names begin with.
_LIMITS = (
    ("memory.max", "memory.current", "memory.stat", ""),  # cgroup 2
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_"),  # cgroup 1
)
_FILE_CACHE = ("active_file", "inactive_file")


def graph_memory(device: torch.device, *, num_processes: int) -> int:
    """Bytes that graphs may take: a share of what is free now.

    Args:
        device: Where they lie.
        num_processes: That share the host's memory with this one, itself included.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(_GPU_SHARE * (free + held))
    return int(_HOST_SHARE * free_memory() / num_processes)


def free_memory(cgroup: Path = Path("/sys/fs/cgroup"), meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes of main memory that can still be had, within the limits of a container."""
    free = [_available(meminfo)]
    for limit, usage, kinds, prefix in _LIMITS:
        try:
            used = int((cgroup / usage).read_text()) - _file_cache(cgroup / kinds, prefix)
            free.append(int((cgroup / limit).read_text()) - used)
        except (OSError, ValueError):  # no such limit: "max", or another system
            continue
    return max(0, min(free))


def peak_memory(device: torch.device) -> int:
    """Most bytes that the process has held so far: of the GPU, or else of main memory; 0 where nobody counts them."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _file_cache(path: Path, prefix: str) -> int:
    """Bytes of files that were read and that the system forgets when somebody needs memory: they are not used up."""
    try:
        numbers = dict(line.split(maxsplit=1) for line in path.read_text().splitlines())
    except OSError:
        return 0
    return sum(int(numbers.get(prefix + kind, 0)) for kind in _FILE_CACHE)


def _available(meminfo: Path) -> int:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
