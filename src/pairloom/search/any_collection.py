"""What every collection can do, wherever its documents lie: in a folder (`pairloom.search.collection`) or on a Qdrant server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pairloom.choices import Similarity
from pairloom.encode.dual_encoder import AnyEncoder, load_encoder
from pairloom.encode.similarity import normalize
from pairloom.errors import ModelError, UsageError
from pairloom.records import Document, Hit
from pairloom.search import checking
from pairloom.search.filters.conditions import Condition, check_fields
from pairloom.search.filters.language import parse_filter
from pairloom.search.identity import ModelIdentity
from pairloom.search.protocol import FieldType, FieldValues, Filter, Mode, Vectors, Written


class AnyCollection(ABC):
    """Documents that are searched, added and deleted. Safe to use from several threads.

    What it is given is looked at here, in the same way and with the same sentences for all kinds; where documents lie and how they
    are found is for the kinds to say.
    """

    _encoder: AnyEncoder | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        return self.count()

    @property
    @abstractmethod
    def where(self) -> str:
        """Its place, for people."""

    @property
    @abstractmethod
    def similarity_name(self) -> Similarity:
        """``cosine`` or ``dot``."""

    @property
    @abstractmethod
    def dimensions(self) -> int:
        """Numbers in a vector."""

    @property
    @abstractmethod
    def model(self) -> ModelIdentity | None:
        """Whose vectors these are; None if they came without a model."""

    @property
    @abstractmethod
    def fields(self) -> Mapping[str, FieldType] | None:
        """The fields of the metadata that may be filtered by, and what they hold; None if any may."""

    @property
    def encoder(self) -> AnyEncoder:
        """The model, loaded when it is first needed.

        Raises:
            ModelError: It cannot be loaded.
            CollectionError: It is not as it was.
            UsageError: The collection has none.
        """
        if self._encoder is None:
            if self.model is None:
                raise UsageError(f"{self.where}: was made without a model; give vectors, or open it with the model")
            try:
                encoder = load_encoder(*self.model.names)
            except ModelError as error:
                raise ModelError(
                    f"{self.where}: the model that made it cannot be loaded ({error}); say where it is with --model"
                ) from None
            self._check(ModelIdentity.of(encoder))
            self._encoder = encoder
        return self._encoder

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
        return self._put(documents, vectors, duplicates, show_progress, replace=False)

    def upsert(
        self,
        documents: Iterable[Document],
        *,
        vectors: Vectors | None = None,
        duplicates: float | None = None,
        show_progress: bool = False,
    ) -> Written:
        """Like `add`, but a document whose id is there replaces that one; of two with one id the later counts."""
        return self._put(documents, vectors, duplicates, show_progress, replace=True)

    def delete(self, ids: Iterable[str] = (), *, filter: Filter | None = None) -> int:
        """Deletes documents by their ids, or all that a filter lets through; returns how many there were."""
        if isinstance(ids, str):
            raise UsageError("what is to be deleted is a string, not several ids")
        condition = self._condition(filter)
        return self._delete(list(dict.fromkeys(map(checking.check_id, ids))), condition)

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
        given = None if vectors is None else np.asarray(vectors)[None]
        if isinstance(query, np.ndarray):
            if query.ndim != 1:
                raise UsageError(f"the query is an array of {query.ndim} dimensions; a vector has one")
            return self.search_many(query[None], k, mode=mode, filter=filter, vectors=given)[0]
        return self.search_many([query], k, mode=mode, filter=filter, vectors=given)[0]

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
        checking.check_search(queries, k, mode)
        condition = self._condition(filter)
        texts, given = checking.texts_and_vectors(queries, vectors)
        if not len(queries):
            return []
        made: Vectors | None = None
        if given is not None:
            made = self._checked_vectors(given)
        elif texts is not None and mode != "words":
            made = self._comparable(self.encoder.encode_query(texts))
        return self._find(made, texts, k, "vector" if texts is None else mode, condition)

    def get(self, ids: Iterable[str]) -> list[Document | None]:
        """Documents by id, None where there is none."""
        if isinstance(ids, str):
            raise UsageError("what is asked for is a string, not several ids")
        wanted = list(map(checking.check_id, ids))
        found = self._read(list(dict.fromkeys(wanted)))
        return [found.get(one) for one in wanted]

    def set_weights(self, *, vector: float, words: float) -> None:
        """Sets how much meaning and words count when they are fused, for this and all later searches."""
        if not (vector >= 0 and words >= 0 and 0 < vector + words < np.inf):
            raise UsageError(f"weights are {vector} and {words}; neither is less than 0, and one is more")
        self._put_weights((float(vector), float(words)))

    @property
    @abstractmethod
    def weights(self) -> tuple[float, float]:
        """How much meaning and words count when they are fused."""

    @abstractmethod
    def count(self, filter: Filter | None = None) -> int:
        """How many documents there are (that a filter lets through)."""

    @abstractmethod
    def documents(self) -> Iterator[Document]:
        """All of them, in the order in which they were written last."""

    @abstractmethod
    def sample(self, count: int, *, seed: int = 0) -> tuple[list[Document], Vectors]:
        """Some documents, chosen at random, and their vectors [n, D]; all of them if there are no more than ``count``.

        The same seed gives the same ones as long as nothing is written. Not all documents are read for it.
        """

    @abstractmethod
    def field_values(self, *, max_fields: int = 20, max_values: int = 20) -> list[FieldValues]:
        """What may be filtered by, and the most frequent values of it. Takes the longer the more documents there are."""

    @abstractmethod
    def change(self) -> int | None:
        """A number that is another one whenever something was written since; None if that cannot be known."""

    @abstractmethod
    def info(self) -> dict[str, Any]:
        """What the collection is, and how it is searched, as JSON values."""

    @abstractmethod
    def rebuild(self, *, show_progress: bool = False) -> dict[str, Any]:
        """Makes all that is derived from the documents anew. Nothing is encoded."""

    @abstractmethod
    def close(self) -> None:
        """Ends what runs in the background. What was written stays."""

    def _put(
        self,
        documents: Iterable[Document],
        vectors: Vectors | None,
        duplicates: float | None,
        show_progress: bool,
        *,
        replace: bool,
    ) -> Written:
        if vectors is not None:
            vectors = self._checked_vectors(np.asarray(vectors))
        encoder = None if vectors is not None else self.encoder
        return self._write(
            documents, vectors, encoder, replace=replace, duplicates=duplicates, show_progress=show_progress
        )

    @abstractmethod
    def _write(
        self,
        documents: Iterable[Document],
        vectors: Vectors | None,
        encoder: AnyEncoder | None,
        *,
        replace: bool,
        duplicates: float | None,
        show_progress: bool,
    ) -> Written:
        """Adds or replaces documents, whose vectors [N, D] are given, or made by the encoder."""

    @abstractmethod
    def _delete(self, ids: Sequence[str], condition: Condition | None) -> int:
        """Deletes documents of these ids, each named once, and those that a condition lets through."""

    @abstractmethod
    def _find(
        self,
        vectors: Vectors | None,
        texts: Sequence[str] | None,
        k: int,
        mode: Mode,
        condition: Condition | None,
    ) -> list[list[Hit]]:
        """What `search_many` finds: of queries' vectors [Q, D], unless it is by words, and of their texts, unless it is by vector."""

    @abstractmethod
    def _read(self, ids: Sequence[str]) -> dict[str, Document]:
        """Documents by their ids, each of which is named once."""

    @abstractmethod
    def _put_weights(self, weights: tuple[float, float]) -> None: ...

    def _condition(self, given: Filter | None) -> Condition | None:
        if given is None:
            return None
        condition = parse_filter(given)
        check_fields(condition, self.fields)
        return condition

    def _comparable(self, vectors: npt.NDArray[Any]) -> Vectors:
        return normalize(vectors) if self.similarity_name == "cosine" else np.asarray(vectors, np.float32)

    def _checked_vectors(self, vectors: npt.NDArray[Any]) -> Vectors:
        checking.check_vectors(vectors, self.dimensions, self.similarity_name)
        return self._comparable(vectors)

    def _check(self, model: ModelIdentity) -> None:
        """Raises `UsageError` or `CollectionError` if this model's vectors cannot be compared with those that are here."""
        if self.model is None:
            raise UsageError(f"{self.where}: holds vectors that came without a model; open it without one")
        self.model.check(model, self.where)
