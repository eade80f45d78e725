"""The shape of an encoder, said once, so that every engine builds the same network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Activation = Literal["gelu", "gelu_tanh", "relu"]


@dataclass(frozen=True)
class Architecture:
    """A post-norm transformer encoder (Vaswani et al. 2017; Devlin et al. 2019) of one of the four families.

    Args:
        family: ``bert``, ``roberta``, ``distilbert`` or ``mpnet``.
        vocabulary_size: Rows of the word table.
        hidden_size: Width of a token vector.
        num_layers: Transformer layers.
        num_heads: Attention heads of a layer.
        feed_forward_size: Width of the inner feed-forward layer.
        activation: Between the two feed-forward products.
        num_positions: Rows of the position table.
        position_offset: The first token of a text takes this row; RoBERTa and MPNet start after the padding's row.
        num_token_types: Rows of the token-type table, of which texts use row 0; 0 if there is no such table.
        relative_buckets: Buckets of MPNet's relative attention bias, which all layers share; 0 if there is none.
        relative_max_distance: Distances from here on share a bucket.
        pad_token_id: Fills a batch's shorter rows.
        norm_epsilon: Of the layer norms.
        hidden_dropout: After embeddings and feed-forward, in training.
        attention_output_dropout: After the attention's output product, in training.
        attention_dropout: On attention weights, in training.
    """

    family: str
    vocabulary_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    feed_forward_size: int
    activation: Activation
    num_positions: int
    position_offset: int
    num_token_types: int
    relative_buckets: int
    relative_max_distance: int
    pad_token_id: int
    norm_epsilon: float
    hidden_dropout: float
    attention_output_dropout: float
    attention_dropout: float

    @property
    def max_tokens(self) -> int:
        """The longest text that has a position for each token."""
        return self.num_positions - self.position_offset

    def weight_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yields the canonical name and shape of each weight; linear weights are ``(out, in)``."""
        hidden, inner = self.hidden_size, self.feed_forward_size
        yield "embeddings.word.weight", (self.vocabulary_size, hidden)
        yield "embeddings.position.weight", (self.num_positions, hidden)
        if self.num_token_types:
            yield "embeddings.token_type.weight", (self.num_token_types, hidden)
        yield from _norm("embeddings.norm", hidden)
        if self.relative_buckets:
            yield "relative_bias.weight", (self.relative_buckets, self.num_heads)
        for layer in range(self.num_layers):
            for part in ("query", "key", "value", "output"):
                yield from _linear(f"layers.{layer}.attention.{part}", hidden, hidden)
            yield from _norm(f"layers.{layer}.attention.norm", hidden)
            yield from _linear(f"layers.{layer}.feed_forward.up", hidden, inner)
            yield from _linear(f"layers.{layer}.feed_forward.down", inner, hidden)
            yield from _norm(f"layers.{layer}.feed_forward.norm", hidden)


def _linear(name: str, inputs: int, outputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (size,)
    yield f"{name}.bias", (size,)
