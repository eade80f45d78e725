"""The four encoder families: how each writes its configuration and names its weights.

All of them are the same network (`Architecture`); what differs is spelling, where positions start, and MPNet's
relative bias. A new family is one more entry in `FAMILIES`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairloom.errors import ModelError
from pairloom.models.architecture import Activation, Architecture

Config = dict[str, Any]

_MAY_BE_ZERO = {"position_offset", "num_token_types", "relative_buckets", "relative_max_distance", "pad_token_id"}
_MAX_SIZE = 10_000_000  # the largest vocabularies have a tenth of it
_MAX_LAYERS = 1000

_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


@dataclass(frozen=True)
class Family:
    """A spelling of the encoder.

    Args:
        name: As in `Architecture.family`.
        class_names: What ``config.json`` may call it, and the transformers class that goes with each.
        prefix: What a checkpoint with a task head puts before each key.
        read: Turns a configuration into an `Architecture`.
        embeddings: Canonical names to keys, outside the layers.
        layers: The key before the layer's number.
        layer: Canonical names to keys, inside a layer; ``.weight`` and ``.bias`` are left out.
    """

    name: str
    class_names: dict[str, str]
    prefix: str
    read: Callable[[Config], Architecture]
    embeddings: dict[str, str]
    layers: str
    layer: dict[str, str]

    def keys(self, architecture: Architecture) -> Iterator[tuple[str, str]]:
        """Yields ``(canonical name, key in the family's files)`` for each weight."""
        for canonical, _ in architecture.weight_shapes():
            if canonical.startswith("layers."):
                _, number, rest = canonical.split(".", 2)
                part, kind = rest.rsplit(".", 1)
                yield canonical, f"{self.layers}.{number}.{self.layer[part]}.{kind}"
            else:
                part, kind = canonical.rsplit(".", 1)
                yield canonical, f"{self.embeddings[part]}.{kind}"


def family_of(config: Config, path: Path) -> Family:
    """The family that a ``config.json`` belongs to.

    Raises:
        ModelError: It belongs to none of them, or to a variant that is not supported.
    """
    model_type = config.get("model_type")
    for family in FAMILIES:
        if isinstance(model_type, str) and model_type in family.class_names:
            _refuse_variants(config, path)
            return family
    known = ", ".join(name for family in FAMILIES for name in family.class_names)
    raise ModelError(f"{path}: model family {model_type!r} is not supported; these are: {known}")


def read_architecture(config: Config, path: Path) -> Architecture:
    """Reads the encoder's shape from a ``config.json``.

    Raises:
        ModelError: A value is missing, of the wrong type, or not supported.
    """
    family = family_of(config, path)
    try:
        architecture = family.read(config)
    except KeyError as error:
        raise ModelError(f"{path}: {error.args[0]!r} is missing") from None
    for field in dataclasses.fields(architecture):
        value = getattr(architecture, field.name)
        if field.type == "int":  # types are strings in that module
            least = 0 if field.name in _MAY_BE_ZERO else 1
            right = isinstance(value, int) and not isinstance(value, bool) and least <= value < _MAX_SIZE
        elif field.type == "float":  # a dropout probability, or the epsilon of norms
            right = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
        else:
            right = isinstance(value, str)
        if not right:
            raise ModelError(f"{path}: {field.name.replace('_', ' ')} is {value!r}, which cannot be right")
    if architecture.num_layers > _MAX_LAYERS:
        raise ModelError(f"{path}: num layers is {architecture.num_layers:,}, which cannot be right")
    if architecture.pad_token_id >= architecture.vocabulary_size or architecture.max_tokens < 3:
        raise ModelError(f"{path}: the padding token is not in the vocabulary, or there are no positions")
    if architecture.num_heads < 1 or architecture.hidden_size % architecture.num_heads:
        raise ModelError(
            f"{path}: a hidden size of {architecture.hidden_size} cannot be shared among {architecture.num_heads} heads"
        )
    return architecture


def _refuse_variants(config: Config, path: Path) -> None:
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ModelError(f"{path}: position_embedding_type {config['position_embedding_type']!r} is not supported")
    if config.get("is_decoder"):
        raise ModelError(f"{path}: this is a decoder; pairloom supports encoders")
    activation = config.get("hidden_act", config.get("activation", "gelu"))
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise ModelError(f"{path}: activation {activation!r} is not supported; these are: {', '.join(_ACTIVATIONS)}")


def _read_bert_like(config: Config, *, name: str, offset: int, pad: int) -> Architecture:
    dropout = config.get("hidden_dropout_prob", 0.1)
    return Architecture(
        family=name,
        vocabulary_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        feed_forward_size=config["intermediate_size"],
        activation=_ACTIVATIONS[config.get("hidden_act", "gelu")],
        num_positions=config["max_position_embeddings"],
        position_offset=offset,
        num_token_types=config.get("type_vocab_size", 2),
        relative_buckets=0,
        relative_max_distance=0,
        pad_token_id=pad,
        norm_epsilon=config.get("layer_norm_eps", 1e-12),
        hidden_dropout=dropout,
        attention_output_dropout=dropout,
        attention_dropout=config.get("attention_probs_dropout_prob", 0.1),
    )


def _read_bert(config: Config) -> Architecture:
    return _read_bert_like(config, name="bert", offset=0, pad=_pad(config, 0))


def _read_roberta(config: Config) -> Architecture:
    pad = _pad(config, 1)
    return _read_bert_like(config, name="roberta", offset=pad + 1, pad=pad)


def _read_mpnet(config: Config) -> Architecture:
    # The padding row is fixed in MPNet's position table, and so is the largest distance of its relative bias.
    bert_like = _read_bert_like({**config, "type_vocab_size": 0}, name="mpnet", offset=2, pad=1)
    buckets = config.get("relative_attention_num_buckets", 32)
    return Architecture(**{**vars(bert_like), "relative_buckets": buckets, "relative_max_distance": 128})


def _read_distilbert(config: Config) -> Architecture:
    return Architecture(
        family="distilbert",
        vocabulary_size=config["vocab_size"],
        hidden_size=config["dim"],
        num_layers=config["n_layers"],
        num_heads=config["n_heads"],
        feed_forward_size=config["hidden_dim"],
        activation=_ACTIVATIONS[config.get("activation", "gelu")],
        num_positions=config["max_position_embeddings"],
        position_offset=0,
        num_token_types=0,
        relative_buckets=0,
        relative_max_distance=0,
        pad_token_id=_pad(config, 0),
        norm_epsilon=1e-12,
        hidden_dropout=config.get("dropout", 0.1),
        attention_output_dropout=0.0,  # DistilBERT has none at this place
        attention_dropout=config.get("attention_dropout", 0.1),
    )


def _pad(config: Config, default: int) -> int:
    pad = config.get("pad_token_id")
    return pad if isinstance(pad, int) else default


_BERT_EMBEDDINGS = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
}
_BERT_LAYER = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention.norm": "attention.output.LayerNorm",
    "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense",
    "feed_forward.norm": "output.LayerNorm",
}

FAMILIES = (
    Family("bert", {"bert": "BertModel"}, "bert.", _read_bert, _BERT_EMBEDDINGS, "encoder.layer", _BERT_LAYER),
    Family(
        "roberta",
        {"roberta": "RobertaModel", "xlm-roberta": "XLMRobertaModel"},
        "roberta.",
        _read_roberta,
        _BERT_EMBEDDINGS,
        "encoder.layer",
        _BERT_LAYER,
    ),
    Family(
        "distilbert",
        {"distilbert": "DistilBertModel"},
        "distilbert.",
        _read_distilbert,
        _BERT_EMBEDDINGS,
        "transformer.layer",
        {
            "attention.query": "attention.q_lin",
            "attention.key": "attention.k_lin",
            "attention.value": "attention.v_lin",
            "attention.output": "attention.out_lin",
            "attention.norm": "sa_layer_norm",
            "feed_forward.up": "ffn.lin1",
            "feed_forward.down": "ffn.lin2",
            "feed_forward.norm": "output_layer_norm",
        },
    ),
    Family(
        "mpnet",
        {"mpnet": "MPNetModel"},
        "mpnet.",
        _read_mpnet,
        {**_BERT_EMBEDDINGS, "relative_bias": "encoder.relative_attention_bias"},
        "encoder.layer",
        {
            **_BERT_LAYER,
            "attention.query": "attention.attn.q",
            "attention.key": "attention.attn.k",
            "attention.value": "attention.attn.v",
            "attention.output": "attention.attn.o",
            "attention.norm": "attention.LayerNorm",
        },
    ),
)
