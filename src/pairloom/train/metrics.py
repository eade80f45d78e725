"""``metrics.jsonl``: a line a step and a line an evaluation, for programs to plot and for the model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class MetricsLog:
    """Appends records to a file of JSON lines; a line that a crash left half-written is passed over on reading.

    Args:
        path: The file; made at the first record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, **values: Any) -> None:
        """Writes a record."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """All records, in order."""
        found = []
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                if isinstance(record, dict) and isinstance(record.get("step"), int):
                    found.append(record)
        return found

    def go_back_to(self, step: int, *, steps: int) -> None:
        """Drops what was recorded after a checkpoint, because it will be recorded again.

        Args:
            step: Of the checkpoint.
            steps: Of the whole run; the evaluation at its end is always done again.
        """
        kept = [
            record
            for record in self.records()
            if record["step"] < step or (record["step"] == step and not ("evaluation" in record and step == steps))
        ]
        beside = self.path.with_name(self.path.name + ".new")
        beside.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        beside.replace(self.path)
