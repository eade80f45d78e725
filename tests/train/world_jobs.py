"""What the processes of `test_world` do; torchrun starts them with ``-m tests.train.world_jobs JOB FOLDER TIMEOUT_S``."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pairloom.errors import PairloomError, TrainingError
from pairloom.train import world as world_module
from pairloom.train.world import World, start_world

SHAPES = ((3, 4), (), (5,), (7, 2, 2), (0, 3), (40,), (2,))


def gradients_of(rank: int) -> list[Tensor | None]:
    """Made-up gradients; the last has none anywhere, another one only on the last rank, and rank 1 has none at all."""
    dice = torch.Generator().manual_seed(rank)
    made: list[Tensor | None] = [torch.randn(shape, generator=dice) for shape in SHAPES]
    made[-1] = None
    if rank == 0:
        made[2] = None
    return [None] * len(SHAPES) if rank == 1 else made


def rows_of(rank: int, count: int) -> Tensor:
    return torch.randn((count, 3), generator=torch.Generator().manual_seed(100 + rank))


def counts_for(size: int) -> list[list[int]]:
    """Even, uneven, with empty shares, and nothing at all."""
    return [[2] * size, list(range(1, size + 1)), [0, *[3] * (size - 1)], [1, *[0] * (size - 1)], [0] * size]


def digest(tensors: Sequence[Tensor]) -> str:
    return hashlib.sha256(b"".join(tensor.detach().numpy().tobytes() for tensor in tensors)).hexdigest()


def exchange(world: World) -> dict[str, Any]:
    """Every method once and more; what came out goes to the test."""
    gathered, numbers = [], []
    for counts in counts_for(world.size):
        rows = rows_of(world.rank, counts[world.rank]).requires_grad_()
        together = world.gather(rows, counts)
        assert not together.requires_grad
        gathered.append(together.tolist())
        own = torch.arange(counts[world.rank]) + 2**60 * world.rank
        numbers.append(world.gather(own, counts).tolist())
    sums: list[list[Any]] = []
    bits = []
    for bucket_bytes in (2**20, 60, 1):
        world_module._BUCKET_BYTES = bucket_bytes
        parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
        for parameter, gradient in zip(parameters, gradients_of(world.rank), strict=True):
            parameter.grad = gradient
        world.sum_gradients(parameters)
        sums.append([None if parameter.grad is None else parameter.grad.tolist() for parameter in parameters])
        bits.append(digest([parameter.grad for parameter in parameters if parameter.grad is not None]))
    world.sum_gradients([])
    world.broadcast([])
    copies = []
    for bucket_bytes in (2**20, 60, 1):
        world_module._BUCKET_BYTES = bucket_bytes
        torch.manual_seed(1000 + world.rank)
        tensors = [torch.nn.Parameter(torch.randn(shape)) for shape in SHAPES]
        mixed = [*tensors, torch.full((3,), 2**60 + world.rank), torch.randn(4, 6).T]
        world.broadcast(mixed)
        copies.append([tensor.tolist() for tensor in mixed])
    world.agree({"train": {"batch_size": 8, "betas": [0.9, None]}, "name": "Größe"}, "recipe")
    return {
        "gathered": gathered,
        "numbers": numbers,
        "sums": sums,
        "bits": bits,
        "copies": copies,
        "flags": [world.any(False), world.any(world.rank == world.size - 1), world.any(True)],
        "shared": world.share({"rank": world.rank, "place": (1, None, "é\n" * 50_000)}),
        "first": world.is_first,
    }


def differ(world: World) -> None:
    world.agree({"seed": 1, "train": {"batch_size": 8 if world.rank == 1 else 16}}, "recipe")


def patient(world: World) -> dict[str, Any]:
    """Rank 0 is away for longer than the timeout."""
    if world.is_first:
        time.sleep(6)
    world.wait()
    return {"met": world.any(True)}


def fail(world: World, how: str, operation: str) -> None:
    """After a while rank 1 fails, in the way named; the others go on with one operation."""
    culprit = 0 if operation == "patient" else 1
    parameter = torch.nn.Parameter(torch.zeros(5))
    for step in range(1000):
        if step == 3 and world.rank == culprit:
            time.sleep(0.5)  # the others are in the operation
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            elif how == "stopped":
                os.kill(os.getpid(), signal.SIGSTOP)
            elif how == "raised":
                raise TrainingError("the disk of rank 1 is full")
            elif how == "interrupted":
                raise KeyboardInterrupt
            raise ValueError("a mistake of ours")
        match operation:
            case "sum":
                parameter.grad = torch.ones(5)
                world.sum_gradients([parameter])
            case "gather":
                world.gather(torch.ones(2, 2), [2] * world.size)
            case "any":
                world.any(False)
            case "share":
                world.share({})
            case "wait" | "patient":
                world.wait()


def meet_outside(folder: Path, size: int) -> None:
    """Waits until all processes are here, so that timeouts are not about how long Python takes to start."""
    (folder / f"pid-{os.getpid()}").touch()
    while len(list(folder.glob("pid-*"))) < size:
        time.sleep(0.02)


def main(job: str, folder: Path, timeout_s: float) -> None:
    if job != "alone":
        meet_outside(folder, int(os.environ["WORLD_SIZE"]))
    with start_world("cpu", timeout_s=timeout_s) as world:
        result: dict[str, Any] | None = None
        match job.split(":"):
            case ["exchange"]:
                result = exchange(world)
            case ["differ"]:
                differ(world)
            case ["patient"]:
                result = patient(world)
            case ["last", culprit]:
                if world.rank == int(culprit):
                    time.sleep(0.5)  # the others are done
                    os.kill(os.getpid(), signal.SIGKILL)
            case [how, operation]:
                fail(world, how, operation)
    if result is not None:
        (folder / f"rank-{world.rank}.json").write_text(json.dumps(result))


def run(job: str, folder: Path, timeout_s: float) -> None:
    """Does the job, and ends as the command line does."""
    try:
        main(job, folder, timeout_s)
    except PairloomError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def run_as(variables: dict[str, str], job: str, folder: Path, timeout_s: float) -> None:
    """The same in a forked process, with its own variables, threads and stderr."""
    os.environ.update(variables)
    torch.set_num_threads(1)
    world_module._GRACE_S = 0.0  # nobody is there who stops the others
    os.dup2(os.open(folder / f"stderr-{variables['RANK']}", os.O_WRONLY | os.O_CREAT), 2)
    run(job, folder, timeout_s)


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
