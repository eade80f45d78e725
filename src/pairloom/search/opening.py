"""A collection by what a person calls it: a folder, or an address on a Qdrant server."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairloom.errors import BusyError, UsageError

if TYPE_CHECKING:
    from pairloom.encode.dual_encoder import AnyEncoder
    from pairloom.search.collection import Collection
    from pairloom.search.identity import ModelIdentity
    from pairloom.search.protocol import FieldType
    from pairloom.search.qdrant.collection import QdrantCollection


def is_any_collection(location: str) -> bool:
    """Whether this is a collection's folder or address, and not another artifact."""
    from pairloom.search.ledger import is_collection
    from pairloom.search.qdrant.address import is_address

    return is_address(location) or is_collection(Path(location))


def open_any(location: str, model: str | None = None, **engine: Any) -> Collection | QdrantCollection:
    """Opens a collection that is there.

    Args:
        location: A folder, or ``qdrant://host:port/name``.
        model: Where the model lies; by default the one that is remembered is loaded when it is needed.
        engine: How the model computes, as `load_encoder` takes it; what is None says nothing.
    """
    from pairloom.encode.dual_encoder import load_encoder

    collection = open_with(location)
    names = _models(collection.model, model, engine)
    if names is None:
        return collection
    collection.close()
    return open_with(location, load_encoder(*names, **engine))


def open_folder(location: str, model: str | None = None, **engine: Any) -> Collection:
    """Opens a collection in a folder; arguments are those of `open_any`.

    Raises:
        UsageError: It is an address.
    """
    from pairloom.search.collection import Collection
    from pairloom.search.qdrant.address import is_address

    if is_address(location):
        raise UsageError(f"{location}: this is done to a folder; a Qdrant server looks after its collections itself")
    collection = open_any(location, model, **engine)
    assert isinstance(collection, Collection)
    return collection


def open_with(
    location: str, encoder: AnyEncoder | None = None, *, background: bool = False
) -> Collection | QdrantCollection:
    """Opens a collection that is there, for a model that is at hand.

    Args:
        location: A folder, or ``qdrant://host:port/name``.
        encoder: By default the one that is remembered is loaded when it is needed.
        background: Whether an index in a folder is built in the background when it is worth it.
    """
    from pairloom.search.collection import Collection
    from pairloom.search.qdrant.address import is_address, parse_address

    if not is_address(location):
        return Collection(location, encoder, create=False, background=background)
    from pairloom.search.qdrant.collection import QdrantCollection

    address = parse_address(location)
    return QdrantCollection(address.url, address.name, encoder, create=False)


def declared_fields(collection: Collection | QdrantCollection) -> Mapping[str, FieldType]:
    """The fields that a collection declares, and what they hold; of one that declares none, nothing."""
    from pairloom.search.collection import Collection

    return (collection.settings.fields if isinstance(collection, Collection) else collection.fields) or {}


def build_if_due(collection: Collection | QdrantCollection, *, show_progress: bool) -> None:
    """Builds the index of a folder if it is worth it; who only starts it in the background would end before it does."""
    from pairloom.search.collection import Collection

    if isinstance(collection, Collection):
        try:
            collection.build(show_progress=show_progress)
        except BusyError as error:  # what was written is there, and is searched beside the index
            logging.getLogger("pairloom").info("%s", error)


def _models(remembered: ModelIdentity | None, model: str | None, engine: dict[str, Any]) -> tuple[str, ...] | None:
    """The names of the model that is to be loaded now; None if the collection does that when it needs it."""
    if model is not None:
        return (model,)
    if remembered is not None and any(value is not None for value in engine.values()):
        return remembered.names
    return None
