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
from pairloom.encode.encoder import CHUNK_TEXTS, Encoder
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
            self.model, self.fingerprint = str(facts["model"]), str(facts["fingerprint"])
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

    def check_model(self, fingerprint: str, name: str) -> None:
        """Raises `ArtifactError` unless the vectors were made by the model with this fingerprint."""
        if fingerprint != self.fingerprint:
            raise ArtifactError(
                f"{self.path}: made by {self.model} as it was then (fingerprint {self.fingerprint[:8]}), not by {name} as it "
                f"is now ({fingerprint[:8]}); encode again, or use that model"
            )


def encode_texts(
    encoder: Encoder, texts: Iterable[Text], out: Path, *, origin: str, show_progress: bool = True
) -> dict[str, Any]:
    """Encodes texts as documents and writes the vectors artifact, in constant memory.

    Args:
        encoder: The model.
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
    begin, start_tokens, start_truncated = time.monotonic(), encoder.num_tokens, encoder.num_truncated
    with new_artifact(out, "vectors") as draft:
        offsets = [0]
        iterator = iter(texts)
        with (
            (draft.path / "vectors.npy").open("wb") as vectors_file,
            (draft.path / "texts.jsonl").open("wb") as texts_file,
            meter("encoding", unit="texts", show=show_progress) as progress,
        ):
            _write_header(vectors_file, 0, encoder.dimensions)
            while block := list(itertools.islice(iterator, CHUNK_TEXTS)):
                vectors = encoder.encode_document([text.text for text in block])
                if not np.isfinite(vectors).all():
                    worst = block[int(np.argmin(np.isfinite(vectors).all(axis=1)))]
                    raise ModelError(f"{encoder.model.name}: its vector of text {worst.id} is no number; do not use it")
                vectors_file.write(vectors.tobytes())
                for text in block:
                    line = json.dumps({"id": text.id, "text": text.text}).encode() + b"\n"
                    offsets.append(offsets[-1] + texts_file.write(line))
                progress.advance(len(block))
            count = len(offsets) - 1
            if not count:
                raise InputError("holds no text", origin)
            _write_header(vectors_file, count, encoder.dimensions)
        np.save(draft.path / "offsets.npy", np.array(offsets, dtype=np.int64))
        seconds = time.monotonic() - begin
        draft.facts.update(
            model=_lasting_name(encoder.model.name),
            fingerprint=encoder.fingerprint,
            similarity=encoder.similarity_name,
            precision=encoder.precision,
            input=origin,
            count=count,
            dimensions=encoder.dimensions,
            truncated=encoder.num_truncated - start_truncated,
            tokens=encoder.num_tokens - start_tokens,
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
