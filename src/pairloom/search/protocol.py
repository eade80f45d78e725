"""What every collection can do, wherever its documents lie: in a folder (`pairloom.search.collection`) or on a Qdrant server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from pairloom.records import Document, Hit

if TYPE_CHECKING:
    from pairloom.search.identity import ModelIdentity

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


class AnyCollection(Protocol):
    """Documents that are searched, added and deleted. Safe to use from several threads."""

    @property
    def similarity_name(self) -> str:
        """``cosine`` or ``dot``."""
        ...

    @property
    def dimensions(self) -> int:
        """Numbers in a vector."""
        ...

    @property
    def model(self) -> ModelIdentity | None:
        """Whose vectors these are; None if they came without a model."""
        ...

    def add(
        self,
        documents: Iterable[Document],
        *,
        vectors: Vectors | None = None,
        duplicates: float | None = None,
        show_progress: bool = False,
    ) -> Written:
        """Adds documents.

        Args:
            documents: Any number of them; they are read as they are needed, and written block by block.
            vectors: [N, D], of the documents in their order; by default the model makes them.
            duplicates: Report documents that are at least so similar to another one.
            show_progress: Whether to show on stderr how far it is.

        Raises:
            CollectionError: An id is there already; blocks before its own are written, its own is not.
            UsageError: A document or vector is not of the right kind.
        """
        ...

    def upsert(
        self,
        documents: Iterable[Document],
        *,
        vectors: Vectors | None = None,
        duplicates: float | None = None,
        show_progress: bool = False,
    ) -> Written:
        """Like `add`, but a document whose id is there replaces that one; of two with one id the later counts."""
        ...

    def delete(self, ids: Iterable[str] = (), *, filter: Filter | None = None) -> int:
        """Deletes documents by their ids, or all that a filter lets through; returns how many there were."""
        ...

    def search(
        self,
        query: str | npt.NDArray[np.floating],
        k: int = 10,
        *,
        mode: Mode = "hybrid",
        filter: Filter | None = None,
        vectors: npt.NDArray[np.floating] | None = None,
    ) -> list[Hit]:
        """The ``k`` best documents for a query (fewer if there are no more), best first.

        Args:
            query: A text; or a vector [D], which finds by meaning only.
            k: How many.
            mode: By what; of a vector it is ``vector``.
            filter: What their metadata must be like.
            vectors: [D], of a text that has been encoded already; by default the model does it.

        Raises:
            UsageError: ``k``, the query, its vector or the filter makes no sense.
        """
        ...

    def search_many(
        self,
        queries: Sequence[str] | npt.NDArray[np.floating],
        k: int = 10,
        *,
        mode: Mode = "hybrid",
        filter: Filter | None = None,
        vectors: npt.NDArray[np.floating] | None = None,
    ) -> list[list[Hit]]:
        """The same for several queries, [Q, D] if they are vectors, in less time; ``vectors`` are [Q, D], too."""
        ...

    def get(self, ids: Iterable[str]) -> list[Document | None]:
        """Documents by id, None where there is none."""
        ...

    def count(self, filter: Filter | None = None) -> int:
        """How many documents there are (that a filter lets through)."""
        ...

    def documents(self) -> Iterator[Document]:
        """All of them, in the order in which they were written last."""
        ...

    def sample(self, count: int, *, seed: int = 0) -> tuple[list[Document], Vectors]:
        """Some documents, chosen at random, and their vectors [n, D]; all of them if there are no more than ``count``.

        The same seed gives the same ones as long as nothing is written. Not all documents are read for it.
        """
        ...

    def field_values(self, *, max_fields: int = 20, max_values: int = 20) -> list[FieldValues]:
        """What may be filtered by, and the most frequent values of it. Takes the longer the more documents there are."""
        ...

    def change(self) -> int | None:
        """A number that is another one whenever something was written since; None if that cannot be known."""
        ...

    def info(self) -> dict[str, Any]:
        """What the collection is, and how it is searched, as JSON values."""
        ...

    def close(self) -> None:
        """Ends what runs in the background. What was written stays."""
        ...
