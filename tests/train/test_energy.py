from __future__ import annotations

from pathlib import Path

import pytest

from pairloom.train.energy import EnergyMeter

ZONES = {
    "intel-rapl:0": ("package-0", 5_000_000),
    "intel-rapl:0:0": ("core", 4_000_000),
    "intel-rapl:0:1": ("dram", 100),
    "intel-rapl:1": ("package-1", 9_999_000),
    "intel-rapl:2": ("psys", 7_000_000),
    "intel-rapl-mmio:0": ("package-0", 5_000_000),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for zone, (name, energy) in ZONES.items():
        (tmp_path / zone).mkdir()
        for file, value in (("name", name), ("energy_uj", energy), ("max_energy_range_uj", 10_000_000)):
            (tmp_path / zone / file).write_text(f"{value}\n")
    return tmp_path


def test_processors_and_memory_are_added_up_also_where_a_counter_goes_round(folder: Path) -> None:
    meter = EnergyMeter(folder)
    assert meter.joules() == 0
    for zone, energy in (("0", 7_500_000), ("0:0", 6_000_000), ("0:1", 200_100), ("1", 999_000), ("2", 9_000_000)):
        (folder / f"intel-rapl:{zone}" / "energy_uj").write_text(f"{energy}\n")
    assert meter.joules() == 3.7
    meter.start()
    assert meter.joules() == 0


def test_where_nobody_tells_nothing_is_known(folder: Path, tmp_path: Path) -> None:
    assert EnergyMeter(tmp_path / "elsewhere").joules() is None
    (folder / "intel-rapl:1" / "energy_uj").unlink()
    assert EnergyMeter(folder).joules() is None, "one processor is not told for two"
