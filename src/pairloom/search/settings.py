"""What is decided when a collection is made, and kept with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from pairloom.choices import IndexKind, Similarity
from pairloom.errors import UsageError
from pairloom.search.protocol import FieldType

Storage = Literal["float16", "float32"]
"""How vectors are kept."""


@dataclass(frozen=True)
class Settings:
    """The choices of a collection.

    Args:
        storage: Half of the bytes, at the price of scores that are off by about 1e-4; or all of them.
        kind: How vectors are searched.
        target_recall: Which share of the true ten nearest an index must find; it is measured when one is built.
        fields: The fields that may be filtered by and what they hold; by default all fields of the metadata, whatever
            they hold. A Qdrant cluster must know them.
        dimensions: Numbers in a vector. Needed if there is no model; otherwise the model's.
        similarity: ``cosine`` or ``dot``. Needed if there is no model; otherwise the model's.

    Raises:
        UsageError: One of them makes no sense.
    """

    storage: Storage = "float16"
    kind: IndexKind = "auto"
    target_recall: float = 0.99
    fields: Mapping[str, FieldType] | None = None
    dimensions: int | None = None
    similarity: Similarity | None = None

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("storage", self.storage, get_args(Storage)),
            ("kind", self.kind, get_args(IndexKind)),
            *((f"field {name}", kind, get_args(FieldType)) for name, kind in (self.fields or {}).items()),
        ):
            if value not in choices:
                raise UsageError(f"{name} is {value!r}; it is one of {', '.join(choices)}")
        if not 0 < self.target_recall <= 1:
            raise UsageError(f"the target of recall is {self.target_recall}; it is more than 0 and at most 1")
        if self.dimensions is not None and self.dimensions < 1:
            raise UsageError(f"dimensions is {self.dimensions}; a vector has at least one")
