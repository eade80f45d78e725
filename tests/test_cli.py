"""The command line, in processes of its own: the whole way on a small scale, and one sentence for each mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pairloom import __version__, cli
from pairloom.artifacts import new_artifact
from tests.conftest import make_pairs, make_shards

COMMANDS = ("demo", "prepare", "train", "evaluate", "encode", "search", "info")


def run(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "100", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pairloom", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env=environment,
    )


def good(*words: object, cwd: Path | None = None) -> str:
    done = run(*words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def facts(*words: object, cwd: Path | None = None) -> Any:
    """What a command prints with --json, which must be JSON and nothing else."""
    return json.loads(good(*words, "--json", cwd=cwd))


def bad(*words: object, code: int = 1, cwd: Path | None = None) -> str:
    done = run(*words, cwd=cwd)
    assert done.returncode == code, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr.strip().splitlines()[-1]


@pytest.fixture
def pair_file(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(json.dumps(pair) for pair in make_pairs(120)))
    return file


def test_the_whole_way(pair_file: Path, model_folder: Path, tmp_path: Path) -> None:
    """A smoke test of all stages as a user would type them."""
    prepared = facts(
        "prepare", "pair-files", pair_file, "--out", "pairs", "--holdout", 20, "--holdout-out", "task", cwd=tmp_path
    )
    assert prepared["num_rows"] == 100
    settings = ["--set", f"model.base={model_folder}", "--set", "train.steps=12", "--set", "train.batch_size=16"]
    settings += ["--set", "train.warmup_steps=2", "--set", "train.learning_rate=1e-3"]
    settings += ["--set", "data.anchor_max_tokens=32", "--set", "data.positive_max_tokens=32"]
    trained = facts("train", "adapt", "--out", "model", *settings, cwd=tmp_path)
    assert [evaluation["step"] for evaluation in trained["evaluations"]] == [0, 12]
    (measured,) = facts("evaluate", "model", "task", "--baseline", model_folder, cwd=tmp_path)
    assert measured["metrics"]["nDCG@10"]["value"] == pytest.approx(
        trained["evaluations"][-1]["metrics"]["nDCG@10"]["value"]
    )
    encoded = facts("encode", "model", "task", "--out", "vectors", cwd=tmp_path)
    assert encoded["fingerprint"] == trained["fingerprint"]
    hits = facts("search", "vectors", "coffee", "-k", 3, cwd=tmp_path)
    assert len(hits) == 3
    assert hits[0]["text"] in good("search", "vectors", "coffee", cwd=tmp_path)
    for folder, kind in (("pairs", "shards"), ("task", "task"), ("model", "model"), ("vectors", "vectors")):
        assert facts("info", folder, cwd=tmp_path)["kind"] == kind
    assert "made by" in bad("search", "vectors", "coffee", "--model", model_folder, cwd=tmp_path)


def test_help_has_an_example_of_every_command() -> None:
    for command in COMMANDS:
        assert f"Example: pairloom {command}" in " ".join(good(command, "--help").replace("│", " ").split()), command


def test_version() -> None:
    assert good("--version") == f"pairloom {__version__}\n"


def test_the_sources_are_listed() -> None:
    listed = {source["source"]: source for source in facts("prepare", "--list")}
    assert {"stackexchange", "reddit", "python-docs", "pair-files"} <= set(listed)
    assert listed["stackexchange"]["views"]["title-body"]["num_published"] == 25_316_456
    shown = good("prepare", "--list")
    for source in listed.values():
        assert source["source"] in shown
        assert all(view in shown for view in source["views"])


def test_a_task_is_excluded_and_broken_records_are_told(tmp_path: Path) -> None:
    rows = [json.dumps([f"Anchor {number}", f"positive {number}"]) for number in range(10)]
    (tmp_path / "pairs.jsonl").write_text("\n".join([*rows, '["half a', "[1, 2]"]))
    (tmp_path / "dev.tsv").write_text("score\tsentence1\tsentence2\n1\tanchor 3\tx\n0\ty\tPOSITIVE 7\n")
    words = ("prepare", "pair-files", "pairs.jsonl", "--exclude", "dev.tsv", "--set", "pair-files.max_broken_records=2")
    done = run(*words, "--out", "out", cwd=tmp_path)
    assert done.returncode == 0
    assert "wrote 8 pairs to out" in done.stderr
    assert "dropped 2: a text of it occurs in the excluded task dev.tsv" in done.stderr
    assert "warning: 2 broken records were left out: pairs.jsonl, line 11: not JSON" in done.stderr
    assert "pairs.jsonl, line 12: text 1 is a number, not a text" in done.stderr
    assert "nothing.tsv: no such file" in bad(*words[:3], "--exclude", "nothing.tsv", "--out", "more", cwd=tmp_path)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["prepare"], "say which SOURCE to read"),
        (["prepare", "usenet", "x", "--out", "y"], "there is no source usenet"),
        (["prepare", "pair-files", "--out", "y"], "needs an input"),
        (["prepare", "pair-files", "x", "--out", "y", "--view", "z"], "has no view z; it has pairs, triplets"),
        (["prepare", "pair-files", "x", "--out", "y", "--holdout", "3"], "needs both"),
        (["prepare", "pair-files", "x", "--out", "y", "--set", "pair-files.x=1"], "pair-files.x is not a setting"),
        (["train", "adapt", "--out", "y", "--set", "train.steps=0"], "train.steps = 0"),
        (["train", "nothing", "--out", "y"], "no such recipe"),
    ],
)
def test_mistakes_in_the_command_exit_with_2(words: list[str], expected: str, tmp_path: Path) -> None:
    assert expected in bad(*words, code=2, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["prepare", "pair-files", "nothing.jsonl", "--out", "y"], "nothing.jsonl: no such file"),
        (["train", "adapt", "--out", "y"], "pairs: no such folder"),
        (["evaluate", "nothing/here", "nothing"], "nothing: no such"),
        (["encode", "no/model", "in.txt", "--out", "y"], "no/model: no such folder"),
        (["search", "nothing", "query"], "nothing: no such folder"),
        (["info", "nothing"], "nothing: no such folder"),
    ],
)
def test_what_is_missing_exits_with_1(words: list[str], expected: str, tmp_path: Path) -> None:
    assert expected in bad(*words, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damage_is_found_by_info(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "pairs", make_pairs(9))
    part = shards / "part-00000.arrow"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    assert "part-00000.arrow: its content has changed" in bad("info", shards)


def test_info_shows_what_is_in_shards(model_folder: Path, tmp_path: Path) -> None:
    make_shards(tmp_path / "pairs", make_pairs(30))
    words = ("info", "pairs", "--model", model_folder, "--seed", 7)
    done = run(*words, "--plot", "lengths.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pairs: shards, whole" in done.stderr
    assert "drew lengths.png" in done.stderr
    assert (tmp_path / "lengths.png").read_bytes().startswith(b"\x89PNG")
    found = facts(*words, cwd=tmp_path)
    assert (found["kind"], found["num_rows"]) == ("shards", 30)
    statistics = found["statistics"]
    assert statistics["tokens"]["max_tokens"] == 64
    assert statistics["tokens"]["columns"]["anchor"]["cut"] == {"64": 0.0, "128": 0.0}
    assert statistics["seed"] == 7
    for sample in statistics["samples"]:
        assert make_pairs(30)[sample["row"]] == (sample["anchor"], sample["positive"])
        assert f"row {sample['row']}" in done.stdout
    assert str(statistics["characters"]["positive"]["p95"]) in done.stdout


def test_info_does_without_tokens_where_no_model_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_DEFAULT_MODEL", "a-package-that-nobody-installed")
    shards = make_shards(tmp_path / "pairs", make_pairs(9))
    cli.info(shards, as_json=True)
    assert json.loads(capsys.readouterr().out)["statistics"]["tokens"] is None
    cli.info(shards)
    assert "name the model whose tokens are to be counted with --model" in " ".join(capsys.readouterr().out.split())


def test_info_counts_tokens_beyond_the_limit_of_the_model(model_folder: Path, tmp_path: Path) -> None:
    make_shards(tmp_path / "pairs", [("coffee " * 500, "water")])
    tokens = facts("info", "pairs", "--model", model_folder, cwd=tmp_path)["statistics"]["tokens"]["columns"]
    assert tokens["anchor"]["max"] == 502
    assert tokens["anchor"]["cut"] == {"64": 1.0, "128": 1.0}
    assert tokens["positive"]["max"] == 3


def test_info_refuses_what_it_cannot_do_before_it_reads(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "pairs", make_pairs(9))
    (shards / "part-00000.arrow").write_bytes(bytes((shards / "part-00000.arrow").stat().st_size))
    assert "a picture is a PNG" in bad("info", shards, "--plot", "lengths.pdf", code=2)
    assert "there is no folder" in bad("info", shards, "--plot", tmp_path / "no" / "a.png")
    assert "no/model: no such folder" in bad("info", shards, "--model", "no/model")
    assert "its content has changed" in bad("info", shards, "--plot", tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_info_of_other_kinds_takes_no_options_of_shards(tmp_path: Path) -> None:
    with new_artifact(tmp_path / "task", "task"):
        pass
    for words in (["--plot", "a.png"], ["--model", "m"], ["--seed", "0"]):
        assert "are for shards, and this is of the kind task" in bad("info", "task", *words, code=2, cwd=tmp_path)
    assert facts("info", "task", cwd=tmp_path)["kind"] == "task"


def test_a_truncated_text_is_said(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("coffee " * 100 + "\nwater\n")
    done = run("encode", model_folder, "a.txt", "--out", "vectors", cwd=tmp_path)
    assert done.returncode == 0
    assert "1 of 2 texts were longer than 64 tokens and were cut" in done.stderr


def test_an_interrupted_command_leaves_nothing_half_made(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("coffee and water\n" * 400_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "pairloom", "encode", str(model_folder), "a.txt", "--out", "vectors"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(tmp_path.glob(".vectors.partial-*")):
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "interrupted" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_square_brackets_in_names_are_letters(pair_file: Path, tmp_path: Path) -> None:
    done = run(
        "prepare", "pair-files", pair_file, "--out", "x[/b]", "--holdout", 2, "--holdout-out", "[red]", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "pairs to x[/b]" in done.stderr
    assert "held out in [red]" in done.stderr
    assert "x[/b]: shards, whole" in run("info", "x[/b]", cwd=tmp_path).stderr


def test_a_task_inside_the_shards_is_refused_at_once(pair_file: Path, tmp_path: Path) -> None:
    words = ["prepare", "pair-files", pair_file, "--out", "t/o", "--holdout", "2", "--holdout-out", "t"]
    assert "not one inside the other" in bad(*words, code=2, cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]


@pytest.mark.parametrize("name", ["link", "dangling", "loop"])
def test_links_are_followed_or_refused_before_the_work(pair_file: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("new")
    (tmp_path / "loop").symlink_to("loop")
    if name == "loop":
        assert "cannot be the name of a folder" in bad("prepare", "pair-files", pair_file, "--out", name, cwd=tmp_path)
    else:
        good("prepare", "pair-files", pair_file, "--out", name, cwd=tmp_path)
        assert facts("info", name, cwd=tmp_path)["num_rows"] == 120
