"""One optimizer step's mathematics: a batch of texts to its loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from pairloom.encode.micro_batches import micro_batches
from pairloom.encode.torch_engine import autocast, to_device
from pairloom.models.model import Model
from pairloom.models.tokenizer import Tokenizer, Tokens
from pairloom.network.encoder import EncoderNetwork
from pairloom.pairs.batch import Batch
from pairloom.recipe import DataSection, LossSection, Precision, Similarity
from pairloom.train.losses import in_batch_negatives_loss, symmetric_in_batch_negatives_loss


@dataclass(frozen=True)
class BatchTokens:
    """A tokenized batch.

    Args:
        tokens: Anchors, then positives, then negatives if there are any.
        num_pairs: Anchors.
        num_columns: 2, or 3 with negatives.
    """

    tokens: Tokens
    num_pairs: int
    num_columns: int


class BatchTokenizer:
    """Tokenizes a batch, or a rank's share of it: each dataset's texts with its prompts and limits.

    Args:
        model: Whose tokenizer is used.
        section: Has the limits of datasets that have none of their own.
    """

    def __init__(self, model: Model, section: DataSection) -> None:
        self._model, self._section = model, section
        self._tokenizers: dict[int, Tokenizer] = {}

    def __call__(self, batch: Batch) -> BatchTokens:
        anchors, *candidates = batch.columns
        tokens = []
        for part, where in batch.own_parts():
            limit = part.dataset.anchor_max_tokens or self._section.anchor_max_tokens
            tokens.append(self._tokenize(anchors[where], part.dataset.anchor_prompt, limit))
        for column in candidates:
            for part, where in batch.own_parts():
                limit = part.dataset.positive_max_tokens or self._section.positive_max_tokens
                tokens.append(self._tokenize(column[where], part.dataset.positive_prompt, limit))
        return BatchTokens(Tokens.concatenate(tokens), len(anchors), len(batch.columns))

    def _tokenize(self, texts: list[str], prompt: str, limit: int) -> Tokens:
        if limit not in self._tokenizers:
            self._tokenizers[limit] = self._model.tokenizer(limit)
        return self._tokenizers[limit]([prompt + text for text in texts] if prompt else texts)


def embed(
    network: EncoderNetwork, tokens: Tokens, *, device: torch.device, precision: Precision, micro_batch_tokens: int
) -> tuple[Float[Tensor, "N D"], int]:
    """Embeds texts with their graph, micro-batch by micro-batch.

    Anchors and candidates of like length share a micro-batch: one encoder makes both, so one pass does for all.

    Returns:
        Vectors in the order of the texts, and how many places the passes computed, padding included.
    """
    parts, order, places = [], [], 0
    for rows in micro_batches(tokens.lengths, micro_batch_tokens):
        ids, lengths = to_device(tokens, rows, network, device)
        with autocast(device, precision):
            parts.append(network(ids, lengths).float())
        order.append(rows)
        places += ids.numel()
    back = np.empty(len(tokens), dtype=np.int64)
    back[np.concatenate(order)] = np.arange(len(tokens))
    return torch.cat(parts)[torch.from_numpy(back).to(device)], places


def batch_loss(
    vectors: Float[Tensor, "N D"], *, num_pairs: int, similarity: Similarity, section: LossSection
) -> Float[Tensor, ""]:
    """The loss of a batch from the vectors of its anchors, positives and negatives, in this order.

    Pairs are scored both ways unless the recipe says otherwise; batches with hard negatives one way.
    """
    if similarity == "cosine":
        vectors = functional.normalize(vectors, dim=-1)
    anchors, candidates = vectors[:num_pairs], vectors[num_pairs:]
    if section.symmetric and len(candidates) == num_pairs:
        return symmetric_in_batch_negatives_loss(anchors, candidates, scale=section.scale)
    return in_batch_negatives_loss(anchors, candidates, scale=section.scale)
