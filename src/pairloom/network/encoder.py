"""The whole encoder as a torch module: backbone, pooling, dense layers, normalisation."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from pairloom.models.heads import Dense, Head, Pooling
from pairloom.models.model import Model
from pairloom.network.backbone import Backbone
from pairloom.network.noise import Noise
from pairloom.network.packed import Packed
from pairloom.network.pooling import pool

_ACTIVATIONS = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
}


class EncoderNetwork(nn.Module):
    """Token numbers to one vector a text.

    Args:
        model: The weights are copied, so that training does not change ``model``.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.pooling: Pooling = model.pooling
        self.output_size = model.output_size
        self.backbone = Backbone(model.architecture)
        self.backbone.load_canonical(model.weights)
        self.heads = nn.ModuleList(_build_head(head) for head in model.heads)

    def forward(self, packed: Packed, noise: Noise | None = None, skip_tokens: int = 0) -> Float[Tensor, "B D"]:
        """Computes one vector a text.

        Args:
            packed: The texts.
            noise: Dropout; without it nothing is dropped.
            skip_tokens: Tokens of a prompt at the beginning that pooling leaves out, for models that ask for it.
        """
        tokens = packed.pad(self.backbone(packed, noise).float())
        taken = packed.inside()
        if skip_tokens:
            # A prompt that fills the whole text would leave nothing: then the last token stands for it.
            first = (packed.lengths - 1).clamp(max=skip_tokens)
            taken = taken & (torch.arange(packed.width, device=first.device) >= first[:, None])
        # Half precision is for the backbone: sums over tokens and lengths of vectors would lose digits.
        with torch.autocast(tokens.device.type, enabled=False):
            vectors = pool(tokens, taken, self.pooling.modes)
            for head in self.heads:
                vectors = head(vectors)
        return vectors if self.output_size is None else vectors[:, : self.output_size]

    def updated(self, model: Model) -> Model:
        """A copy of ``model``, from which this network was built, with the weights as they are now."""
        heads: list[Head] = []
        for head, module in zip(model.heads, self.heads, strict=True):
            if isinstance(head, Dense) and isinstance(module, _Dense):
                weight, bias = module.linear.weight, module.linear.bias
                heads.append(
                    Dense(
                        weight.detach().cpu().numpy().copy(),
                        None if head.bias is None else bias.detach().cpu().numpy().copy(),
                        head.activation,
                    )
                )
            else:
                heads.append(head)
        return dataclasses.replace(model, weights=self.backbone.canonical(), heads=tuple(heads))


class _Dense(nn.Module):
    def __init__(self, head: Dense) -> None:
        super().__init__()
        self.linear = nn.Linear(head.weight.shape[1], head.weight.shape[0], bias=head.bias is not None)
        self.activation = _ACTIVATIONS[head.activation]()
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(head.weight))
            if head.bias is not None:
                self.linear.bias.copy_(torch.from_numpy(head.bias))

    def forward(self, vectors: Float[Tensor, "B I"]) -> Float[Tensor, "B O"]:
        activated: Tensor = self.activation(self.linear(vectors))
        return activated


class _Normalize(nn.Module):
    def forward(self, vectors: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return functional.normalize(vectors, dim=-1)


def _build_head(head: Head) -> nn.Module:
    return _Dense(head) if isinstance(head, Dense) else _Normalize()
