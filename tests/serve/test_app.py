"""The server as a whole: errors of every kind in one form, and what the OpenAPI document says."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from pairloom.errors import BusyError, OccupiedError, UsageError
from pairloom.serve.app import create_app
from pairloom.serve.service import Service
from tests.serve.servers import make_service

ERROR_KEYS = {"message", "type", "param", "code"}


def ask(app: FastAPI, method: str, path: str, **request: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            return await client.request(method, path, **request)

    return asyncio.run(send())


def failing_app(service: Service, error: Exception) -> FastAPI:
    app = create_app(service)

    async def fail() -> None:
        raise error

    app.add_api_route("/fail", fail, methods=["GET"])
    return app


def post_raw(url: str, content: bytes, media_type: str | None = "application/json") -> httpx.Response:
    headers = {} if media_type is None else {"Content-Type": media_type}
    return httpx.post(f"{url}/v1/embeddings", content=content, headers=headers)


def error_of(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error"}
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == ERROR_KEYS
    return error


@pytest.mark.parametrize("path", ["/v1", "/v1/embedding", "/v1/embeddings/", "/docs", "/redoc", "/%00", "/..%2f.."])
def test_a_path_that_is_not_there_is_told_of_in_the_same_form(url: str, path: str) -> None:
    response = httpx.get(url + path)
    assert response.status_code == 404
    assert "/openapi.json" in error_of(response)["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/v1/embeddings", "POST"), ("PUT", "/v1/models", "GET"), ("DELETE", "/v1/similarity", "POST")],
)
def test_a_method_that_is_not_there_is_told_of_with_the_one_that_is(
    url: str, method: str, path: str, allowed: str
) -> None:
    response = httpx.request(method, url + path)
    assert response.status_code == 405
    assert response.headers["Allow"] == allowed
    assert allowed in error_of(response)["message"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"input": "a"', "not JSON"),
        (b'{"input": "\xff"}', "not JSON"),
        (b'{"input": "\\ud800"}', "not JSON"),
        (b"\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"input":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "not JSON"),
        (b'["a"]', "the body: "),
        (b"null", "the body: "),
        (b'"a"', "the body: "),
    ],
)
def test_a_body_that_is_no_object_of_json_is_refused(url: str, content: bytes, says: str) -> None:
    response = post_raw(url, content)
    assert response.status_code == 400
    assert says in error_of(response)["message"]


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded", "", "nonsense"])
def test_a_body_that_a_browser_would_send_for_any_page_is_refused(url: str, media_type: str | None) -> None:
    response = post_raw(url, b'{"input": "a"}', media_type)
    assert response.status_code == 415
    assert "Content-Type: application/json" in error_of(response)["message"]


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_may_be_declared_in_other_words(url: str, media_type: str) -> None:
    assert post_raw(url, b'{"input": "a"}', media_type).status_code == 200


def test_of_many_faults_the_first_ones_are_told(url: str) -> None:
    body = {"input": "a", "dimensions": "x", "user": 1, "truncate": 2, "one": 1, "two": 2}
    message = error_of(httpx.post(f"{url}/v1/embeddings", json=body))["message"]
    assert message.endswith("and 2 more")
    assert message.count(";") == 3


def test_a_fault_of_the_server_is_told_without_its_words(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    app = failing_app(service, RuntimeError("the secret text"))
    with caplog.at_level(logging.ERROR):
        response = ask(app, "GET", "/fail", headers={"X-Request-Id": "abc-123"})
    assert response.status_code == 500
    assert error_of(response)["type"] == "server_error"
    assert "abc-123" in error_of(response)["message"]
    line = "".join(record.getMessage() for record in caplog.records if record.levelno == logging.ERROR)
    assert "abc-123" in line
    assert "RuntimeError at test_app.py:" in line
    assert "secret" not in caplog.text + response.text


def test_where_texts_may_be_logged_so_is_the_traceback(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    service = make_service({name: model.encoder for name, model in service.models.items()}, log_texts=True)
    response = ask(failing_app(service, RuntimeError("the secret text")), "GET", "/fail")
    assert "the secret text" in caplog.text
    assert "secret" not in response.text


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (UsageError("k must be positive"), 400, "k must be positive"),
        (BusyError("/secret/folder is occupied"), 503, "try again"),
        (OccupiedError("/secret/folder is occupied"), 503, "try again"),
    ],
)
def test_errors_of_the_library_have_a_status(service: Service, error: Exception, status: int, says: str) -> None:
    response = ask(failing_app(service, error), "GET", "/fail")
    assert response.status_code == status
    assert says in error_of(response)["message"]
    assert "secret" not in response.text
    assert ("Retry-After" in response.headers) == (status == 503)


def test_a_parameter_of_a_path_or_query_that_is_wrong_is_a_bad_request(service: Service) -> None:
    app = create_app(service)

    async def count(k: int) -> int:
        return k

    app.add_api_route("/count", count, methods=["GET"])
    response = ask(app, "GET", "/count", params={"k": "many"})
    assert response.status_code == 400
    assert error_of(response)["param"] == "k"


def operations(app: FastAPI) -> list[tuple[str, str, dict[str, Any]]]:
    document = app.openapi()
    return [(path, method, told) for path, told_of in document["paths"].items() for method, told in told_of.items()]


def test_every_operation_is_described_with_its_answers_and_errors(service: Service) -> None:
    told = {(path, method): operation for path, method, operation in operations(create_app(service))}
    for path, method in [
        ("/v1/embeddings", "post"),
        ("/v1/models", "get"),
        ("/v1/models/{model}", "get"),
        ("/v1/inference/{model}", "post"),
        ("/v1/similarity", "post"),
    ]:
        operation = told[path, method]
        assert "example" in operation["responses"]["200"]["content"]["application/json"]
        assert {"401", "403", "429", "500", "503"} <= set(operation["responses"])
        for status, response in operation["responses"].items():
            if status != "200":
                assert set(response["content"]["application/json"]["schema"]["properties"]) == {"error"}
        if method == "post":
            content = operation["requestBody"]["content"]["application/json"]
            assert content["examples"]
            assert content["schema"]["additionalProperties"] is False


def test_the_examples_of_the_document_work(service: Service, url: str) -> None:
    for path, method, operation in operations(create_app(service)):
        if path in ("/v1/embeddings", "/v1/inference/{model}", "/v1/similarity") and method == "post":
            examples = operation["requestBody"]["content"]["application/json"]["examples"]
            for example in examples.values():
                body = json.loads(json.dumps(example["value"]).replace("[2129, 2079]", "[5, 6]"))
                response = httpx.post(url + path.replace("{model}", "tiny"), json=body)
                assert response.status_code == 200, response.text


def test_nothing_is_loaded_from_foreign_hosts(url: str) -> None:
    assert httpx.get(f"{url}/openapi.json").json()["openapi"].startswith("3.")
    assert [httpx.get(url + path).status_code for path in ("/docs", "/redoc", "/docs/oauth2-redirect")] == [404] * 3
