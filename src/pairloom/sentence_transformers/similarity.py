"""How two embeddings are compared: matrices of all with all, and vectors of each with its own."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import torch
from torch import Tensor

from pairloom.sentence_transformers.refusals import ArgumentError
from pairloom.sentence_transformers.tensors import Embeddings, as_floats, as_rows, normalize_embeddings

ScoreFunction = Callable[[Tensor, Tensor], Tensor]


def cos_sim(a: Embeddings, b: Embeddings) -> Tensor:
    """Cosine of every row of ``a`` [N, D] with every row of ``b`` [M, D]: [N, M]. A single vector [D] is one row."""
    return normalize_embeddings(as_rows(a)) @ normalize_embeddings(as_rows(b)).T


def dot_score(a: Embeddings, b: Embeddings) -> Tensor:
    """Dot product of every row of ``a`` [N, D] with every row of ``b`` [M, D]: [N, M]. A single vector [D] is one row."""
    return as_rows(a) @ as_rows(b).T


def euclidean_sim(a: Embeddings, b: Embeddings) -> Tensor:
    """Negative Euclidean distance of every row of ``a`` [N, D] to every row of ``b`` [M, D]: [N, M]."""
    return -torch.cdist(as_rows(a), as_rows(b), p=2.0)


def manhattan_sim(a: Embeddings, b: Embeddings) -> Tensor:
    """Negative sum of the absolute differences of every row of ``a`` [N, D] to every row of ``b`` [M, D]: [N, M]."""
    return -torch.cdist(as_rows(a), as_rows(b), p=1.0)


def pairwise_cos_sim(a: Embeddings, b: Embeddings) -> Tensor:
    """Cosine of row ``i`` of ``a`` [N, D] with row ``i`` of ``b`` [N, D]: [N]."""
    return pairwise_dot_score(normalize_embeddings(as_floats(a)), normalize_embeddings(as_floats(b)))


def pairwise_dot_score(a: Embeddings, b: Embeddings) -> Tensor:
    """Dot product of row ``i`` of ``a`` [N, D] with row ``i`` of ``b`` [N, D]: [N]."""
    return torch.sum(as_floats(a) * as_floats(b), dim=-1)


def pairwise_euclidean_sim(a: Embeddings, b: Embeddings) -> Tensor:
    """Negative Euclidean distance of row ``i`` of ``a`` [N, D] to row ``i`` of ``b`` [N, D]: [N]."""
    differences = as_floats(a) - as_floats(b)
    distances: Tensor = torch.linalg.vector_norm(
        differences if differences.is_floating_point() else differences.float(), dim=-1
    )
    return -distances


def pairwise_manhattan_sim(a: Embeddings, b: Embeddings) -> Tensor:
    """Negative sum of the absolute differences of row ``i`` of ``a`` [N, D] to row ``i`` of ``b`` [N, D]: [N]."""
    return -torch.sum(torch.abs(as_floats(a) - as_floats(b)), dim=-1)


class SimilarityFunction(Enum):
    """The functions that a model's ``similarity_fn_name`` may name."""

    COSINE = "cosine"
    DOT_PRODUCT = "dot"
    DOT = "dot"  # noqa: PIE796 (one function with two names)
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"

    @staticmethod
    def named(name: str | SimilarityFunction) -> SimilarityFunction:
        """The function of a name.

        Raises:
            ArgumentError: There is none.
        """
        try:
            return SimilarityFunction(name)
        except ValueError:
            known = ", ".join(SimilarityFunction.possible_values())
            raise ArgumentError(f"similarity {name!r} is not supported; these are: {known}") from None

    @staticmethod
    def to_similarity_fn(similarity_function: str | SimilarityFunction) -> Callable[[Embeddings, Embeddings], Tensor]:
        """The function that compares all with all."""
        return _FUNCTIONS[SimilarityFunction.named(similarity_function)][0]

    @staticmethod
    def to_similarity_pairwise_fn(
        similarity_function: str | SimilarityFunction,
    ) -> Callable[[Embeddings, Embeddings], Tensor]:
        """The function that compares each with its own."""
        return _FUNCTIONS[SimilarityFunction.named(similarity_function)][1]

    @staticmethod
    def possible_values() -> list[str]:
        """All names."""
        return [function.value for function in SimilarityFunction]


_FUNCTIONS = {
    SimilarityFunction.COSINE: (cos_sim, pairwise_cos_sim),
    SimilarityFunction.DOT_PRODUCT: (dot_score, pairwise_dot_score),
    SimilarityFunction.EUCLIDEAN: (euclidean_sim, pairwise_euclidean_sim),
    SimilarityFunction.MANHATTAN: (manhattan_sim, pairwise_manhattan_sim),
}
