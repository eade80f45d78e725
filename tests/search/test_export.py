"""Taking a collection out of its folder."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from qdrant_client import QdrantClient

from pairloom.choices import Similarity
from pairloom.errors import ArtifactError, CollectionError, UsageError
from pairloom.records import Document
from pairloom.search import export as exporting
from pairloom.search.export import export, export_to_file, export_to_server
from pairloom.search.identity import ModelIdentity
from pairloom.search.qdrant.address import Address, parse_address
from pairloom.search.qdrant.collection import QdrantCollection
from pairloom.search.qdrant.server import IN_MEMORY
from pairloom.search.qdrant.sparse import count_words
from pairloom.search.settings import Settings
from tests.search.contract import DIMENSIONS, vectors_of

ADDRESS = Address("http://localhost:6333", "texts")
MODEL = ModelIdentity(("a model",), "f" * 64, "f" * 64, DIMENSIONS, "cosine")


@dataclass
class Folder:
    """Rows as a collection in a folder has them: numbered from 1, each version of a document with a new and larger number."""

    path: Path
    documents: dict[int, Document]
    vectors: dict[int, npt.NDArray[np.float32]]
    settings: Settings = field(default_factory=lambda: Settings(fields={"year": "number"}))
    model: ModelIdentity | None = MODEL
    dimensions: int = DIMENSIONS
    similarity_name: Similarity = "cosine"
    weights: tuple[float, float] = (1.0, 1.0)

    def rows(
        self, after: int = 0, *, with_vectors: bool = True
    ) -> Iterator[tuple[int, Document, npt.NDArray[np.float32] | None]]:
        for row in sorted(self.documents):
            if row > after:
                yield row, self.documents[row], self.vectors[row] if with_vectors else None

    def count(self) -> int:
        return len(self.documents)

    def change(self, row: int, text: str) -> None:
        last = max(self.documents)
        old = self.documents.pop(row)
        self.documents[last + 1] = Document(old.id, text, old.metadata)
        self.vectors[last + 1] = self.vectors.pop(row)


def folder(path: Path, count: int = 50) -> Folder:
    vectors = vectors_of(count)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    documents = {
        number + 1: Document(f"d{number}", f"text {number} " + "word " * (number % 5), {"year": number})
        for number in range(count)
    }
    return Folder(path, documents, {number + 1: vector for number, vector in enumerate(vectors)})


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(exporting, "_SENT_AT_ONCE", 8)
    (tmp_path / "collection").mkdir()
    return folder(tmp_path / "collection")


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    client = QdrantClient(IN_MEMORY)
    yield client
    client.close()


def there(client: QdrantClient) -> QdrantCollection:
    return QdrantCollection(ADDRESS.url, ADDRESS.name, client=client, create=False)


def journals(source: Folder) -> list[Path]:
    return list(source.path.parent.glob(".collection.export-*"))


# Onto a server.


def test_all_of_it_is_on_the_server(source: Folder, client: QdrantClient) -> None:
    exported = export_to_server(source, ADDRESS, client=client)
    assert (exported.target, exported.documents, exported.sent) == ("qdrant://localhost:6333/texts", 50, 50)
    target = there(client)
    assert list(target.documents()) == [source.documents[row] for row in sorted(source.documents)]
    assert target.model == MODEL
    assert target.fields == {"year": "number"}
    lengths = [words.length for words in count_words([document.text for document in source.documents.values()])]
    assert target.average_words == pytest.approx(sum(lengths) / len(lengths))
    assert target.count({"year": {"lt": 10}}) == 10
    for row in (1, 30):
        hit = target.search(source.vectors[row], 1)[0]
        assert hit.id == source.documents[row].id
        assert hit.score == pytest.approx(1, abs=2e-3)
    assert journals(source) == []


def test_tuned_weights_go_along(source: Folder, client: QdrantClient) -> None:
    export_to_server(source, ADDRESS, client=client)
    assert there(client).weights == (1.0, 1.0)
    source.weights = (1.0, 0.25)
    export_to_server(source, ADDRESS, client=client)
    assert there(client).weights == (1.0, 0.25)


def test_again_is_the_same(source: Folder, client: QdrantClient) -> None:
    export_to_server(source, ADDRESS, client=client)
    source.change(3, "changed")
    assert export_to_server(source, ADDRESS, client=client).sent == 50
    assert there(client).count() == 50
    assert there(client).get(["d2"]) == [Document("d2", "changed", {"year": 2})]


def interrupted(source: Folder, client: QdrantClient, monkeypatch: pytest.MonkeyPatch, *, blocks: int) -> None:
    """An export whose line is cut after some blocks."""
    sent = 0
    load = QdrantCollection.load

    def cut(self: QdrantCollection, documents: Any, vectors: Any) -> None:
        nonlocal sent
        if sent == blocks:
            raise CollectionError("the line is cut")
        sent += 1
        load(self, documents, vectors)

    with monkeypatch.context() as patch, pytest.raises(CollectionError, match="the line is cut"):
        patch.setattr(QdrantCollection, "load", cut)
        export_to_server(source, ADDRESS, client=client)
    assert len(journals(source)) == 1
    assert there(client).count() == blocks * 8


def test_an_export_that_was_interrupted_goes_on(
    source: Folder, client: QdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(source, client, monkeypatch, blocks=3)
    exported = export_to_server(source, ADDRESS, client=client)
    assert (exported.documents, exported.sent) == (50, 26)
    assert list(there(client).documents()) == [source.documents[row] for row in sorted(source.documents)]


def test_what_was_added_and_changed_meanwhile_is_sent(
    source: Folder, client: QdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(source, client, monkeypatch, blocks=3)
    source.change(40, "changed")
    source.documents[100] = Document("new", "new")
    source.vectors[100] = source.vectors[1]
    assert export_to_server(source, ADDRESS, client=client).sent == 51 - 24
    assert there(client).get(["d39", "new"]) == [Document("d39", "changed", {"year": 39}), Document("new", "new")]


def test_when_what_was_sent_has_changed_all_is_sent_again(
    source: Folder, client: QdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(source, client, monkeypatch, blocks=3)
    source.change(2, "changed")
    assert export_to_server(source, ADDRESS, client=client).sent == 50
    assert there(client).get(["d1"]) == [Document("d1", "changed", {"year": 1})]


def test_another_collection_of_the_same_name_is_not_taken_for_what_was_sent(
    source: Folder, client: QdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(source, client, monkeypatch, blocks=3)
    for row, document in source.documents.items():
        source.documents[row] = Document(document.id, document.text + " and more", document.metadata)
    assert export_to_server(source, ADDRESS, client=client).sent == 50
    assert all("and more" in document.text for document in there(client).documents())


def test_a_target_that_was_removed_begins_anew(
    source: Folder, client: QdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(source, client, monkeypatch, blocks=3)
    client.delete_collection("texts")
    assert export_to_server(source, ADDRESS, client=client).sent == 50
    interrupted_again = there(client)
    assert interrupted_again.count() == 50


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"row": "x"}', b"\xff"])
def test_a_journal_that_is_no_use_is_passed_over(
    source: Folder, client: QdrantClient, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    interrupted(source, client, monkeypatch, blocks=2)
    journals(source)[0].write_bytes(content)
    assert export_to_server(source, ADDRESS, client=client).sent == 50


def test_documents_that_were_there_before_are_noticed(source: Folder, client: QdrantClient) -> None:
    target = QdrantCollection(
        ADDRESS.url, ADDRESS.name, client=client, model=MODEL, fields={"year": "number"}, create=True
    )
    target.load([Document("somebody else's", "text")], vectors_of(1))
    with pytest.raises(CollectionError, match=r"has 51 documents, and .*collection has 50"):
        export_to_server(source, ADDRESS, client=client)
    assert target.count() == 51


def test_a_target_of_another_model_is_refused(source: Folder, client: QdrantClient) -> None:
    other = ModelIdentity(("another model",), "0" * 64, "0" * 64, DIMENSIONS, "cosine")
    QdrantCollection(ADDRESS.url, ADDRESS.name, client=client, model=other, fields={"year": "number"}, create=True)
    with pytest.raises(CollectionError, match=r"made by another model .*not by a model"):
        export_to_server(source, ADDRESS, client=client)


def test_vectors_without_a_model_do_not_come_among_those_of_one(source: Folder, client: QdrantClient) -> None:
    export_to_server(source, ADDRESS, client=client)
    source.model = None
    with pytest.raises(CollectionError, match=r"made by a model, and those of .*collection came without a model"):
        export_to_server(source, ADDRESS, client=client)


def test_fields_must_be_declared(source: Folder, client: QdrantClient) -> None:
    source.settings = Settings()
    with pytest.raises(UsageError, match="has not declared by which fields"):
        export_to_server(source, ADDRESS, client=client)
    export_to_server(source, ADDRESS, fields={}, client=client)
    assert there(client).fields == {}


def test_a_collection_without_a_model_and_an_empty_one(source: Folder, client: QdrantClient) -> None:
    source.model = None
    assert export_to_server(source, ADDRESS, client=client).documents == 50
    empty = Folder(source.path, {}, {})
    assert export_to_server(empty, Address(ADDRESS.url, "empty"), client=client).documents == 0


def test_the_collection_in_a_folder_finds_the_same_on_the_server(tmp_path: Path, client: QdrantClient) -> None:
    module = pytest.importorskip("pairloom.search.collection", reason="the collection in a folder is not there yet")
    wanted = folder(tmp_path)
    settings = Settings(fields={"year": "number"}, dimensions=DIMENSIONS, similarity="cosine")
    with module.Collection(tmp_path / "collection", settings=settings) as here:
        here.add(wanted.documents.values(), vectors=np.stack(list(wanted.vectors.values())))
        here.upsert([Document("d7", "changed", {"year": 7})], vectors=-wanted.vectors[8][None])
        here.delete(["d9"])
        assert export_to_server(here, ADDRESS, client=client).documents == 49
        target = there(client)
        assert list(target.documents()) == list(here.documents())
        for query in vectors_of(5, seed=2):
            for wanted_filter in (None, {"year": {"gte": 20}}):
                ours, theirs = (one.search(query, 10, filter=wanted_filter) for one in (here, target))
                assert [hit.id for hit in ours] == [hit.id for hit in theirs]
                assert [hit.score for hit in theirs] == pytest.approx([hit.score for hit in ours], abs=2e-3)
        ours, theirs = (one.search("word changed", 10, mode="words") for one in (here, target))
        assert theirs[0].id == ours[0].id == "d7"


# A process that is killed. The server is imitated in its own process, with its data on disk.

CHILD = """
import sys
from pathlib import Path
from qdrant_client import QdrantClient
from pairloom.search import export as exporting
from tests.search.test_export import ADDRESS, folder
exporting._SENT_AT_ONCE = 8
client = QdrantClient(path=sys.argv[2])
print("begins", flush=True)
exporting.export_to_server(folder(Path(sys.argv[1]), 160), ADDRESS, client=client)
client.close()
print("done", flush=True)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "collection").mkdir()
    command = [sys.executable, "-c", CHILD, str(tmp_path / "collection"), str(tmp_path / "server")]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    pause_s, killed = 0.002, 0
    for _ in range(20):
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True, cwd=tmp_path) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
            time.sleep(pause_s)
            process.send_signal(signal.SIGKILL)
            if process.stdout.readline() == "done\n":
                break
        killed += 1
        pause_s *= 1.6
    assert 3 < killed < 20
    client = QdrantClient(path=str(tmp_path / "server"))
    target = there(client)
    wanted = folder(tmp_path / "collection", 160)
    assert export_to_server(wanted, ADDRESS, client=client).documents == 160
    assert {document.id: document for document in target.documents()} == {
        document.id: document for document in wanted.documents.values()
    }
    client.close()


# Into a file.


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_a_file_has_every_document(source: Folder, tmp_path: Path, name: str) -> None:
    source.documents[1] = Document("é\u2028", '東京\n"quoted" 𝄞', {"list": [1, 2.5, None], "yes": True})
    exported = export(source, tmp_path / name)
    assert (exported.documents, exported.sent) == (50, 50)
    content = (tmp_path / name).read_bytes()
    lines = (gzip.decompress(content) if name.endswith(".gz") else content).decode().split("\n")
    assert lines.pop() == ""
    records = map(json.loads, lines)
    assert [Document(**record) for record in records] == [source.documents[row] for row in sorted(source.documents)]


def test_vectors_come_back_bit_for_bit(source: Folder, tmp_path: Path) -> None:
    source.vectors[1] = np.array([1e-30, -0.0, 1 / 3, 1e30, 65504, 2**-24, 1, -1], np.float32)
    export_to_file(source, tmp_path / "out.jsonl", with_vectors=True)
    records = list(map(json.loads, (tmp_path / "out.jsonl").read_text().split("\n")[:-1]))
    vectors = np.array([record["vector"] for record in records]).astype(np.float32)
    np.testing.assert_array_equal(vectors, np.stack([source.vectors[row] for row in sorted(source.vectors)]))


def test_a_file_is_whole_or_not_there(source: Folder, tmp_path: Path) -> None:
    del source.vectors[30]
    with pytest.raises(KeyError):
        export_to_file(source, tmp_path / "out.jsonl", with_vectors=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["collection"]


def test_nothing_is_overwritten(source: Folder, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("mine")
    with pytest.raises(ArtifactError, match="already there"):
        export(source, str(tmp_path / "out.jsonl"))
    assert (tmp_path / "out.jsonl").read_text() == "mine"


def test_a_target_that_makes_no_sense(source: Folder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is a file \.jsonl or \.jsonl\.gz, or a server"):
        export(source, tmp_path / "out.csv")
    with pytest.raises(UsageError, match="names no collection"):
        export(source, "qdrant://localhost:6333")


def test_an_address_goes_to_the_server(source: Folder) -> None:
    with pytest.raises(CollectionError, match=r"qdrant://127\.0\.0\.1:9/texts: the server cannot be reached"):
        export(source, str(parse_address("qdrant://127.0.0.1:9/texts")))
