"""The interface of sentence-transformers over pairloom's encoder: code written for it runs with one import changed.

    from pairloom.sentence_transformers import SentenceTransformer, util

    model = SentenceTransformer("multi-qa-distilbert-cos-v1")
    hits = util.semantic_search(model.encode_query("how hot is the water?"), model.encode_document(texts), top_k=3)

It is that of release 6.2, for what encodes and compares texts; docs/sentence-transformers.md says what is the same and
what is refused. Neither sentence-transformers nor transformers is imported.
"""

from __future__ import annotations

from pairloom.errors import MissingExtraError

try:
    from pairloom.sentence_transformers import util
    from pairloom.sentence_transformers.model import SentenceTransformer
    from pairloom.sentence_transformers.quantization import quantize_embeddings
    from pairloom.sentence_transformers.similarity import SimilarityFunction
except ModuleNotFoundError as error:
    if error.name not in ("torch", "jaxtyping"):
        raise
    raise MissingExtraError("pairloom.sentence_transformers", error.name, "torch") from None

__all__ = ["SentenceTransformer", "SimilarityFunction", "quantize_embeddings", "util"]
