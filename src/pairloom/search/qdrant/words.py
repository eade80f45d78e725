"""The words of a collection on a Qdrant server: how long its documents are, and their sparse vectors made anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from pairloom.progress import meter
from pairloom.records import Document
from pairloom.search.qdrant.payloads import as_sparse
from pairloom.search.qdrant.points import Points
from pairloom.search.qdrant.sparse import count_words, document_vector

_AT_ONCE = 1_024


def average_length(points: Points, *, show_progress: bool) -> float | None:
    """The average length of all documents, in words; None if there are none."""
    num_documents = num_words = 0
    with meter("counting words", total=points.count(), unit="texts", show=show_progress) as progress:
        for block in _blocks(points.documents()):
            num_documents += len(block)
            num_words += sum(words.length for words in count_words([document.text for document in block]))
            progress.advance(len(block))
    return max(1.0, num_words / num_documents) if num_documents else None


def write_words_anew(points: Points, average_words: float, *, show_progress: bool) -> None:
    """Replaces the sparse vectors of all documents."""
    with meter("weighing words", total=points.count(), unit="texts", show=show_progress) as progress:
        for block in _blocks(points.documents()):
            counts = count_words([document.text for document in block])
            vectors = [document_vector(words, average_words) for words in counts]
            points.write_words(
                [
                    (document.id, as_sparse(vector))
                    for document, vector in zip(block, vectors, strict=True)
                    if vector.indices
                ]
            )
            progress.advance(len(block))


def _blocks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    coming = iter(documents)
    while block := list(islice(coming, _AT_ONCE)):
        yield block
