"""What memory is free, told from files as Linux writes them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from pairloom.train import memory
from pairloom.train.memory import free_memory, graph_memory, peak_memory

MIB = 2**20


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    """A machine with 1,000 MiB that can be had."""
    path = tmp_path / "meminfo"
    path.write_text(f"MemTotal: {4000 * 1024} kB\nMemFree: {10 * 1024} kB\nMemAvailable:  {1000 * 1024} kB\n")
    return path


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    path = tmp_path / "cgroup"
    path.mkdir()
    return path


def limit_2(cgroup: Path, limit: object, used: int, stat: str | None = None) -> None:
    (cgroup / "memory.max").write_text(f"{limit}\n")
    (cgroup / "memory.current").write_text(f"{used}\n")
    if stat is not None:
        (cgroup / "memory.stat").write_text(stat)


def limit_1(cgroup: Path, limit: object, used: int, stat: str | None = None) -> None:
    (cgroup / "memory").mkdir()
    (cgroup / "memory" / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (cgroup / "memory" / "memory.usage_in_bytes").write_text(f"{used}\n")
    if stat is not None:
        (cgroup / "memory" / "memory.stat").write_text(stat)


def test_without_a_container_it_is_what_the_machine_has(cgroup: Path, meminfo: Path) -> None:
    assert free_memory(cgroup, meminfo) == 1000 * MIB
    assert free_memory(cgroup / "none", meminfo) == 1000 * MIB


def test_within_a_container_it_is_what_is_left_of_the_limit(cgroup: Path, meminfo: Path) -> None:
    limit_2(cgroup, 700 * MIB, 300 * MIB)
    assert free_memory(cgroup, meminfo) == 400 * MIB


def test_within_an_older_container(cgroup: Path, meminfo: Path) -> None:
    limit_1(cgroup, 500 * MIB, 450 * MIB)
    assert free_memory(cgroup, meminfo) == 50 * MIB


@pytest.mark.parametrize("stat", ["anon 5\nactive_file 1048576\ninactive_file 2097152\nshmem 9\n", "anon 5\n", None])
def test_files_that_were_read_are_not_used_up(cgroup: Path, meminfo: Path, stat: str | None) -> None:
    limit_2(cgroup, 700 * MIB, 300 * MIB, stat)
    assert free_memory(cgroup, meminfo) == (403 if stat and "file" in stat else 400) * MIB


def test_files_that_were_read_in_an_older_container(cgroup: Path, meminfo: Path) -> None:
    stat = "inactive_file 1\ntotal_active_file 1048576\ntotal_inactive_file 2097152\n"
    limit_1(cgroup, 700 * MIB, 300 * MIB, stat)
    assert free_memory(cgroup, meminfo) == 403 * MIB


def test_no_limit_is_none(cgroup: Path, meminfo: Path) -> None:
    limit_2(cgroup, "max", 300 * MIB)
    limit_1(cgroup, 9223372036854771712, 450 * MIB)
    assert free_memory(cgroup, meminfo) == 1000 * MIB


def test_a_limit_above_what_the_machine_has_does_not_count(cgroup: Path, meminfo: Path) -> None:
    limit_2(cgroup, 9000 * MIB, 300 * MIB)
    assert free_memory(cgroup, meminfo) == 1000 * MIB


def test_who_has_gone_beyond_the_limit_has_nothing(cgroup: Path, meminfo: Path) -> None:
    limit_2(cgroup, 300 * MIB, 301 * MIB)
    assert free_memory(cgroup, meminfo) == 0


def test_other_systems_are_taken_to_have_half_of_their_memory(cgroup: Path, tmp_path: Path) -> None:
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    assert free_memory(cgroup, tmp_path / "none") == half
    (tmp_path / "old").write_text("MemTotal: 5 kB\n")
    assert free_memory(cgroup, tmp_path / "old") == half


def test_graphs_get_half_of_the_hosts_memory_shared_by_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 800 * MIB)
    assert graph_memory(torch.device("cpu"), num_processes=1) == 400 * MIB
    assert graph_memory(torch.device("cpu"), num_processes=4) == 100 * MIB


def test_graphs_get_most_of_a_gpus_memory_and_what_torch_holds_in_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (600 * MIB, 1000 * MIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 300 * MIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100 * MIB)
    assert graph_memory(torch.device("cuda", 0), num_processes=8) == int(0.85 * 800 * MIB)


@pytest.mark.skipif(sys.platform != "linux", reason="what is held now is told by Linux's files")
def test_the_peak_is_in_bytes_and_not_below_what_is_held() -> None:
    held = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert held * 0.99 <= peak_memory(torch.device("cpu")) < 100 * held


def test_the_real_files_are_read() -> None:
    assert 0 < free_memory() < 2**50
