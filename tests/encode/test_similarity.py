"""Similarity and exact search against a full sort in float64."""

from __future__ import annotations

import numpy as np
import pytest

from pairloom.encode import similarity as module
from pairloom.encode.similarity import normalize, similarity, top_k


def draw(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def test_by_hand() -> None:
    a, b = np.array([[3.0, 4.0]]), np.array([[3.0, 4.0], [4.0, -3.0], [0.0, 0.0]])
    np.testing.assert_allclose(similarity(a, b, "dot"), [[25, 0, 0]])
    np.testing.assert_allclose(similarity(a, b, "cosine"), [[1, 0, 0]], atol=1e-7)
    np.testing.assert_allclose(normalize(a), [[0.6, 0.8]], atol=1e-7)
    with pytest.raises(ValueError, match="'manhattan' is not known"):
        similarity(a, b, "manhattan")


@pytest.mark.parametrize("name", ["cosine", "dot"])
@pytest.mark.parametrize("k", [1, 7, 100, 1000])
def test_equals_a_full_sort_whatever_the_blocks(name: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, documents = draw(23, 8), draw(211, 8)
    whole = top_k(queries, documents, k, name)
    monkeypatch.setattr(module, "_BLOCK_ROWS", 16)
    monkeypatch.setattr(module, "_QUERY_BLOCK_ROWS", 5)
    rows, scores = top_k(queries, documents, k, name)
    expected = similarity(queries, documents, name)
    best = np.argsort(-expected, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(whole[0], best)
    np.testing.assert_array_equal(rows, best)
    # As exact as sums of eight products in float32 are in any order (Higham 2002, section 3.1), of vectors that were rounded.
    a, b = (vectors.astype(np.float64) for vectors in (queries, documents))
    if name == "cosine":
        a, b = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (a, b))
    exact, most = (np.take_along_axis(products, best, 1) for products in (a @ b.T, np.abs(a) @ np.abs(b).T))
    assert (np.abs(scores - exact) <= (8 + 4) * 2.0**-24 * most).all()


def test_of_equal_scores_the_first_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_ROWS", 4)
    rows, _ = top_k(np.ones((1, 2)), np.ones((10, 2)), 6, "dot")
    assert rows.tolist() == [[0, 1, 2, 3, 4, 5]]


def test_nothing_to_search() -> None:
    assert top_k(draw(2, 3), draw(0, 3), 5, "cosine")[0].shape == (2, 0)
    assert top_k(draw(0, 3), draw(4, 3), 5, "cosine")[0].shape == (0, 4)
