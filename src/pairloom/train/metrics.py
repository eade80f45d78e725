"""``metrics.jsonl``: a line a step and a line an evaluation, for programs to plot and for the model card."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# Lines parsed at once: their records share the strings of their keys, of which a long run would have millions.
_READ_BYTES = 1 << 20


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
        found: list[dict[str, Any]] = []
        if self.path.is_file():
            with self.path.open("rb") as stream:
                while lines := stream.readlines(_READ_BYTES):
                    found.extend(
                        record
                        for record in _parse(lines)
                        if isinstance(record, dict) and isinstance(record.get("step"), int)
                    )
        return found

    def go_back_to(self, step: int) -> None:
        """Drops what will be recorded again: what came after a checkpoint, and the evaluation at its step.

        Args:
            step: Of the checkpoint.
        """
        kept = [
            record
            for record in self.records()
            if record["step"] < step or (record["step"] == step and "evaluation" not in record)
        ]
        beside = self.path.with_name(self.path.name + ".new")
        beside.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        beside.replace(self.path)


def losses_by_dataset(
    records: Iterable[dict[str, Any]], names: Collection[str]
) -> dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    """Where each dataset took part, and what its loss was there.

    Runs of earlier versions say of which datasets a batch came, joined by " + ", and only the loss of the whole batch;
    where there are several, nobody knows whose it is.

    Args:
        records: Lines of ``metrics.jsonl``.
        names: Of the datasets.

    Returns:
        For each name the steps and the losses, [times it took part].
    """
    known: dict[str, tuple[list[int], list[float]]] = {name: ([], []) for name in names}
    for record in records:
        parts = record.get("datasets")
        if not isinstance(parts, dict):
            name = record.get("dataset")
            parts = {name: record} if isinstance(name, str) else {}
        for name, part in parts.items():
            if name in known and isinstance(part, dict) and isinstance(loss := part.get("loss"), int | float):
                steps, losses = known[name]
                steps.append(record["step"])
                losses.append(loss)
    return {
        name: (np.array(steps, dtype=np.int64), np.array(losses, dtype=np.float64))
        for name, (steps, losses) in known.items()
    }


def first_and_last(losses: npt.NDArray[np.float64]) -> tuple[float, float, int]:
    """The mean over the first and over the last few losses, at most ten and at most half of all; and how many that is.

    Args:
        losses: At least one.
    """
    span = max(1, min(10, len(losses) // 2))
    return float(np.mean(losses[:span])), float(np.mean(losses[-span:])), span


def _parse(lines: list[bytes]) -> list[Any]:
    """The values of the lines that are JSON; all lines are parsed together, unless one of them is broken."""
    try:
        values = json.loads(b"[" + b",".join(lines) + b"]")
    except (ValueError, RecursionError):
        values = []
    if len(values) == len(lines):
        return list(values)
    values = []
    for line in lines:
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return values
