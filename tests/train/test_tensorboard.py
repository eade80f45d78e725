from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pairloom.train.tensorboard import TensorBoardLog

RECORDS: list[dict[str, Any]] = [
    {
        "step": step,
        "loss": 1 / step,
        "learning_rate": 1e-5,
        "datasets": {"a b": {"pairs": 3, "loss": 0.5}},
        "dataset": "a",
        "utilisation": float("nan"),
        "memory_bytes": None,
    }
    for step in range(1, 7)
]
EVALUATION: dict[str, Any] = {
    "step": 3,
    "evaluation": {"task": "faq", "metrics": {"nDCG@10": {"value": 0.5, "interval": [0.25, 0.75], "difference": 0.1}}},
}


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the extra test is not installed"
    )
    events = accumulators.EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_reads_what_was_recorded(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    with TensorBoardLog(tmp_path) as log:
        for record in [*RECORDS[:3], EVALUATION]:
            log.write(record)
    found = read(tmp_path)
    assert found["train/loss"] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert found["datasets/a_b/pairs"] == [(1, 3.0), (2, 3.0), (3, 3.0)]
    assert found["evaluation/faq/nDCG_10"] == [(3, 0.5)]
    assert found["evaluation/faq/nDCG_10_low"] == [(3, 0.25)]
    assert sorted(found) == [
        "datasets/a_b/loss",
        "datasets/a_b/pairs",
        "evaluation/faq/nDCG_10",
        "evaluation/faq/nDCG_10_high",
        "evaluation/faq/nDCG_10_low",
        "train/learning_rate",
        "train/loss",
    ]


def test_a_resumed_run_draws_no_step_twice(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    with TensorBoardLog(tmp_path) as log:
        for record in RECORDS[:4]:
            log.write(record)
    with TensorBoardLog(tmp_path, resume_after=2) as log:
        for record in RECORDS[2:]:
            log.write({**record, "loss": 7.0})
    assert read(tmp_path)["train/loss"] == [(1, 1.0), (2, 0.5), (3, 7.0), (4, 7.0), (5, 7.0), (6, 7.0)]


def test_the_extra_is_named_when_it_is_missing(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from typing import Any
from pairloom.errors import MissingExtraError
from pairloom.train.tensorboard import TensorBoardLog
sys.modules["tensorboardX"] = None
try:
    TensorBoardLog(Path(sys.argv[1]))
except MissingExtraError as error:
    print(error)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    needs = "train.tensorboard needs tensorboardX, which is not installed: pip install 'pairloom[tensorboard]'"
    assert done.stdout.strip() == needs
    assert list(tmp_path.iterdir()) == []
