"""Weave pairs of texts into sentence-embedding models, and search with them."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["Collection", "Document", "DualEncoder", "Encoder", "Hit", "PairloomError", "__version__"]

if TYPE_CHECKING:
    from pairloom.encode.dual_encoder import DualEncoder
    from pairloom.encode.encoder import Encoder
    from pairloom.errors import PairloomError
    from pairloom.records import Document, Hit
    from pairloom.search.collection import Collection

# Where each public name lives. Importing pairloom loads none of it.
_HOMES = {
    "Collection": "pairloom.search.collection",
    "Document": "pairloom.records",
    "DualEncoder": "pairloom.encode.dual_encoder",
    "Encoder": "pairloom.encode.encoder",
    "Hit": "pairloom.records",
    "PairloomError": "pairloom.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pairloom' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
