"""``pairloom encode`` without a folder to write: each text's vector as a line of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pairloom import Encoder
from tests.test_cli import bad, good, run

TEXTS = ["how do I read a file", "coffee ☕ and water", 'a "quoted" text', "the bean" + " the bean" * 89]


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(TEXTS[:2]) + "\n\n" + "\n".join(TEXTS[2:]) + "\n", encoding="utf-8")
    return file


def vectors_of(lines: str) -> np.ndarray:
    return np.array([json.loads(line)["vector"] for line in lines.splitlines()], dtype=np.float32)


def test_each_text_is_printed_with_its_vector(model_folder: Path, text_file: Path) -> None:
    done = run("encode", model_folder, text_file)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["text"] for record in records] == TEXTS
    assert [record["id"] for record in records] == ["1", "2", "4", "5"]
    assert [sorted(record) for record in records] == [["id", "text", "vector"]] * 4
    encoder = Encoder(model_folder, device="cpu")
    expected = encoder.encode_document(TEXTS)
    np.testing.assert_allclose(vectors_of(done.stdout), expected, atol=1e-5)
    assert "1 of 4 texts were longer than 64 tokens and were cut" in done.stderr


def test_what_is_printed_is_what_is_written(model_folder: Path, text_file: Path, tmp_path: Path) -> None:
    printed = vectors_of(good("encode", model_folder, text_file))
    good("encode", model_folder, text_file, "--out", tmp_path / "vectors", "--quiet")
    from pairloom.encode.vectors import VectorSet

    np.testing.assert_array_equal(printed, VectorSet(tmp_path / "vectors").rows(range(len(TEXTS))))


def test_documents_get_their_prompt(model_folder: Path, text_file: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    settings = folder / "config_sentence_transformers.json"
    known = json.loads(settings.read_text()) if settings.exists() else {}
    settings.write_text(json.dumps({**known, "prompts": {"query": "q ", "passage": "the coffee "}}))
    expected = Encoder(folder, device="cpu").encode_document(TEXTS)
    plain = Encoder(model_folder, device="cpu").encode_document(TEXTS)
    printed = vectors_of(good("encode", folder, text_file))
    np.testing.assert_allclose(printed, expected, atol=1e-5)
    assert np.abs(printed - plain).max() > 1e-3


def test_a_sentence_comes_from_stdin(model_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pairloom", "encode", str(model_folder), "-"],
        input="how do I read a file\n",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert vectors_of(done.stdout).shape == (1, Encoder(model_folder, device="cpu").dimensions)


def test_mistakes_are_one_sentence(model_folder: Path, text_file: Path, tmp_path: Path) -> None:
    assert "without it, vectors are printed as JSON lines" in bad("encode", model_folder, text_file, "--json", code=2)
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    assert bad("encode", model_folder, empty).endswith("empty.txt: holds no text")
    assert "no such file" in bad("encode", model_folder, tmp_path / "nothing.txt")


def test_a_reader_that_leaves_early_is_no_fault_to_talk_about(model_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "many.txt"
    file.write_text("coffee and water\n" * 3000)
    with subprocess.Popen(
        [sys.executable, "-m", "pairloom", "encode", str(model_folder), str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["id"] == "1"
        process.stdout.close()
        assert process.stderr.read() == ""
