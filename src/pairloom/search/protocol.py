"""What every collection can do, wherever its documents lie: in a folder (`pairloom.search.collection`) or on a Qdrant server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from pairloom.records import Document, Hit

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


class AnyCollection(Protocol):
    """Documents that are searched, added and deleted. Safe to use from several threads."""

    @property
    def similarity_name(self) -> str:
        """``cosine`` or ``dot``."""
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
    ) -> list[Hit]:
        """The ``k`` best documents for a query (fewer if there are no more), best first.

        Args:
            query: A text; or a vector [D], which finds by meaning only.
            k: How many.
            mode: By what; of a vector it is ``vector``.
            filter: What their metadata must be like.

        Raises:
            UsageError: ``k``, the query or the filter makes no sense.
        """
        ...

    def search_many(
        self,
        queries: Sequence[str] | npt.NDArray[np.floating],
        k: int = 10,
        *,
        mode: Mode = "hybrid",
        filter: Filter | None = None,
    ) -> list[list[Hit]]:
        """The same for several queries, [Q, D] if they are vectors, in less time."""
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

    def close(self) -> None:
        """Ends what runs in the background. What was written stays."""
        ...
