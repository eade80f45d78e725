"""From settings to what a server consists of."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest

from pairloom.encode.dual_encoder import DualEncoder
from pairloom.encode.encoder import Encoder
from pairloom.errors import CollectionError, ModelError, UsageError
from pairloom.records import Document
from pairloom.search.collection import Collection
from pairloom.search.settings import Settings as CollectionSettings
from pairloom.serve.building import build_service
from pairloom.serve.service import Service
from pairloom.serve.settings import Settings
from tests.conftest import write_modules


@pytest.fixture
def other_folder(backbone_folder: object, tmp_path: Path) -> Path:
    path = tmp_path / "other"
    shutil.copytree(backbone_folder("mpnet"), path)  # type: ignore[operator]
    write_modules(path)
    return path


def make_collection(path: Path, encoder: Encoder | DualEncoder) -> str:
    with Collection(path, encoder) as collection:
        collection.upsert([Document("one", "hot water"), Document("two", "a python list")])
    return str(path)


def close(service: Service) -> None:
    if service.collection is not None:
        service.collection.close()
    asyncio.run(service.scheduler.close())


def test_models_are_served_by_their_names(model_folder: Path, other_folder: Path) -> None:
    service = build_service(Settings(models=(str(model_folder), f"fast={other_folder}")))
    assert list(service.models) == ["tiny", "fast"]
    assert (service.collection, service.collection_model) == (None, None)
    close(service)


def test_a_collection_is_searched_by_the_model_that_made_it(
    model_folder: Path, other_folder: Path, tmp_path: Path
) -> None:
    location = make_collection(tmp_path / "texts", Encoder(model_folder))
    service = build_service(Settings(models=(f"a={other_folder}", f"b={model_folder}"), collection=location))
    assert service.collection_model is service.models["b"]
    assert list(service.models) == ["a", "b"]
    close(service)


def test_a_collection_brings_its_model_beside_others(model_folder: Path, other_folder: Path, tmp_path: Path) -> None:
    location = make_collection(tmp_path / "texts", Encoder(model_folder))
    service = build_service(Settings(models=(str(other_folder),), collection=location))
    assert list(service.models) == ["other", "tiny"]
    assert service.collection_model is service.models["tiny"]
    close(service)


def test_another_model_of_the_same_name_is_not_taken_for_it(
    model_folder: Path, other_folder: Path, tmp_path: Path
) -> None:
    location = make_collection(tmp_path / "texts", Encoder(model_folder))
    with pytest.raises(UsageError, match="another model than the one that is called tiny"):
        build_service(Settings(models=(f"tiny={other_folder}",), collection=location))


def test_the_two_halves_of_a_pair_are_found_together(
    model_folder: Path, backbone_folder: object, tmp_path: Path
) -> None:
    pair = tmp_path / "pair"
    shutil.copytree(model_folder, pair / "Q")
    shutil.copytree(backbone_folder("distilbert"), pair / "A")  # type: ignore[operator]
    write_modules(pair / "A")
    location = make_collection(tmp_path / "texts", DualEncoder(pair))
    for models in ((), (str(pair),)):
        service = build_service(Settings(models=models, collection=location))
        assert list(service.models) == ["pair", "pair-q", "pair-a"]
        assert service.collection_model is service.models["pair"]
        close(service)
    # One half alone is another model.
    service = build_service(Settings(models=(f"half={pair / 'Q'}",), collection=location))
    assert service.collection_model is service.models["pair"]
    close(service)


def test_a_collection_of_vectors_alone_has_no_model(tmp_path: Path) -> None:
    with Collection(tmp_path / "bare", settings=CollectionSettings(dimensions=4, similarity="cosine")) as collection:
        collection.upsert([Document("one", "hot water")], vectors=np.ones((1, 4), np.float32))
    service = build_service(Settings(collection=str(tmp_path / "bare")))
    assert service.collection is not None
    assert (service.collection_model, dict(service.models)) == (None, {})
    assert [hit.id for hit in service.collection.search("water", mode="words")] == ["one"]
    close(service)


def test_a_model_that_changed_or_went_is_said(model_folder: Path, other_folder: Path, tmp_path: Path) -> None:
    moving = tmp_path / "moving"
    shutil.copytree(model_folder, moving)
    location = make_collection(tmp_path / "texts", Encoder(moving))
    shutil.rmtree(moving)
    with pytest.raises(ModelError, match=r"texts: the model that made it cannot be loaded .* as MODEL"):
        build_service(Settings(collection=location))
    shutil.copytree(other_folder, moving)
    with pytest.raises(CollectionError, match="as it was then"):
        build_service(Settings(collection=location))


def test_a_collection_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="nothing"):
        build_service(Settings(collection=str(tmp_path / "nothing")))


def test_cores_are_divided_among_workers(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from pairloom.serve.building import threads_of_a_worker

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert threads_of_a_worker(Settings(workers=3)) == 2
    assert threads_of_a_worker(Settings(workers=20)) == 1
    assert threads_of_a_worker(Settings(workers=3, threads=5)) == 5
    assert threads_of_a_worker(Settings()) is None
