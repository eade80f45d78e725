"""The vectors artifact: vectors, the texts they stand for, and which model made them.

The folder holds ``vectors.npy`` (float32 [N, D], which ``numpy.load(…, mmap_mode="r")`` opens as it is),
``texts.jsonl`` (``{"id", "text"}`` a line, in the same order) and ``offsets.npy`` (where each line begins).
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from pairloom.artifacts import new_artifact, verify
from pairloom.encode.dual_encoder import AnyEncoder, halves, names
from pairloom.encode.encoder import CHUNK_TEXTS
from pairloom.errors import ArtifactError, InputError, ModelError
from pairloom.progress import meter
from pairloom.records import Text


class VectorSet:
    """A vectors artifact, opened for reading; vectors stay on disk until they are touched.

    Args:
        path: The folder.

    Raises:
        ArtifactError: The folder is not a vectors artifact, or not as it was written.
    """

    def __init__(self, path: Path) -> None:
        # Every byte is compared with its checksum: a search by all vectors is going to read them all anyway.
        facts = verify(path, "vectors").facts
        self.path = path
        try:
            model = facts["model"]
            self.models: tuple[str, ...] = (model,) if isinstance(model, str) else tuple(map(str, model))
            """The name of the model, or two: of the queries' encoder and of the documents'."""
            self.fingerprint = str(facts["fingerprint"])
            self.query_fingerprint: str | None = facts.get("query_fingerprint")
            """Of the encoder that queries need, if it is another."""
            self.vectors: npt.NDArray[np.float32] = np.load(path / "vectors.npy", mmap_mode="r")
            self._offsets: npt.NDArray[np.int64] = np.load(path / "offsets.npy")
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise ArtifactError(f"{path}: damaged ({error}); encode again") from None
        if len(self._offsets) != len(self.vectors) + 1:
            raise ArtifactError(f"{path}: vectors and texts differ in number; encode again")

    def __len__(self) -> int:
        return len(self.vectors)

    def texts(self, rows: Iterable[int]) -> list[Text]:
        """The texts of some rows."""
        found = []
        with (self.path / "texts.jsonl").open("rb") as stream:
            for row in rows:
                begin, end = int(self._offsets[row]), int(self._offsets[row + 1])
                stream.seek(begin)
                record = json.loads(stream.read(end - begin))
                found.append(Text(record["id"], record["text"]))
        return found

    @property
    def model(self) -> str:
        """The model, for people."""
        return " and ".join(self.models)

    def check_model(self, fingerprint: str, name: str, *, query_fingerprint: str | None = None) -> None:
        """Makes sure that queries of a model can be compared with the vectors.

        Args:
            fingerprint: Of what makes the model's vectors of documents.
            name: Of the model.
            query_fingerprint: Of what makes its vectors of queries, if that is another encoder.

        Raises:
            ArtifactError: The vectors were made by another model, or are for queries of another one.
        """
        both = f"search with both halves: {self.model}"
        if fingerprint != self.fingerprint:
            if fingerprint == self.query_fingerprint:
                raise ArtifactError(
                    f"{self.path}: made by the documents' half of {self.model} (fingerprint {self.fingerprint[:8]}), and {name} "
                    f"is its queries' half ({fingerprint[:8]}) alone; {both}"
                )
            raise ArtifactError(
                f"{self.path}: made by {self.model} as it was then (fingerprint {self.fingerprint[:8]}), not by {name} as it "
                f"is now ({fingerprint[:8]}); encode again, or use that model (of one for queries and one for documents: both "
                "together)"
            )
        if self.query_fingerprint not in (None, query_fingerprint or fingerprint):
            raise ArtifactError(
                f"{self.path}: made by {self.model}, which has an encoder of its own for queries (fingerprint "
                f"{self.query_fingerprint[:8]}), and {name} encodes them otherwise; {both}"
            )


def encode_texts(
    encoder: AnyEncoder, texts: Iterable[Text], out: Path, *, origin: str, show_progress: bool = True
) -> dict[str, Any]:
    """Encodes texts as documents and writes the vectors artifact, in constant memory.

    Args:
        encoder: The model; of two encoders that of the documents does the work, and the fingerprint is its own.
        texts: Any number of them.
        out: The folder to make.
        origin: Where the texts came from, for the manifest.
        show_progress: Whether to show progress on stderr.

    Returns:
        The manifest's facts: count, dimensions, model, fingerprint, truncated texts, rates.

    Raises:
        ArtifactError: Something stands at ``out``, or the disk is full.
        InputError: There are no texts.
    """
    query, document = halves(encoder)
    begin, start_tokens, start_truncated = time.monotonic(), document.num_tokens, document.num_truncated
    with new_artifact(out, "vectors") as draft:
        offsets = [0]
        iterator = iter(texts)
        with (
            (draft.path / "vectors.npy").open("wb") as vectors_file,
            (draft.path / "texts.jsonl").open("wb") as texts_file,
            meter("encoding", unit="texts", show=show_progress) as progress,
        ):
            _write_header(vectors_file, 0, document.dimensions)
            while block := list(itertools.islice(iterator, CHUNK_TEXTS)):
                vectors = document.encode_document([text.text for text in block])
                if not np.isfinite(vectors).all():
                    worst = block[int(np.argmin(np.isfinite(vectors).all(axis=1)))]
                    raise ModelError(
                        f"{document.model.name}: its vector of text {worst.id} is no number; do not use it"
                    )
                vectors_file.write(vectors.tobytes())
                for text in block:
                    line = json.dumps({"id": text.id, "text": text.text}).encode() + b"\n"
                    offsets.append(offsets[-1] + texts_file.write(line))
                progress.advance(len(block))
            count = len(offsets) - 1
            if not count:
                raise InputError("holds no text", origin)
            _write_header(vectors_file, count, document.dimensions)
        np.save(draft.path / "offsets.npy", np.array(offsets, dtype=np.int64))
        seconds = time.monotonic() - begin
        made_by = [_lasting_name(name) for name in names(encoder)]
        draft.facts.update(
            model=made_by[0] if len(made_by) == 1 else made_by,
            fingerprint=document.fingerprint,
            **({} if query is document else {"query_fingerprint": query.fingerprint}),
            similarity=document.similarity_name,
            precision=document.precision,
            input=origin,
            count=count,
            dimensions=document.dimensions,
            max_tokens=document.max_tokens,
            truncated=document.num_truncated - start_truncated,
            tokens=document.num_tokens - start_tokens,
            seconds=round(seconds, 3),
        )
    return draft.facts


def _lasting_name(model: str) -> str:
    """A folder's name is good from everywhere; another name already is."""
    path = Path(model).expanduser()
    return str(path.resolve()) if path.is_dir() else model


def _write_header(stream: BinaryIO, count: int, dimensions: int) -> None:
    """Writes the .npy header at the beginning; NumPy leaves room in it for the first dimension to grow."""
    stream.seek(0)
    header = {"descr": "<f4", "fortran_order": False, "shape": (count, dimensions)}
    np.lib.format.write_array_header_1_0(stream, header)
