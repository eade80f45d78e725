"""Search, paraphrase mining and communities: exact, a block of scores at a time, on the device where the embeddings are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pairloom.progress import meter
from pairloom.sentence_transformers.similarity import ScoreFunction, cos_sim, dot_score
from pairloom.sentence_transformers.tensors import (
    Embeddings,
    as_rows,
    as_tensor,
    normalize_embeddings,
    sliceable,
)

if TYPE_CHECKING:
    from pairloom.sentence_transformers.model import SentenceTransformer

# Scores of some queries, best first, and the rows of the corpus that have them: [Q, K] each.
_Best = tuple[Tensor, Tensor]
_Rows = npt.NDArray[np.int64]


def semantic_search(
    query_embeddings: Embeddings,
    corpus_embeddings: Embeddings,
    query_chunk_size: int = 100,
    corpus_chunk_size: int = 500_000,
    top_k: int = 10,
    score_function: ScoreFunction = cos_sim,
) -> list[list[dict[str, int | float]]]:
    """The most similar rows of the corpus for each query.

    Args:
        query_embeddings: [Q, D], or one query [D]; moved to where the corpus is.
        corpus_embeddings: [N, D].
        query_chunk_size: Queries scored at once.
        corpus_chunk_size: Rows scored at once; of an array that is mapped from disk, no more than these are in memory.
        top_k: Hits a query; fewer if the corpus has fewer rows.
        score_function: Two tensors [A, D] and [B, D] to scores [A, B], larger for the more similar.

    Returns:
        For each query its hits, ``{"corpus_id": row, "score": score}``, best first; of equal scores the earlier row first.
    """
    queries, corpus = sliceable(query_embeddings), sliceable(corpus_embeddings)
    device = corpus.device if isinstance(corpus, Tensor) else torch.device("cpu")
    chunks = range(0, len(queries), query_chunk_size)
    best: list[_Best | None] = [None] * len(chunks)
    with torch.no_grad():
        # Corpus outside, so that each of its rows is made ready once.
        for begin in range(0, len(corpus), corpus_chunk_size):
            rows = as_tensor(corpus[begin : begin + corpus_chunk_size])
            if score_function is cos_sim:
                rows = normalize_embeddings(as_rows(rows))
            for number, start in enumerate(chunks):
                some = as_tensor(queries[start : start + query_chunk_size]).to(device)
                if score_function is cos_sim:
                    scores = dot_score(normalize_embeddings(as_rows(some)), rows)
                else:
                    scores = score_function(some, rows)
                best[number] = _merge(best[number], scores, begin, top_k)
    if not len(corpus):
        return [[] for _ in range(len(queries))]
    return [hits for found in best if found is not None for hits in _hits(found)]


def _merge(best: _Best | None, scores: Tensor, begin: int, k: int) -> _Best:
    """The ``k`` best of what was found before and of ``scores`` [Q, B], whose first column is row ``begin``."""
    values, rows = scores.topk(min(k, scores.shape[1]), dim=1)
    rows = rows + begin
    if best is None:
        return values, rows
    values, rows = torch.cat([best[0], values], dim=1), torch.cat([best[1], rows], dim=1)
    values, places = values.topk(min(k, values.shape[1]), dim=1)
    return values, rows.gather(1, places)


def _hits(found: _Best) -> list[list[dict[str, int | float]]]:
    values, rows = found
    # By row first, and then by score without disturbing that: topk leaves equals in any order.
    rows, places = rows.sort(dim=1)
    values, order = values.gather(1, places).sort(dim=1, descending=True, stable=True)
    scores, numbers = values.tolist(), rows.gather(1, order).tolist()
    return [
        [{"corpus_id": number, "score": score} for score, number in zip(*hits, strict=True)]
        for hits in zip(scores, numbers, strict=True)
    ]


def paraphrase_mining(
    model: SentenceTransformer,
    sentences: list[str],
    show_progress_bar: bool = False,
    batch_size: int = 32,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100_000,
    max_pairs: int = 500_000,
    top_k: int = 100,
    score_function: ScoreFunction = cos_sim,
    truncate_dim: int | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
) -> list[list[float | int]]:
    """The most similar pairs among texts: encodes them, then `paraphrase_mining_embeddings`."""
    embeddings = model.encode(
        sentences,
        show_progress_bar=show_progress_bar,
        batch_size=batch_size,
        convert_to_tensor=True,
        truncate_dim=truncate_dim,
        prompt_name=prompt_name,
        prompt=prompt,
    )
    return paraphrase_mining_embeddings(
        embeddings, query_chunk_size, corpus_chunk_size, max_pairs, top_k, score_function
    )


def paraphrase_mining_embeddings(
    embeddings: Embeddings,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100_000,
    max_pairs: int = 500_000,
    top_k: int = 100,
    score_function: ScoreFunction = cos_sim,
) -> list[list[float | int]]:
    """The most similar pairs among embeddings.

    Args:
        embeddings: [N, D].
        query_chunk_size: Embeddings whose neighbours are looked for at once.
        corpus_chunk_size: Embeddings that these are compared with at once.
        max_pairs: Pairs returned at most.
        top_k: Neighbours of an embedding that are considered.
        score_function: Two tensors [A, D] and [B, D] to scores [A, B]; assumed to be symmetric.

    Returns:
        ``[score, i, j]`` with i < j, each pair once, best first; of equal scores the earlier pair first.
    """
    rows = sliceable(embeddings)
    pairs, scores = np.zeros(0, dtype=np.int64), np.zeros(0)  # the pair i, j is the number i * N + j
    for begin in range(0, len(rows), query_chunk_size):
        some, best = as_tensor(rows[begin : begin + query_chunk_size]), None
        with torch.no_grad():
            for start in range(0, len(rows), corpus_chunk_size):
                block = score_function(some, as_tensor(rows[start : start + corpus_chunk_size]))
                best = _merge(best, block, start, top_k + 1)  # one more, since each is its own neighbour
        assert best is not None, "there are rows"
        i, j, found = _neighbours(best, begin, top_k)
        pairs, scores = np.concatenate([pairs, i * len(rows) + j]), np.concatenate([scores, found])
        pairs, first = np.unique(pairs, return_index=True)
        order = np.argsort(-scores[first], kind="stable")[:max_pairs]
        pairs, scores = pairs[order], scores[first][order]
    firsts, seconds = np.divmod(pairs, max(len(rows), 1))
    return [list(pair) for pair in zip(scores.tolist(), firsts.tolist(), seconds.tolist(), strict=True)]


def _neighbours(best: _Best, begin: int, k: int) -> tuple[_Rows, _Rows, npt.NDArray[np.float64]]:
    """The smaller and larger row of the pairs that queries from ``begin`` on make with their ``k`` best others, and the scores."""
    scores, columns = best[0].cpu().double().numpy(), best[1].cpu().numpy()
    queries = np.broadcast_to(np.arange(begin, begin + len(columns))[:, None], columns.shape)
    others = columns != queries
    others &= np.cumsum(others, axis=1) <= k
    one, other = queries[others], columns[others]
    return np.minimum(one, other), np.maximum(one, other), scores[others]


def community_detection(
    embeddings: Embeddings,
    threshold: float = 0.75,
    min_community_size: int = 10,
    batch_size: int = 1024,
    show_progress_bar: bool = False,
) -> list[list[int]]:
    """Groups of embeddings that lie around one of them.

    Every embedding with enough others near it is the centre of a candidate. Candidates are taken from the largest to
    the smallest, without what a larger one has taken already.

    Args:
        embeddings: [N, D].
        threshold: Cosine to the centre from which on an embedding is near.
        min_community_size: Smaller groups are none.
        batch_size: Embeddings compared with all others at once.
        show_progress_bar: Whether to show progress on stderr.

    Returns:
        Row numbers of each group, the largest group first; the centre first, then by falling cosine to it.
    """
    if not len(embeddings):
        return []
    vectors = as_tensor(embeddings)
    vectors = normalize_embeddings(vectors[None] if vectors.ndim == 1 else vectors)
    if len(vectors) < min_community_size:
        return []
    candidates: list[tuple[int, npt.NDArray[np.int32]]] = []
    with meter("finding communities", total=len(vectors), unit="texts", show=show_progress_bar) as progress:
        for begin in range(0, len(vectors), batch_size):
            scores = vectors[begin : begin + batch_size] @ vectors.T
            candidates += _candidates(scores, begin, threshold, min_community_size)
            progress.advance(len(scores))
    candidates.sort(key=lambda candidate: -len(candidate[1]))
    taken = np.zeros(len(vectors), dtype=np.bool_)
    communities: list[list[int]] = []
    for center, members in candidates:
        if taken[center]:
            continue
        free = members[~taken[members]]
        if len(free) >= min_community_size:
            communities.append([center, *free[free != center].tolist()])
            taken[communities[-1]] = True
    return sorted(communities, key=lambda community: -len(community))


def _candidates(scores: Tensor, begin: int, threshold: float, least: int) -> list[tuple[int, npt.NDArray[np.int32]]]:
    """Centres from row ``begin`` on and what is near each, nearest first, from their cosines [B, N] to all."""
    near = scores >= torch.tensor(threshold, device=scores.device)
    sizes = near.sum(dim=1)
    centers = (sizes >= least).nonzero()[:, 0]
    if not len(centers):
        return []
    near, scores, sizes = near[centers], scores[centers], sizes[centers]
    lines, members = near.nonzero(as_tuple=True)
    by_score = scores[near].argsort(descending=True, stable=True)
    order = by_score[lines[by_score].argsort(stable=True)]
    ends = sizes.cumsum(0)[:-1].cpu()
    groups = members[order].int().cpu().tensor_split(ends)
    return [(begin + center, group.numpy()) for center, group in zip(centers.tolist(), groups, strict=True)]
