"""The objective of a recipe: where its ``[loss]`` section meets the pure functions of `losses` and `mean_losses`."""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from pairloom.errors import RecipeError
from pairloom.recipe import LossSection, Similarity
from pairloom.train.losses import BatchLoss, contrastive_loss
from pairloom.train.mean_losses import matryoshka_loss, multi_context_loss


def batch_loss(
    vectors: Float[Tensor, "R D"],
    *,
    num_pairs: int,
    similarity: Similarity,
    section: LossSection,
    scale: Float[Tensor, ""] | None = None,
    text_keys: Int64[Tensor, "R"] | None = None,
    has_context: bool = False,
) -> BatchLoss:
    """The loss of a batch from the vectors of its anchors, positives, and negatives or past contexts, in this order.

    Args:
        vectors: Of two or three columns with ``num_pairs`` rows each, as the network makes them; normalised here for cosine.
        num_pairs: N.
        similarity: How two vectors are compared.
        section: Pairs are scored both ways if it says ``symmetric``; batches with hard negatives always one way.
        scale: Takes the place of ``section.scale``, and gets its gradient.
        text_keys: Equal where two texts are the same for the model; read only if the section masks false negatives.
        has_context: Whether the third column holds past contexts, and no negatives; then three losses are averaged.

    Raises:
        RecipeError: A dimension of ``matryoshka_dimensions`` is more than the vectors have.
    """
    check_dimensions(section, vectors.shape[1])
    keys = text_keys if section.mask_false_negatives else None
    anchor_keys, candidate_keys = (None, None) if keys is None else (keys[:num_pairs], keys[num_pairs:])

    def contrast(anchors: Tensor, candidates: Tensor, keys: Tensor | None) -> BatchLoss:
        return contrastive_loss(
            anchors,
            candidates,
            scale=section.scale if scale is None else scale,
            symmetric=section.symmetric and len(candidates) == num_pairs,
            query_query=section.query_query,
            document_document=section.document_document,
            anchor_keys=anchor_keys,
            candidate_keys=keys,
        )

    def loss(vectors: Tensor) -> BatchLoss:
        if similarity == "cosine":
            vectors = functional.normalize(vectors, dim=-1)
        anchors, candidates = vectors[:num_pairs], vectors[num_pairs:]
        if not has_context:
            return contrast(anchors, candidates, candidate_keys)
        return multi_context_loss(
            candidates[:num_pairs],
            candidates[num_pairs:],
            lambda candidates, keys: contrast(anchors, candidates, keys),
            normalize=similarity == "cosine",
            positive_keys=None if candidate_keys is None else candidate_keys[:num_pairs],
            past_context_keys=None if candidate_keys is None else candidate_keys[num_pairs:],
        )

    if vectors.dtype.itemsize < 4:
        vectors = vectors.float()
    return (
        matryoshka_loss(vectors, section.matryoshka_dimensions, loss)
        if section.matryoshka_dimensions
        else loss(vectors)
    )


def check_dimensions(section: LossSection, num_components: int) -> None:
    """Raises `RecipeError` if a Matryoshka dimension is more than the components that vectors have."""
    largest = max(section.matryoshka_dimensions, default=0)
    if largest > num_components:
        raise RecipeError(
            f"loss.matryoshka_dimensions has {largest}, but the model's vectors have {num_components} components; leave "
            "the larger ones out"
        )
