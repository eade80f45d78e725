"""The contract of collections, on each backend: in a folder, on the imitation of a Qdrant server, and on a real one.

A real server is used where the variable ``PAIRLOOM_QDRANT_URL`` says where it is (docs/qdrant.md).
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from qdrant_client import QdrantClient

from pairloom import DualEncoder, Encoder
from pairloom.choices import Similarity
from pairloom.encode.dual_encoder import AnyEncoder
from pairloom.models.dual import DualModel
from pairloom.models.read import read_model
from pairloom.models.write import write_model
from pairloom.records import Document
from pairloom.search.any_collection import AnyCollection
from pairloom.search.protocol import FieldType
from pairloom.search.qdrant.collection import QdrantCollection
from pairloom.search.qdrant.server import connect
from tests.search.contract import (
    DIMENSIONS,
    FIELDS,
    TEXTS,
    Backend,
    CollectionContract,
    numbered,
    of_vectors,
    random_metadata,
    vectors_of,
)

URL_VARIABLE = "PAIRLOOM_QDRANT_URL"


@pytest.fixture(scope="module", params=["embedded", "imitation", "server"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with ExitStack() as stack:
        match request.param:
            case "embedded":
                made = _embedded(tmp_path_factory.mktemp("collections"), stack)
            case "imitation":
                made = _qdrant(":memory:", QdrantClient(":memory:"), stack)
            case _:
                url = os.environ.get(URL_VARIABLE)
                if not url:
                    pytest.skip(f"{URL_VARIABLE} does not say where a Qdrant server is")
                made = _qdrant(url, connect(url), stack)
        yield made


def _embedded(folder: Path, stack: ExitStack) -> Backend:
    module = pytest.importorskip("pairloom.search.collection", reason="the collection in a folder is not there yet")
    from pairloom.search.settings import Settings

    numbers = itertools.count()
    last = folder / "none"

    def make(
        encoder: AnyEncoder | None = None,
        *,
        fields: Mapping[str, FieldType] | None = None,
        similarity: str = "cosine",
    ) -> AnyCollection:
        nonlocal last
        last = folder / str(next(numbers))
        of_vectors = {} if encoder else {"dimensions": DIMENSIONS, "similarity": cast("Similarity", similarity)}
        settings = Settings(fields=fields, **cast("Any", of_vectors))
        return cast("AnyCollection", stack.enter_context(module.Collection(last, encoder, settings=settings)))

    def again(encoder: AnyEncoder | None) -> AnyCollection:
        return cast("AnyCollection", stack.enter_context(module.Collection(last, encoder, create=False)))

    return Backend(make, again)


def _qdrant(location: str, client: QdrantClient, stack: ExitStack) -> Backend:
    stack.callback(client.close)
    last = ""

    def make(
        encoder: AnyEncoder | None = None,
        *,
        fields: Mapping[str, FieldType] | None = None,
        similarity: str = "cosine",
    ) -> AnyCollection:
        nonlocal last
        last = f"pairloom-test-{secrets.token_hex(6)}"
        stack.callback(client.delete_collection, last)
        options: Any = {} if encoder else {"dimensions": DIMENSIONS, "similarity": similarity}
        return QdrantCollection(location, last, encoder, create=True, fields=fields, client=client, **options)

    def again(encoder: AnyEncoder | None) -> AnyCollection:
        return QdrantCollection(location, last, encoder, create=False, client=client)

    return Backend(make, again)


@pytest.fixture(scope="module")
def encoder(model_folder: Path) -> Encoder:
    return Encoder(model_folder, precision="float32", threads=1)


@pytest.fixture(scope="module")
def other_encoder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    model = read_model(model_folder)
    model.weights["embeddings.norm.bias"] = model.weights["embeddings.norm.bias"] + np.float32(0.5)
    path = tmp_path_factory.mktemp("other") / "another"
    path.mkdir()
    write_model(model, path, readme="")
    return Encoder(path, precision="float32", threads=1)


@pytest.fixture(scope="module")
def dual_encoder(backbone_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> DualEncoder:
    path = tmp_path_factory.mktemp("dual") / "model"
    path.mkdir()
    query, document = (read_model(backbone_folder(family)) for family in ("bert", "mpnet"))
    write_model(DualModel("none", query, document), path, readme="")
    return DualEncoder(path, precision="float32", threads=1)


@pytest.fixture(scope="module")
def few(backend: Backend) -> AnyCollection:
    """A collection that is only read."""
    collection = of_vectors(backend)
    collection.add(numbered(), vectors=vectors_of(len(TEXTS)))
    return collection


@pytest.fixture(scope="module")
def filtered(backend: Backend) -> tuple[AnyCollection, Mapping[str, dict[str, Any]]]:
    """A collection that is only read, with metadata of all kinds, and the metadata."""
    metadata = {f"d{number}": one for number, one in enumerate(random_metadata(60))}
    collection = of_vectors(backend, fields=FIELDS)
    documents = [Document(id_, "every text", one) for id_, one in metadata.items()]
    collection.add(documents, vectors=vectors_of(len(documents)))
    return collection, metadata


class TestContract(CollectionContract):
    """All of it, on each backend."""
