"""What is peculiar to collections on Qdrant servers; what they have in common with others is in `contract`."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from pairloom.errors import CollectionError, UsageError
from pairloom.records import Document
from pairloom.search.qdrant import server as qdrant_server
from pairloom.search.qdrant.address import KEY_VARIABLE
from pairloom.search.qdrant.collection import QdrantCollection, exists
from pairloom.search.qdrant.payloads import point_id
from pairloom.search.qdrant.server import IN_MEMORY
from pairloom.search.qdrant.sparse import count_words, document_vector
from tests.search.contract import DIMENSIONS, TEXTS, ids, numbered, vectors_of

OF_VECTORS: Any = {"dimensions": DIMENSIONS, "similarity": "cosine"}


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    client = QdrantClient(IN_MEMORY)
    yield client
    client.close()


@pytest.fixture
def collection(client: QdrantClient) -> QdrantCollection:
    collection = QdrantCollection(IN_MEMORY, "texts", client=client, fields={"tag": "keyword"}, **OF_VECTORS)
    collection.add(numbered(), vectors=vectors_of(len(TEXTS)))
    return collection


# Making and opening.


def test_whether_it_must_be_there(client: QdrantClient) -> None:
    with pytest.raises(CollectionError, match=r":memory:/texts: there is no such collection"):
        QdrantCollection(IN_MEMORY, "texts", client=client, create=False)
    with pytest.raises(UsageError, match="needs a model, or the dimensions and the similarity"):
        QdrantCollection(IN_MEMORY, "texts", client=client)
    assert not exists(IN_MEMORY, "texts", client=client)
    QdrantCollection(IN_MEMORY, "texts", client=client, create=True, **OF_VECTORS)
    assert exists(IN_MEMORY, "texts", client=client)
    with pytest.raises(CollectionError, match="is there already"):
        QdrantCollection(IN_MEMORY, "texts", client=client, create=True, **OF_VECTORS)
    assert QdrantCollection(IN_MEMORY, "texts", client=client).dimensions == DIMENSIONS


def test_somebody_elses_collection_is_left_alone(client: QdrantClient) -> None:
    client.create_collection("theirs", vectors_config=models.VectorParams(size=4, distance=models.Distance.COSINE))
    with pytest.raises(CollectionError, match="does not say which model made it"):
        QdrantCollection(IN_MEMORY, "theirs", client=client)


@pytest.mark.parametrize("changes", [
    {"layout": 2}, {"dimensions": 4}, {"dimensions": "many"}, {"similarity": "dot"}, {"fields": {"tag": "colour"}}, {"weights": [1]},
    {"weights": ["a", "b"]}, {"storage": "int4"}, {"average_words": "nan"}, {"fields": 3},
])  # fmt: skip
def test_what_it_says_of_itself_must_make_sense(
    client: QdrantClient, collection: QdrantCollection, changes: dict[str, Any]
) -> None:
    about = (client.get_collection("texts").config.metadata or {})["pairloom"]
    client.update_collection("texts", metadata={"pairloom": {**about, **changes}})
    with pytest.raises(CollectionError, match="what it says of itself makes no sense"):
        QdrantCollection(IN_MEMORY, "texts", client=client)


def test_declared_fields_are_kept_and_not_changed(client: QdrantClient, collection: QdrantCollection) -> None:
    assert QdrantCollection(IN_MEMORY, "texts", client=client).fields == {"tag": "keyword"}
    assert QdrantCollection(IN_MEMORY, "texts", client=client, fields={"tag": "keyword"}).count() == len(TEXTS)
    with pytest.raises(UsageError, match="fields of its own"):
        QdrantCollection(IN_MEMORY, "texts", client=client, fields={"tag": "number"})


@pytest.mark.parametrize("changes", [{"dimensions": DIMENSIONS + 1}, {"similarity": "dot"}])
def test_it_is_not_opened_as_something_else(
    client: QdrantClient, collection: QdrantCollection, changes: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=f"with {next(iter(changes))} of its own"):
        QdrantCollection(IN_MEMORY, "texts", client=client, **{**OF_VECTORS, **changes})


def test_two_processes_change_what_it_says_of_itself(client: QdrantClient) -> None:
    one, other = (QdrantCollection(IN_MEMORY, "texts", client=client, **OF_VECTORS) for _ in range(2))
    one.add([Document("a", "three words here")], vectors=vectors_of(1))
    other.set_weights(vector=1, words=2)
    again = QdrantCollection(IN_MEMORY, "texts", client=client)
    assert (again.average_words, again.weights) == (3, (1, 2))


def test_a_point_that_somebody_else_put_there(client: QdrantClient, collection: QdrantCollection) -> None:
    client.upsert("texts", [models.PointStruct(id=1, vector={"vector": [1.0] * DIMENSIONS}, payload={"text": "x"})])
    with pytest.raises(CollectionError, match="holds a point that pairloom has not written"):
        collection.search(np.ones(DIMENSIONS, np.float32))


def test_it_says_what_it_is(collection: QdrantCollection) -> None:
    info = collection.info()
    assert (info["count"], info["dimensions"], info["similarity"]) == (len(TEXTS), DIMENSIONS, "cosine")
    assert info["settings"] == {"storage": "float16", "fields": {"tag": "keyword"}}
    assert info["model"] is None
    json.dumps(info)


def test_ids_of_points_never_change() -> None:
    assert point_id("d1") == "4a058958-d190-5ec6-afa0-d72135f6ef50"


# Words.


def test_the_average_length_is_that_of_the_first_documents(client: QdrantClient, collection: QdrantCollection) -> None:
    lengths = [words.length for words in count_words(TEXTS)]
    average = sum(lengths) / len(lengths)
    assert collection.average_words == pytest.approx(average)
    collection.add([Document("long", "word " * 1_000)], vectors=vectors_of(1))
    assert collection.average_words == pytest.approx(average)
    assert QdrantCollection(IN_MEMORY, "texts", client=client).average_words == pytest.approx(average)


def test_a_known_average_length_is_kept(client: QdrantClient) -> None:
    collection = QdrantCollection(IN_MEMORY, "texts", client=client, average_words=123.5, **OF_VECTORS)
    collection.add(numbered(), vectors=vectors_of(len(TEXTS)))
    assert collection.average_words == 123.5


def test_another_process_may_have_had_the_first_documents(client: QdrantClient) -> None:
    one, other = (QdrantCollection(IN_MEMORY, "texts", client=client, **OF_VECTORS) for _ in range(2))
    one.add([Document("a", "three words here")], vectors=vectors_of(1))
    other.add([Document("b", "word " * 50)], vectors=vectors_of(1))
    assert one.average_words == other.average_words == 3


def test_words_are_weighed_anew_without_encoding(client: QdrantClient, collection: QdrantCollection) -> None:
    collection.add([Document("long", "coffee " * 1_000), Document("none", "?!")], vectors=vectors_of(2))
    collection.rebuild()
    texts = [*TEXTS, "coffee " * 1_000, "?!"]
    counts = count_words(texts)
    average = sum(words.length for words in counts) / len(counts)
    assert collection.average_words == pytest.approx(average)
    for id_, words in (("d0", counts[0]), ("long", counts[-2])):
        (point,) = client.retrieve("texts", [point_id(id_)], with_vectors=["words"])
        wanted = document_vector(words, average)
        assert isinstance(point.vector, dict)
        assert point.vector["words"] == models.SparseVector(indices=wanted.indices, values=wanted.values)
    assert collection.count() == len(texts)


def test_nothing_to_weigh(client: QdrantClient) -> None:
    collection = QdrantCollection(IN_MEMORY, "texts", client=client, **OF_VECTORS)
    assert collection.rebuild()["average_words"] is None


# Documents.


def test_a_value_that_a_server_cannot_compare_is_refused_with_its_block(client: QdrantClient) -> None:
    collection = QdrantCollection(IN_MEMORY, "texts", client=client, fields={"year": "number"}, **OF_VECTORS)
    documents = [Document("a", "one", {"year": 1}), Document("b", "two", {"year": 2**53 + 1})]
    with pytest.raises(UsageError, match=r"document 'b': the field \"year\" is 9007199254740993"):
        collection.add(documents, vectors=vectors_of(2))
    assert collection.count() == 0


def test_numbers_too_large_for_float16(client: QdrantClient) -> None:
    options: Any = {"dimensions": DIMENSIONS, "similarity": "dot"}
    vectors = np.full((1, DIMENSIONS), 1e5, np.float32)
    collection = QdrantCollection(IN_MEMORY, "half", client=client, **options)
    with pytest.raises(UsageError, match="too large for float16"):
        collection.add([Document("a", "one")], vectors=vectors)
    assert collection.count() == 0
    whole = QdrantCollection(IN_MEMORY, "whole", client=client, storage="float32", **options)
    assert whole.add([Document("a", "one")], vectors=vectors).added == 1


def test_the_order_is_kept_over_many_pages(client: QdrantClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairloom.search.qdrant.points.READ_AT_ONCE", 3)
    collection = QdrantCollection(IN_MEMORY, "texts", client=client, **OF_VECTORS)
    collection.add([Document(f"d{number}", "text") for number in range(10)], vectors=vectors_of(10))
    wanted = [f"d{number}" for number in range(10)]
    assert [document.id for document in collection.documents()] == wanted
    # Two processes may give the same number at the same instant.
    points = models.PointIdsList(points=[point_id(f"d{number}") for number in range(2, 9)])
    client.set_payload("texts", {"order": 7}, points=points)
    assert sorted(document.id for document in collection.documents()) == wanted


def test_what_is_loaded_is_there_and_again_there_once(collection: QdrantCollection) -> None:
    documents = [Document("d0", "changed", {"tag": "x"}), Document("new", "new")]
    for _ in range(2):
        collection.load(documents, vectors_of(2, seed=5))
        assert collection.count() == len(TEXTS) + 1
        assert collection.get(["d0", "new"]) == documents
        assert ids(collection.search(vectors_of(2, seed=5)[1], 1)) == ["new"]
    with pytest.raises(UsageError, match="not finite"):
        collection.load(documents, np.full((2, DIMENSIONS), np.nan, np.float32))


def test_it_cannot_be_used_when_it_is_closed() -> None:
    with QdrantCollection(IN_MEMORY, "texts", **OF_VECTORS) as collection:
        collection.add([Document("a", "one")], vectors=vectors_of(1))
    with pytest.raises(CollectionError, match="is closed"):
        collection.count()


# Servers that are away, or refuse: what answers is made by the test, what it says is what Qdrant says.

Answers = Mapping[str, tuple[int, dict[str, Any] | str]]


@contextmanager
def answering(answers: Answers | Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server that gives each path the same answer; all others are found empty."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if callable(answers):
                answers(self)
                return
            status, body = next((one for path, one in answers.items() if path in self.path), (404, "?"))
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"qdrant://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def error(sentence: str) -> dict[str, Any]:
    return {"time": 0, "status": {"error": sentence}, "result": None}


def test_no_server_is_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        port = taken.getsockname()[1]
        with pytest.raises(CollectionError, match=rf"qdrant://127.0.0.1:{port}/texts: the server cannot be reached"):
            QdrantCollection(f"qdrant://127.0.0.1:{port}", "texts")


@pytest.mark.parametrize(("status", "body", "message"), [
    (401, "Must provide an API key or an Authorization bearer token",
     rf"/texts: the server wants a key; put it into {KEY_VARIABLE} \(Must provide an API key"),
    (403, error("Forbidden"), "the server wants a key"),
    (500, error("Service internal error: disk"), r"the server failed \(500: Service internal error: disk\)"),
    (503, "", r"the server failed \(503: \)"),
    (400, error("Wrong input"), r"the server refuses it \(400: Wrong input\)"),
    (413, error("Payload too large"), "max_request_size_mb"),
    (502, "<html>" + "x" * 10_000, r"the server failed \(502: <html>x{194}…\)"),
    (200, "<html>a web page</html>", "no Qdrant server"),
    (200, {"some": "json"}, "no Qdrant server"),
])  # fmt: skip
def test_a_server_that_refuses(
    status: int, body: dict[str, Any] | str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with (
        answering({"/collections": (status, body)}) as location,
        pytest.raises(CollectionError, match=message) as refused,
    ):
        QdrantCollection(location, "texts")
    assert "\n" not in str(refused.value)


def test_a_refused_key_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "a-secret")
    keys = []

    def refuse(handler: BaseHTTPRequestHandler) -> None:
        keys.append(handler.headers.get("api-key"))
        handler.send_response(401)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with (
        answering(refuse) as location,
        pytest.raises(CollectionError, match=f"refuses the key of {KEY_VARIABLE}") as refused,
    ):
        QdrantCollection(location, "texts")
    assert keys == ["a-secret"]
    assert "a-secret" not in str(refused.value)


def test_a_key_over_an_open_line_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "a-secret")
    with caplog.at_level(logging.WARNING):
        for location in ("qdrants://db.example.org", "qdrant://localhost", "qdrant://127.0.0.1:1"):
            qdrant_server.connect(location).close()
        assert not caplog.text
        qdrant_server.connect("qdrant://db.example.org").close()
    assert "the key goes over an open line; use qdrants://" in caplog.text
    assert "a-secret" not in caplog.text


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qdrant_server, "TIMEOUT_S", 1)
    over = threading.Event()

    def wait(_: BaseHTTPRequestHandler) -> None:
        over.wait(20)

    with (
        answering(wait) as location,
        pytest.raises(CollectionError, match="did not answer within 1 s; it may still have done"),
    ):
        try:
            QdrantCollection(location, "texts")
        finally:
            over.set()


def test_a_server_that_asks_for_a_pause() -> None:
    def pause(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(429)
        handler.send_header("Retry-After", "7")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with answering(pause) as location, pytest.raises(CollectionError, match="asks for a pause of 7 s"):
        QdrantCollection(location, "texts")


def test_a_collection_that_was_removed_meanwhile(client: QdrantClient, collection: QdrantCollection) -> None:
    client.delete_collection("texts")
    for ask in (collection.count, lambda: collection.search(vectors_of(1)[0]), lambda: collection.delete(["d0"])):
        with pytest.raises(CollectionError, match="there is no such collection"):
            ask()


def test_a_change_that_was_only_taken_note_of() -> None:
    about = {"layout": 1, "dimensions": 2, "similarity": "cosine", "models": [], "fingerprint": "", "query_fingerprint": "",
             "fields": {}, "storage": "float16", "average_words": 1.0, "weights": [1, 1]}  # fmt: skip
    made = QdrantClient(IN_MEMORY)
    made.create_collection(
        "texts",
        vectors_config={"vector": models.VectorParams(size=2, distance=models.Distance.COSINE)},
        metadata={"pairloom": about},
    )
    info = made.get_collection("texts").model_dump(mode="json")
    made.close()
    info["payload_schema"] = {key: {"data_type": "keyword", "points": 0} for key in ("present", "order")}
    answers: Answers = {
        "/exists": (200, {"result": {"exists": True}, "status": "ok", "time": 0}),
        "/points?": (200, {"result": {"operation_id": 1, "status": "acknowledged"}, "status": "ok", "time": 0}),
        "/points": (200, {"result": [], "status": "ok", "time": 0}),
        "/collections/texts": (200, {"result": info, "status": "ok", "time": 0}),
    }
    with (
        answering(answers) as location,
        QdrantCollection(location, "texts") as collection,
        pytest.raises(CollectionError, match=r"took note of a change and did not make it in time \(acknowledged\)"),
    ):
        collection.add([Document("a", "text")], vectors=np.ones((1, 2), np.float32))
