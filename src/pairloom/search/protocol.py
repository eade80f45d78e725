"""What goes into a collection, and what comes back: the words that all collections share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Mode = Literal["vector", "words", "hybrid"]
"""By what documents are found: by meaning, by words, or by both."""

FieldType = Literal["keyword", "number", "boolean", "datetime"]
"""What a declared field of the metadata holds."""

Filter = Mapping[str, Any]
"""A condition on metadata, as `pairloom.search.filters.language` describes it."""

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Duplicate:
    """A new document that is nearly one that was there before, or that came before it.

    Args:
        id: The new one.
        of: The other one.
        score: Their similarity.
    """

    id: str
    of: str
    score: float


@dataclass(frozen=True)
class Written:
    """What became of documents that were given to a collection.

    Args:
        added: Were not there before.
        replaced: Had another text or other metadata.
        unchanged: Were there just so; nothing was done.
        encoded: Texts that went through the model; a text that stays the same does not.
        truncated: Of those, how many were longer than the model takes.
        duplicates: Near-duplicates, if they were asked for.
    """

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    encoded: int = 0
    truncated: int = 0
    duplicates: tuple[Duplicate, ...] = ()


@dataclass(frozen=True)
class FieldValues:
    """A field of the metadata by which may be filtered, and what stands in it.

    Args:
        name: Of the field; dots lead inwards.
        type: What it holds, as it was declared, or else mostly.
        values: The most frequent values, and in how many documents each stands; long strings are left out.
    """

    name: str
    type: FieldType
    values: tuple[tuple[str | int | float | bool, int], ...]
