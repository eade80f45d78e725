"""Two encoders that belong together: one for what is asked, one for what is searched in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pairloom.choices import Precision
from pairloom.encode.encoder import Encoder
from pairloom.errors import UsageError
from pairloom.models.dual import DualModel, load_any, read_dual
from pairloom.models.model import Model
from pairloom.models.names import find_model


class DualEncoder:
    """A pair of sentence encoders whose vectors are compared with each other.

    Example:
        >>> encoder = DualEncoder("model")  # a folder with Q and A in it
        >>> queries = encoder.encode_query(["a question"])
        >>> documents = encoder.encode_document(["an answer", "another"])
        >>> encoder.similarity(queries, documents).shape
        (1, 2)

    Args:
        query: With ``document``: the encoder of queries, as `Encoder` takes it, or an `Encoder`. Alone: both, as the name
            or folder of a model with ``Q`` and ``A``, a Router folder of sentence-transformers, or a `DualModel`.
        document: The encoder of documents.
        device: Such as ``cpu`` or ``cuda``; by default the best there is. An `Encoder` has its own.
        precision: As in `Encoder`. An `Encoder` has its own.
        threads: As in `Encoder`, for each of the two.

    Raises:
        ModelError: A model is not found or cannot be read, or the two do not belong together: their vectors differ in
            size or in similarity.
    """

    def __init__(
        self,
        query: str | Path | Model | DualModel | Encoder,
        document: str | Path | Model | Encoder | None = None,
        *,
        device: str | None = None,
        precision: Precision | None = None,
        threads: int | None = None,
    ) -> None:
        def encoder(half: str | Path | Model | Encoder) -> Encoder:
            if isinstance(half, Encoder):
                return half
            return Encoder(half, device=device, precision=precision, threads=threads)

        if document is None:
            self.model = _both(query)
            self.names: tuple[str, ...] = (self.model.name,)
            """By which both can be loaded again: one name, or two."""
            self.query, self.document = encoder(self.model.query), encoder(self.model.document)
        elif isinstance(query, DualModel):
            raise UsageError(f"{query.name}: is two encoders already; give it alone")
        else:
            self.query, self.document = encoder(query), encoder(document)
            self.names = (self.query.model.name, self.document.model.name)
            self.model = DualModel(" and ".join(self.names), self.query.model, self.document.model)

    @property
    def dimensions(self) -> int:
        """Numbers in a vector."""
        return self.model.dimensions

    @property
    def similarity_name(self) -> str:
        """``cosine`` or ``dot``: what the two were made for."""
        return self.model.similarity

    @property
    def fingerprint(self) -> str:
        """Identifies the pair by the content of both; each half has its own."""
        return self.model.fingerprint

    @property
    def num_truncated(self) -> int:
        """Texts longer than the limit of the half that encoded them, so far."""
        return self.query.num_truncated + self.document.num_truncated

    @property
    def num_tokens(self) -> int:
        """Tokens encoded so far, by both."""
        return self.query.num_tokens + self.document.num_tokens

    def encode(
        self, texts: str | Iterable[str], *, prompt_name: str | None = None, show_progress: bool = False
    ) -> npt.NDArray[np.float32]:
        """Encodes texts that are on an equal footing, such as two sentences of which we ask how alike they are.

        Both must go through one encoder, since two vectors of the same text by different halves need not be near. It is
        that of the queries: such texts are mostly short, and stand for themselves as queries do. For search use
        `encode_query` and `encode_document`. See `Encoder.encode`.
        """
        return self.query.encode(texts, prompt_name=prompt_name, show_progress=show_progress)

    def encode_query(self, texts: str | Iterable[str], *, show_progress: bool = False) -> npt.NDArray[np.float32]:
        """Encodes what is searched for, with the one half."""
        return self.query.encode_query(texts, show_progress=show_progress)

    def encode_document(self, texts: str | Iterable[str], *, show_progress: bool = False) -> npt.NDArray[np.float32]:
        """Encodes what is searched in, with the other half."""
        return self.document.encode_document(texts, show_progress=show_progress)

    def similarity(self, a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The similarity of every row of ``a`` [N, D] with every row of ``b`` [M, D]: [N, M].

        A single vector [D] counts as one row.
        """
        return self.query.similarity(a, b)


AnyEncoder = Encoder | DualEncoder


def load_encoder(
    name: str | Path,
    document: str | Path | None = None,
    *,
    device: str | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
) -> AnyEncoder:
    """Loads one encoder or two, as the model is.

    Args:
        name: Of a model; of the queries' encoder, if there is another name.
        document: Name of the documents' encoder.
        device: As in `Encoder`.
        precision: As in `Encoder`.
        threads: As in `Encoder`.

    Raises:
        ModelError: There is no such model, or it cannot be read.
    """
    if document is not None:
        return DualEncoder(name, document, device=device, precision=precision, threads=threads)
    model = load_any(name)
    if isinstance(model, DualModel):
        return DualEncoder(model, device=device, precision=precision, threads=threads)
    return Encoder(model, device=device, precision=precision, threads=threads)


def halves(encoder: AnyEncoder) -> tuple[Encoder, Encoder]:
    """What encodes queries, and what encodes documents."""
    return (encoder.query, encoder.document) if isinstance(encoder, DualEncoder) else (encoder, encoder)


def names(encoder: AnyEncoder) -> tuple[str, ...]:
    """By which `load_encoder` loads it again."""
    return encoder.names if isinstance(encoder, DualEncoder) else (encoder.model.name,)


def _both(query: str | Path | Model | DualModel | Encoder) -> DualModel:
    if isinstance(query, DualModel):
        return query
    if isinstance(query, Model | Encoder):
        model = query.model if isinstance(query, Encoder) else query
        raise UsageError(f"{model.name}: is one encoder; give another one for the documents, or use it as an Encoder")
    return read_dual(find_model(query), str(query))
