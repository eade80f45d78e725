"""Similarities beside those of sentence-transformers 6.2, and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import util as theirs

from pairloom.errors import UsageError
from pairloom.sentence_transformers import SimilarityFunction
from pairloom.sentence_transformers import util as ours

MATRICES = ("cos_sim", "pytorch_cos_sim", "dot_score", "euclidean_sim", "manhattan_sim")
PAIRWISE = ("pairwise_cos_sim", "pairwise_dot_score", "pairwise_euclidean_sim", "pairwise_manhattan_sim")


def vectors(rows: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, 12)).astype(np.float32)


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


AS = {
    "array": lambda array: array,
    "tensor": torch.from_numpy,
    "float64": lambda array: array.astype(np.float64),
    "half": lambda array: torch.from_numpy(array).half(),
    "bfloat16": lambda array: torch.from_numpy(array).bfloat16(),
    "numbers": lambda array: array.tolist(),
    "arrays": list,
    "tensors": lambda array: list(torch.from_numpy(array)),
    "read-only": lambda array: read_only(array.copy()),
    "columns": lambda array: np.asfortranarray(array),
}


@pytest.mark.parametrize("kind", AS)
@pytest.mark.parametrize("name", MATRICES + PAIRWISE)
def test_similarities_of_whatever_is_given(name: str, kind: str) -> None:
    convert: Any = AS[kind]
    a, b = convert(vectors(5)), convert(vectors(5 if name in PAIRWISE else 40, seed=1))
    found, expected = getattr(ours, name)(a, b), getattr(theirs, name)(a, b)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", MATRICES)
def test_a_single_vector_is_one_row(name: str) -> None:
    a, b = vectors(1)[0], vectors(3)
    for one, other in ((a, b), (b, a), (a, a), (a.tolist(), b)):
        found, expected = getattr(ours, name)(one, other), getattr(theirs, name)(one, other)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", PAIRWISE)
def test_two_single_vectors_are_a_pair(name: str) -> None:
    a, b = vectors(2)
    torch.testing.assert_close(getattr(ours, name)(a, b), getattr(theirs, name)(a, b))


def test_values_by_hand() -> None:
    a, b = [[3.0, 4.0], [0.0, 0.0]], [[4.0, 3.0]]
    assert ours.cos_sim(a, b).tolist() == [[pytest.approx(0.96)], [0.0]]
    assert ours.dot_score(a, b).tolist() == [[24.0], [0.0]]
    assert ours.euclidean_sim(a, b).tolist() == [[pytest.approx(-(2**0.5))], [-5.0]]
    assert ours.manhattan_sim(a, b).tolist() == [[-2.0], [-7.0]]
    assert ours.pairwise_euclidean_sim(torch.tensor([[1, 2]]), torch.tensor([[4, 6]])).tolist() == [-5.0]


def test_gradients_flow() -> None:
    a = torch.from_numpy(vectors(3)).requires_grad_()
    (gradient,) = torch.autograd.grad(ours.cos_sim(a, vectors(2)).sum(), a)
    assert gradient.abs().max() > 0


def test_lengths_and_cuts() -> None:
    tensor = torch.from_numpy(vectors(4))
    torch.testing.assert_close(ours.normalize_embeddings(tensor), theirs.normalize_embeddings(tensor))
    torch.testing.assert_close(ours.normalize_embeddings(tensor[0]), theirs.normalize_embeddings(tensor[0]))
    for embeddings in (tensor, vectors(4), vectors(4)[0]):
        for size in (None, 5, 100):
            found, expected = ours.truncate_embeddings(embeddings, size), theirs.truncate_embeddings(embeddings, size)
            assert type(found) is type(expected)
            np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize("name", MATRICES + PAIRWISE)
def test_sparse_embeddings_are_refused(name: str) -> None:
    dense = torch.from_numpy(vectors(3))
    for sparse in (dense.to_sparse(), [row.to_sparse() for row in dense]):
        with pytest.raises(UsageError, match=r"sparse embeddings are not supported; pass embeddings.to_dense\(\)"):
            getattr(ours, name)(sparse, dense)


def test_functions_by_name() -> None:
    for name in SimilarityFunction.possible_values():
        expected = theirs.SimilarityFunction.to_similarity_fn(name).__name__
        assert SimilarityFunction.to_similarity_fn(name).__name__ == expected
        pairwise = theirs.SimilarityFunction.to_similarity_pairwise_fn(name).__name__
        assert SimilarityFunction.to_similarity_pairwise_fn(SimilarityFunction(name)).__name__ == pairwise
    assert SimilarityFunction["DOT"] is SimilarityFunction.DOT_PRODUCT
    with pytest.raises(ValueError, match="'maxsim' is not supported"):
        SimilarityFunction.to_similarity_fn("maxsim")
