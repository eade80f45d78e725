from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pairloom import __version__
from pairloom.train.facts import device_memory, device_name, run_facts, training_joules, training_seconds

CPU = torch.device("cpu")


def test_time_is_what_the_steps_took() -> None:
    records = [
        {"step": 0, "evaluation": {}},
        {"step": 1, "pairs_per_s": 4.0, "datasets": {"a": {"pairs": 8}}},
        {"step": 2, "pairs_per_s": 2.0, "datasets": {"a": {"pairs": 4}, "b": {"pairs": 4}}},
        {"step": 3, "skipped": "the loss is nan"},
        {"step": 4, "pairs_per_s": 0.0, "datasets": {"a": {"pairs": 8}}},
    ]
    assert training_seconds(records) == 8 / 4 + 8 / 2
    assert training_seconds([]) == 0


def test_energy_is_known_only_if_every_step_tells() -> None:
    steps: list[dict[str, Any]] = [{"step": step, "loss": 1.0, "energy_j": 40.5 * step} for step in (1, 2)]
    records = [{"step": 0, "evaluation": {}}, *steps, {"step": 3, "skipped": "the loss is nan"}]
    assert training_joules(records) == 121.5
    assert training_joules([*records, {"step": 4, "loss": 1.0}]) is None
    assert training_joules([]) is None
    assert run_facts("base", records, device=CPU, num_devices=1)["energy_wh"] == 0.0338
    assert "energy_wh" not in run_facts("base", [], device=CPU, num_devices=1)


def test_the_processor_has_its_name(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nmodel name\t: Fast  Chip(R) 9\n\nprocessor\t: 1\nmodel name\t: Fast  Chip(R) 9\n"
    )
    assert device_name(CPU, cpuinfo).startswith("Fast Chip(R) 9, ")
    assert device_name(CPU, cpuinfo).endswith((" core", " cores"))
    assert ", " in device_name(CPU, tmp_path / "nothing")


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_the_limit_of_a_container_is_the_memory(tmp_path: Path, name: str) -> None:
    whole = device_memory(CPU, tmp_path)
    assert whole > 2**20
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("max\n")
    assert device_memory(CPU, tmp_path) == whole
    (tmp_path / name).write_text("1048576\n")
    assert device_memory(CPU, tmp_path) == 2**20


def test_the_facts_of_a_run(model_folder: Path) -> None:
    records = [{"step": 1, "memory_bytes": 5}, {"step": 2, "memory_bytes": 9}, {"step": 3}]
    facts = run_facts(
        str(model_folder),
        records,
        device=CPU,
        num_devices=2,
        command=["pairloom", "train", "my recipe", "--out", "it's"],
    )
    assert facts["hardware"]["num_devices"] == 2
    assert facts["hardware"]["peak_memory_bytes"] == 9
    assert facts["command"] == """pairloom train 'my recipe' --out 'it'"'"'s'"""
    assert facts["versions"]["pairloom"] == __version__
    assert facts["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert facts["base_on_hub"] is None, "a folder is no name on the hub"
    assert "command" not in run_facts(str(model_folder), [], device=CPU, num_devices=1)
