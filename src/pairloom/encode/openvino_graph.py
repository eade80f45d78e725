"""An encoder as OpenVINO graphs, built from its description and weights alone: no export, no torch.

Tokens stand end to end, without padding, wherever each of them is computed by itself, which is most of the work. For attention
they are spread out into a rectangle, for which OpenVINO has a fused kernel; short texts share its rows, each closed to the others.
For pooling they are spread out, too, a text a row.

Shapes: B texts, L tokens of the longest of them, R rows of attention and their width W, T tokens of all, H width of a token
vector, A heads of size d, P width of the pooled vector, D width of the result. The numbers are checked against transformers in
the tests.

Sources: as of `pairloom.network.backbone`; https://docs.openvino.ai, "Operation Specifications"; for tokens without padding
Zhai et al., "ByteTransformer", https://arxiv.org/abs/2210.03052.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.encode.quiet_openvino import op, openvino
from pairloom.models.architecture import Architecture
from pairloom.models.heads import Dense, Head
from pairloom.models.model import Model
from pairloom.models.relative import relative_buckets
from pairloom.models.weights import Array, Weights

Node = Any
"""What operations take and give; OpenVINO's own types are not exact about it."""

_ACTIVATIONS: dict[str, Callable[[Node], Node]] = {
    "gelu": lambda values: op.gelu(values, "erf"),
    "gelu_tanh": lambda values: op.gelu(values, "tanh"),
    "relu": op.relu,
    "tanh": op.tanh,
    "sigmoid": op.sigmoid,
    "silu": op.swish,
    "identity": lambda values: values,
}
_LARGEST_INT8 = 127
_SMALLEST_LENGTH = 1e-12  # of vectors that are normalised, as torch has it


def build_backbone(model: Model, *, quantized: bool = False) -> openvino.Model:
    """Token numbers to pooled vectors [B, P].

    Inputs, all made by `pairloom.encode.openvino_inputs.make_inputs`: ``ids`` and ``positions`` int32 [T], the latter rows of the
    position table; ``spread`` int32 [R, W], which token stands where for attention, and ``gathered`` int32 [T], where among those
    places, row by row, each token stands; ``closed`` [R, 1, W, W], zero where the second token is of the same text as the first,
    and far below zero elsewhere, or [R, 1, 1, W] where each row has one text; ``texts`` int32 [B, L], which token stands where if
    each text has a row of its own; and for each mode of pooling its ``pool_…`` [B, L], or, if only first tokens are pooled,
    ``padding`` [B, 1, 1, L], zero at tokens and far below zero elsewhere.

    Args:
        model: The encoder; what follows the pooling is not in this graph.
        quantized: Whether the weights of linear layers are int8, with a scale for each row.
    """
    architecture, weights = model.architecture, model.weights
    ids, positions = _input("ids", [-1], np.int32), _input("positions", [-1], np.int32)
    spread, gathered = _input("spread", [-1, -1], np.int32), _input("gathered", [-1], np.int32)
    closed, texts = _input("closed", [-1, 1, -1, -1], np.float32), _input("texts", [-1, -1], np.int32)
    inputs = [ids, positions, spread, gathered, closed, texts]
    rectangle = _Rectangle(spread, closed, _relative_bias(architecture, weights, spread, model.max_tokens))
    hidden = _embed(architecture, weights, ids, positions)
    layers = [_Layer(architecture, weights, number, quantized=quantized) for number in range(architecture.num_layers)]
    for layer in layers[:-1]:
        hidden = layer(hidden, rectangle, gathered)
    if model.pooling.first_only:
        padding = _input("padding", [-1, 1, 1, -1], np.float32)
        inputs.append(padding)
        apart = _Rectangle(texts, padding, _relative_bias(architecture, weights, texts, model.max_tokens))
        pooled = layers[-1](hidden, apart, None)
    else:
        hidden = layers[-1](hidden, rectangle, gathered)
        pooling = {mode: _input(f"pool_{mode}", [-1, -1], np.float32) for mode in model.pooling.modes}
        inputs += pooling.values()
        by_text = op.gather(hidden, texts, _constant(0))
        parts = [_pool(by_text, mode, pooling[mode]) for mode in model.pooling.modes]
        pooled = parts[0] if len(parts) == 1 else op.concat(parts, 1)
    return openvino.Model([pooled], inputs, "backbone")


def build_heads(heads: Sequence[Head], width: int) -> openvino.Model:
    """What follows the pooling: [N, P] to [N, D]. It is a graph of its own because it is always computed in float32."""
    vectors = pooled = _input("pooled", [-1, width], np.float32)
    for head in heads:
        if isinstance(head, Dense):
            vectors = op.matmul(vectors, _constant(head.weight), False, True)
            if head.bias is not None:
                vectors = op.add(vectors, _constant(head.bias))
            vectors = _ACTIVATIONS[head.activation](vectors)
        else:
            vectors = op.normalize_l2(vectors, _constant([1]), _SMALLEST_LENGTH**2, "max")
    return openvino.Model([vectors], [pooled], "heads")


def quantize_rows(weight: Array) -> tuple[npt.NDArray[np.int8], Array]:
    """A weight [out, in] as int8, and the scale of each row [out, 1] with which it is multiplied to have it back."""
    scale = np.maximum(np.abs(weight).max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / _LARGEST_INT8
    return np.rint(weight / scale).astype(np.int8), scale.astype(np.float32)


@dataclass(frozen=True)
class _Rectangle:
    """How tokens stand for attention.

    Args:
        spread: int32 [R, W]: which token stands where; any where there is padding.
        closed: [R, 1, W or 1, W]: what is added to scores, far below zero where a token must not be looked at.
        bias: [1, A, W, W]: what is added to them by distance alone; None if nothing is.
    """

    spread: Node
    closed: Node
    bias: Node | None

    @property
    def first(self) -> Node:
        """Which token is the first one of each row, int32 [R]."""
        return op.squeeze(_first(self.spread, axis=1), _constant(1))

    def of(self, tokens: Node) -> Node:
        """[T, H] to [R, W, H]."""
        return op.gather(tokens, self.spread, _constant(0))


class _Layer:
    """One layer's part of the graph: attention and feed-forward, each added to its input and then normalised."""

    def __init__(self, architecture: Architecture, weights: Weights, number: int, *, quantized: bool) -> None:
        self._architecture = architecture
        self._quantized = quantized
        prefix = f"layers.{number}."
        self._weights = {
            name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)
        }

    def __call__(self, hidden: Node, rectangle: _Rectangle, gathered: Node | None) -> Node:
        """[T, H] to [T, H] by ``gathered``, int32 [T]: where in the rectangle each token stands. Without it to [R, H], of first tokens."""
        size = self._architecture.hidden_size // self._architecture.num_heads
        first_only = gathered is None
        asking = op.gather(hidden, rectangle.first, _constant(0)) if first_only else hidden
        # The scale of attention goes into the weights: one pass over the queries less.
        query = self._linear(asking, "attention.query", scale=size**-0.5)
        query = op.unsqueeze(query, _constant(1)) if first_only else rectangle.of(query)
        key, value = (rectangle.of(self._linear(hidden, f"attention.{part}")) for part in ("key", "value"))
        scores = op.matmul(self._heads(query), self._heads(key), False, True)
        if (bias := rectangle.bias) is not None:
            scores = op.add(scores, _first(bias, axis=2) if first_only else bias)
        shares = op.softmax(op.add(scores, rectangle.closed), -1)
        mixed = op.transpose(op.matmul(shares, self._heads(value), False, False), _constant([0, 2, 1, 3]))
        mixed = op.reshape(mixed, _constant([-1, self._architecture.hidden_size]), False)  # [R W, H]
        if not first_only:
            mixed = op.gather(mixed, gathered, _constant(0))
        attended = self._norm(op.add(self._linear(mixed, "attention.output"), asking), "attention.norm")
        inner = _ACTIVATIONS[self._architecture.activation](self._linear(attended, "feed_forward.up"))
        return self._norm(op.add(self._linear(inner, "feed_forward.down"), attended), "feed_forward.norm")

    def _heads(self, texts: Node) -> Node:
        """[R, W, H] to [R, A, W, d]."""
        heads = self._architecture.num_heads
        size = self._architecture.hidden_size // heads
        return op.transpose(op.reshape(texts, _constant([0, 0, heads, size]), True), _constant([0, 2, 1, 3]))

    def _linear(self, values: Node, part: str, *, scale: float = 1.0) -> Node:
        weight = self._weights[f"{part}.weight"] * np.float32(scale)
        bias = self._weights[f"{part}.bias"] * np.float32(scale)
        if self._quantized:
            rows, scales = quantize_rows(weight)
            stored = op.multiply(op.convert(_constant(rows), "f32"), _constant(scales))
        else:
            stored = _constant(weight)
        return op.add(op.matmul(values, stored, False, True), _constant(bias))

    def _norm(self, values: Node, part: str) -> Node:
        return _norm(
            values, self._weights[f"{part}.weight"], self._weights[f"{part}.bias"], self._architecture.norm_epsilon
        )


def _embed(architecture: Architecture, weights: Weights, ids: Node, positions: Node) -> Node:
    """[T] to [T, H]. The only token type there is goes into the positions."""
    places = weights["embeddings.position.weight"]
    if architecture.num_token_types:
        places = places + weights["embeddings.token_type.weight"][0]
    words = op.gather(_constant(weights["embeddings.word.weight"]), ids, _constant(0))
    summed = op.add(words, op.gather(_constant(places), positions, _constant(0)))
    return _norm(summed, weights["embeddings.norm.weight"], weights["embeddings.norm.bias"], architecture.norm_epsilon)


def _relative_bias(architecture: Architecture, weights: Weights, spread: Node, max_tokens: int) -> Node | None:
    """What is added to the scores of each head by distance alone, [1, A, W, W]; all layers share it.

    A distance has one value a head: the table holds them all, and each batch looks up its square. Of two tokens of one text it is
    the same wherever in a row the text stands.
    """
    if not architecture.relative_buckets:
        return None
    distances = np.arange(max_tokens - 1, -max_tokens, -1)  # query minus key, by key minus query + max_tokens - 1
    buckets = relative_buckets(distances, architecture.relative_buckets, architecture.relative_max_distance)
    table = weights["relative_bias.weight"][buckets].T  # [A, 2 max_tokens - 1]
    longest = op.gather(op.shape_of(spread, "i32"), _constant(1), _constant(0))
    places = op.range(_constant(0), longest, _constant(1), "i32")
    columns = op.subtract(op.unsqueeze(places, _constant(0)), op.unsqueeze(places, _constant(1)))
    square = op.gather(_constant(table), op.add(columns, _constant(max_tokens - 1)), _constant(1))
    return op.unsqueeze(square, _constant(0))


def _pool(hidden: Node, mode: str, weights: Node) -> Node:
    """[B, L, H] to [B, H]: a weighted sum; the maximum where the weight, then far below zero at padding, is added."""
    column = op.unsqueeze(weights, _constant(-1))
    if mode == "max":
        return op.reduce_max(op.add(hidden, column), _constant([1]), False)
    # Not a matrix product, which would be computed in half precision.
    return op.reduce_sum(op.multiply(hidden, column), _constant([1]), False)


def _norm(values: Node, weight: Array, bias: Array, epsilon: float) -> Node:
    centred = op.mvn(values, _constant([-1]), True, epsilon, "inside_sqrt")
    return op.add(op.multiply(centred, _constant(weight)), _constant(bias))


def _first(values: Node, *, axis: int) -> Node:
    return op.slice(values, _constant([0]), _constant([1]), _constant([1]), _constant([axis]))


def _input(name: str, shape: list[int], dtype: type[np.generic]) -> Node:
    return op.parameter(shape, dtype, name=name)


def _constant(values: Any) -> Node:
    array = np.asarray(values)
    return op.constant(array.astype(np.int32) if array.dtype == np.int64 else array)
