"""Searches as a Qdrant server has them: by vector, by words, and by both with their ranks fused on the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from qdrant_client import models

from pairloom.records import Document
from pairloom.search.fusion import reciprocal_rank_fusion
from pairloom.search.qdrant.payloads import DOCUMENT, VECTOR, WORDS, as_sparse, read_document
from pairloom.search.qdrant.points import Points
from pairloom.search.qdrant.sparse import SparseVector

# As in the embedded edition: so far down either list a document may stand and still be lifted by the other one.
FUSED_DEPTH = 100
# The server counts ranks from 0 and the paper from 1 (Cormack et al. 2009, where the constant is 60).
_SERVER_CONSTANT = 61


def by_vector(
    vector: npt.NDArray[np.float32], k: int, condition: models.Filter | None, *, keys: Sequence[str] = DOCUMENT
) -> models.QueryRequest:
    """The ``k`` points whose vectors are most similar."""
    return _request(vector.tolist(), VECTOR, k, condition, keys)


def by_words(
    words: SparseVector, k: int, condition: models.Filter | None, *, keys: Sequence[str] = DOCUMENT
) -> models.QueryRequest:
    """The ``k`` points with the best BM25 scores among those that have a word of the query."""
    return _request(as_sparse(words), WORDS, k, condition, keys)


def by_both(
    vector: npt.NDArray[np.float32], words: SparseVector, k: int, condition: models.Filter | None
) -> models.QueryRequest:
    """The ``k`` best points by reciprocal rank fusion of both lists, which count alike."""
    depth = max(k, FUSED_DEPTH)
    return models.QueryRequest(
        prefetch=[
            models.Prefetch(query=vector.tolist(), using=VECTOR, filter=condition, limit=depth),
            models.Prefetch(query=as_sparse(words), using=WORDS, filter=condition, limit=depth),
        ],
        query=models.RrfQuery(rrf=models.Rrf(k=_SERVER_CONSTANT)),
        limit=k,
        with_payload=list(DOCUMENT),
    )


def both_apart(
    vector: npt.NDArray[np.float32], words: SparseVector, k: int, condition: models.Filter | None
) -> list[models.QueryRequest]:
    """Both lists by themselves, without documents, to be fused here; one of them if the query has no words."""
    depth = max(k, FUSED_DEPTH)
    first = by_vector(vector, depth, condition, keys=())
    return [first, by_words(words, depth, condition, keys=())] if words.indices else [first]


@dataclass(frozen=True)
class Plan:
    """How a query is answered.

    Args:
        requests: What the server is asked for; nothing if nothing can be found.
        weights: Of two lists that are fused here; None if the server's list is the answer. The server has weights, too, but
            means something else by them: they multiply ranks and not shares, so that those that were tuned on an embedded
            collection would hardly count.
    """

    requests: list[models.QueryRequest]
    weights: tuple[float, float] | None = None


def answer(points: Points, plans: Sequence[Plan], k: int) -> list[list[tuple[Document, float]]]:
    """Documents and scores of each plan, at most ``k``, best first."""
    answers = iter(points.query([request for plan in plans for request in plan.requests]))
    lists = [[next(answers) for _ in plan.requests] for plan in plans]
    rankings = [
        [] if plan.weights is None else _fused(given, plan.weights)[:k]
        for plan, given in zip(plans, lists, strict=True)
    ]
    wanted = list({id_ for ranking in rankings for id_, _ in ranking})
    documents = {str(point.id): read_document(point.payload, points.where) for point in points.read_points(wanted)}
    return [
        [(read_document(point.payload, points.where), point.score) for found in given for point in found]
        if plan.weights is None
        # A document that was deleted since then is left out.
        else [(documents[id_], score) for id_, score in ranking if id_ in documents]
        for plan, given, ranking in zip(plans, lists, rankings, strict=True)
    ]


def _fused(lists: Sequence[Sequence[models.ScoredPoint]], weights: tuple[float, float]) -> list[tuple[str, float]]:
    rankings = [[str(point.id) for point in points] for points in lists]
    return reciprocal_rank_fusion(rankings, weights[: len(rankings)])


def _request(
    query: list[float] | models.SparseVector, using: str, k: int, condition: models.Filter | None, keys: Sequence[str]
) -> models.QueryRequest:
    return models.QueryRequest(query=query, using=using, filter=condition, limit=k, with_payload=list(keys) or False)
