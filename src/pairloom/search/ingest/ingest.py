"""Sources into a collection, with progress."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields

from pairloom.progress import Meter, meter
from pairloom.records import Document
from pairloom.search.any_collection import AnyCollection
from pairloom.search.ingest.documents import DocumentSource, Source
from pairloom.search.protocol import Written

# Drawing progress takes longer than reading a document.
_ADVANCE_EVERY = 256


def ingest(
    collection: AnyCollection, sources: Sequence[Source], *, duplicates: float | None = None, show_progress: bool = True
) -> Written:
    """Writes all documents of all sources; what is there and has not changed is left as it is.

    The collection reads as it needs, and writes block by block: who is killed meanwhile does the same again, and what was
    written is only read past.

    Args:
        collection: Where to.
        sources: One after the other. Of documents with one id the last counts.
        duplicates: Report documents that are at least so similar to another one.
        show_progress: Whether to show on stderr how much has been read.

    Raises:
        InputError: A source cannot be read; the blocks before are written.
        CollectionError: The collection cannot hold what it is given.
    """
    written = Written()
    for source in sources:
        total = source.num_documents
        with meter(f"indexing {source.name}", total=total, unit="documents", show=show_progress) as progress:
            if isinstance(source, DocumentSource):
                documents = _counted(source, progress, show_share=total is None)
                written = added(written, collection.upsert(documents, duplicates=duplicates))
                continue
            for block, vectors in source.blocks():
                written = added(written, collection.upsert(block, vectors=vectors, duplicates=duplicates))
                progress.advance(len(block))
    return written


def added(first: Written, second: Written) -> Written:
    """What became of the documents of both."""
    return Written(**{one.name: getattr(first, one.name) + getattr(second, one.name) for one in fields(Written)})


def _counted(source: DocumentSource, progress: Meter, *, show_share: bool) -> Iterator[Document]:
    pending = 0
    for pending, document in _numbered(source):
        yield document
        if pending == _ADVANCE_EVERY:
            share = source.share_read if show_share else None
            progress.advance(pending, "" if share is None else f"{share:.0%} read")
    if pending < _ADVANCE_EVERY:
        progress.advance(pending)


def _numbered(documents: Iterable[Document]) -> Iterator[tuple[int, Document]]:
    """Documents with numbers from 1 to `_ADVANCE_EVERY`, over and over."""
    for place, document in enumerate(documents):
        yield place % _ADVANCE_EVERY + 1, document
