"""An encoder in LangChain's own vector store, and a collection as its retriever."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from langchain_core.documents import Document as TheirDocument
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore

from pairloom import Collection, Document, DualEncoder, Encoder
from pairloom.integrations.langchain import PairloomEmbeddings, PairloomRetriever
from tests.conftest import make_pairs

TEXTS = [text for _, text in make_pairs(20)]
QUERIES = [text for text, _ in make_pairs(20)]


@pytest.fixture
def collection(tmp_path: Path, prompted: Encoder) -> Iterator[Collection]:
    with Collection(tmp_path / "collection", prompted) as collection:
        collection.upsert(Document(f"d{number}", text, {"even": number % 2 == 0}) for number, text in enumerate(TEXTS))
        yield collection


def test_queries_and_documents_have_their_prompts(prompted: Encoder, prompted_folder: Path) -> None:
    embeddings = PairloomEmbeddings(prompted)
    np.testing.assert_array_equal(embeddings.embed_documents(TEXTS), prompted.encode_document(TEXTS))
    np.testing.assert_array_equal(embeddings.embed_query("a file"), prompted.encode_query("a file"))
    assert not np.allclose(embeddings.embed_query("a file"), embeddings.embed_documents(["a file"])[0], atol=1e-2)
    assert embeddings.embed_documents([]) == []
    by_name = PairloomEmbeddings(prompted_folder)
    np.testing.assert_allclose(by_name.embed_query("a file"), embeddings.embed_query("a file"), atol=0.05)


def test_each_half_of_a_pair_encodes_its_own(prompted: Encoder, model_folder: Path) -> None:
    plain = Encoder(model_folder, device="cpu", precision="float32")
    embeddings = PairloomEmbeddings(DualEncoder(prompted, plain))
    np.testing.assert_array_equal(embeddings.embed_query("a file"), prompted.encode_query("a file"))
    np.testing.assert_array_equal(embeddings.embed_documents(TEXTS), plain.encode_document(TEXTS))


def test_a_vector_store_finds_what_the_model_finds(prompted: Encoder) -> None:
    store = InMemoryVectorStore(PairloomEmbeddings(prompted))
    store.add_texts(TEXTS, ids=[str(number) for number in range(len(TEXTS))])
    similarities = prompted.similarity(prompted.encode_query(QUERIES), prompted.encode_document(TEXTS))
    for query, expected in zip(QUERIES, similarities, strict=True):
        found = store.similarity_search_with_score(query, k=5)
        best = np.argsort(-expected)[:5]
        assert [document.page_content for document, _ in found] == [TEXTS[row] for row in best]
        np.testing.assert_allclose([score for _, score in found], expected[best], atol=1e-5)


def test_the_async_forms_give_the_same(prompted: Encoder) -> None:
    embeddings = PairloomEmbeddings(prompted)

    async def both() -> tuple[list[float], list[list[float]], list[TheirDocument]]:
        store = InMemoryVectorStore(embeddings)
        await store.aadd_texts(TEXTS)
        query, documents = await asyncio.gather(embeddings.aembed_query("a file"), embeddings.aembed_documents(TEXTS))
        return query, documents, await store.asimilarity_search("a file", k=3)

    query, documents, found = asyncio.run(both())
    np.testing.assert_allclose(query, embeddings.embed_query("a file"), atol=1e-6)
    np.testing.assert_allclose(documents, embeddings.embed_documents(TEXTS), atol=1e-6)
    store = InMemoryVectorStore(embeddings)
    store.add_texts(TEXTS)
    assert [one.page_content for one in found] == [one.page_content for one in store.similarity_search("a file", k=3)]


@pytest.mark.parametrize("mode", ["vector", "words", "hybrid"])
def test_a_retriever_gives_the_hits_of_the_collection(collection: Collection, mode: str) -> None:
    retriever = PairloomRetriever(collection=collection, k=4, mode=mode, filter={"even": True})
    hits = collection.search(QUERIES[4], 4, mode=mode, filter={"even": True})  # type: ignore[arg-type]
    found = retriever.invoke(QUERIES[4])
    assert hits
    assert [(one.id, one.page_content, one.metadata) for one in found] == [
        (hit.id, hit.text, {"even": True, "relevance_score": hit.score}) for hit in hits
    ]
    assert asyncio.run(retriever.ainvoke(QUERIES[4])) == found


def test_a_retriever_is_a_link_of_a_chain(collection: Collection) -> None:
    chain = PairloomRetriever(collection=collection, k=1) | RunnableLambda(lambda found: found[0].id)
    assert chain.batch(QUERIES) == [collection.search(query, 1)[0].id for query in QUERIES]


def test_a_mode_that_there_is_not_is_refused(collection: Collection) -> None:
    with pytest.raises(ValueError, match="mode"):
        PairloomRetriever(collection=collection, mode="magic")
