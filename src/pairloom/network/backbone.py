"""One post-norm transformer encoder for BERT, RoBERTa, DistilBERT and MPNet.

Sources: Vaswani et al. 2017; Devlin et al. 2019 (BERT); Liu et al. 2019 (RoBERTa); Sanh et al. 2019 (DistilBERT);
Song et al. 2020 (MPNet), whose relative bias follows Raffel et al. 2020 (T5). The numbers are checked against
transformers in the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from pairloom.models.architecture import Architecture
from pairloom.models.relative import relative_buckets
from pairloom.models.weights import Weights
from pairloom.network.kernels import attend_packed, look_up, takes_packed
from pairloom.network.noise import KeyedNoise, Noise
from pairloom.network.packed import WIDTH_MULTIPLE, Packed

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

    buckets: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.embeddings = Embeddings(architecture)
        if architecture.relative_buckets:
            self.relative_bias = nn.Embedding(architecture.relative_buckets, architecture.num_heads)
            # Of the longest text there can be, once: its upper left corner is that of a shorter one.
            self.register_buffer("buckets", _all_buckets(architecture), persistent=False)
        self.layers = nn.ModuleList(Layer(architecture, number) for number in range(architecture.num_layers))
        self.checkpoint_layers = False
        """Whether layers keep only their input for the backward pass and compute the rest again (Chen et al. 2016)."""

    def forward(self, packed: Packed, noise: Noise | None = None) -> Float[Tensor, "S H"]:
        """Computes token vectors.

        Args:
            packed: The texts.
            noise: Dropout; without it nothing is dropped.
        """
        hidden: Tensor = self.embeddings(packed, noise)
        bias = self._attention_bias(packed)
        for layer in self.layers:
            if self.checkpoint_layers and torch.is_grad_enabled():
                # Random numbers are the noise's affair, which repeats itself, except where a device draws them.
                keep_state = noise is not None and not isinstance(noise, KeyedNoise)
                hidden = checkpoint(
                    layer, hidden, packed, bias, noise, use_reentrant=False, preserve_rng_state=keep_state
                )
            else:
                hidden = layer(hidden, packed, bias, noise)
        return hidden

    def _attention_bias(self, packed: Packed) -> Tensor | None:
        """What is added to attention scores, made once and shared by all layers: [1 or B, 1 or A, 1 or T, T].

        Without padding and without a relative bias there is none, and attention takes its fastest path.
        """
        device, dtype = packed.ids.device.type, self.embeddings.word.weight.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)  # that of queries and keys
        if not self.architecture.relative_buckets:
            if packed.full or takes_packed(packed.ids.device, self.architecture, dtype):
                return None
            return _closed(packed)[:, None, None, :].to(dtype)
        # Contiguous, because a GPU's kernels would otherwise make it so, in each layer.
        buckets = self.buckets[: packed.width, : packed.width]
        bias: Tensor = self.relative_bias(buckets).permute(2, 0, 1).contiguous().unsqueeze(0)
        return (bias if packed.full else bias + _closed(packed)[:, None, None, :].to(bias.dtype)).to(dtype)

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
        self.probability = architecture.hidden_dropout
        self.word = nn.Embedding(architecture.vocabulary_size, hidden)
        self.position = nn.Embedding(architecture.num_positions, hidden)
        self.token_type = nn.Embedding(architecture.num_token_types, hidden) if architecture.num_token_types else None
        self.norm = nn.LayerNorm(hidden, eps=architecture.norm_epsilon)

    def forward(self, packed: Packed, noise: Noise | None) -> Float[Tensor, "S H"]:
        summed = look_up(self.word.weight, packed.ids) + look_up(self.position.weight, self._positions(packed))
        if self.token_type is not None:
            summed = summed + self.token_type.weight[0]
        normed: Tensor = self.norm(summed)
        return normed if noise is None else noise.add_dropped(normed, None, probability=self.probability, site=0)

    def _positions(self, packed: Packed) -> Int[Tensor, "S"]:
        if not self.position_offset:
            return packed.positions
        # As in fairseq, the padding token takes no position, wherever it stands: it may also occur in a text.
        counted = packed.ids != self.pad_token_id
        before = functional.pad(counted.cumsum(dim=0), (1, 0))
        return (before[1:] - before[packed.ends[:-1].long()][packed.texts]) * counted + self.position_offset - 1


class Layer(nn.Module):
    """Attention and feed-forward, each added to its input and then normalised."""

    def __init__(self, architecture: Architecture, number: int) -> None:
        super().__init__()
        first_site = 1 + 3 * number
        self.attention = Attention(architecture, first_site)
        self.feed_forward = FeedForward(architecture, first_site + 2)

    def forward(
        self, hidden: Float[Tensor, "S H"], packed: Packed, bias: Tensor | None, noise: Noise | None
    ) -> Float[Tensor, "S H"]:
        attended: Tensor = self.feed_forward(self.attention(hidden, packed, bias, noise), noise)
        return attended


class Attention(nn.Module):
    def __init__(self, architecture: Architecture, site: int) -> None:
        super().__init__()
        hidden = architecture.hidden_size
        self.architecture = architecture
        self.num_heads = architecture.num_heads
        self.weights_site, self.output_site = site, site + 1
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.output = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden, eps=architecture.norm_epsilon)

    def forward(
        self, hidden: Float[Tensor, "S H"], packed: Packed, bias: Tensor | None, noise: Noise | None
    ) -> Float[Tensor, "S H"]:
        probability = self.architecture.attention_dropout if noise is not None else 0.0
        qkv = self.qkv(hidden)
        heads = qkv.view(len(qkv), 3, self.num_heads, -1)
        if takes_packed(qkv.device, self.architecture, qkv.dtype):
            mixed = attend_packed(heads, packed, probability)
        else:
            parts = packed.pad(heads).permute(2, 0, 3, 1, 4)
            # The kernels of GPUs go by strides, and need no copy.
            query, key, value = parts.contiguous() if parts.device.type == "cpu" else parts
            if noise is None:
                mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
            else:
                mixed = noise.attend(query, key, value, bias, probability=probability, site=self.weights_site)
            mixed = packed.unpad(mixed.transpose(1, 2))
        output = self.output(mixed.flatten(1))
        probability = self.architecture.attention_output_dropout
        normed: Tensor = self.norm(_add(output, hidden, noise, probability, self.output_site))
        return normed


class FeedForward(nn.Module):
    def __init__(self, architecture: Architecture, site: int) -> None:
        super().__init__()
        self.activation = _ACTIVATIONS[architecture.activation]
        self.probability, self.site = architecture.hidden_dropout, site
        self.up = nn.Linear(architecture.hidden_size, architecture.feed_forward_size)
        self.down = nn.Linear(architecture.feed_forward_size, architecture.hidden_size)
        self.norm = nn.LayerNorm(architecture.hidden_size, eps=architecture.norm_epsilon)

    def forward(self, hidden: Float[Tensor, "S H"], noise: Noise | None) -> Float[Tensor, "S H"]:
        output = self.down(self.activation(self.up(hidden)))
        normed: Tensor = self.norm(_add(output, hidden, noise, self.probability, self.site))
        return normed


def _add(values: Tensor, residual: Tensor, noise: Noise | None, probability: float, site: int) -> Tensor:
    if noise is None:
        return residual + values
    return noise.add_dropped(values, residual, probability=probability, site=site)


def _closed(packed: Packed) -> Float[Tensor, "B T"]:
    """Minus infinity where there is padding, for attention not to look there."""
    inside = packed.inside()
    return torch.zeros(inside.shape, device=inside.device).masked_fill_(~inside, -torch.inf)


def _all_buckets(architecture: Architecture) -> Int[Tensor, "T T"]:
    places = np.arange(-(-architecture.max_tokens // WIDTH_MULTIPLE) * WIDTH_MULTIPLE)
    return torch.from_numpy(
        relative_buckets(places[:, None] - places, architecture.relative_buckets, architecture.relative_max_distance)
    )
