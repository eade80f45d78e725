"""The vectors artifact and the inputs that fill it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from pairloom import Encoder
from pairloom.encode import vectors as module
from pairloom.encode.inputs import read_texts
from pairloom.encode.vectors import VectorSet, encode_texts
from pairloom.errors import ArtifactError, InputError
from pairloom.records import Text
from tests.conftest import make_pairs, make_shards


@pytest.fixture(scope="module")
def encoder(model_folder: Path) -> Encoder:
    return Encoder(model_folder, device="cpu")


def texts_of(path: Path, field: str | None = None) -> list[Text]:
    return list(read_texts(path, field))


def test_round_trip_in_blocks(encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_TEXTS", 7)
    texts = [Text(f"tëxt {number}", f"{anchor}\n“quoted”\u2028") for number, (anchor, _) in enumerate(make_pairs(40))]
    texts.append(Text("long", "coffee " * 200))
    facts = encode_texts(encoder, texts, tmp_path / "vectors", origin="test", show_progress=False)
    stored = VectorSet(tmp_path / "vectors")
    np.testing.assert_allclose(stored.vectors, encoder.encode([text.text for text in texts]), atol=1e-6)
    assert stored.texts([40, 3, 3]) == [texts[40], texts[3], texts[3]]
    assert (facts["count"], facts["truncated"], facts["dimensions"]) == (41, 1, 32)
    plain = np.load(tmp_path / "vectors" / "vectors.npy", mmap_mode="r")
    assert plain.shape == (41, 32)
    assert plain.dtype == np.float32


def test_vectors_of_another_model_are_refused(encoder: Encoder, tmp_path: Path) -> None:
    encode_texts(encoder, [Text("a", "b")], tmp_path / "vectors", origin="test", show_progress=False)
    stored = VectorSet(tmp_path / "vectors")
    stored.check_model(encoder.fingerprint, "same")
    with pytest.raises(ArtifactError, match=r"made by .*tiny .*, not by other"):
        stored.check_model("0" * 32, "other")


def test_nothing_to_encode_leaves_nothing(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="source: holds no text"):
        encode_texts(encoder, [], tmp_path / "vectors", origin="source", show_progress=False)
    assert list(tmp_path.iterdir()) == []


def test_plain_lines(tmp_path: Path) -> None:
    file = tmp_path / "a.txt.gz"
    file.write_bytes(gzip.compress(b"one\n\n  \nfour\n"))
    assert texts_of(file) == [Text("1", "one"), Text("4", "four")]


def test_records(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(
        '{"_id": "x", "title": "T", "text": "t"}\n{"id": 7, "text": "u"}\n{"title": null, "text": "v"}\n"w"\n'
    )
    assert texts_of(file) == [Text("x", "T t"), Text("7", "u"), Text("3", "v"), Text("4", "w")]
    file.write_text('{"body": "b"}\n{"body": "c"}')
    assert texts_of(file, "body") == [Text("1", "b"), Text("2", "c")]
    file.write_text('["anchor", "positive"]')
    assert texts_of(file, "1") == [Text("1", "positive")]
    file.write_text('{"texts": ["anchor", "positive"], "a.b": "dotted"}')
    assert texts_of(file, "texts.1") == [Text("1", "positive")]
    assert texts_of(file, "a.b") == [Text("1", "dotted")]


def test_a_task_folder_and_shards(tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "corpus.jsonl").write_text(json.dumps({"_id": "d", "title": "", "text": "t"}))
    assert texts_of(tmp_path / "task") == [Text("d", "t")]
    shards = make_shards(tmp_path / "pairs", [("a", "p"), ("b", "q")])
    assert texts_of(shards) == [Text("0", "p"), Text("1", "q")]
    assert texts_of(shards, "anchor") == [Text("0", "a"), Text("1", "b")]
    with pytest.raises(InputError, match="has no column 'body'; it has anchor, positive"):
        texts_of(shards, "body")


@pytest.mark.parametrize(
    ("content", "field", "expected"),
    [
        ('{"text": "a"}\n{"body": "b"}', None, "line 2: has no field 'text' that holds a string"),
        ('{"text": 3}', None, "line 1: has no field 'text' that holds a string"),
        ('{"text": "a"}', "body", "line 1: has no field 'body'"),
        ('{"body": ["a"]}', "body", "line 1: field 'body' is list, not a string"),
        ('["a"]', "1", "line 1: has no field '1'"),
        ('["a"]', "-1", "line 1: has no field '-1'"),
        ('{"id": null, "text": "a"}', None, "line 1: has the id None"),
        ("[]", None, "line 1: is neither a string nor an object"),
        ("3", "body", "line 1: has no field 'body'"),
        ("{", None, "line 1: not JSON"),
    ],
)
def test_records_without_the_text(tmp_path: Path, content: str, field: str | None, expected: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(content)
    with pytest.raises(InputError) as caught:
        texts_of(file, field)
    assert f"{file}, {expected}" in str(caught.value)


def test_inputs_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        texts_of(tmp_path / "nothing")
    with pytest.raises(InputError, match="neither a task folder"):
        texts_of(tmp_path)
    (tmp_path / "a.pdf").touch()
    with pytest.raises(InputError, match=r"give a .txt or .jsonl file"):
        texts_of(tmp_path / "a.pdf")
