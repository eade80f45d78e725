"""Search, mining and communities beside those of sentence-transformers 6.2, and by brute force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sentence_transformers import SentenceTransformer as Theirs
from sentence_transformers import util as theirs
from torch import Tensor

from pairloom.errors import UsageError
from pairloom.sentence_transformers import SentenceTransformer
from pairloom.sentence_transformers import util as ours
from tests.conftest import make_pairs
from tests.sentence_transformers.conftest import EncoderFolder

Array = npt.NDArray[Any]


def vectors(rows: int, *, seed: int = 0, size: int = 12) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, size)).astype(np.float32)


def clusters(rows: int, *, centers: int = 6, spread: float = 0.35, seed: int = 3) -> Array:
    dice = np.random.default_rng(seed)
    middle = dice.standard_normal((centers, 12))
    return (middle[dice.integers(0, centers, rows)] + spread * dice.standard_normal((rows, 12))).astype(np.float32)


def assert_same_hits(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for mine, other in zip(found, expected, strict=True):
        assert [hit["corpus_id"] for hit in mine] == [hit["corpus_id"] for hit in other]
        np.testing.assert_allclose([hit["score"] for hit in mine], [hit["score"] for hit in other], atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 3},
        {"top_k": 200},
        {"top_k": 0},
        {"query_chunk_size": 3, "corpus_chunk_size": 7},
        {"query_chunk_size": 1, "corpus_chunk_size": 1, "top_k": 4},
        {"corpus_chunk_size": 60, "top_k": 60},
    ],
    ids=str,
)
@pytest.mark.parametrize("score", ["cos_sim", "dot_score", "euclidean_sim"])
def test_search(options: dict[str, int], score: str) -> None:
    queries, corpus = vectors(11), vectors(60, seed=1)
    found = ours.semantic_search(queries, corpus, score_function=getattr(ours, score), **options)
    expected = theirs.semantic_search(queries, corpus, score_function=getattr(theirs, score), **options)
    assert_same_hits(found, expected)
    assert all(type(hit["corpus_id"]) is int and type(hit["score"]) is float for hits in found for hit in hits)


@pytest.mark.parametrize(
    ("queries", "corpus"),
    [
        (vectors(1)[0], vectors(20, seed=1)),
        (torch.from_numpy(vectors(3)), vectors(20, seed=1)),
        (vectors(3), torch.from_numpy(vectors(20, seed=1))),
        (list(vectors(3)), list(torch.from_numpy(vectors(20, seed=1)))),
        (vectors(3).tolist(), vectors(20, seed=1).tolist()),
        (torch.from_numpy(vectors(3)).half(), torch.from_numpy(vectors(20, seed=1)).half()),
        (vectors(3), vectors(0)),
        (vectors(0), vectors(4)),
    ],
    ids=["one", "tensor and array", "array and tensor", "lists", "numbers", "half", "no corpus", "no queries"],
)
def test_search_takes_whatever_is_given(queries: Any, corpus: Any) -> None:
    assert_same_hits(ours.semantic_search(queries, corpus), theirs.semantic_search(queries, corpus))


def test_search_in_an_array_on_disk_and_one_that_may_not_be_written_to(tmp_path: Path) -> None:
    np.save(tmp_path / "corpus.npy", vectors(50))
    corpus = np.load(tmp_path / "corpus.npy", mmap_mode="r")
    found = ours.semantic_search(vectors(3, seed=2), corpus, corpus_chunk_size=8)
    assert_same_hits(found, theirs.semantic_search(vectors(3, seed=2), vectors(50)))


def test_search_with_a_function_of_the_callers_own() -> None:
    def nearest(a: Tensor, b: Tensor) -> Tensor:
        return -((a[:, None] - b[None]) ** 2).sum(-1)

    queries, corpus = vectors(5), vectors(30, seed=1)
    arguments: dict[str, Any] = {"score_function": nearest, "corpus_chunk_size": 9, "top_k": 6}
    assert_same_hits(
        ours.semantic_search(queries, corpus, **arguments), theirs.semantic_search(queries, corpus, **arguments)
    )


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_of_equal_scores_the_earlier_row_comes_first(chunk: int) -> None:
    corpus = np.repeat(vectors(3), 4, axis=0)
    hits = ours.semantic_search(vectors(2, seed=4), corpus, corpus_chunk_size=chunk, top_k=12)
    for found in hits:
        ids = [hit["corpus_id"] for hit in found]
        assert all(ids[place : place + 4] == sorted(ids[place : place + 4]) for place in (0, 4, 8))
        assert sorted(ids) == list(range(12))


def test_search_keeps_out_of_the_graph() -> None:
    corpus = torch.from_numpy(vectors(4)).requires_grad_()
    assert len(ours.semantic_search(vectors(1), corpus, top_k=2)[0]) == 2


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 2},
        {"top_k": 1, "max_pairs": 10},
        {"max_pairs": 25},
        {"query_chunk_size": 7, "corpus_chunk_size": 11},
        {"query_chunk_size": 7, "corpus_chunk_size": 11, "top_k": 3, "max_pairs": 40},
        {"query_chunk_size": 1, "corpus_chunk_size": 1, "max_pairs": 5},
    ],
    ids=str,
)
def test_paraphrases(options: dict[str, Any]) -> None:
    for embeddings in (vectors(45), torch.from_numpy(vectors(45)), vectors(2), vectors(1)):
        found = ours.paraphrase_mining_embeddings(embeddings, **options)
        expected = theirs.paraphrase_mining_embeddings(torch.as_tensor(embeddings), **options)
        assert [pair[1:] for pair in found] == [pair[1:] for pair in expected]
        np.testing.assert_allclose([pair[0] for pair in found], [pair[0] for pair in expected], atol=1e-5)
        assert all([type(value) for value in pair] == [float, int, int] for pair in found)


def test_all_paraphrases_are_all_pairs() -> None:
    embeddings = vectors(20)
    scores = ours.cos_sim(embeddings, embeddings)
    pairs = ours.paraphrase_mining_embeddings(embeddings, query_chunk_size=6, corpus_chunk_size=5)
    assert sorted(pair[1:] for pair in pairs) == [[i, j] for i in range(20) for j in range(i + 1, 20)]
    assert [pair[0] for pair in pairs] == sorted((pair[0] for pair in pairs), reverse=True)
    for score, i, j in pairs:
        assert score == pytest.approx(float(scores[int(i), int(j)]), abs=1e-6)


def test_equal_texts_are_paraphrases_of_each_other_once() -> None:
    embeddings = np.repeat(vectors(2), 3, axis=0)
    pairs = ours.paraphrase_mining_embeddings(embeddings, top_k=2, query_chunk_size=2)
    assert sorted(pair[1:] for pair in pairs) == [[0, 1], [0, 2], [1, 2], [3, 4], [3, 5], [4, 5]]
    six = np.repeat(vectors(1), 6, axis=0)
    assert len(ours.paraphrase_mining_embeddings(six, top_k=1)) <= 6, (
        "one neighbour each, also if itself is not the nearest"
    )
    assert ours.paraphrase_mining_embeddings(torch.zeros(0)) == []
    assert ours.paraphrase_mining_embeddings(vectors(0)) == []


def test_paraphrases_of_texts(encoder_folder: EncoderFolder) -> None:
    folder = encoder_folder("mpnet", normalize=False, prompts={"query": "what is "})
    model, oracle = SentenceTransformer(folder), Theirs(str(folder))
    texts = [text for pair in make_pairs(15) for text in pair]
    calls: list[dict[str, Any]] = [
        {},
        {"prompt_name": "query", "truncate_dim": 9, "top_k": 3},
        {"prompt": "the ", "max_pairs": 8},
    ]
    for options in calls:
        found = ours.paraphrase_mining(model, texts, **options)
        expected = theirs.paraphrase_mining(oracle, texts, **options)
        assert [pair[1:] for pair in found] == [pair[1:] for pair in expected]
        np.testing.assert_allclose([pair[0] for pair in found], [pair[0] for pair in expected], atol=1e-5)
    assert ours.paraphrase_mining(model, []) == []


@pytest.mark.parametrize("threshold", [-1.0, 0.3, 0.6, 0.75, 0.9, 1.1])
@pytest.mark.parametrize("least", [1, 2, 10, 60])
@pytest.mark.parametrize("batch_size", [7, 1024])
def test_communities(threshold: float, least: int, batch_size: int) -> None:
    options: dict[str, Any] = {"threshold": threshold, "min_community_size": least, "batch_size": batch_size}
    for embeddings in (clusters(150), torch.from_numpy(clusters(90, spread=1.0)), vectors(5)):
        assert ours.community_detection(embeddings, **options) == theirs.community_detection(embeddings, **options)


def test_communities_with_equal_texts_have_the_same_members_and_centres() -> None:
    embeddings = np.repeat(clusters(60), 3, axis=0)
    found = ours.community_detection(embeddings, threshold=0.8, min_community_size=5)
    expected = theirs.community_detection(embeddings, threshold=0.8, min_community_size=5)
    assert [(group[0], sorted(group)) for group in found] == [(group[0], sorted(group)) for group in expected]
    assert len(found) > 2


def test_communities_of_little() -> None:
    few: list[Any] = [vectors(0), [], vectors(1)[0], vectors(9)]
    for embeddings in few:
        assert ours.community_detection(embeddings) == theirs.community_detection(embeddings) == []
    assert ours.community_detection(vectors(1), min_community_size=1) == [[0]]
    numbers = clusters(40).tolist()
    options: dict[str, Any] = {"threshold": 0.6, "min_community_size": 3}
    assert ours.community_detection(numbers, **options) == theirs.community_detection(numbers, **options) != []


def test_zero_vectors_are_near_nothing() -> None:
    embeddings = np.concatenate([np.zeros((5, 12), dtype=np.float32), clusters(30)])
    options: dict[str, Any] = {"threshold": 0.5, "min_community_size": 3}
    found = ours.community_detection(embeddings, **options)
    assert found == theirs.community_detection(embeddings, **options)
    assert not {member for group in found for member in group} & set(range(5))


def test_communities_show_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairloom.progress._PLAIN_LINE_EVERY_S", 0.0)
    ours.community_detection(clusters(30), show_progress_bar=True)
    assert "finding communities" in capsys.readouterr().err
    ours.community_detection(clusters(30))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "call",
    [
        lambda sparse: ours.semantic_search(sparse, vectors(3)),
        lambda sparse: ours.semantic_search(vectors(3), sparse),
        ours.paraphrase_mining_embeddings,
        ours.community_detection,
        ours.normalize_embeddings,
    ],
)
def test_sparse_embeddings_are_refused(call: Any) -> None:
    with pytest.raises(UsageError, match="sparse embeddings are not supported"):
        call(torch.from_numpy(vectors(3)).to_sparse())


def test_a_gpu_gives_the_same() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU is at hand")
    here, there = torch.from_numpy(clusters(80)), torch.from_numpy(clusters(80)).cuda()
    assert_same_hits(ours.semantic_search(here[:5], there), ours.semantic_search(here[:5], here))
    pairs = ours.paraphrase_mining_embeddings(there)
    assert [pair[1:] for pair in pairs] == [pair[1:] for pair in ours.paraphrase_mining_embeddings(here)]
    groups = ours.community_detection(there, threshold=0.8, min_community_size=4)
    assert groups == ours.community_detection(here, threshold=0.8, min_community_size=4)
