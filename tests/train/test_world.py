"""Jobs of several real processes: what they exchange, and how they end when one of them fails."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pairloom.errors import PeerError, TrainingError, UsageError
from pairloom.recipe import TrainSection
from pairloom.train.world import _buckets, _first_difference, _own_device, start_world
from tests.train.world_jobs import counts_for, gradients_of, rows_of, run_as

ROOT = Path(__file__).parents[2]
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def environment(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return {**inherited, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error", **more}


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Processes that are forked from one that has already imported torch start in no time.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.train.world_jobs"])


class Job:
    """Processes of a job, with the variables that torchrun would give them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[int, ForkServerProcess] = {}

    def start(
        self, job: str, *, size: int, timeout_s: float = 60, ranks: Iterable[int] | None = None, port: int = 0
    ) -> None:
        common = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port or free_port())}
        for rank in range(size) if ranks is None else ranks:
            variables = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            self.processes[rank] = FORKS.Process(target=run_as, args=(variables, job, self.folder, timeout_s))
            self.processes[rank].start()

    def codes(self, *ranks: int) -> list[int | None]:
        """How the processes have ended, within a minute."""
        for rank in ranks or self.processes:
            self.processes[rank].join(timeout=60)
        return [self.processes[rank].exitcode for rank in ranks or self.processes]

    def stderr(self, rank: int) -> list[str]:
        return (self.folder / f"stderr-{rank}").read_text().splitlines()

    def results(self) -> list[dict[str, Any]]:
        assert set(self.codes()) == {0}, [self.stderr(rank) for rank in self.processes]
        assert [self.stderr(rank) for rank in self.processes] == [[]] * len(self.processes)
        return [json.loads((self.folder / f"rank-{rank}.json").read_text()) for rank in self.processes]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    made = Job(tmp_path)
    try:
        yield made
    finally:
        for process in made.processes.values():
            process.kill()
            process.join()
            process.close()


@pytest.mark.parametrize("size", [2, 3, 4])
def test_all_processes_end_up_with_the_same_bits(job: Job, size: int) -> None:
    job.start("exchange", size=size)
    first, *others = job.results()
    assert first.pop("first")
    assert not any(other.pop("first") for other in others)
    assert all(other == first for other in others)

    for gathered, numbers, counts in zip(first["gathered"], first["numbers"], counts_for(size), strict=True):
        expected = torch.cat([rows_of(rank, count) for rank, count in enumerate(counts)])
        assert gathered == expected.tolist()
        assert numbers == [number + 2**60 * rank for rank, count in enumerate(counts) for number in range(count)]

    *gradients, nowhere = zip(*(gradients_of(rank) for rank in range(size)), strict=True)
    for sums in first["sums"]:
        assert set(nowhere) == {None}
        assert sums[-1] is None
        for found, parts in zip(sums, gradients, strict=False):
            present = [part.double().numpy() for part in parts if part is not None]
            if present:
                expected_sum = np.sum(present, axis=0)
                np.testing.assert_allclose(np.reshape(found, expected_sum.shape), expected_sum, atol=1e-6)
            else:
                assert found is None

    torch.manual_seed(1000)
    for copy in first["copies"]:
        assert copy == first["copies"][0]
    assert first["copies"][0][0] == torch.randn(3, 4).tolist()
    assert first["copies"][0][-2] == [2**60] * 3
    assert first["flags"] == [False, True, True]
    assert first["shared"] == {"rank": 0, "place": [1, None, "é\n" * 50_000]}


def test_rank_0_may_be_away_for_longer_than_the_timeout(job: Job) -> None:
    job.start("patient", size=3, timeout_s=4)
    assert job.results() == [{"met": True}] * 3


def test_a_job_of_one_process_needs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (None, "1"):
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        if size is not None:
            monkeypatch.setenv("WORLD_SIZE", size)
        parameter, unused = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
        parameter.grad = torch.tensor([1.0, 2.0])
        with start_world("cpu", timeout_s=1) as world:
            assert (world.rank, world.size, world.is_first, world.device) == (0, 1, True, torch.device("cpu"))
            assert not torch.distributed.is_initialized()
            rows = torch.ones(2, 3, requires_grad=True)
            assert world.gather(rows, [2]).equal(torch.ones(2, 3))
            assert not world.gather(rows, [2]).requires_grad
            world.sum_gradients([parameter, unused])
            world.broadcast([parameter])
            world.agree({"seed": 1}, "recipe")
            world.wait()
            assert [world.any(False), world.any(True)] == [False, True]
            assert world.share({"place": (1, 2)}) == {"place": [1, 2]}
        assert parameter.grad.tolist() == [1, 2]
        assert unused.grad is None


def test_buckets_hold_neighbours_of_one_kind_up_to_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairloom.train.world._BUCKET_BYTES", 16)
    sizes = [1, 3, 1, 9, 0, 2, 2]
    tensors = [torch.zeros(size) for size in sizes]
    found = [[tensor.numel() for tensor in bucket] for bucket in _buckets(tensors)]
    assert found == [[1, 3], [1], [9], [2, 2]]
    kinds = [[tensor.dtype for tensor in bucket] for bucket in _buckets([torch.zeros(1), torch.ones(1).long()])]
    assert kinds == [[torch.float32], [torch.int64]]
    assert list(_buckets([])) == list(_buckets([torch.zeros(0)])) == []


def ended(rank: int, what: str) -> str:
    return f"PeerError: rank {rank} could not {what} with the other processes of the job: one of them has ended or "


ADVICE = ". Its own message tells why; afterwards, the same command with --resume goes on from the last checkpoint"


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        ("sum", "exchange flags"),
        ("gather", "gather vectors"),
        ("share", "share a value"),
        ("wait", "wait for each other"),
        ("patient", "wait for each other"),
    ],
)
def test_a_killed_process_ends_the_others_with_one_sentence(job: Job, operation: str, said: str) -> None:
    job.start(f"killed:{operation}", size=3, timeout_s=300)  # which nobody waits for
    culprit = 0 if operation == "patient" else 1
    assert job.codes() == [-signal.SIGKILL if rank == culprit else 1 for rank in range(3)]
    for rank in {0, 1, 2} - {culprit}:
        (line,) = job.stderr(rank)
        assert line.startswith(ended(rank, said))
        assert "Connection" in line or "Read error" in line
        assert "pair.cc" not in line
        assert line.endswith(ADVICE)


@pytest.mark.parametrize(
    ("how", "code", "own"),
    [
        ("raised", 1, ["TrainingError: the disk of rank 1 is full"]),
        ("interrupted", 130, []),
        ("mistaken", 1, ["ValueError: a mistake of ours"]),
    ],
)
def test_a_process_that_fails_says_why_and_ends_the_others(job: Job, how: str, code: int, own: list[str]) -> None:
    job.start(f"{how}:gather", size=3, timeout_s=300)
    assert job.codes() == [1, code, 1]
    assert [line for line in job.stderr(1) if not line.startswith(("Process ", "Traceback ", " "))] == own
    for rank in (0, 2):
        (line,) = job.stderr(rank)
        assert line.startswith(ended(rank, "gather vectors"))


@pytest.mark.parametrize("operation", ["any", "gather", "wait"])
def test_a_process_that_hangs_is_given_up_after_the_timeout(job: Job, operation: str) -> None:
    job.start(f"stopped:{operation}", size=3, timeout_s=4)
    assert job.codes(0, 2) == [1, 1]
    assert job.processes[1].is_alive()
    lines = [line for rank in (0, 2) for line in job.stderr(rank)]
    assert len(lines) == 2
    # Whoever gives up second may see that the first has done so.
    assert any("has not answered for 4 s (train.peer_timeout_s)" in line for line in lines)
    assert all(line.startswith("PeerError: rank ") and line.endswith(ADVICE) for line in lines)


@pytest.mark.parametrize(("culprit", "codes"), [(0, [-9, 1, 1]), (1, [0, -9, 1])])
def test_at_the_very_end_only_rank_0_can_do_without_the_others(job: Job, culprit: int, codes: list[int]) -> None:
    job.start(f"last:{culprit}", size=3, timeout_s=300)
    assert job.codes() == codes
    assert [len(job.stderr(rank)) for rank in range(3)] == [int(code == 1) for code in codes]


def test_every_process_says_that_one_was_started_with_something_else(job: Job) -> None:
    job.start("differ", size=3)
    assert job.codes() == [2, 2, 2]
    said = "rank 1 was started with train.batch_size = 8, rank 0 with 16; start all ranks with the same recipe"
    assert [job.stderr(rank) for rank in range(3)] == [[f"UsageError: {said}"]] * 3


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ({"a": 1, "b": {"c": [1, 2]}}, {"b": {"c": [1, 2]}, "a": 1}, None),
        ({"b": {"c": [1, {"d": 2}]}}, {"b": {"c": [1, {"d": 3}]}}, ("b.c.1.d", "2", "3")),
        ({"a": [1]}, {"a": [1, 2]}, ("a.1", "nothing", "2")),
        ({"a": 1}, {}, ("a", "1", "nothing")),
        ({"a": None}, {}, ("a", "null", "nothing")),
        ({"a": True}, {"a": 1}, ("a", "true", "1")),
        ({"a": {}}, {"a": []}, ("a", "{}", "[]")),
        ({"a": "é"}, {"a": "e"}, ("a", '"é"', '"e"')),
        ({"a": float("nan")}, {"a": float("nan")}, None),
    ],
)
def test_the_first_difference_is_named_by_its_path(
    ours: dict[str, Any], theirs: dict[str, Any], expected: tuple[str, str, str] | None
) -> None:
    assert _first_difference(ours, theirs) == expected


@pytest.mark.parametrize("rank", [0, 1])
def test_processes_that_do_not_come_are_not_waited_for_forever(job: Job, rank: int) -> None:
    job.start("alone", size=2, timeout_s=2, ranks=[rank])
    assert job.codes() == [1]
    last = job.stderr(rank)[-1]
    assert last.startswith(f"PeerError: rank {rank} did not meet the other processes of the job at 127.0.0.1:")
    assert "within 2 s (train.peer_timeout_s): " in last
    assert last.endswith(". Start all 2, with an address that each can reach")


def test_an_occupied_port_is_named(job: Job) -> None:
    with closing(socket.socket()) as occupant:
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        job.start("alone", size=2, ranks=[0], port=occupant.getsockname()[1])
        assert job.codes() == [1]
    (line,) = job.stderr(0)
    assert "address already in use" in line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RANK": None}, "RANK is not set; start them with torchrun, or unset WORLD_SIZE"),
        ({"RANK": "one"}, "RANK is 'one'"),
        ({"WORLD_SIZE": "-2"}, "WORLD_SIZE is '-2'"),
        ({"RANK": "2"}, "RANK is not below WORLD_SIZE"),
        ({"LOCAL_RANK": None}, "LOCAL_RANK is not set"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR is not set"),
        ({"MASTER_PORT": ""}, "MASTER_PORT is ''"),
    ],
)
def test_an_environment_that_torchrun_does_not_make_is_refused(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], message: str
) -> None:
    sound = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in {**sound, **changes}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=message), start_world("cpu", timeout_s=1):
        pass


def test_each_process_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _own_device("cpu", 3) == torch.device("cpu")
    with pytest.raises(UsageError, match="device 'cuda:0' is not available here"):
        _own_device("cuda", 0)
    monkeypatch.setattr("pairloom.train.world.pick_device", torch.device)  # as on a machine with two GPUs
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert _own_device(None, 1) == _own_device("cuda", 1) == torch.device("cuda", 1)
    with pytest.raises(UsageError, match=r"no GPU for process 3 of this machine, which has 2: .*--nproc-per-node 2"):
        _own_device("cuda", 2)
    for shared in ("cuda:1", "mps"):
        with pytest.raises(UsageError, match=f"several processes cannot share the device '{shared}'"):
            _own_device(shared, 0)


def test_torchrun_shows_the_message_of_the_process_that_failed_and_leaves_none_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tests.train.world_jobs", "raised:sum", str(tmp_path), "300"]
    done = subprocess.run(
        command, env=environment(PYTHONWARNINGS="default"), cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode != 0
    assert "TrainingError: the disk of rank 1 is full" in done.stderr
    assert "rank      : 1" in done.stderr.partition("Root Cause")[2]
    workers = [int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")]
    assert len(workers) == 2
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_a_peer_error_is_a_training_error_and_the_timeout_is_a_setting() -> None:
    assert issubclass(PeerError, TrainingError)
    assert TrainSection(steps=1, warmup_steps=0).peer_timeout_s == 600
