"""The metrics, from libraries that others use too: pure functions of judgements, rankings and similarities."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.errors import MissingExtraError

FloatArray = npt.NDArray[np.float64]

RETRIEVAL_METRICS = ("nDCG@10", "MRR@10", "Recall@1", "Recall@10", "Recall@100", "MAP@100")
# How many documents a query must retrieve for these metrics.
RETRIEVAL_DEPTH = 100


def retrieval_metrics(
    judgements: Mapping[str, Mapping[str, int]], rankings: Mapping[str, Sequence[str]]
) -> dict[str, FloatArray]:
    """The metrics of each query's ranking, computed by ``trec_eval`` through ``ir_measures``.

    A document is relevant if its grade is 1 or more. nDCG alone looks at how relevant: a document gains its grade,
    divided by log2(rank + 1), and the whole by what the ideal ranking gains (Järvelin and Kekäläinen 2002; the gain is
    linear, as in ``trec_eval`` and BEIR). Recall is the part of all relevant documents that was found, so with several
    of them Recall@1 cannot reach 1. MAP@100 divides by all relevant documents, found or not.

    Args:
        judgements: For each of Q queries the grades of its judged documents.
        rankings: For each query the ids of retrieved documents, best first, none twice.

    Returns:
        For each of `RETRIEVAL_METRICS` the values [Q], in the order of ``judgements``, each from 0 to 1. A query
        without a ranking gets 0.

    Raises:
        MissingExtraError: ``ir_measures`` is not installed.
    """
    library = _load("ir_measures", "ir-measures")
    measures = {
        library.nDCG @ 10: "nDCG@10",
        library.RR @ 10: "MRR@10",
        library.R @ 1: "Recall@1",
        library.R @ 10: "Recall@10",
        library.R @ 100: "Recall@100",
        library.AP @ 100: "MAP@100",
    }
    row = {query: index for index, query in enumerate(judgements)}
    # trec_eval sorts by score and breaks ties by document id. The negated rank as a score leaves our order alone.
    run = {
        query: {document: -float(rank) for rank, document in enumerate(rankings.get(query, ()), start=1)}
        for query in judgements
    }
    values = {name: np.zeros(len(row)) for name in RETRIEVAL_METRICS}
    qrels = {query: dict(grades) for query, grades in judgements.items()}
    for result in library.iter_calc(list(measures), qrels, run):
        values[measures[result.measure]][row[result.query_id]] = result.value
    return values


def own_ranks(scores: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The rank of each query's own candidate among those of its set.

    A candidate that scores as high counts as higher, so a model to which all texts are alike is never right, and the order
    of the candidates means nothing. (A program that takes the first of the highest gives such a model one query in each
    set, whichever comes first.)

    Args:
        scores: [Q, Q]: of query ``i`` with candidate ``j``; ``i`` is its own.

    Returns:
        From 1, int64 [Q].
    """
    table = np.asarray(scores)
    return np.asarray(np.count_nonzero(table >= np.diagonal(table)[:, None], axis=1), dtype=np.int64)


def spearman(scores: npt.ArrayLike, similarities: npt.ArrayLike) -> float:
    """Spearman's rank correlation of two arrays [N], ties sharing their mean rank (``scipy.stats.spearmanr``).

    If either is constant the correlation is not defined; 0 is returned, for such similarities know nothing of the
    scores.
    """
    if _is_constant(scores) or _is_constant(similarities):
        return 0.0
    return float(_load("scipy.stats", "scipy").spearmanr(scores, similarities).statistic)


def pearson(scores: npt.ArrayLike, similarities: npt.ArrayLike) -> float:
    """Pearson's correlation of two arrays [N] (``scipy.stats.pearsonr``); 0 if either is constant."""
    if _is_constant(scores) or _is_constant(similarities):
        return 0.0
    in_double = np.asarray(similarities, dtype=np.float64)
    return float(_load("scipy.stats", "scipy").pearsonr(scores, in_double).statistic)


def average_precision(labels: npt.ArrayLike, similarities: npt.ArrayLike) -> float:
    """Area under the precision-recall curve as a step function (``sklearn.metrics.average_precision_score``).

    Args:
        labels: 0 or 1 [N], at least one 1.
        similarities: [N]; pairs of equal similarity come in at once.
    """
    return float(_load("sklearn.metrics", "scikit-learn").average_precision_score(labels, similarities))


def best_f1(labels: npt.ArrayLike, similarities: npt.ArrayLike) -> float:
    """The largest F1 that any threshold on the similarities reaches, on these very pairs.

    Args:
        labels: 0 or 1 [N], at least one 1.
        similarities: [N]; a pair counts as similar if it reaches the threshold.
    """
    curve = _load("sklearn.metrics", "scikit-learn").precision_recall_curve(labels, similarities)
    precision, recall = curve[0], curve[1]
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)))


def _is_constant(values: npt.ArrayLike) -> bool:
    return bool(np.ptp(np.asarray(values)) == 0)


def _load(module: str, package: str) -> Any:
    """Imports what stands behind the extra ``evaluate`` when it is first needed: scipy alone takes half a second."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError("evaluation", package, "evaluate") from None
