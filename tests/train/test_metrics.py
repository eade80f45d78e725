from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pairloom.train.metrics import MetricsLog, first_and_last, losses_by_dataset


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    assert log.records() == []
    log.append(step=1, loss=0.5, datasets={"a \u2028 é": {"loss": 0.5}})
    log.append(step=2, loss=float("inf"))
    assert log.records() == [
        {"step": 1, "loss": 0.5, "datasets": {"a \u2028 é": {"loss": 0.5}}},
        {"step": 2, "loss": float("inf")},
    ]


@pytest.mark.parametrize(
    "broken",
    [
        b'{"step": 2, "lo',
        b"",
        b"\xff\xfe",
        b'{"step": 2}, {"step": 3}',
        b'{"step": 2, "a": [1',
        b"7",
        b'{"step": "2"}',
        b"[" * 100_000,
    ],
)
def test_a_broken_line_is_passed_over_and_the_others_are_kept(tmp_path: Path, broken: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 2}\n' + broken + b'\n{"step": 4, "b": [2]}\n')
    assert MetricsLog(path).records() == [{"step": 1, "loss": 2}, {"step": 4, "b": [2]}]


def test_lines_that_are_json_only_together_are_not_taken_for_records(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "a": [1\n2]}\n{"step": 3}\n')
    assert MetricsLog(path).records() == [{"step": 3}]


def test_a_file_of_many_blocks_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step, "text": "x" * 500}) + "\n" for step in range(5000)))
    assert [record["step"] for record in MetricsLog(path).records()] == list(range(5000))


def test_losses_of_each_dataset_in_both_forms() -> None:
    records: list[dict[str, Any]] = [
        {"step": 1, "loss": 4.0, "dataset": "a"},
        {"step": 2, "loss": 9.0, "dataset": "a + b"},
        {"step": 3, "loss": 3.0, "dataset": "c + d"},
        {"step": 4, "evaluation": {}},
        {"step": 5, "loss": 2.5, "datasets": {"a": {"pairs": 2, "loss": 2.0}, "c + d": {"pairs": 2, "loss": 3.0}}},
        {"step": 6, "loss": 1.0, "datasets": {"a": {"pairs": 2}, "unknown": {"loss": 1.0}, "c + d": None}},
        {"step": 7, "loss": 1.0},
    ]
    found = losses_by_dataset(records, ["a", "b", "c + d"])
    as_lists = {name: (steps.tolist(), losses.tolist()) for name, (steps, losses) in found.items()}
    assert as_lists == {"a": ([1, 5], [4.0, 2.0]), "b": ([], []), "c + d": ([3, 5], [3.0, 3.0])}


def test_first_and_last_means_by_hand() -> None:
    assert first_and_last(np.array([5.0])) == (5.0, 5.0, 1)
    assert first_and_last(np.array([5.0, 3, 1])) == (5.0, 1.0, 1)
    assert first_and_last(np.arange(100.0)) == (4.5, 94.5, 10)
