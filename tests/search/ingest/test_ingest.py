"""Sources into a collection: what is written, what is left as it is, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pairloom import Encoder
from pairloom.encode.bulk import encode_texts
from pairloom.errors import InputError
from pairloom.records import Document, Text
from pairloom.search.collection import Collection
from pairloom.search.ingest.documents import DocumentSource, VectorSource
from pairloom.search.ingest.ingest import added, ingest
from pairloom.search.protocol import Duplicate, Written
from pairloom.search.settings import Settings
from tests.conftest import make_pairs


@pytest.fixture(scope="module")
def encoder(model_folder: Path) -> Encoder:
    return Encoder(model_folder, device="cpu", precision="float32")


@pytest.fixture
def collection(encoder: Encoder, tmp_path: Path) -> Collection:
    return Collection(tmp_path / "collection", encoder, create=True, settings=Settings(storage="float32"))


def write_file(path: Path, count: int, **other: object) -> Path:
    records = [
        {"id": f"{path.stem}{number}", "text": positive, **other}
        for number, (_, positive) in enumerate(make_pairs(count))
    ]
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def test_several_sources(collection: Collection, tmp_path: Path) -> None:
    a, b = write_file(tmp_path / "a.jsonl", 600, tag="x"), write_file(tmp_path / "b.jsonl", 3)
    written = ingest(collection, [DocumentSource(a), DocumentSource(b)], show_progress=False)
    assert (written.added, written.replaced, written.unchanged) == (603, 0, 0)
    assert collection.get(["a599", "b2"]) == [
        Document("a599", make_pairs(600)[599][1], {"tag": "x"}),
        Document("b2", make_pairs(3)[2][1]),
    ]


def test_again_nothing_is_encoded(collection: Collection, tmp_path: Path) -> None:
    file = write_file(tmp_path / "a.jsonl", 20)
    assert ingest(collection, [DocumentSource(file)], show_progress=False).encoded == 20
    assert ingest(collection, [DocumentSource(file)], show_progress=False) == Written(unchanged=20)
    write_file(tmp_path / "a.jsonl", 20, tag="new")
    assert ingest(collection, [DocumentSource(file)], show_progress=False) == Written(replaced=20)


def test_vectors_are_taken_as_they_are(collection: Collection, encoder: Encoder, tmp_path: Path) -> None:
    texts = [Text(f"t{number}", positive) for number, (_, positive) in enumerate(make_pairs(30))]
    encode_texts(encoder, texts, tmp_path / "vectors", origin="test", show_progress=False)
    source = VectorSource(tmp_path / "vectors")
    written = ingest(collection, [source], show_progress=False)
    assert (written.added, written.encoded) == (30, 0)
    stored = np.stack([vector for _, _, vector in collection.rows() if vector is not None])
    np.testing.assert_allclose(stored, source.vectors.rows(range(30)), atol=1e-6)
    assert ingest(collection, [source], show_progress=False) == Written(unchanged=30)
    assert collection.search(texts[7].text, 1, mode="vector")[0].id == "t7"


def test_what_stands_before_a_fault_is_written(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pairloom.encode.blocks.BLOCK_TEXTS", 10)
    file = write_file(tmp_path / "a.jsonl", 35)
    whole = file.read_text()
    file.write_text(whole + "\n{")
    with pytest.raises(InputError, match="line 36: not JSON"):
        ingest(collection, [DocumentSource(file)], show_progress=False)
    assert collection.count() == 30
    file.write_text(whole)
    written = ingest(collection, [DocumentSource(file)], show_progress=False)
    assert (written.added, written.unchanged, written.encoded) == (5, 30, 5)


def test_duplicates_are_reported_and_kept(collection: Collection, tmp_path: Path) -> None:
    records = [
        {"id": "a", "text": "hot coffee"},
        {"id": "b", "text": "hot coffee"},
        {"id": "c", "text": "a list in python"},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    written = ingest(collection, [DocumentSource(tmp_path / "a.jsonl")], duplicates=0.999, show_progress=False)
    assert [(one.id, one.of) for one in written.duplicates] == [("b", "a")]
    assert written.duplicates[0].score == pytest.approx(1, abs=1e-3)
    assert collection.count() == 3


def test_progress_is_told(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pairloom.progress._PLAIN_LINE_EVERY_S", 0.0)
    file = write_file(tmp_path / "a.jsonl", 300)
    ingest(collection, [DocumentSource(file)])
    told = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in told] == [f"indexing {file}: {count} documents" for count in (256, 300)]
    assert "% read" in told[0]
    ingest(collection, [DocumentSource(file)], show_progress=False)
    assert capsys.readouterr().err == ""


def test_what_became_of_both() -> None:
    one, other = Duplicate("a", "b", 0.9), Duplicate("c", "d", 1.0)
    first, second = Written(1, 2, 3, 4, 5, (one,)), Written(10, 20, 30, 40, 50, (other,))
    assert added(first, second) == Written(11, 22, 33, 44, 55, (one, other))
