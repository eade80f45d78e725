"""``pairloom encode`` and ``merge``, as a user types them: gone on with, divided, interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pairloom import Encoder
from pairloom.encode.vectors import VectorSet
from tests.encode.jobs import content, make_texts, write_texts
from tests.test_cli import bad, facts, good, run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """More than two blocks of short texts."""
    return write_texts(tmp_path / "texts.jsonl", make_texts(9000))


def test_parts_are_merged_to_what_one_command_makes(source: Path, model_folder: Path, tmp_path: Path) -> None:
    words = ("encode", model_folder, source, "--store", "int8", "--precision", "float32")
    whole = facts(*words, "--out", "whole", cwd=tmp_path)
    assert (whole["count"], whole["storage"]) == (9000, "int8")
    parts = [facts(*words, "--shard", f"{part}/2", "--out", f"part-{part}", cwd=tmp_path) for part in (1, 2)]
    assert [part["count"] for part in parts] == [4096 + 808, 4096]
    assert "these are missing: 2" in bad("merge", "part-1", "--out", "merged", cwd=tmp_path)
    assert facts("merge", "part-2", "part-1", "--out", "merged", cwd=tmp_path)["count"] == 9000
    assert content(tmp_path / "merged") == content(tmp_path / "whole")
    assert "part 1 of 2 of a job; join all of them" in bad("search", "part-1", "coffee", cwd=tmp_path)
    assert "whole" in run("info", "part-1", cwd=tmp_path).stderr


def test_several_inputs_and_fields(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,body\nx,coffee\ny,water\n")
    (tmp_path / "b.jsonl").write_text(json.dumps({"name": "z", "body": "how do i brew"}))
    words = ("encode", model_folder, "a.csv", "b.jsonl", "--field", "body", "--id-field", "name", "--out", "vectors")
    found = facts(*words, "--precision", "float32", "--device", "cpu", cwd=tmp_path)
    assert (found["count"], found["input"]) == (3, "a.csv, b.jsonl")
    stored = VectorSet(tmp_path / "vectors")
    assert [text.id for text in stored.texts(range(3))] == ["x", "y", "z"]
    expected = Encoder(model_folder, device="cpu", precision="float32").encode(["coffee", "water", "how do i brew"])
    np.testing.assert_allclose(stored.rows(range(3)), expected, atol=1e-6)
    assert "give each input once" in bad("encode", model_folder, "a.csv", "a.csv", "--out", "x", code=2, cwd=tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="is interrupted otherwise there")
def test_an_interrupted_command_goes_on(model_folder: Path, tmp_path: Path) -> None:
    write_texts(tmp_path / "texts.jsonl", make_texts(2000) * 100)
    command = [sys.executable, "-m", "pairloom", "encode", str(model_folder), "texts.jsonl", "--out", "vectors"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / ".vectors.encoding" / "journal.jsonl"
    while not journal.exists() or len(journal.read_bytes().splitlines()) < 2:
        time.sleep(0.01)
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "texts are encoded; the same command goes on from there" in said
    assert "interrupted" in said
    assert not (tmp_path / "vectors").exists()
    words = ("encode", model_folder, "texts.jsonl", "--out", "vectors")
    refusal = "begun with storage float32, not int8; give the same, or begin anew with --restart"
    assert refusal in bad(*words, "--store", "int8", cwd=tmp_path)
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "going on behind the" in done.stderr
    assert len(VectorSet(tmp_path / "vectors")) == 200_000
    assert {path.name for path in tmp_path.iterdir()} == {"texts.jsonl", "vectors"}


def test_stdin(model_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pairloom", "encode", str(model_folder), "-", "--out", "vectors", "--json"]
    done = subprocess.run(command, cwd=tmp_path, input="coffee\nwater\n", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["input"] == "stdin"
    assert VectorSet(tmp_path / "vectors").texts([1])[0].text == "water"


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["encode", "no/model", "a.txt", "--out", "y"], 1, "no/model: no such folder"),
        (["encode", "no/model", "a.txt", "--out", "y", "--shard", "5/4"], 2, "--shard '5/4': give the part"),
        (["encode", "no/model", "a.txt", "--out", "y", "--shard", "1/4", "--ray", "2"], 2, "give one of them"),
        (["merge", "nothing", "--out", "y"], 1, "nothing: no such folder"),
    ],
)
def test_mistakes(words: list[str], code: int, expected: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("coffee")
    assert expected in bad(*words, code=code, cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_help_has_examples() -> None:
    for name in ("encode", "merge"):
        assert "Example:" in good(name, "--help")
