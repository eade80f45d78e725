"""What a collection on a Qdrant server says of itself, kept in the server's own metadata of collections."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from qdrant_client import QdrantClient, models

from pairloom.choices import Similarity
from pairloom.errors import CollectionError, UsageError
from pairloom.search.identity import ModelIdentity
from pairloom.search.protocol import FieldType
from pairloom.search.qdrant.filters import payload_indexes
from pairloom.search.qdrant.payloads import ORDER_INDEX, VECTOR, WORDS
from pairloom.search.qdrant.points import Points
from pairloom.search.settings import Storage

_KEY = "pairloom"
LAYOUT = 1
_DISTANCES: dict[Similarity, models.Distance] = {"cosine": models.Distance.COSINE, "dot": models.Distance.DOT}


@dataclass(frozen=True)
class About:
    """What is decided when a collection is made, and the little that changes later.

    Args:
        dimensions: Numbers in a vector.
        similarity: ``cosine`` or ``dot``.
        model: What made the vectors, if they are not somebody else's.
        fields: The fields that may be filtered by, and what they hold.
        storage: How the server keeps vectors.
        average_words: The length of a document that BM25 takes for usual; None until there is one.
        weights: Of vectors and of words in hybrid search.
    """

    dimensions: int
    similarity: Similarity
    model: ModelIdentity | None = None
    fields: Mapping[str, FieldType] = field(default_factory=dict)
    storage: Storage = "float16"
    average_words: float | None = None
    weights: tuple[float, float] = (1.0, 1.0)

    def as_json(self) -> dict[str, Any]:
        """As it is kept. An absent model is an empty list of names: the server drops what is null."""
        model = self.model
        return {
            "layout": LAYOUT,
            "dimensions": self.dimensions,
            "similarity": self.similarity,
            "models": [] if model is None else list(model.names),
            "fingerprint": "" if model is None else model.fingerprint,
            "query_fingerprint": "" if model is None else model.query_fingerprint,
            "fields": dict(self.fields),
            "storage": self.storage,
            "average_words": self.average_words or 0.0,
            "weights": list(self.weights),
        }


def open_about(
    points: Points, wanted: About | None, *, create: bool | None, shards: int | None = None, replicas: int = 1
) -> About:
    """What a collection says of itself; it is made if it is not there.

    Args:
        points: Of the collection.
        wanted: What a new one shall say; None if that is not known.
        create: Whether it must be new (True), must be there (False), or may be either.
        shards: Of a new one.
        replicas: Of a new one.

    Raises:
        CollectionError: It is there or is not, or was not made by pairloom, or not as it says.
        UsageError: A new one was to be made, and it is not known how.
    """
    is_new = not is_there(points)
    if create and not is_new:
        raise CollectionError(f"{points.where}: is there already; open it, or choose another name")
    if create is False and is_new:
        raise CollectionError(f"{points.where}: there is no such collection")
    if is_new and wanted is None:
        raise UsageError(
            f"{points.where}: a new collection needs a model, or the dimensions and the similarity of vectors"
        )
    with points.asking() as client:
        if is_new:
            assert wanted is not None
            _create(client, points.name, wanted, shards, replicas)
        info = client.get_collection(points.name)
        about = _read(info, points.where)
        _make_indexes(client, points.name, about, info)
    return about


def is_there(points: Points) -> bool:
    """Whether the server has the collection."""
    with points.asking() as client:
        return client.collection_exists(points.name)


def write_about(points: Points, about: About) -> None:
    """Replaces what a collection says of itself."""
    with points.asking() as client:
        client.update_collection(points.name, metadata={_KEY: about.as_json()})


def _read(info: models.CollectionInfo, where: str) -> About:
    metadata = info.config.metadata or {}
    if _KEY not in metadata:
        raise CollectionError(
            f"{where}: does not say which model made it, so pairloom has not made it (or the server is older than 1.16, and "
            "cannot keep that); choose another name"
        )
    try:
        about = _from_json(metadata[_KEY])
        vectors = info.config.params.vectors
        kept = vectors.get(VECTOR) if isinstance(vectors, dict) else None
        if kept is None or (kept.size, kept.distance) != (about.dimensions, _DISTANCES[about.similarity]):
            raise ValueError("its vectors are not as it says")
    except (KeyError, TypeError, ValueError) as error:
        raise CollectionError(f"{where}: what it says of itself makes no sense ({error}); make it anew") from None
    return about


def _create(client: QdrantClient, name: str, about: About, shards: int | None, replicas: int) -> None:
    """Makes a collection without its indexes. What is written counts as written when most of the replicas have it."""
    client.create_collection(
        name,
        vectors_config={
            VECTOR: models.VectorParams(
                size=about.dimensions, distance=_DISTANCES[about.similarity], datatype=models.Datatype(about.storage)
            )
        },
        sparse_vectors_config={WORDS: models.SparseVectorParams(modifier=models.Modifier.IDF)},
        shard_number=shards,
        replication_factor=replicas,
        write_consistency_factor=replicas // 2 + 1,
        metadata={_KEY: about.as_json()},
    )


def _make_indexes(client: QdrantClient, name: str, about: About, info: models.CollectionInfo) -> None:
    """Makes the indexes over payloads that a collection lacks: all of a new one, some if its making was interrupted."""
    wanted = {**payload_indexes(about.fields), **ORDER_INDEX}
    with warnings.catch_warnings():
        # The imitation of a server says that it has no indexes, which is as well.
        warnings.filterwarnings("ignore", message="Payload indexes have no effect", category=UserWarning)
        for key, kind in wanted.items():
            if key not in info.payload_schema:
                client.create_payload_index(name, key, kind, wait=True)


def _from_json(raw: Mapping[str, Any]) -> About:
    dimensions, similarity, average = int(raw["dimensions"]), raw["similarity"], float(raw["average_words"])
    fields, weights = dict(raw["fields"]), tuple(float(weight) for weight in raw["weights"])
    if raw["layout"] != LAYOUT:
        raise ValueError(f"its layout is {raw['layout']}, and this version reads {LAYOUT}")
    if (
        similarity not in _DISTANCES
        or raw["storage"] not in get_args(Storage)
        or any(kind not in get_args(FieldType) for kind in fields.values())
    ):
        raise ValueError("its similarity, its storage or the type of a field is not known")
    if len(weights) != 2 or not all(map(math.isfinite, (*weights, average))):
        raise ValueError("its numbers are none")
    model = None
    if raw["models"]:
        names = tuple(map(str, raw["models"]))
        fingerprints = str(raw["fingerprint"]), str(raw["query_fingerprint"])
        model = ModelIdentity(names, *fingerprints, dimensions, similarity)
    return About(dimensions, similarity, model, fields, raw["storage"], average or None, (weights[0], weights[1]))
