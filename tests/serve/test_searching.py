"""Searching over HTTP finds what the collection finds, and says what a request lacks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from pairloom import Collection, DualEncoder, Encoder
from pairloom.models.read import read_model
from pairloom.records import Hit
from pairloom.search.settings import Settings
from pairloom.serve.scheduled import scheduled
from pairloom.serve.served_model import ServedPair
from pairloom.serve.service import Service
from tests.serve.collection_servers import DOCUMENTS, client_of, collection_service, error_of
from tests.serve.servers import make_service

MODES = ("vector", "words", "hybrid")


@pytest.fixture(scope="module")
def service(prompted_encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Service:
    return collection_service(prompted_encoder, tmp_path_factory.mktemp("searched") / "c", DOCUMENTS, max_k=50)


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    with client_of(service) as opened:
        yield opened


@pytest.fixture
def plain(service: Service, prompted_encoder: Encoder) -> Iterator[Collection]:
    """The same collection without a server."""
    assert isinstance(service.collection, Collection)
    with Collection(service.collection.path, prompted_encoder) as collection:
        yield collection


def as_json(hit: Hit) -> dict[str, Any]:
    return {
        "id": hit.id,
        "score": pytest.approx(hit.score, abs=1e-4),
        "text": hit.text,
        "metadata": hit.metadata,
        "highlights": [list(marked) for marked in hit.highlights],
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("filter_", [None, {"tag": "drink"}, {"year": {"gte": 2021}, "author.name": "Ada"}])
@pytest.mark.parametrize("k", [1, 3, 50])
def test_it_finds_what_the_collection_finds(
    client: httpx.Client, plain: Collection, mode: Any, filter_: dict[str, Any] | None, k: int
) -> None:
    for query in ("hot coffee", "how to read a file?", "?!", "MODEL"):
        found = client.post("/v1/search", json={"query": query, "k": k, "mode": mode, "filter": filter_}).json()
        assert found["hits"] == [as_json(hit) for hit in plain.search(query, k, mode=mode, filter=filter_)]
        assert found["mode"] == mode and found["took_ms"] > 0


def test_by_default_it_finds_ten_by_meaning_and_by_words(client: httpx.Client, plain: Collection) -> None:
    found = client.post("/v1/search", json={"query": "coffee"}).json()
    assert found["mode"] == "hybrid"
    assert found["hits"] == [as_json(hit) for hit in plain.search("coffee")]
    assert [found["hits"][0]["text"][begin:end] for begin, end in found["hits"][0]["highlights"]] == ["coffee"]


def test_highlights_are_left_out_if_they_are_not_wanted(client: httpx.Client) -> None:
    found = client.post("/v1/search", json={"query": "coffee", "highlights": False}).json()
    assert found["hits"] and all("highlights" not in hit for hit in found["hits"])


@pytest.mark.parametrize(("body", "param", "message"), [
    ({}, "query", "is missing"),
    ({"query": " \n"}, "query", "is empty"),
    ({"query": 3}, "query", "valid string"),
    ({"query": "x" * 40_000}, "query", "32768"),
    ({"query": "a", "k": 0}, "k", "greater than or equal to 1"),
    ({"query": "a", "k": 51}, "k", "50 of this server"),
    ({"query": "a", "k": "3"}, "k", "valid integer"),
    ({"query": "a", "mode": "magic"}, "mode", "'vector', 'words' or 'hybrid'"),
    ({"query": "a", "filters": {"tag": "x"}}, "filters", "no such parameter"),
    ({"query": "a", "filter": ["tag"]}, "filter", "dictionary"),
    ({"query": "a", "filter": {}}, "filter", "filter is empty"),
    ({"query": "a", "filter": {"tag": {"$ne": 1}}}, "filter", 'filter.tag has "$ne"'),
    ({"query": "a", "filter": {"and": [{"year": {"gte": "soon"}}]}}, "filter", "filter.and[0].year.gte"),
])  # fmt: skip
def test_a_request_that_makes_no_sense_is_refused(
    client: httpx.Client, body: dict[str, Any], param: str, message: str
) -> None:
    error = error_of(client.post("/v1/search", json=body), 400)
    assert message in error["message"] and error["param"] == param


def test_searches_are_timed(client: httpx.Client) -> None:
    client.post("/v1/search", json={"query": "coffee"})
    assert 'pairloom_stage_seconds_count{stage="search"}' in client.get("/metrics").text


def test_a_collection_says_what_it_is(client: httpx.Client, prompted_encoder: Encoder) -> None:
    facts = client.get("/v1/collection").json()
    fields = {field["name"]: (field["type"], field["values"]) for field in facts.pop("fields")}
    assert facts == {
        "count": 5,
        "model": "tiny",
        "dimensions": prompted_encoder.dimensions,
        "similarity": "cosine",
        "modes": ["hybrid", "vector", "words"],
        "weights": {"vector": 1.0, "words": 1.0},
        "index": None,
    }
    assert fields == {
        "tag": ("keyword", [
            {"value": "drink", "count": 3}, {"value": "code", "count": 1}, {"value": "hot", "count": 1},
        ]),
        "year": ("number", [
            {"value": 2021, "count": 2}, {"value": 2020, "count": 1}, {"value": 2022, "count": 1},
        ]),
        "author.name": ("keyword", [{"value": "Ada", "count": 1}]),
        "open": ("boolean", [{"value": True, "count": 1}]),
    }  # fmt: skip


def test_nothing_tells_where_a_collection_and_its_model_lie(client: httpx.Client, service: Service) -> None:
    assert isinstance(service.collection, Collection)
    told = client.get("/v1/collection").text
    assert str(service.collection.path) not in told and str(service.collection.path.parent) not in told
    assert service.models["tiny"].encoder.model.name not in told


def test_each_half_of_a_pair_encodes_its_own(backbone_folder: Any, tmp_path: Path) -> None:
    query, document = (Encoder(read_model(backbone_folder(one)), threads=1) for one in ("bert", "mpnet"))
    pair = DualEncoder(query, document)
    service = make_service({"pair-q": query, "pair-a": document})
    halves = service.models["pair-q"], service.models["pair-a"]
    Collection(tmp_path / "c", pair).close()
    collection = Collection(tmp_path / "c", scheduled(pair, service.scheduler), create=False)
    model = ServedPair("pair", *halves, service.scheduler)
    texts = [document.text for document in DOCUMENTS]
    with client_of(replace(service, collection=collection, collection_model=model)) as client:
        written = client.post(
            "/v1/documents", json={"documents": [{"id": one.id, "text": one.text} for one in DOCUMENTS]}
        )
        assert written.json()["encoded"] == len(DOCUMENTS)
        hits = client.post("/v1/search", json={"query": "coffee", "mode": "vector"}).json()["hits"]
    scores = pair.similarity(pair.encode_query("coffee"), pair.encode_document(texts))[0]
    np.testing.assert_allclose([hit["score"] for hit in hits], np.sort(scores)[::-1], atol=5e-3)


@pytest.fixture
def modelless(encoder: Encoder, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of a server whose collection has vectors that came without a model."""
    collection = Collection(tmp_path / "c", settings=Settings(dimensions=3, similarity="dot"))
    collection.add(DOCUMENTS, vectors=np.ones((len(DOCUMENTS), 3), np.float32))
    with client_of(replace(make_service({"tiny": encoder}), collection=collection)) as client:
        yield client


def test_a_collection_without_a_model_is_searched_by_words(modelless: httpx.Client) -> None:
    found = modelless.post("/v1/search", json={"query": "coffee"}).json()
    assert found["mode"] == "words" and {hit["id"] for hit in found["hits"]} == {"coffee", "bean"}
    for mode in ("vector", "hybrid"):
        error = error_of(modelless.post("/v1/search", json={"query": "coffee", "mode": mode}), 400)
        assert error["param"] == "mode" and "ask for words" in error["message"]
    facts = modelless.get("/v1/collection").json()
    assert (facts["model"], facts["modes"], facts["similarity"]) == (None, ["words"], "dot")


def test_to_a_collection_without_a_model_no_text_is_added(modelless: httpx.Client) -> None:
    error = error_of(modelless.post("/v1/documents", json={"documents": [{"id": "a", "text": "b"}]}), 400)
    assert "not served here" in error["message"]
    assert modelless.request("DELETE", "/v1/documents", json={"ids": ["coffee"]}).json() == {"deleted": 1}


@pytest.mark.parametrize(("method", "path", "body"), [
    ("POST", "/v1/search", {"query": "coffee"}),
    ("GET", "/v1/collection", None),
    ("POST", "/v1/documents", {"documents": []}),
    ("DELETE", "/v1/documents", {"ids": ["a"]}),
    ("GET", "/v1/documents/a", None),
    ("DELETE", "/v1/documents/a", None),
    ("GET", "/v1/map", None),
])  # fmt: skip
def test_a_server_without_a_collection_says_so(
    no_collection: httpx.Client, method: str, path: str, body: dict[str, Any] | None
) -> None:
    error = error_of(no_collection.request(method, path, json=body), 404)
    assert error["code"] == "no_collection" and "--collection" in error["message"]


@pytest.fixture(scope="module")
def no_collection(encoder: Encoder) -> Iterator[httpx.Client]:
    with client_of(make_service({"tiny": encoder})) as client:
        yield client


def test_many_who_search_at_once_all_find(client: httpx.Client, plain: Collection) -> None:
    from concurrent.futures import ThreadPoolExecutor

    wanted = {query: [hit.id for hit in plain.search(query)] for query in ("coffee", "python file", "a model")}

    def ask(number: int) -> bool:
        query = list(wanted)[number % len(wanted)]
        hits = client.post("/v1/search", json={"query": query}).json()["hits"]
        return [hit["id"] for hit in hits] == wanted[query]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(100)))
