"""A collection by what a person calls it: a folder, or an address on a Qdrant server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairloom.errors import UsageError

if TYPE_CHECKING:
    from pairloom.encode.dual_encoder import AnyEncoder
    from pairloom.search.collection import Collection
    from pairloom.search.protocol import FieldType
    from pairloom.search.qdrant import QdrantCollection


def is_any_collection(location: str) -> bool:
    """Whether this is a collection's folder or address, and not another artifact."""
    from pairloom.search.ledger import is_collection
    from pairloom.search.qdrant_address import is_address

    return is_address(location) or is_collection(Path(location))


def open_any(location: str, model: str | None = None, **engine: Any) -> Collection | QdrantCollection:
    """Opens a collection that is there.

    Args:
        location: A folder, or ``qdrant://host:port/name``.
        model: Where the model lies; by default the one that is remembered is loaded when it is needed.
        engine: How the model computes, as `load_encoder` takes it; what is None says nothing.
    """
    from pairloom.search.qdrant_address import is_address, parse_address

    if not is_address(location):
        return open_folder(location, model, **engine)
    from pairloom.search.qdrant import QdrantCollection

    address = parse_address(location)
    encoder = None if model is None else _load((model,), engine)
    collection = QdrantCollection(address.url, address.name, encoder, create=False)
    if encoder is None and _says_something(engine) and collection.model is not None:
        names = collection.model.names
        collection.close()
        collection = QdrantCollection(address.url, address.name, _load(names, engine), create=False)
    return collection


def open_folder(location: str, model: str | None = None, **engine: Any) -> Collection:
    """Opens a collection in a folder; arguments are those of `open_any`.

    Raises:
        UsageError: It is an address.
    """
    from pairloom.search.collection import Collection
    from pairloom.search.qdrant_address import is_address

    if is_address(location):
        raise UsageError(f"{location}: this is done to a folder; a Qdrant server looks after its collections itself")
    path = Path(location)
    encoder = None if model is None else _load((model,), engine)
    collection = Collection(path, encoder, create=False)
    if encoder is None and _says_something(engine) and collection.model is not None:
        names = collection.model.names
        collection.close()
        collection = Collection(path, _load(names, engine), create=False)
    return collection


def declared_fields(collection: Collection | QdrantCollection) -> Mapping[str, FieldType]:
    """The fields that a collection declares, and what they hold; of one that declares none, nothing."""
    from pairloom.search.collection import Collection

    return (collection.settings.fields if isinstance(collection, Collection) else collection.fields) or {}


def build_if_due(collection: Collection | QdrantCollection, *, show_progress: bool) -> None:
    """Builds the index of a folder if it is worth it; who only starts it in the background would end before it does."""
    from pairloom.search.collection import Collection

    if isinstance(collection, Collection):
        collection.build(show_progress=show_progress)


def _says_something(engine: dict[str, Any]) -> bool:
    return any(value is not None for value in engine.values())


def _load(names: tuple[str, ...], engine: dict[str, Any]) -> AnyEncoder:
    from pairloom.encode.dual_encoder import load_encoder

    return load_encoder(*names, **engine)
