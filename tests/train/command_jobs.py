"""The command line in forked processes, which start in no time; each has its variables, limits, threads and output."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

import torch

from pairloom.cli import main
from pairloom.train import flops, loop
from pairloom.train import world as world_module

assert loop  # imported before the processes are forked


def run_as(
    variables: dict[str, str], arguments: list[str], output: Path, max_file_bytes: int | None, grace_s: float
) -> None:
    """Ends with the exit code of the command; what it says is in ``output``."""
    os.environ.update(variables)
    torch.set_num_threads(1)
    flops._CPU_SECONDS_A_SIZE = 0.01  # the speed of the machine is not what is tested
    world_module._GRACE_S = grace_s
    if max_file_bytes is not None:
        # Larger files cannot be written, as when the disk is full in the middle of one.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, resource.RLIM_INFINITY))
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.argv = ["pairloom", *arguments]
    main()
