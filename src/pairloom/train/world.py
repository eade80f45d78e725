"""The processes of a training job: what they exchange, and how each of them ends when another one fails.

`torchrun` starts them and says in the environment who is who; without it, a job is one process. On GPUs tensors travel
by NCCL, everything else by gloo between the CPUs. What is exchanged is tensors and JSON, never pickled objects.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pairloom.encode.torch_engine import pick_device
from pairloom.errors import PeerError, UsageError
from pairloom.terminal import one_line

# So many bytes travel at once: many small tensors share a message, and the copy that this takes stays small.
_BUCKET_BYTES = 32 * 2**20
# How long rank 0 may evaluate or write while the others wait for it.
_PATIENCE_S = 86_400.0
# torchrun stops all processes when the first one ends: let that be the one that failed, and let it say why.
_GRACE_S = 2.0
_ABSENT = object()


class World:
    """All processes of a job, seen from one of them; every process must call the same methods in the same order.

    With one process nothing travels, and `torch.distributed` is not used.

    Args:
        rank: Of this process, from 0.
        size: Processes.
        device: Where this process computes.
        timeout_s: How long to wait for the others before giving up.

    Raises:
        PeerError: By every method: another process has ended, or has not answered for ``timeout_s``.
    """

    def __init__(self, rank: int, size: int, device: torch.device, *, timeout_s: float) -> None:
        self.rank, self.size, self.device, self._timeout_s = rank, size, device, timeout_s
        self.local_size = size
        """Processes on this machine."""
        # The others come to rank 0 early, so it has no reason to be patient with them.
        self._patience_s = timeout_s if rank == 0 else _PATIENCE_S
        self._tensors: dist.ProcessGroup | None = None  # None is torch's name for the first group, gloo
        self._patient: dist.ProcessGroup | None = None
        if size > 1:
            self._connect()

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and evaluates."""
        return self.rank == 0

    def gather(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """Puts the rows of all processes together, without their graph.

        Args:
            rows: Of this process, ``[counts[rank], ...]``.
            counts: Rows of each process, the same list on all of them; 0 is as good as any other.

        Returns:
            ``[sum(counts), ...]`` in the order of ranks, bit for bit the same on all of them.
        """
        assert len(counts) == self.size and len(rows) == counts[self.rank]
        return self._gather("gather vectors", rows.detach(), counts, self._tensors)

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replaces each gradient by its sum over the processes, bit for bit the same on all of them.

        Args:
            parameters: The same on all processes. One without a gradient here counts as zeros; one that has none
                anywhere keeps none, as in a job of one process.
        """
        if self.size == 1:
            return
        everything = list(parameters)
        somewhere = self._any([parameter.grad is not None for parameter in everything])
        gradients = []
        for parameter, has_gradient in zip(everything, somewhere, strict=True):
            if has_gradient:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        # Each element is added up in one place, and the sum handed to the others: hence the same bits.
        for bucket in _buckets(gradients):
            with _in_one_piece(bucket) as flat:
                self._finish("sum gradients", dist.all_reduce, flat, group=self._tensors)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrites the tensors by those of rank 0; they have the same shapes everywhere."""
        if self.size == 1:
            return
        for bucket in _buckets([tensor.detach() for tensor in tensors]):
            with _in_one_piece(bucket) as flat:
                self._finish("hand out weights", dist.broadcast, flat, src=0, group=self._tensors)

    def agree(self, facts: dict[str, Any], what: str) -> None:
        """Makes sure that all processes have the same facts.

        Args:
            facts: JSON.
            what: Their name for people, as in "start all ranks with the same ...".

        Raises:
            UsageError: On every process, with the first difference.
        """
        if self.size == 1:
            return
        raw = torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)
        sizes = self._gather(f"compare the {what}", torch.tensor([len(raw)]), [1] * self.size, None).tolist()
        everything = self._gather(f"compare the {what}", raw, sizes, None)
        first, *others = [json.loads(part.numpy().tobytes()) for part in torch.split(everything, sizes)]
        for rank, other in enumerate(others, start=1):
            if (difference := _first_difference(first, other)) is not None:
                path, ours, theirs = difference
                raise UsageError(
                    f"rank {rank} was started with {path} = {theirs}, rank 0 with {ours}; start all ranks with the same "
                    f"{what}"
                )

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any process; the GPUs need not stop for it."""
        return flag if self.size == 1 else self._any([flag])[0]

    def share(self, value: Any) -> Any:
        """Rank 0's value, which must be JSON, on all processes; what the others pass is ignored."""
        raw = json.dumps(value).encode() if self.is_first else b""
        if self.size > 1:
            length = torch.tensor([len(raw)])
            self._finish("share a value", dist.broadcast, length, src=0)
            message = torch.empty(int(length), dtype=torch.uint8)
            if self.is_first:
                message = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
            self._finish("share a value", dist.broadcast, message, src=0)
            raw = message.numpy().tobytes()
        return json.loads(raw)  # on rank 0, too: a tuple is a list everywhere

    def wait(self) -> None:
        """Waits until all processes have come here; for rank 0, which evaluates and writes, patiently."""
        flag, others = torch.zeros(1), range(1, self.size)
        with self._reaching("wait for each other", self._patience_s):
            # Everyone talks to rank 0 only, so nobody waits on when rank 0 has given somebody up.
            if self.is_first:
                for rank in others:
                    dist.recv(flag, src=rank, group=self._patient)
                for rank in others:
                    dist.send(flag, dst=rank, group=self._patient)
            else:
                dist.send(flag, dst=0, group=self._patient)
                dist.recv(flag, src=0, group=self._patient)

    def _connect(self) -> None:
        timeout, place = timedelta(seconds=self._timeout_s), f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        try:
            dist.init_process_group("gloo", rank=self.rank, world_size=self.size, timeout=timeout)
        except RuntimeError as error:
            raise PeerError(
                f"rank {self.rank} did not meet the other processes of the job at {place} within {self._timeout_s:g} s "
                f"(train.peer_timeout_s): {_reason(error)}. Start all {self.size}, with an address that each can reach"
            ) from error
        self.agree({"device": self.device.type}, "device")
        with self._reaching("connect"):
            self._patient = dist.new_group(backend="gloo", timeout=timedelta(seconds=self._patience_s))
            if self.device.type == "cuda":
                # Without this, torch's watchdog aborts the process when a collective fails or takes too long; with it,
                # the CPU waits for each collective, and `Work.wait` raises.
                os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")
                torch.cuda.set_device(self.device)
                self._tensors = dist.new_group(backend="nccl", timeout=timeout)

    def _gather(self, what: str, rows: Tensor, counts: Sequence[int], group: dist.ProcessGroup | None) -> Tensor:
        most = max(counts)
        if self.size == 1 or most == 0:
            return rows
        padding = rows.new_zeros(most - len(rows), *rows.shape[1:])
        own = torch.cat([rows, padding])  # the collective wants equal shapes
        parts = [torch.empty_like(own) for _ in counts]
        self._finish(what, dist.all_gather, parts, own, group=group)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def _any(self, flags: Sequence[bool]) -> list[bool]:
        counts = torch.tensor(flags, dtype=torch.int32)
        if len(flags) > 0:
            self._finish("exchange flags", dist.all_reduce, counts)
        return [count > 0 for count in counts.tolist()]

    def _finish(self, what: str, collective: Callable[..., dist.Work | None], *tensors: Any, **options: Any) -> None:
        with self._reaching(what):
            # Only work that was asked for can be waited for; without, NCCL returns before the GPU is done, or has failed.
            work = collective(*tensors, **options, async_op=True)
            assert work is not None
            work.wait()

    @contextmanager
    def _reaching(self, what: str, timeout_s: float | None = None) -> Iterator[None]:
        """Says what torch's errors mean; only calls of `torch.distributed` belong into the block."""
        start, timeout_s = time.monotonic(), timeout_s or self._timeout_s
        try:
            yield
        except RuntimeError as error:
            if str(error).startswith("CUDA "):
                raise  # out of memory, or a fault of an earlier kernel: it is this process that fails
            if time.monotonic() - start >= timeout_s:
                why = f"one of them has not answered for {timeout_s:g} s (train.peer_timeout_s)"
            else:
                why = f"one of them has ended or cannot be reached ({_reason(error)})"
            raise PeerError(
                f"rank {self.rank} could not {what} with the other processes of the job: {why}. Its own "
                "message tells why; afterwards, the same command with --resume goes on from the last checkpoint"
            ) from error


@contextmanager
def start_world(device: str | None, *, timeout_s: float) -> Iterator[World]:
    """Joins the processes that `torchrun` started, or is alone without it, while the block runs.

    Args:
        device: By default a GPU if there is one. Of several processes on a machine, each takes a GPU of its own.
        timeout_s: How long to wait for a process that does not answer.

    Raises:
        UsageError: The environment is not what torchrun makes, the device is not available here, or the processes have
            different ones.
        PeerError: The processes do not find each other, or one of them fails later.
    """
    size = _variable("WORLD_SIZE") if "WORLD_SIZE" in os.environ else 1
    if size <= 1:
        alone = pick_device(device)
        if alone.type == "cuda" and alone.index is not None:
            torch.cuda.set_device(alone)
        yield World(0, 1, alone, timeout_s=timeout_s)
        return
    rank, local_rank, _ = (_variable(name) for name in ("RANK", "LOCAL_RANK", "MASTER_PORT"))
    if rank >= size:
        raise _not_from_torchrun("RANK is not below WORLD_SIZE")
    if not os.environ.get("MASTER_ADDR"):
        raise _not_from_torchrun("MASTER_ADDR is not set")
    own_device, finished = _own_device(device, local_rank), False
    try:
        world = World(rank, size, own_device, timeout_s=timeout_s)
        world.local_size = _variable("LOCAL_WORLD_SIZE") if "LOCAL_WORLD_SIZE" in os.environ else size
        yield world
        finished = True
        world.wait()  # whoever leaves early takes its connections away from the others
        dist.destroy_process_group()
    except BaseException as error:
        # An orderly end would wait for work that the others may never do.
        if dist.is_initialized():
            with suppress(
                Exception
            ):  # not every version of every backend can; whatever it says, ``error`` is the cause
                dist.distributed_c10d._abort_process_group()
        if isinstance(error, PeerError):
            if finished and rank == 0:
                return  # it has made what it had to make
            with suppress(KeyboardInterrupt):  # so that it is told why, even if torchrun is faster
                time.sleep(_GRACE_S)
        raise


def _own_device(name: str | None, local_rank: int) -> torch.device:
    """The device of one of several processes on this machine."""
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise UsageError(
            f"several processes cannot share the device {name!r}: with --device cuda each takes a GPU of its own, with "
            "--device cpu they train on the processor"
        )
    num_gpus = torch.cuda.device_count()
    if name == "cuda" and local_rank >= num_gpus > 0:
        raise UsageError(
            f"there is no GPU for process {local_rank + 1} of this machine, which has {num_gpus}: start one for each "
            f"with torchrun --nproc-per-node {num_gpus}, or train on the processor with --device cpu"
        )
    return pick_device("cpu" if name == "cpu" else f"cuda:{local_rank}")


def _variable(name: str) -> int:
    value = os.environ.get(name)
    if value is None or not value.isdecimal():
        raise _not_from_torchrun(f"{name} is not set" if value is None else f"{name} is {value!r}")
    return int(value)


def _not_from_torchrun(why: str) -> UsageError:
    return UsageError(
        f"WORLD_SIZE asks for several processes, but {why}; start them with torchrun, or unset WORLD_SIZE"
    )


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one kind that follow each other, up to `_BUCKET_BYTES`; a larger one has a bucket of its own."""
    bucket: list[Tensor] = []
    num_bytes = 0
    for tensor in tensors:
        if tensor.numel() == 0:
            continue
        full = num_bytes + tensor.nbytes > _BUCKET_BYTES
        if bucket and (full or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, num_bytes = [], 0
        bucket.append(tensor)
        num_bytes += tensor.nbytes
    if bucket:
        yield bucket


@contextmanager
def _in_one_piece(bucket: list[Tensor]) -> Iterator[Tensor]:
    """The tensors as one flat tensor; what the block writes into it is theirs."""
    if len(bucket) == 1 and bucket[0].is_contiguous():
        yield bucket[0].view(-1)
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
    yield flat
    for tensor, part in zip(bucket, torch.split(flat, [tensor.numel() for tensor in bucket]), strict=True):
        tensor.copy_(part.view(tensor.shape))


def _first_difference(ours: Any, theirs: Any, path: str = "") -> tuple[str, str, str] | None:
    """The path of the first value that differs, and both values for people."""
    if type(ours) is type(theirs) and isinstance(ours, dict | list):
        mine, yours = (value if isinstance(value, dict) else dict(enumerate(value)) for value in (ours, theirs))
        for key in {**mine, **yours}:
            inner = f"{path}.{key}" if path else str(key)
            if (found := _first_difference(mine.get(key, _ABSENT), yours.get(key, _ABSENT), inner)) is not None:
                return found
        return None
    ours, theirs = (
        "nothing" if value is _ABSENT else json.dumps(value, ensure_ascii=False) for value in (ours, theirs)
    )
    return None if ours == theirs else (path, one_line(ours, 120), one_line(theirs, 120))


def _reason(error: RuntimeError) -> str:
    """The first line of torch's message, without the place in its source and without general advice."""
    line = str(error).strip().partition("\n")[0].partition(" This is typically")[0]
    return one_line(line.partition("] ")[2] if line.startswith("[/") else line, 240).rstrip(".")
