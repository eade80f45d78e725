"""Documents for a collection: from files of many kinds, from stdin, and from vectors that are there already."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

from pairloom.artifacts import is_artifact, read_manifest
from pairloom.encode.fields import Record
from pairloom.encode.inputs import STDIN, Format, TextSource
from pairloom.encode.vectors import KIND, PART_KIND, VectorSet
from pairloom.errors import RecordError, UsageError
from pairloom.files import Errors
from pairloom.records import Document
from pairloom.search.ingest.metadata import MetadataFields
from pairloom.search.protocol import Vectors

log = logging.getLogger(__name__)

# Rows of a vectors artifact that are in memory at once: with 384 numbers each 6 MB.
_BLOCK_ROWS = 4096
_ID_BYTES = 8
ALL_FIELDS = MetadataFields()


class DocumentSource:
    """Documents of a file, a folder or stdin. Each iteration reads them from the start; of stdin there is only one.

    What can be read, and what is its text, is as in `pairloom.encode.inputs.TextSource`. The other fields of a record or
    columns of a table are metadata.

    A document without an id of its own is called after the place where it stands, such as ``notes.txt:12``; on stdin, which
    may be another one the next time, after what it says: then the same text is the same document.

    Args:
        source: The file or folder, or ``-``.
        field: As in `TextSource`.
        id_field: As in `TextSource`.
        metadata: What is metadata.
        errors: As in `TextSource`; also of strings in metadata.
        format: As in `TextSource`.

    Raises:
        InputError: As `TextSource`. While documents are read also: a value is not what its field holds.
    """

    def __init__(
        self,
        source: Path | str,
        *,
        field: str | None = None,
        id_field: str | None = None,
        metadata: MetadataFields = ALL_FIELDS,
        errors: Errors = "strict",
        format: Format | None = None,
    ) -> None:
        self._source = TextSource(
            source, field=field, id_field=id_field, errors=errors, format=format, rest=metadata.names
        )
        self._metadata, self._errors = metadata, errors
        self._is_stdin = str(source) == STDIN
        self.name = self._source.name
        """For messages."""

    @property
    def num_documents(self) -> int | None:
        """How many there are, if that is known without reading."""
        return self._source.num_texts

    @property
    def share_read(self) -> float | None:
        """How much of the source has been read by now, between 0 and 1; None of stdin, whose end nobody knows."""
        return self._source.share_read

    def __iter__(self) -> Iterator[Document]:
        unseen = set(self._metadata.names or ())
        for record in self._source.records():
            try:
                metadata = self._metadata.of(record.rest, self._errors)
            except RecordError as fault:
                raise self._source.fault(str(fault), record.number) from None
            if unseen:
                unseen.difference_update(metadata)
            yield Document(record.id or self._place(record), record.text, metadata)
        if unseen:
            log.warning("%s: no record has a value of %s", self.name, ", ".join(sorted(unseen)))

    def _place(self, record: Record) -> str:
        if self._is_stdin:
            return f"{self.name}:{blake2b(record.text.encode(), digest_size=_ID_BYTES).hexdigest()}"
        return f"{self.name}:{record.number}"


class VectorSource:
    """Texts whose vectors are there already, as `pairloom encode` made them; they have no metadata.

    Args:
        path: The vectors artifact.

    Raises:
        ArtifactError: The folder is not whole.
    """

    def __init__(self, path: Path) -> None:
        self.vectors = VectorSet(path)
        """The artifact; `VectorSet.check_model` tells whether a collection's model made it."""
        self.name = str(path)
        """For messages."""

    @property
    def num_documents(self) -> int:
        """How many there are."""
        return len(self.vectors)

    def blocks(self) -> Iterator[tuple[list[Document], Vectors]]:
        """Some documents at a time, and their vectors [n, D], in the order of the artifact."""
        for begin in range(0, len(self.vectors), _BLOCK_ROWS):
            rows = range(begin, min(begin + _BLOCK_ROWS, len(self.vectors)))
            documents = [Document(text.id, text.text) for text in self.vectors.texts(rows)]
            yield documents, self.vectors.rows(rows)


Source = DocumentSource | VectorSource


def is_vectors(source: Path | str) -> bool:
    """Whether a source is a vectors artifact (or a part of one, which `VectorSource` refuses)."""
    path = Path(source)
    return path.is_dir() and is_artifact(path) and read_manifest(path).kind in (KIND, PART_KIND)


def refuse_repeated(sources: Sequence[Path | str]) -> None:
    """Raises `UsageError` if a source is given twice, or none."""
    if len({str(source) for source in sources}) < len(sources) or not sources:
        raise UsageError("give each source once, and at least one")
