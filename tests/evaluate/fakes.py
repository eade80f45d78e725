"""Encoders without a model, and small tasks on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


class HashEncoder:
    """A random vector for each text, the same every time."""

    def __init__(self, similarity_name: str = "cosine", *, dimensions: int = 16, salt: str = "") -> None:
        self.similarity_name = similarity_name
        self.num_texts = 0
        self._dimensions, self._salt = dimensions, salt

    def encode(self, texts: list[str], /) -> Vectors:
        self.num_texts += len(texts)
        return np.stack([self._vector(text) for text in texts])

    encode_query = encode
    encode_document = encode

    def _vector(self, text: str) -> Vectors:
        seed = int.from_bytes(hashlib.sha256((self._salt + text).encode()).digest()[:8])
        return np.random.default_rng(seed).normal(size=self._dimensions).astype(np.float32)


class LookupEncoder:
    """Vectors from tables, one for each role that a text can have."""

    def __init__(
        self,
        queries: Mapping[str, Sequence[float]],
        documents: Mapping[str, Sequence[float]],
        similarity_name: str = "dot",
    ) -> None:
        self.similarity_name = similarity_name
        self._queries, self._documents = queries, documents

    def encode(self, texts: list[str], /) -> Vectors:
        raise AssertionError("a retrieval task has queries and documents")

    def encode_query(self, texts: list[str], /) -> Vectors:
        return np.array([self._queries[text] for text in texts], dtype=np.float32)

    def encode_document(self, texts: list[str], /) -> Vectors:
        return np.array([self._documents[text] for text in texts], dtype=np.float32)


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def write_beir(
    folder: Path,
    *,
    corpus: Sequence[Any] = (
        {"_id": "d1", "title": "Bees", "text": "They fly."},
        {"_id": "d2", "title": "", "text": "Ants walk."},
        {"_id": "d3", "text": "Cats sleep."},
    ),
    queries: Sequence[Any] = ({"_id": "q1", "text": "what flies"}, {"_id": "q2", "text": "what walks"}),
    qrels: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """A BEIR folder; a line of corpus or queries that is a string is written as it is."""
    for name, records in (("corpus", corpus), ("queries", queries)):
        lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
        write_lines(folder / f"{name}.jsonl", lines)
    if qrels is None:
        qrels = {"test": ("query-id\tcorpus-id\tscore", "q1\td1\t2", "q1\td3\t0", "q2\td2\t1")}
    for split, judgements in qrels.items():
        write_lines(folder / "qrels" / f"{split}.tsv", judgements)
    return folder
