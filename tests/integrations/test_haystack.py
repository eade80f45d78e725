"""An encoder in Haystack's pipelines: what they compute, and that they can be written and read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import haystack.telemetry._telemetry
import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore

from pairloom import DualEncoder, Encoder
from pairloom.errors import ModelError
from pairloom.integrations.haystack import PairloomDocumentEmbedder, PairloomTextEmbedder
from tests.conftest import make_pairs

MODULE = "pairloom.integrations.haystack"
TEXTS = [text for _, text in make_pairs(20)]
QUERIES = [text for text, _ in make_pairs(20)]


def documents() -> list[Document]:
    return [Document(id=f"d{number}", content=text, meta={"number": number}) for number, text in enumerate(TEXTS)]


def indexed(embedder: Any) -> InMemoryDocumentStore:
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    pipeline = Pipeline()
    pipeline.add_component("embedder", embedder)
    pipeline.add_component("writer", DocumentWriter(store))
    pipeline.connect("embedder.documents", "writer.documents")
    assert pipeline.run({"embedder": {"documents": documents()}}) == {"writer": {"documents_written": len(TEXTS)}}
    return store


def searching(embedder: Any, store: InMemoryDocumentStore) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("embedder", embedder)
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=5))
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    return pipeline


def found_by(pipeline: Pipeline, query: str) -> list[str]:
    return [document.id for document in pipeline.run({"embedder": {"text": query}})["retriever"]["documents"]]


def test_queries_and_documents_have_their_prompts(prompted: Encoder) -> None:
    given = documents()
    embedded = PairloomDocumentEmbedder(prompted).run(given)["documents"]
    np.testing.assert_array_equal([one.embedding for one in embedded], prompted.encode_document(TEXTS))
    assert [(one.id, one.content, one.meta) for one in embedded] == [(one.id, one.content, one.meta) for one in given]
    assert all(one.embedding is None for one in given)
    embedding = PairloomTextEmbedder(prompted).run("a file")["embedding"]
    assert embedding == prompted.encode_query("a file").tolist()


def test_each_half_of_a_pair_encodes_its_own(prompted: Encoder, model_folder: Path) -> None:
    pair = DualEncoder(prompted, Encoder(model_folder, device="cpu", precision="float32"))
    assert PairloomTextEmbedder(pair).run("a file")["embedding"] == pair.encode_query("a file").tolist()
    embedded = PairloomDocumentEmbedder(pair).run([Document(content="a file")])["documents"]
    assert embedded[0].embedding == pair.encode_document("a file").tolist()
    written = PairloomTextEmbedder(pair).to_dict()
    assert written["init_parameters"]["model"] == [prompted.model.name, str(model_folder)]
    assert PairloomTextEmbedder.from_dict(written).to_dict() == written


def test_pipelines_find_what_the_model_finds_also_when_written_and_read_again(
    prompted: Encoder, prompted_folder: Path
) -> None:
    # Nobody was asked whether what runs here may be told.
    assert haystack.telemetry._telemetry.telemetry is None
    store = indexed(PairloomDocumentEmbedder(prompted))
    options: dict[str, Any] = {"device": "cpu", "precision": "float32", "threads": 1}
    pipeline = searching(PairloomTextEmbedder(str(prompted_folder), **options), store)
    read = Pipeline.loads(pipeline.dumps(), allowed_modules=[MODULE])
    assert read.to_dict() == pipeline.to_dict()
    similarities = prompted.similarity(prompted.encode_query(QUERIES), prompted.encode_document(TEXTS))
    for query, expected in zip(QUERIES, similarities, strict=True):
        best = [f"d{row}" for row in np.argsort(-expected)[:5]]
        assert found_by(pipeline, query) == best
        assert found_by(read, query) == best


def test_a_written_component_knows_its_name_and_how_to_compute(prompted_folder: Path) -> None:
    embedder = PairloomDocumentEmbedder(prompted_folder, device="cpu", precision="float32", threads=2)
    assert embedder.to_dict() == {
        "type": f"{MODULE}.PairloomDocumentEmbedder",
        "init_parameters": {"model": str(prompted_folder), "device": "cpu", "precision": "float32", "threads": 2},
    }


def test_a_model_is_loaded_when_a_pipeline_warms_up(tmp_path: Path) -> None:
    embedder = PairloomTextEmbedder(tmp_path / "missing")
    with pytest.raises(ModelError, match="missing"):
        embedder.warm_up()


def test_what_belongs_to_the_other_component_is_refused(prompted: Encoder) -> None:
    with pytest.raises(TypeError, match="documents are for PairloomDocumentEmbedder"):
        PairloomTextEmbedder(prompted).run(documents())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="texts are for PairloomTextEmbedder"):
        PairloomDocumentEmbedder(prompted).run("a text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="texts are for PairloomTextEmbedder"):
        PairloomDocumentEmbedder(prompted).run(["a text"])  # type: ignore[list-item]


def test_a_document_without_text_counts_as_empty(prompted: Encoder) -> None:
    embedded = PairloomDocumentEmbedder(prompted).run([Document(id="none")])["documents"]
    np.testing.assert_array_equal(embedded[0].embedding, prompted.encode_document(""))
