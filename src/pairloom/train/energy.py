"""The energy that processors and memory took, from counters of their own (RAPL), where the system lets us read them."""

from __future__ import annotations

from pathlib import Path


class EnergyMeter:
    """Reads the counters of this machine; they count all that runs on it.

    Args:
        folder: Where Linux shows them; the counters are those of whole processors and of memory that counts by itself.
    """

    def __init__(self, folder: Path = Path("/sys/class/powercap")) -> None:
        self._files: list[Path] = []
        self._ranges: list[int] = []  # after so many microjoules they begin anew
        try:
            for zone in sorted(folder.glob("intel-rapl:*")):  # AMD's are called so, too
                name = (zone / "name").read_text().strip()
                if name.startswith("package") or name == "dram":
                    self._files.append(zone / "energy_uj")
                    self._ranges.append(int((zone / "max_energy_range_uj").read_text()))
        except (OSError, ValueError):
            self._files.clear()
        self.start()

    def start(self) -> None:
        """Begins to count; the energy must be asked for before a counter has gone round, which takes minutes."""
        self._begin = self._read()

    def joules(self) -> float | None:
        """Since the start; None where nobody knows."""
        now = self._read()
        if not now or not self._begin:
            return None
        return sum((b - a) % limit for a, b, limit in zip(self._begin, now, self._ranges, strict=True)) / 1e6

    def _read(self) -> list[int]:
        try:
            return [int(file.read_text()) for file in self._files]
        except (OSError, ValueError):  # mostly that only root may
            return []
