"""Documents over HTTP: written, read and deleted, whatever they are called; and nothing is written or deleted by mistake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import httpx
import pytest

from pairloom import Collection, Document, Encoder
from pairloom.search import ledger
from pairloom.serve.service import Service
from tests.search.contract import STRANGE_IDS
from tests.serve.collection_servers import DOCUMENTS, RecordingScheduler, client_of, collection_service, error_of

SLASHED_IDS = ["a/b", "/", "/a", "a/", "a//b", "a\nb", "a\n", "\na", "\r\n", "a%2Fb", "a b+c", "?", "#", "é/ü"]


@pytest.fixture
def service(encoder: Encoder, tmp_path: Path) -> Service:
    return collection_service(encoder, tmp_path / "c", DOCUMENTS, max_documents=20)


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with client_of(service) as opened:
        yield opened


def body_of(*documents: Document) -> dict[str, Any]:
    return {"documents": [{"id": one.id, "text": one.text, "metadata": one.metadata} for one in documents]}


def in_path(id_: str) -> str:
    # Of a path with dots alone a client takes steps away.
    return f"/v1/documents/{quote(id_, safe='').replace('.', '%2E')}"


def delete(client: httpx.Client, body: Any) -> httpx.Response:
    return client.request("DELETE", "/v1/documents", json=body)


def test_what_was_written_is_found_and_given_back(client: httpx.Client) -> None:
    metadata = {"deep": {"er": [1, 2.5, None, {"x": "ü"}]}, "large": 2**63 - 1, "yes": True}
    new, changed = Document("tea", "a cup of tea", metadata), Document("water", "hot water", {"tag": ["drink"]})
    written = client.post("/v1/documents", json=body_of(new, changed, DOCUMENTS[0]))
    assert written.json() == {"added": 1, "replaced": 1, "unchanged": 1, "encoded": 2, "truncated": 0}
    assert client.get("/v1/documents/tea").json() == {"id": "tea", "text": "a cup of tea", "metadata": metadata}
    hits = client.post("/v1/search", json={"query": "a cup of tea", "mode": "vector", "k": 1}).json()["hits"]
    assert hits[0]["id"] == "tea" and hits[0]["score"] == pytest.approx(1, abs=1e-3)
    assert client.get("/v1/collection").json()["count"] == len(DOCUMENTS) + 1


def test_what_is_there_already_is_not_encoded(client: httpx.Client, service: Service) -> None:
    computed = cast("RecordingScheduler", service.scheduler).computed
    assert client.post("/v1/documents", json=body_of(*DOCUMENTS)).json()["unchanged"] == len(DOCUMENTS)
    assert not computed
    other = [Document(one.id, one.text, {"now": "another"}) for one in DOCUMENTS]
    assert client.post("/v1/documents", json=body_of(*other, Document("new", "text"))).json()["encoded"] == 1
    assert computed == [("127.0.0.1", 1)]


def test_texts_that_are_too_long_are_counted(client: httpx.Client) -> None:
    written = client.post("/v1/documents", json=body_of(Document("long", "coffee " * 500), Document("s", "coffee")))
    assert (written.json()["encoded"], written.json()["truncated"]) == (2, 1)


def test_of_two_with_one_id_the_later_counts_and_none_is_no_mistake(client: httpx.Client) -> None:
    written = client.post("/v1/documents", json=body_of(Document("x", "first"), Document("x", "second")))
    assert written.json()["added"] == 1
    assert client.get("/v1/documents/x").json()["text"] == "second"
    assert sum(client.post("/v1/documents", json={"documents": []}).json().values()) == 0


@pytest.mark.parametrize(("number", "wrong", "param", "message"), [
    (2, {"id": "", "text": "a"}, "documents[2]", "is empty"),
    (0, {"id": "x" * 2000, "text": "a"}, "documents[0]", "longer than 1,024 bytes"),
    (1, {"id": "a", "text": "a", "metadata": {"n": 2**64}}, "documents[1]", "metadata.n is a whole number beyond"),
    (1, {"id": "a", "text": "a", "metadata": {"n": {"m": [1, {"o": [[[[[[[[[[[[[[1]]]]]]]]]]]]]]}]}}}, "documents[1]",
     "nested too deep"),
    (2, {"id": 3, "text": "a"}, "documents[2].id", "valid string"),
    (2, {"id": "a"}, "documents[2].text", "is missing"),
    (2, {"id": "a", "text": None}, "documents[2].text", "valid string"),
    (2, {"id": "a", "text": "a", "metadata": [1]}, "documents[2].metadata", "valid dictionary"),
    (2, {"id": "a", "text": "a", "meta": {}}, "documents[2].meta", "no such parameter"),
    (2, "text", "documents[2]", "object"),
])  # fmt: skip
def test_a_document_that_cannot_be_kept_is_named_and_none_is_written(
    client: httpx.Client, number: int, wrong: Any, param: str, message: str
) -> None:
    documents: list[Any] = [{"id": f"new {one}", "text": "text"} for one in range(3)]
    documents[number] = wrong
    error = error_of(client.post("/v1/documents", json={"documents": documents}), 400)
    assert error["param"] == param and message in error["message"]
    assert client.get("/v1/collection").json()["count"] == len(DOCUMENTS)


@pytest.mark.parametrize("content", [
    b'{"documents": [{"id": "a", "text": "b", "metadata": {"n": NaN}}]}',
    b'{"documents": [{"id": "a", "text": "b", "metadata": {"n": 1e999}}]}',
    b'{"documents": [{"id": "\\ud800", "text": "b"}]}',
    b'{"documents": [{"id": "a", "text": "\xff"}]}',
    b'{"documents": [{"id": "a", "text": "b"}',
    b'[]',
    b'',
])  # fmt: skip
def test_what_is_not_json_is_refused(client: httpx.Client, content: bytes) -> None:
    error_of(client.post("/v1/documents", content=content, headers={"Content-Type": "application/json"}), 400)
    assert client.get("/v1/collection").json()["count"] == len(DOCUMENTS)


def test_more_documents_than_one_request_may_have(client: httpx.Client) -> None:
    many = [Document(str(number), "text") for number in range(21)]
    error = error_of(client.post("/v1/documents", json=body_of(*many)), 400)
    assert error["param"] == "documents" and "21 are more than the 20" in error["message"]
    error = error_of(delete(client, {"ids": [one.id for one in many]}), 400)
    assert error["param"] == "ids"
    assert client.post("/v1/documents", json=body_of(*many[:20])).json()["added"] == 20


def test_documents_are_deleted_by_ids_and_by_what_they_are(client: httpx.Client) -> None:
    assert delete(client, {"ids": ["coffee", "nobody", "coffee"]}).json() == {"deleted": 1}
    assert delete(client, {"filter": {"year": 2021}}).json() == {"deleted": 2}
    assert delete(client, {"filter": {"year": 2021}}).json() == {"deleted": 0}
    assert delete(client, {"ids": []}).json() == {"deleted": 0}
    assert client.get("/v1/collection").json()["count"] == 2
    error_of(client.get("/v1/documents/water"), 404)


@pytest.mark.parametrize("body", [
    {}, {"ids": None}, {"filter": None}, {"filter": {}}, {"ids": ["coffee"], "filter": {"year": 2021}}, {"filters": {"a": 1}},
    {"ids": "coffee"}, {"ids": ["coffee", ""]}, {"ids": ["coffee", 3]}, {"filter": {"or": []}},
])  # fmt: skip
def test_nothing_is_deleted_by_mistake(client: httpx.Client, body: Any) -> None:
    error_of(delete(client, body), 400)
    assert client.get("/v1/collection").json()["count"] == len(DOCUMENTS)


def test_a_delete_whose_body_was_lost_on_the_way_deletes_nothing(client: httpx.Client) -> None:
    assert client.delete("/v1/documents").status_code in (400, 415)
    assert client.delete("/v1/documents/").status_code in (400, 404)
    assert client.get("/v1/collection").json()["count"] == len(DOCUMENTS)


@pytest.mark.parametrize("id_", [*STRANGE_IDS, *SLASHED_IDS])
def test_any_id_may_stand_in_a_path(client: httpx.Client, id_: str) -> None:
    near = [id_.strip(), id_.rstrip("\n"), id_.replace("/", ""), id_.replace("%2F", "/"), "x"]
    others = [Document(one, f"not {number}") for number, one in enumerate(dict.fromkeys(near)) if one not in (id_, "")]
    client.post("/v1/documents", json=body_of(Document(id_, "strange"), *others)).raise_for_status()
    assert client.get(in_path(id_)).json() == {"id": id_, "text": "strange", "metadata": {}}
    assert client.delete(in_path(id_)).json() == {"deleted": 1}
    for method in ("GET", "DELETE"):
        error = error_of(client.request(method, in_path(id_)), 404)
        assert error["code"] == "document_not_found"
    assert client.get("/v1/collection").json()["count"] == len(DOCUMENTS) + len(others)


def test_an_id_that_no_document_can_have_is_refused(client: httpx.Client) -> None:
    for path in ("/v1/documents/", in_path("x" * 1025)):
        for method in ("GET", "DELETE"):
            assert error_of(client.request(method, path), 400)["param"] == "document_id"


def test_while_another_process_writes_it_is_said_when_to_come_again(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "WAIT_S", 0.05)
    service = collection_service(encoder, tmp_path / "c", DOCUMENTS, deadline_s=0.5)
    with client_of(service) as client, Collection(tmp_path / "c") as other:
        with other._ledger.locked():
            for response in (
                client.post("/v1/documents", json=body_of(Document("a", "b"))),
                delete(client, {"ids": ["a"]}),
            ):
                assert error_of(response, 503)["code"] == "collection_busy"
                assert int(response.headers["Retry-After"]) >= 1
            assert client.post("/v1/search", json={"query": "coffee"}).json()["hits"]
        assert client.post("/v1/documents", json=body_of(Document("a", "b"))).json()["added"] == 1


def test_the_description_has_no_reference_that_leads_nowhere(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    for reference in set(references(described)):
        place: Any = described
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
    many = described["paths"]["/v1/documents"]
    schema = many["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["documents"]["maxItems"] == 20
    assert json.dumps(schema).count("metadata") >= 1
    (parameter,) = described["paths"]["/v1/documents/{document_id}"]["get"]["parameters"]
    assert (parameter["name"], parameter["in"]) == ("document_id", "path")
