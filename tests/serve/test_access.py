"""Who may ask what."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pydantic import SecretStr

from pairloom.serve.access import Access, is_loopback
from pairloom.serve.errors import RequestError
from pairloom.serve.settings import Settings

READER, WRITER, BOTH = "reader-reader-reader-reader", "writer-writer-writer-writer", "both-both-both-both-both"
KEYS = SecretStr(f"reader:{READER},writer:{WRITER}:write,both:{BOTH}:read+write")


def check(access: Access, method: str, path: str, **headers: str) -> str:
    raw = {name.replace("_", "-").encode(): value.encode("latin-1") for name, value in headers.items()}
    return access.check({"type": "http", "method": method, "path": path, "client": ("10.0.0.7", 5)}, raw)


def refusal(access: Access, method: str, path: str, **headers: str) -> tuple[int, str | None]:
    with pytest.raises(RequestError) as caught:
        check(access, method, path, **headers)
    return caught.value.status, caught.value.code


def test_a_key_names_its_client_by_either_header() -> None:
    access = Access(Settings(api_keys=KEYS))
    assert check(access, "POST", "/v1/embeddings", authorization=f"Bearer {READER}") == "reader"
    assert check(access, "POST", "/v1/embeddings", authorization=f"bearer  {READER} ") == "reader"
    assert check(access, "POST", "/v1/embeddings", x_api_key=READER) == "reader"


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer "}, {"authorization": READER}, {"authorization": f"Basic {READER}"}],
)
def test_without_a_key_there_is_no_answer(headers: dict[str, str]) -> None:
    assert refusal(Access(Settings(api_keys=KEYS)), "GET", "/v1/models", **headers) == (401, "missing_api_key")


@pytest.mark.parametrize(
    "key", ["x", READER[:-1], READER + "r", READER.upper(), hashlib.sha256(READER.encode()).hexdigest()]
)
def test_what_is_no_key_is_refused(key: str) -> None:
    access = Access(Settings(api_keys=KEYS))
    assert refusal(access, "GET", "/v1/models", authorization=f"Bearer {key}") == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", "/v1/models", "read"),
        ("GET", "/metrics", "read"),
        ("POST", "/v1/embeddings", "read"),
        ("POST", "/v1/search", "read"),
        ("GET", "/v1/documents/7", "read"),
        ("POST", "/v1/documents", "write"),
        ("POST", "/v1/documents/", "write"),
        ("DELETE", "/v1/documents", "write"),
        ("DELETE", "/v1/documents/7", "write"),
        ("PUT", "/v1/anything", "write"),
    ],
)
def test_a_scope_is_needed_for_each_route(method: str, path: str, needed: str) -> None:
    access = Access(Settings(api_keys=KEYS))
    right, wrong = (READER, WRITER) if needed == "read" else (WRITER, READER)
    assert check(access, method, path, x_api_key=right)
    assert check(access, method, path, x_api_key=BOTH) == "both"
    assert refusal(access, method, path, x_api_key=wrong) == (403, "insufficient_scope")


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/health/live", "/health/ready", "/openapi.json"])
def test_what_holds_no_data_needs_no_key(path: str) -> None:
    assert check(Access(Settings(api_keys=KEYS)), "GET", path) == "10.0.0.7"


@pytest.mark.parametrize("path", ["/page", "/health", "/healthy", "/openapi.json/", "/v1/page/x", "//health/live"])
def test_what_only_looks_open_needs_a_key(path: str) -> None:
    assert refusal(Access(Settings(api_keys=KEYS)), "GET", path)[0] == 401


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.0.0.1", "[::1]:8000", "[::1]"])
def test_a_loopback_server_answers_to_its_own_names(host: str) -> None:
    assert check(Access(Settings()), "GET", "/v1/models", host=host) == "10.0.0.7"


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8000", "127.0.0.1.evil.example", "", "[::2]"])
def test_a_loopback_server_answers_to_no_other_name(host: str) -> None:
    access = Access(Settings())
    assert refusal(access, "GET", "/v1/models", host=host) == (421, "unknown_host")
    assert check(access, "GET", "/health/live", host=host) == "10.0.0.7"


def test_another_name_can_be_allowed() -> None:
    access = Access(Settings(allowed_hosts=("Search.example",)))
    assert check(access, "GET", "/v1/models", host="search.example:443")
    assert check(access, "GET", "/v1/models", host="localhost")
    assert refusal(access, "GET", "/v1/models", host="evil.example")[0] == 421


def test_a_server_for_others_answers_to_all_names_unless_some_are_allowed() -> None:
    assert check(Access(Settings(host="0.0.0.0")), "GET", "/v1/models", host="anything.example")
    access = Access(Settings(host="0.0.0.0", allowed_hosts=("search.example",)))
    assert refusal(access, "GET", "/v1/models", host="localhost")[0] == 421


def test_keys_protect_where_names_do_not_matter() -> None:
    access = Access(Settings(api_keys=KEYS))
    assert check(access, "POST", "/v1/search", host="evil.example", origin="https://evil.example", x_api_key=READER)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://localhost:9000", "null", "http://localhost:8000.evil"]
)
def test_another_sites_page_changes_nothing(origin: str) -> None:
    access = Access(Settings())
    for path in ("/v1/documents", "/v1/embeddings"):
        assert refusal(access, "POST", path, host="localhost:8000", origin=origin) == (403, "foreign_origin")
    # The browser does not let it read the answer.
    assert check(access, "GET", "/v1/models", host="localhost:8000", origin=origin)


def test_the_servers_own_page_and_allowed_ones_may_ask() -> None:
    assert check(Access(Settings()), "POST", "/v1/search", host="localhost:8000", origin="http://localhost:8000")
    access = Access(Settings(cors_origins=("https://shop.example/",)))
    assert check(access, "POST", "/v1/search", host="localhost:8000", origin="https://shop.example")
    assert refusal(access, "POST", "/v1/search", host="localhost:8000", origin="https://b.example")[0] == 403
    assert check(
        Access(Settings(cors_origins=("*",))), "POST", "/v1/search", host="localhost", origin="https://b.example"
    )


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.org", False),
    ],
)
def test_loopback_addresses(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_keys_that_cannot_be_read_let_nobody_in(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="cannot be read"):
        Access(Settings(keys=tmp_path / "keys.toml"))
