"""Taking a collection out of its folder: onto a Qdrant server, or into a file of JSON lines.

An export to a server is a bulk load that can be killed at any moment. Blocks of documents are sent with the vectors as they are
stored, in the order of their rows; when the server has a block, a small file beside the collection says how far it is. Whoever
starts the same export again goes on behind it, if the documents before are still those that were sent, and the server still has
them. Ids of points follow from those of documents, so what is sent twice is there once.
"""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from pairloom.artifacts import new_file
from pairloom.choices import Similarity
from pairloom.errors import CollectionError, UsageError
from pairloom.json_types import from_json
from pairloom.progress import meter
from pairloom.records import Document
from pairloom.search.identity import ModelIdentity
from pairloom.search.protocol import FieldType
from pairloom.search.qdrant.address import Address, is_address, parse_address
from pairloom.search.qdrant.sparse import count_words
from pairloom.search.rows import as_json
from pairloom.search.settings import Settings

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

_SENT_AT_ONCE = 1_024
_SUFFIXES = (".jsonl", ".jsonl.gz")

Vector = npt.NDArray[np.float32]


class Source(Protocol):
    """What is exported: the collection in a folder, as far as that needs it."""

    @property
    def path(self) -> Path:
        """Its folder."""
        ...

    @property
    def model(self) -> ModelIdentity | None:
        """Whose vectors these are."""
        ...

    @property
    def dimensions(self) -> int:
        """Numbers in a vector."""
        ...

    @property
    def similarity_name(self) -> str:
        """``cosine`` or ``dot``."""
        ...

    @property
    def weights(self) -> tuple[float, float]:
        """How much meaning and words count when they are fused."""
        ...

    @property
    def settings(self) -> Settings:
        """Its choices."""
        ...

    def rows(self, after: int = 0, *, with_vectors: bool = True) -> Iterator[tuple[int, Document, Vector | None]]:
        """Number, document and vector [D] of each row behind ``after``, in their order."""
        ...

    def count(self) -> int:
        """How many documents there are."""
        ...


@dataclass(frozen=True)
class Exported:
    """What an export came to.

    Args:
        target: Where the documents are now.
        documents: How many there are.
        sent: How many of them were sent or written now; the others were there from an export that was interrupted.
    """

    target: str
    documents: int
    sent: int


def export(
    source: Source,
    target: str | Path,
    *,
    fields: Mapping[str, FieldType] | None = None,
    shards: int | None = None,
    replicas: int = 1,
    with_vectors: bool = False,
    show_progress: bool = False,
) -> Exported:
    """Exports a collection.

    Args:
        source: The collection.
        target: ``qdrant://host:port/name`` (``qdrants://`` with TLS), or a file whose name ends in ``.jsonl`` or ``.jsonl.gz``.
        fields: For a server, which has to know them: the fields that may be filtered by, and what they hold; by default those
            that the collection has declared.
        shards: For a server: into how many parts it cuts the collection; by default as it sees fit.
        replicas: For a server: on how many machines of a cluster each part lies.
        with_vectors: For a file: whether vectors are written, too.
        show_progress: Whether to show on stderr how far it is.

    Raises:
        UsageError: The target makes no sense, or it is not known which fields may be filtered by.
        CollectionError: The server refuses or cannot be reached, or has other documents in a collection of that name.
        ArtifactError: The file is there already, or the disk is full.
    """
    if isinstance(target, str) and is_address(target):
        address = parse_address(target)
        return export_to_server(
            source, address, fields=fields, shards=shards, replicas=replicas, show_progress=show_progress
        )
    return export_to_file(source, Path(target), with_vectors=with_vectors, show_progress=show_progress)


def export_to_file(source: Source, path: Path, *, with_vectors: bool = False, show_progress: bool = False) -> Exported:
    """Writes all documents as JSON lines (``id``, ``text``, ``metadata``, perhaps ``vector``), whole or not at all.

    Raises:
        UsageError: The name of the file says another format.
        ArtifactError: It is there already, or the disk is full.
    """
    if not path.name.endswith(_SUFFIXES):
        raise UsageError(f"{path}: an export is a file {' or '.join(_SUFFIXES)}, or a server, qdrant://host:port/name")
    number = 0
    with new_file(path) as draft, ExitStack() as stack:
        progress = stack.enter_context(meter("exporting", total=source.count(), unit="texts", show=show_progress))
        stream = stack.enter_context(draft.path.open("wb"))
        lines: Any = stack.enter_context(gzip.open(stream, "wb")) if path.suffix == ".gz" else stream
        text = stack.enter_context(io.TextIOWrapper(lines, encoding="utf-8", newline="\n"))
        for _, document, vector in source.rows(with_vectors=with_vectors):
            text.write(_line(document, vector))
            number += 1
            progress.advance(1)
    return Exported(str(path), number, number)


def export_to_server(
    source: Source,
    address: Address,
    *,
    fields: Mapping[str, FieldType] | None = None,
    shards: int | None = None,
    replicas: int = 1,
    show_progress: bool = False,
    client: QdrantClient | None = None,
) -> Exported:
    """Sends all documents to a collection on a server, which is made if it is not there. Raises as `export`.

    Args:
        source: As in `export`.
        address: Of the collection.
        fields: As in `export`.
        shards: As in `export`.
        replicas: As in `export`.
        show_progress: As in `export`.
        client: A client of the server, if it is to be reached in a way of its own.
    """
    from pairloom.search.qdrant.collection import QdrantCollection, exists  # needs an extra that files do not

    fields = source.settings.fields if fields is None else fields
    if fields is None:
        raise UsageError(
            f"{source.path}: has not declared by which fields it is filtered, and a server must know them; say so with "
            "--fields tag:keyword,year:number, or --fields none"
        )
    average = None
    if not exists(address.url, address.name, client=client):
        average = _average_words(source, show_progress=show_progress)
    with QdrantCollection(
        address.url,
        address.name,
        fields=fields,
        storage=source.settings.storage,
        dimensions=source.dimensions,
        similarity=cast("Similarity", source.similarity_name),
        model=source.model,
        average_words=average,
        shards=shards,
        replicas=replicas,
        client=client,
    ) as target:
        if source.model is None and target.model is not None:
            raise CollectionError(
                f"{address}: holds vectors made by {target.model.name}, and those of {source.path} came without a model; export "
                "to another name"
            )
        vector, words = source.weights
        if target.weights != (vector, words):
            target.set_weights(vector=vector, words=words)
        journal = _Journal(source.path, address)
        done = _resumed(source, target, journal.read())
        first = done.documents
        with meter("exporting", total=source.count(), unit="texts", show=show_progress) as progress:
            progress.advance(first)
            for rows in _blocks(source.rows(done.row)):
                documents = [document for _, document, _ in rows]
                target.load(documents, np.stack([vector for _, _, vector in rows if vector is not None]))
                done = done.after(rows)
                journal.write(done)
                progress.advance(len(rows))
        _verify(source, target, address)
        journal.remove()
    return Exported(str(address), done.documents, done.documents - first)


@dataclass(frozen=True)
class _Done:
    """How far an export is.

    Args:
        row: The last row that the server has.
        documents: How many it has been sent.
        last_id: The id of the last of them.
        digest: Of all of them, one after another.
    """

    row: int = 0
    documents: int = 0
    last_id: str = ""
    digest: str = ""

    def after(self, rows: Sequence[tuple[int, Document, Vector | None]]) -> _Done:
        """When some more have been sent."""
        digest = self.digest
        for row, document, _ in rows:
            content = json.dumps([digest, row, document.id, document.text, as_json(document.metadata)])
            digest = blake2b(content.encode(), digest_size=16).hexdigest()
        row, document, _ = rows[-1]
        return replace(self, row=row, documents=self.documents + len(rows), last_id=document.id, digest=digest)


class _Journal:
    """The file that says how far an export is; it is hidden, beside the collection, and there is one for each target."""

    def __init__(self, collection: Path, address: Address) -> None:
        collection = collection.resolve()
        which = blake2b(str(address).encode(), digest_size=6).hexdigest()
        self._path = collection.parent / f".{collection.name}.export-{which}.json"

    def read(self) -> _Done:
        """What it says; nothing has been done if it is not there, or is no use."""
        try:
            return from_json(_Done, json.loads(self._path.read_bytes()))
        except (OSError, ValueError):
            return _Done()

    def write(self, done: _Done) -> None:
        partial = self._path.with_suffix(f".{os.getpid()}.partial")
        try:
            partial.write_text(json.dumps(asdict(done)) + "\n", encoding="utf-8")
            partial.replace(self._path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise CollectionError(f"{self._path}: cannot be written ({error.strerror}); nothing is lost") from None

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def _resumed(source: Source, target: Any, done: _Done) -> _Done:
    """How far an export really is: as far as was noted, if what was sent is still the same on both sides; else not at all."""
    if done.documents == 0 or target.count() < done.documents or target.get([done.last_id]) == [None]:
        return _Done()
    again = _Done()
    for rows in _blocks(source.rows(with_vectors=False)):
        sent = [row for row in rows if row[0] <= done.row]
        again = again.after(sent) if sent else again
        if len(sent) < len(rows):
            break
    return done if again == done else _Done()


def _verify(source: Source, target: Any, address: Address) -> None:
    there, here = target.count(), source.count()
    if there != here:
        raise CollectionError(
            f"{address}: has {there:,} documents, and {source.path} has {here:,}; one of them was changed meanwhile, or there "
            "were others before: export again, or to another name"
        )


def _average_words(source: Source, *, show_progress: bool) -> float | None:
    """The average length of the documents, by which BM25 measures each; it must be known before the first is sent."""
    num_documents = num_words = 0
    with meter("counting words", total=source.count(), unit="texts", show=show_progress) as progress:
        for rows in _blocks(source.rows(with_vectors=False)):
            num_documents += len(rows)
            num_words += sum(words.length for words in count_words([document.text for _, document, _ in rows]))
            progress.advance(len(rows))
    return max(1.0, num_words / num_documents) if num_documents else None


def _blocks(
    rows: Iterator[tuple[int, Document, Vector | None]],
) -> Iterator[list[tuple[int, Document, Vector | None]]]:
    while block := list(islice(rows, _SENT_AT_ONCE)):
        yield block


def _line(document: Document, vector: Vector | None) -> str:
    record = {"id": document.id, "text": document.text, "metadata": document.metadata}
    line = json.dumps(record, ensure_ascii=False, allow_nan=False)
    if vector is None:
        return line + "\n"
    # As text NumPy writes the fewest digits that give the same float32 back.
    numbers = ", ".join(vector.astype(np.float32).astype(str).tolist())
    return f'{line[:-1]}, "vector": [{numbers}]}}\n'
