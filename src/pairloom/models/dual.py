"""A model of two encoders, one for queries and one for documents, whose vectors are compared with each other."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pairloom.choices import Similarity
from pairloom.errors import ModelError
from pairloom.models.model import Model
from pairloom.models.names import find_model
from pairloom.models.read import DOCUMENT_FOLDER, QUERY_FOLDER, has_router, is_dual, read_model
from pairloom.models.router import read_router


@dataclass(frozen=True)
class DualModel:
    """Two encoders that belong together.

    Args:
        name: What the user called the two.
        query: Makes the vectors of what is asked.
        document: Makes the vectors of what is searched in.

    Raises:
        ModelError: Their vectors cannot be compared.
    """

    name: str
    query: Model
    document: Model

    def __post_init__(self) -> None:
        query, document = self.query, self.document
        if query.dimensions != document.dimensions:
            raise ModelError(
                f"{query.name} makes vectors of {query.dimensions} numbers, and {document.name} of {document.dimensions}; "
                "they are not the two halves of a model, so take two that were trained together"
            )
        if query.similarity != document.similarity:
            raise ModelError(
                f"{query.name} is made for similarity {query.similarity!r}, and {document.name} for "
                f"{document.similarity!r}; they are not the two halves of a model, so take two that were trained together"
            )

    @property
    def dimensions(self) -> int:
        """Numbers in a vector, of either half."""
        return self.query.dimensions

    @property
    def similarity(self) -> Similarity:
        """How a query's vector and a document's are compared."""
        return self.query.similarity

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that change whenever a vector of either half could."""
        return hashlib.sha256((self.query.fingerprint + self.document.fingerprint).encode()).hexdigest()[:32]


AnyModel = Model | DualModel


def read_dual(path: Path, name: str | None = None) -> DualModel:
    """Reads a folder of two encoders: ``Q`` and ``A``, or a Router of sentence-transformers.

    Args:
        path: The folder.
        name: What to call it; by default the path.

    Raises:
        ModelError: It is one encoder, its halves do not belong together, or one cannot be read.
    """
    name = name or str(path)
    if not path.is_dir():
        raise ModelError(f"{path}: no such model folder")
    if not is_dual(path):
        raise ModelError(
            f"{name}: is not two encoders (a folder with {QUERY_FOLDER} and {DOCUMENT_FOLDER} in it, or a Router of "
            "sentence-transformers); use Encoder, or name two models"
        )
    if has_router(path):
        return DualModel(name, *read_router(path, name))
    halves = (read_model(path / half, str(Path(name) / half)) for half in (QUERY_FOLDER, DOCUMENT_FOLDER))
    return DualModel(name, *halves)


def read_any(path: Path, name: str | None = None) -> AnyModel:
    """Reads a folder of one encoder or of two."""
    return read_dual(path, name) if is_dual(path) else read_model(path, name)


def load_any(name: str | Path) -> AnyModel:
    """Finds a model of one encoder or of two by name, and reads it.

    Raises:
        ModelError: There is no such model, or it cannot be read.
    """
    return read_any(find_model(name), str(name))
