"""A collection on a plane: near is near, the same is the same, and it is not made twice."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from pairloom import Collection, Document, Encoder
from pairloom.serve.map import principal_components, project
from pairloom.serve.service import Service
from tests.serve.collection_servers import client_of, collection_service, error_of

TEXTS = ("hot coffee in a cup", "train a model", "how do i read a python file", "cold water", "grind the bean")


def clusters(
    count: int = 3, each: int = 40, dimensions: int = 20
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Vectors around some centres, and whose they are."""
    dice = np.random.default_rng(0)
    of = np.repeat(np.arange(count), each)
    vectors = dice.normal(size=(count, dimensions))[of] + 0.05 * dice.normal(size=(len(of), dimensions))
    return vectors.astype(np.float32), of


def is_apart(points: npt.NDArray[np.float32], of: npt.NDArray[np.int64]) -> bool:
    """Whether the nearest point of each point belongs to the same centre."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return bool((of[distances.argmin(axis=1)] == of).all())


@pytest.fixture
def without_sklearn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)


def test_principal_components_are_the_eigenvectors_of_the_covariance() -> None:
    vectors, _ = clusters()
    found = principal_components(vectors, 4)
    values, directions = np.linalg.eigh(np.cov(vectors.T.astype(np.float64)))
    wanted = (vectors - vectors.mean(axis=0)) @ directions[:, ::-1][:, :4]
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), atol=1e-3)
    np.testing.assert_allclose(found.var(axis=0, ddof=1), values[::-1][:4], rtol=1e-3)


def test_signs_do_not_depend_on_the_order_of_the_vectors() -> None:
    vectors, _ = clusters()
    order = np.random.default_rng(1).permutation(len(vectors))
    np.testing.assert_allclose(
        principal_components(vectors[order], 2), principal_components(vectors, 2)[order], atol=1e-4
    )


@pytest.mark.parametrize("with_sklearn", [True, False])
def test_what_is_near_is_near_on_the_plane(with_sklearn: bool, request: pytest.FixtureRequest) -> None:
    if with_sklearn:
        pytest.importorskip("sklearn")
    else:
        request.getfixturevalue("without_sklearn")
    vectors, of = clusters()
    points, method = project(vectors, seed=3)
    assert method == ("t-sne" if with_sklearn else "pca")
    assert points.shape == (len(vectors), 2) and is_apart(points, of)
    assert np.abs(points).max() == pytest.approx(1) and np.abs(points).max(axis=0).min() > 0.1
    np.testing.assert_array_equal(project(vectors, seed=3)[0], points)


@pytest.mark.parametrize("vectors", [
    np.zeros((0, 4)), np.ones((1, 4)), np.ones((50, 4)), np.eye(2), np.ones((3, 1)), np.arange(30.0)[:, None],
    np.outer(np.arange(12.0), np.ones(3)),
])  # fmt: skip
def test_few_vectors_or_all_alike_have_their_place_too(vectors: npt.NDArray[np.float64]) -> None:
    points, _ = project(vectors.astype(np.float32))
    assert points.shape == (len(vectors), 2)
    assert np.isfinite(points).all() and np.abs(points).max(initial=0) <= 1


@pytest.fixture
def service(encoder: Encoder, tmp_path: Path) -> Service:
    documents = [
        Document(
            f"d{number}",
            f"{TEXTS[number % 5]} {number}" + "x" * 300 * (number == 0),
            {"kind": number % 5, "long": "y" * 500},
        )
        for number in range(60)
    ]
    return collection_service(encoder, tmp_path / "c", documents)


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with client_of(service) as opened:
        yield opened


def test_a_map_shows_a_sample_of_the_collection(client: httpx.Client, service: Service) -> None:
    drawn = client.get("/v1/map", params={"sample": 20, "seed": 1}).json()
    assert drawn["method"] == "t-sne" and len(drawn["points"]) == 20
    assert isinstance(service.collection, Collection)
    for point in drawn["points"]:
        (document,) = service.collection.get([point["id"]])
        assert document is not None
        assert point["text"] == document.text[:200]
        assert point["metadata"] == {"kind": document.metadata["kind"]}
        assert -1 <= point["x"] <= 1 and -1 <= point["y"] <= 1
    everything = client.get("/v1/map").json()["points"]
    assert sorted(point["id"] for point in everything) == sorted(f"d{number}" for number in range(60))
    assert any(len(point["text"]) == 200 for point in everything)


def test_a_map_is_the_same_until_something_is_written(client: httpx.Client, service: Service) -> None:
    def draw(**params: Any) -> Any:
        return client.get("/v1/map", params=params).json()["points"]

    first = draw(sample=10)
    assert draw(sample=10) == first
    assert {one["id"] for one in draw(sample=10, seed=2)} != {one["id"] for one in first}
    assert client.request("DELETE", "/v1/documents", json={"ids": [first[0]["id"]]}).json() == {"deleted": 1}
    assert first[0]["id"] not in {one["id"] for one in draw(sample=60)}


def test_an_empty_collection_has_an_empty_map(encoder: Encoder, tmp_path: Path) -> None:
    with client_of(collection_service(encoder, tmp_path / "c")) as client:
        assert client.get("/v1/map").json() == {"points": [], "method": "pca"}


@pytest.mark.parametrize(("query", "param"), [
    ("sample=0", "sample"), ("sample=5001", "sample"), ("sample=many", "sample"), ("seed=-1", "seed"), ("seed=4294967296", "seed"),
    ("seeds=1", "seeds"), ("sample=", "sample"),
])  # fmt: skip
def test_a_map_that_cannot_be_drawn(client: httpx.Client, query: str, param: str) -> None:
    assert error_of(client.get(f"/v1/map?{query}"), 400)["param"] == param
