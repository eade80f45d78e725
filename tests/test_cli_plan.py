"""`pairloom train --plan`, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import make_pairs, make_shards
from tests.test_cli import bad, facts, run

SMALL = ["--set", "train.steps=5", "--set", "train.batch_size=8", "--set", "train.warmup_steps=0"]


def test_a_plan_exits_with_0_when_all_is_there_and_with_1_when_not(model_folder: Path, tmp_path: Path) -> None:
    words = ["train", "adapt", "--plan", *SMALL, "--set", f"model.base={model_folder}", "--set", "evaluate.tasks=[]"]
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert "missing: shards of your own: 1 dataset (pairs)" in done.stdout
    make_shards(tmp_path / "pairs", make_pairs(40))
    before = sorted(tmp_path.rglob("*"))
    done = run(*words, "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "all that the run needs is here" in done.stdout
    assert "measuring how fast this machine trains" in done.stderr
    told = facts(*words, "--out", "deep/model", cwd=tmp_path)
    assert (told["ready"], told["volume"]["num_pairs"], told["mixture"]["steps"]) == (True, 40, 5)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_plan_in_json_says_what_is_missing(tmp_path: Path) -> None:
    done = run("train", "adapt", "--plan", "--json", "--set", "model.base=owner/name", cwd=tmp_path)
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["base"]["found"] == "hub"
    assert len(told["missing"]) == 3
    assert list(tmp_path.iterdir()) == []


def test_mistakes_in_the_command(tmp_path: Path) -> None:
    assert "say where to write the model with --out" in bad("train", "adapt", code=2, cwd=tmp_path)
    assert "leave --resume out" in bad("train", "adapt", "--plan", "--resume", code=2, cwd=tmp_path)
    assert "device 'abacus' is not available" in bad(
        "train", "adapt", "--plan", "--device", "abacus", code=2, cwd=tmp_path
    )
    assert list(tmp_path.iterdir()) == []
