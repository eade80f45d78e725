"""Exact search: a query against every vector."""

from __future__ import annotations

import logging
from pathlib import Path

from pairloom.encode.dual_encoder import AnyEncoder, halves, load_encoder, names
from pairloom.encode.similarity import top_k
from pairloom.encode.vectors import VectorSet
from pairloom.errors import ModelError, UsageError
from pairloom.models.read import whole_of
from pairloom.records import Hit

logger = logging.getLogger("pairloom")


class ExactSearch:
    """Answers queries over a vectors artifact by comparing with all of it.

    Args:
        vectors: The artifact.
        encoder: The model that made it; by default it is loaded by the name that the artifact remembers.

    Raises:
        ArtifactError: The vectors were made by another model, or by one half of a model of which this is the other.
    """

    def __init__(self, vectors: VectorSet | Path, encoder: AnyEncoder | None = None) -> None:
        self.vectors = vectors if isinstance(vectors, VectorSet) else VectorSet(vectors)
        self.encoder = encoder or self._remembered_encoder()
        query, document = halves(self.encoder)
        self.vectors.check_model(
            document.fingerprint, " and ".join(names(self.encoder)), query_fingerprint=query.fingerprint
        )

    def search(self, query: str, k: int = 10) -> list[Hit]:
        """The ``k`` texts most similar to the query, best first.

        Raises:
            UsageError: ``k`` is less than 1, or the query is empty.
        """
        if k < 1:
            raise UsageError(f"k is {k}; ask for at least one hit")
        if not query.strip():
            raise UsageError("the query is empty; say what to look for")
        query_vectors = self.encoder.encode_query([query])
        rows, scores = top_k(query_vectors, self.vectors, k, self.encoder.similarity_name)
        texts = self.vectors.texts(int(row) for row in rows[0])
        return [Hit(text.id, float(score), text.text) for text, score in zip(texts, scores[0], strict=True)]

    def _remembered_encoder(self) -> AnyEncoder:
        if len(self.vectors.models) == 1 and (whole := whole_of(Path(self.vectors.model))) is not None:
            logger.warning(
                "%s is one half of %s, and encodes the query as a document; to search with both, say --model %s",
                self.vectors.model,
                whole,
                whole,
            )
        try:
            return load_encoder(*self.vectors.models)
        except ModelError as error:
            raise ModelError(
                f"{self.vectors.path}: the model that made it cannot be loaded ({error}); say where it is with --model"
            ) from None
