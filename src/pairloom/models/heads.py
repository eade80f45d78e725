"""What follows the backbone: pooling of token vectors into one, then dense layers and normalisation, in order."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pairloom.choices import PoolingMode

# The keys of the older dialect, in the order in which sentence-transformers concatenates the parts.
POOLING_FLAGS: dict[str, PoolingMode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

# torch class as `Dense` modules name it, to the plain name that engines implement.
DENSE_ACTIVATIONS = {
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.GELU": "gelu",
    "torch.nn.modules.activation.SiLU": "silu",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.linear.Identity": "identity",
}


@dataclass(frozen=True)
class Pooling:
    """How token vectors [T, H] become one vector [H × len(modes)].

    Args:
        modes: The parts, concatenated in this order.
        include_prompt: Whether a prompt's tokens take part.
    """

    modes: tuple[PoolingMode, ...]
    include_prompt: bool = True

    @property
    def first_only(self) -> bool:
        """Whether of the last layer only the first token's vector is needed."""
        return self.modes == ("cls",) and self.include_prompt


@dataclass(frozen=True)
class Dense:
    """A linear layer with an activation.

    Args:
        weight: [out, in].
        bias: [out], or None.
        activation: A value of `DENSE_ACTIVATIONS`.
    """

    weight: npt.NDArray[np.float32] = field(repr=False)
    bias: npt.NDArray[np.float32] | None = field(repr=False)
    activation: str


@dataclass(frozen=True)
class Normalize:
    """Scales a vector to length 1."""


Head = Dense | Normalize
