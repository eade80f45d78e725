"""Token vectors to one vector a text: pure functions.

Texts are padded on the right. ``taken`` says which tokens take part; it leaves out the padding and, if a model asks
for it, the tokens of a prompt. The modes are those of sentence-transformers and agree with it.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pairloom.choices import PoolingMode


def pool(
    tokens: Float[Tensor, "B T H"], taken: Bool[Tensor, "B T"], modes: tuple[PoolingMode, ...]
) -> Float[Tensor, "B D"]:
    """Concatenates the pooled vectors of each mode: D = H × len(modes).

    Args:
        tokens: The backbone's output.
        taken: At least one token of each text.
        modes: ``mean``; ``cls``, the first token; ``max`` of each component; ``mean_sqrt_len_tokens``, the sum over the square
            root of the count; ``weightedmean``, with weights 1, 2, 3, … along the text (Muennighoff 2022);
            ``lasttoken``.
    """
    return torch.cat([_pool_one(tokens, taken, mode) for mode in modes], dim=-1)


def _pool_one(tokens: Float[Tensor, "B T H"], taken: Bool[Tensor, "B T"], mode: PoolingMode) -> Float[Tensor, "B H"]:
    match mode:
        case "cls":
            return _at(tokens, taken.int().argmax(dim=1))
        case "lasttoken":
            return _at(tokens, taken.shape[1] - 1 - taken.flip(1).int().argmax(dim=1))
        case "max":
            return tokens.masked_fill(~taken.unsqueeze(-1), -torch.inf).amax(dim=1)
        case "mean":
            return _weighted_sum(tokens, taken.float() / taken.sum(dim=1, keepdim=True))
        case "mean_sqrt_len_tokens":
            return _weighted_sum(tokens, taken.float() / taken.sum(dim=1, keepdim=True).sqrt())
        case "weightedmean":
            places = torch.arange(1, taken.shape[1] + 1, device=taken.device)
            weights = (taken * places).float()
            return _weighted_sum(tokens, weights / weights.sum(dim=1, keepdim=True))


def _weighted_sum(tokens: Float[Tensor, "B T H"], weights: Float[Tensor, "B T"]) -> Float[Tensor, "B H"]:
    """Sum of token vectors by weight, as one batched product (no masked copy of the tokens is made)."""
    return torch.bmm(weights.to(tokens.dtype).unsqueeze(1), tokens).squeeze(1)


def _at(tokens: Float[Tensor, "B T H"], places: Tensor) -> Float[Tensor, "B H"]:
    return tokens[torch.arange(len(tokens), device=tokens.device), places]
