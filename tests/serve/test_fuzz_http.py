"""What is no proper HTTP, or never ends, or comes from nobody who waits: refused where it can be, and the server goes on as before."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from benchmarks._serve_crowds import HOST

from tests.serve.fuzzing import MIB, Answer, Target, faults, make_collection, start, why_a_fault, why_not_refused

MOST_BODY_BYTES = MIB
BODY_S = 1.0
POST = b"POST /v1/embeddings HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
GET = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n"

# What is not HTTP is refused, or the connection is closed.
GARBAGE: dict[str, bytes] = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "zeros": b"\x00" * 1_000,
    "line breaks and a word": b"\r\n\r\n\r\nword\r\n\r\n",
    "random bytes": random.Random(0).randbytes(5_000),
    "HTTP/9.9": b"GET / HTTP/9.9\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an unknown method": b"BREW /v1/embeddings HTTP/1.1\r\nHost: a\r\n\r\n",
    "a NUL in the path": b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a space in the path": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "letters that are not ASCII in the path": "GET /ä HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
    "a header without a colon": GET + b"nonsense\r\n\r\n",
    "a header without a name": GET + b": a\r\n\r\n",
    "a NUL in a header": GET + b"A: \x00\r\n\r\n",
    "a header in two lines": GET + b"A: b\r\n c\r\n\r\n",
    "a negative length": POST + b"Content-Length: -5\r\n\r\n{}",
    "a length that is no number": POST + b"Content-Length: five\r\n\r\n{}",
    "a length of many digits": POST + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n{}",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 9\r\n\r\n{}",
    "a length and chunks": POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown transfer": POST + b"Transfer-Encoding: nonsense\r\n\r\n{}",
    "chunks of nonsense": POST + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n{}\r\n0\r\n\r\n",
    "a chunk of a negative size": POST + b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    "a chunk of a huge size": POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n{}\r\n0\r\n\r\n",
    "a body that is longer than its length": POST + b'Content-Length: 5\r\n\r\n{"input": "a"}',
    "a tunnel": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n",
}
# Requests that are HTTP, to which there must be an answer that says what is wrong.
WRONG: dict[str, bytes] = {
    "a length beyond the limit": POST + b"Content-Length: 99999999999\r\n\r\n{",
    "a length beyond the limit that asks first": POST + b"Content-Length: 9999999\r\nExpect: 100-continue\r\n\r\n",
    "no body": POST + b"\r\n",
    "an empty list of chunks": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks of half a body": POST + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"inp\r\n0\r\n\r\n',
    "a web socket": b"GET /v1/embeddings HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
}
METHODS = ("PUT", "PATCH", "TRACE", "OPTIONS", "GET", "PROPFIND")
PATHS = (
    *("/nothing", "/v1", "/v1/", "/v1/embeddings/", "//v1/embeddings", "/V1/EMBEDDINGS", "/%00", "/%ff%fe", "/v1/%00"),
    *("/v1/documents/%00", "/v1/documents/none%0Anone", "/v1/documents/%ff", "/v1/documents/none%20none/none"),
    *("/v1/documents/../../etc/passwd", "/v1/documents/..%2f..%2fetc%2fpasswd", "/v1/documents/" + "a" * 5_000),
    *("/page/../../../pyproject.toml", "/page/..%2f..%2f..%2fpyproject.toml", "/page/%2e%2e/%2e%2e/serve/app.py"),
    *("/page//etc/passwd", "/page/%2fetc%2fpasswd", "/page/..%5c..%5capp.py", "/page/%00", "/page/none.js%00.html"),
    *("/../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/page/", "/page/.", "/page/..", "/page/" + "a/" * 2_000),
)


@pytest.fixture(scope="module")
def target(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Bodies must be small and quick."""
    collection = make_collection(tmp_path_factory.mktemp("fuzz") / "collection", model_folder)
    limits = {"max_body_bytes": MOST_BODY_BYTES, "body_s": BODY_S}
    with start(model_folder, "--collection", str(collection), **limits) as server:
        yield Target(server)


def why_not_turned_away(answer: Answer | None) -> str | None:
    return None if answer is None or 400 <= answer.status < 500 else f"is answered: {answer}"


def why_not_all_right(answer: Answer | None) -> str | None:
    return None if answer is not None and answer.status == 200 else f"is not answered: {answer}"


def test_what_is_not_http_is_turned_away(target: Target) -> None:
    cases = ((name, partial(target.send, data, ends=True), why_not_turned_away) for name, data in GARBAGE.items())
    assert not faults(target, cases)


def test_wrong_requests_are_refused_with_a_reason(target: Target) -> None:
    assert not faults(target, ((name, partial(target.send, data), why_not_refused) for name, data in WRONG.items()))


def test_right_requests_in_odd_forms_are_answered(target: Target) -> None:
    body = json.dumps({"model": target.model, "input": "a"}).encode()
    whole = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    chunks = b"".join(b"1;name=value\r\n%c\r\n" % letter for letter in body)
    cases: dict[str, bytes | list[bytes]] = {
        "byte by byte": [bytes([one]) for one in whole],
        "in chunks of a byte": POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nTrailer: a\r\n\r\n",
        "ten at once": whole * 10,
        "to a full address": GET.replace(b" /v1", b" http://127.0.0.1/v1") + b"\r\n",
        "by HTTP/1.0": b"GET /v1/models HTTP/1.0\r\n\r\n",
    }
    assert not faults(target, ((name, partial(target.send, data), why_not_all_right) for name, data in cases.items()))


def test_methods_that_there_are_not_are_refused_with_a_reason(target: Target) -> None:
    cases = (
        (method, partial(target.ask, method, "/v1/embeddings", b"{}"), partial(why_not_status, 405))
        for method in METHODS
    )
    assert not faults(target, cases)


def why_not_status(status: int, answer: Answer | None) -> str | None:
    fault = why_not_refused(answer)
    return fault or (None if answer is not None and answer.status == status else f"is refused otherwise: {answer}")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_paths_that_lead_nowhere_are_refused_and_no_file_comes_back(target: Target, method: str) -> None:
    cases = (
        (
            f"{method} {path[:60]}",
            partial(target.send, f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n".encode()),
            why_not_refused,
        )
        for path in PATHS
    )
    assert not faults(target, cases)


def test_names_in_paths_are_only_names(target: Target) -> None:
    for name in ("..%2f..%2fetc", "%00", "a" * 5_000, "%ff", "none%0A"):
        answer = target.ask("POST", f"/v1/inference/{name}", b'{"inputs": "a"}')
        assert why_not_status(404, answer) is None, (name, answer)


def test_endless_heads_are_turned_away_in_bounded_memory(target: Target) -> None:
    piece = b"a" * 65_536
    endless = {
        "a long header": [GET + b"A: ", *[piece] * 512],
        "a long name of a header": [GET, *[piece] * 512],
        "many headers": [GET, *[b"A: b\r\n" * 10_000] * 512],
        "a long path": [b"GET /", *[piece] * 512],
    }
    with target.bounded(16 * MIB):
        for name, pieces in endless.items():
            assert not faults(target, [(name, partial(target.send, pieces), why_not_turned_away)])


def test_endless_bodies_are_turned_away_in_bounded_memory(target: Target) -> None:
    piece = b"1" * 65_536
    chunk = b"10000\r\n" + piece + b"\r\n"
    endless = {
        "chunks": [POST + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 512],
        "a length that is kept": [POST + b"Content-Length: 33554432\r\n\r\n", *[piece] * 512],
        "a body that nobody wants": [GET + b"Content-Length: 33554432\r\n\r\n", *[piece] * 512],
        "an extension of a chunk": [POST + b"Transfer-Encoding: chunked\r\n\r\n1;", *[piece] * 512],
    }
    with target.bounded(16 * MIB):
        for name, pieces in endless.items():
            judge = why_not_server_error if name == "a body that nobody wants" else why_not_turned_away
            assert not faults(target, [(name, partial(target.send, pieces), judge)])


def why_not_server_error(answer: Answer | None) -> str | None:
    return None if answer is None or answer.status < 500 else f"is a fault: {answer}"


def test_a_body_that_comes_letter_by_letter_and_never_ends_is_given_up(target: Target) -> None:
    begin = time.monotonic()
    answer = target.drip(POST + b"Content-Length: 100000\r\n\r\n")
    assert why_not_status(408, answer) is None, answer
    assert time.monotonic() - begin >= 0.9 * BODY_S
    assert target.is_well()


def test_a_head_that_comes_letter_by_letter_and_never_ends_is_given_up(target: Target) -> None:
    assert why_not_turned_away(target.drip(GET + b"A: ")) is None
    assert target.is_well()


def test_a_client_that_never_says_anything_is_left(target: Target) -> None:
    with socket.create_connection((HOST, target.server.port), timeout=20 * BODY_S) as one:
        assert one.recv(1) == b""


def test_clients_that_go_in_the_middle_leave_nothing_open(target: Target) -> None:
    body = json.dumps({"model": target.model, "input": ["a cup of coffee"] * 100}).encode()
    whole = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    assert target.is_well()
    before = target.server.glance()
    for end in (3, len(POST), len(POST) + 30, len(whole) - 1, len(whole)):
        for _ in range(20):
            with socket.create_connection((HOST, target.server.port)) as one:
                one.sendall(whole[:end])
    end_s = time.monotonic() + 20 * BODY_S
    while target.server.glance().files > before.files and time.monotonic() < end_s:
        time.sleep(0.05)
    after = target.server.glance()
    assert after.files <= before.files
    assert after.threads <= before.threads + 8
    assert target.is_well()


def test_odd_queries_and_headers_are_no_fault_of_the_server(target: Target) -> None:
    addresses = (
        *("/v1/map?sample=-1&seed=x", "/v1/map?sample=1e400", f"/v1/map?sample={'9' * 400}", "/v1/map?seed=%00"),
        *(
            f"/v1/map?sample=5&seed={'9' * 30}",
            f"/v1/map?seed=-{'9' * 30}",
            "/v1/map?%ff=%ff&&&=",
            "/v1/models?" + "a&" * 5_000,
        ),
    )
    headers = {
        "X-Request-Id": "\u00ff" * 500,
        "Authorization": "Bearer \u00e9",
        "Origin": "null",
        "Accept": "text/nonsense",
        "Accept-Encoding": "nonsense",
        "Range": "bytes=5-1",
        "If-None-Match": '"' * 100,
        "If-Modified-Since": "never",
        "Cookie": "a=b; " * 1_000,
    }
    cases = [
        *((path[:60], partial(target.ask, "GET", path), why_a_fault) for path in addresses),
        *(
            (name, partial(target.ask, "GET", "/v1/models", None, **{name: value}), why_a_fault)
            for name, value in headers.items()
        ),
        *(
            (f"{name} of the page", partial(target.ask, "GET", "/", None, **{name: value}), why_not_server_error)
            for name, value in headers.items()
        ),
    ]
    assert not faults(target, cases)
