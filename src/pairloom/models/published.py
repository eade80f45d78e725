"""The sizes of the published bases, as ``config.json`` has them: enough to say what a run costs before its base is here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pairloom.models.architecture import Architecture
from pairloom.models.families import read_architecture

_BASES: dict[str, dict[str, Any]] = {
    "microsoft/mpnet-base": {
        "model_type": "mpnet",
        "vocab_size": 30527,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 514,
        "relative_attention_num_buckets": 32,
        "layer_norm_eps": 1e-5,
    },
    "distilbert-base-uncased": {
        "model_type": "distilbert",
        "vocab_size": 30522,
        "dim": 768,
        "n_layers": 6,
        "n_heads": 12,
        "hidden_dim": 3072,
        "max_position_embeddings": 512,
    },
    "nreimers/MiniLM-L6-H384-uncased": {
        "model_type": "bert",
        "vocab_size": 30522,
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
    },
}
# The hub gave it an owner later, and leads from the old name to the new one.
_BASES["distilbert/distilbert-base-uncased"] = _BASES["distilbert-base-uncased"]


def published_architecture(name: str) -> Architecture | None:
    """The shape of a published base; None if the name is another's."""
    config = _BASES.get(name)
    return None if config is None else read_architecture(config, Path(name) / "config.json")
