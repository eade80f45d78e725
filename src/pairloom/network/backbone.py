"""One post-norm transformer encoder for BERT, RoBERTa, DistilBERT and MPNet.

Sources: Vaswani et al. 2017; Devlin et al. 2019 (BERT); Liu et al. 2019 (RoBERTa); Sanh et al. 2019 (DistilBERT);
Song et al. 2020 (MPNet), whose relative bias follows Raffel et al. 2020 (T5). The numbers are checked against
transformers in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from pairloom.models.architecture import Architecture
from pairloom.models.weights import Weights

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
}


class Backbone(nn.Module):
    """Token numbers to token vectors.

    Parameters bear the canonical names (`Architecture.weight_shapes`), except that query, key and value are one
    product (``qkv``), which is one large matrix product instead of three small ones.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.embeddings = Embeddings(architecture)
        if architecture.relative_buckets:
            self.relative_bias = nn.Embedding(architecture.relative_buckets, architecture.num_heads)
        self.layers = nn.ModuleList(Layer(architecture) for _ in range(architecture.num_layers))

    def forward(self, ids: Int[Tensor, "B T"], inside: Bool[Tensor, "B T"]) -> Float[Tensor, "B T H"]:
        """Computes token vectors.

        Args:
            ids: Token numbers, padded on the right.
            inside: True where there is a token, False where there is padding.

        Returns:
            Token vectors; those of padding mean nothing.
        """
        hidden: Tensor = self.embeddings(ids)
        bias = self._attention_bias(inside)
        for layer in self.layers:
            hidden = layer(hidden, bias)
        return hidden

    def _attention_bias(self, inside: Bool[Tensor, "B T"]) -> Tensor | None:
        """What is added to attention scores, made once and shared by all layers: [1 or B, 1 or A, 1 or T, T].

        Without padding and without a relative bias there is none, and attention takes its fastest path.
        """
        visible = None if bool(inside.all()) else inside[:, None, None, :]
        if not self.architecture.relative_buckets:
            return visible
        buckets = relative_buckets(
            inside.shape[1], self.architecture.relative_buckets, self.architecture.relative_max_distance
        ).to(inside.device)
        bias: Tensor = self.relative_bias(buckets).permute(2, 0, 1).unsqueeze(0)
        return bias if visible is None else bias.masked_fill(~visible, -torch.inf)

    def load_canonical(self, weights: Weights) -> None:
        """Copies canonical weights in."""
        tensors = {name: torch.from_numpy(weight) for name, weight in weights.items()}
        for number in range(self.architecture.num_layers):
            prefix = f"layers.{number}.attention"
            for kind in ("weight", "bias"):
                parts = [tensors.pop(f"{prefix}.{part}.{kind}") for part in ("query", "key", "value")]
                tensors[f"{prefix}.qkv.{kind}"] = torch.cat(parts)
        self.load_state_dict(tensors)

    def canonical(self) -> Weights:
        """Copies the weights out, under canonical names."""
        weights: Weights = {}
        for name, tensor in self.state_dict().items():
            array = tensor.detach().to("cpu", torch.float32, copy=True).numpy()
            if ".qkv." in name:
                for part, piece in zip(("query", "key", "value"), array.reshape(3, -1, *array.shape[1:]), strict=True):
                    weights[name.replace("qkv", part)] = piece
            else:
                weights[name] = array
        return weights


class Embeddings(nn.Module):
    """The sum of what a token is and where it stands, normalised."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        hidden = architecture.hidden_size
        self.pad_token_id = architecture.pad_token_id
        self.position_offset = architecture.position_offset
        self.word = nn.Embedding(architecture.vocabulary_size, hidden)
        self.position = nn.Embedding(architecture.num_positions, hidden)
        self.token_type = nn.Embedding(architecture.num_token_types, hidden) if architecture.num_token_types else None
        self.norm = nn.LayerNorm(hidden, eps=architecture.norm_epsilon)
        self.dropout = nn.Dropout(architecture.hidden_dropout)

    def forward(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T H"]:
        if self.position_offset:
            # As in fairseq, the padding token takes no position, wherever it stands: it may also occur in a text.
            counted = ids != self.pad_token_id
            positions = counted.cumsum(dim=1) * counted + self.position_offset - 1
        else:
            positions = torch.arange(ids.shape[1], device=ids.device)
        summed = self.word(ids) + self.position(positions)
        if self.token_type is not None:
            summed = summed + self.token_type.weight[0]
        embedded: Tensor = self.dropout(self.norm(summed))
        return embedded


class Layer(nn.Module):
    """Attention and feed-forward, each added to its input and then normalised."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.attention = Attention(architecture)
        self.feed_forward = FeedForward(architecture)

    def forward(self, hidden: Float[Tensor, "B T H"], bias: Tensor | None) -> Float[Tensor, "B T H"]:
        attended: Tensor = self.feed_forward(self.attention(hidden, bias))
        return attended


class Attention(nn.Module):
    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        hidden = architecture.hidden_size
        self.num_heads = architecture.num_heads
        self.probability_dropout = architecture.attention_dropout
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.output = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden, eps=architecture.norm_epsilon)
        self.dropout = nn.Dropout(architecture.attention_output_dropout)

    def forward(self, hidden: Float[Tensor, "B T H"], bias: Tensor | None) -> Float[Tensor, "B T H"]:
        batch, length, size = hidden.shape
        heads = self.qkv(hidden).view(batch, length, 3, self.num_heads, size // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        if bias is not None and bias.is_floating_point():
            bias = bias.to(query.dtype)
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, dropout_p=self.probability_dropout if self.training else 0.0
        )
        mixed = mixed.transpose(1, 2).reshape(batch, length, size)
        normed: Tensor = self.norm(self.dropout(self.output(mixed)) + hidden)
        return normed


class FeedForward(nn.Module):
    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.activation = _ACTIVATIONS[architecture.activation]
        self.up = nn.Linear(architecture.hidden_size, architecture.feed_forward_size)
        self.down = nn.Linear(architecture.feed_forward_size, architecture.hidden_size)
        self.norm = nn.LayerNorm(architecture.hidden_size, eps=architecture.norm_epsilon)
        self.dropout = nn.Dropout(architecture.hidden_dropout)

    def forward(self, hidden: Float[Tensor, "B T H"]) -> Float[Tensor, "B T H"]:
        normed: Tensor = self.norm(self.dropout(self.down(self.activation(self.up(hidden)))) + hidden)
        return normed


def relative_buckets(length: int, num_buckets: int, max_distance: int) -> Int[Tensor, "T T"]:
    """The bucket of each (query, key) distance, as in T5's bidirectional encoder (Raffel et al. 2020).

    Half of the buckets are for keys after the query. Within a half, the near distances have a bucket each and the
    far ones share buckets that grow logarithmically up to ``max_distance``.
    """
    positions = torch.arange(length)
    distance = positions[:, None] - positions[None, :]  # query minus key
    half = num_buckets // 2
    exact = half // 2
    size = distance.abs()
    growth = torch.log(size.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = (exact + (growth * (half - exact)).long()).clamp(max=half - 1)
    return torch.where(size < exact, size, far) + half * (distance < 0)
