"""Whether what a collection is given can be what it should be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from pairloom.errors import UsageError
from pairloom.records import Document
from pairloom.search.filters.facets import check_metadata
from pairloom.search.protocol import Mode

MAX_K = 10_000
_MAX_ID_BYTES = 1_024
_SHOWN_CHARACTERS = 60


def check_search(queries: Sequence[str] | npt.NDArray[Any], k: object, mode: object) -> None:
    """Raises `UsageError` if something cannot be searched for."""
    if type(k) is not int or not 1 <= k <= MAX_K:
        raise UsageError(f"k is {k}; ask for 1 to {MAX_K:,} hits")
    if mode not in get_args(Mode):
        raise UsageError(f"mode is {mode!r}; it is one of {', '.join(get_args(Mode))}")
    if isinstance(queries, np.ndarray):
        return
    if isinstance(queries, str):
        raise UsageError("queries is one string; give several, or use search")
    for query in queries:
        if not isinstance(query, str):
            raise UsageError(f"the query is {type(query).__name__}, neither a string nor an array of numbers")
        if not query.strip():
            raise UsageError("the query is empty; say what to look for")


def texts_and_vectors(
    queries: Sequence[str] | npt.NDArray[Any], vectors: npt.NDArray[Any] | None
) -> tuple[list[str] | None, npt.NDArray[Any] | None]:
    """The texts of queries, if they are texts, and their vectors [Q, D], if these are known.

    Raises:
        UsageError: Each query has one vector, and here it has not.
    """
    if isinstance(queries, np.ndarray):
        if vectors is not None:
            raise UsageError("the query is a vector, and another one is given for it; give it for a text")
        return None, queries
    texts, given = list(queries), None if vectors is None else np.asarray(vectors)
    if given is not None and (given.ndim == 0 or len(given) != len(texts)):
        num_vectors = 1 if given.ndim == 0 else len(given)
        raise UsageError(f"there are {len(texts):,} queries and {num_vectors:,} vectors; each query has one")
    return texts, given


def check_id(id_: object) -> str:
    """The id as it is.

    Raises:
        UsageError: It is not a string, or is empty, too long or no Unicode.
    """
    if not isinstance(id_, str):
        raise UsageError(f"the id {id_!r} is {type(id_).__name__}, not a string")
    if not id_ or _num_bytes(id_, f"the id {id_[:_SHOWN_CHARACTERS]!r}") > _MAX_ID_BYTES:
        raise UsageError(f"the id {id_[:_SHOWN_CHARACTERS]!r} is empty or longer than {_MAX_ID_BYTES:,} bytes")
    return id_


def check_document(document: object) -> Document:
    """The document as it is.

    Raises:
        UsageError: It is none, or its id, text or metadata cannot be kept.
    """
    if not isinstance(document, Document):
        raise UsageError(f"a document is a pairloom.Document, not {type(document).__name__}")
    check_id(document.id)
    if not isinstance(document.text, str):
        raise UsageError(f"document {document.id!r}: its text is {type(document.text).__name__}, not a string")
    _num_bytes(document.text, f"document {document.id!r}: its text")
    try:
        check_metadata(document.metadata)
    except UsageError as error:
        raise UsageError(f"document {document.id!r}: {error}") from None
    return document


def check_vectors(vectors: npt.NDArray[Any], dimensions: int, similarity: str) -> None:
    """Raises `UsageError` if vectors [N, D] cannot be compared with those of a collection."""
    if vectors.ndim != 2 or vectors.shape[1] != dimensions or vectors.dtype.kind not in "fiu":
        shape = " × ".join(map(str, vectors.shape))
        raise UsageError(f"vectors are {shape} of {vectors.dtype}; here they are numbers, {dimensions} each")
    if not (finite := np.isfinite(vectors).all(axis=1)).all():
        raise UsageError(f"vector {int(np.argmin(finite))} is not finite; what made it is at fault")
    if similarity == "cosine" and not (lengths := np.abs(vectors).max(axis=1, initial=0.0) > 0).all():
        raise UsageError(f"vector {int(np.argmin(lengths))} is zero, which has no direction to be compared by cosine")


def _num_bytes(text: str, what: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise UsageError(f"{what} holds half of a character (a lone surrogate), which cannot be kept") from None
