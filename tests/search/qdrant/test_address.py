"""Addresses of collections on Qdrant servers."""

from __future__ import annotations

import pytest

from pairloom.errors import UsageError
from pairloom.search.qdrant.address import Address, collection_place, is_address, parse_address, server_url


@pytest.mark.parametrize(("text", "url", "name"), [
    ("qdrant://localhost:6333/questions", "http://localhost:6333", "questions"),
    ("qdrant://localhost/questions", "http://localhost:6333", "questions"),
    ("qdrants://db.example.org:443/questions/", "https://db.example.org:443", "questions"),
    ("qdrant://[::1]:6333/a", "http://[::1]:6333", "a"),
    ("qdrant://host/a%20b%C3%A9", "http://host:6333", "a bé"),
])  # fmt: skip
def test_an_address_names_a_server_and_a_collection(text: str, url: str, name: str) -> None:
    address = parse_address(text)
    assert address == Address(url, name)
    assert parse_address(str(address)) == address
    assert is_address(text)


@pytest.mark.parametrize("text", [
    "qdrant://localhost:6333", "qdrant://localhost/", "qdrant://localhost/a/b", "qdrant://localhost/a%2Fb", "qdrant://localhost/..",
    "qdrant://localhost/" + "x" * 256,
])  # fmt: skip
def test_no_collection_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="names no collection"):
        parse_address(text)


@pytest.mark.parametrize("text", ["", "localhost", "ftp://localhost/a", "qdrant:///a", "qdrant://host:port/a"])
def test_no_server_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="no address of a Qdrant server"):
        parse_address(text)


@pytest.mark.parametrize(
    "text", ["qdrant://:secret@host/a", "qdrant://key:secret@host/a", "qdrant://host/a?api-key=secret"]
)
def test_a_key_does_not_belong_into_an_address_nor_into_messages(text: str) -> None:
    with pytest.raises(UsageError, match="PAIRLOOM_QDRANT_API_KEY") as refused:
        parse_address(text)
    assert "secret" not in str(refused.value)


def test_a_server_alone() -> None:
    assert server_url("qdrants://host") == "https://host:6333"
    assert server_url("http://host:1/") == "http://host:1"
    with pytest.raises(UsageError, match="behind the server's name"):
        server_url("http://host:1/prefix")


def test_files_are_no_addresses() -> None:
    assert not is_address("questions")
    assert not is_address("/data/qdrant")


def test_what_a_collection_is_called() -> None:
    assert collection_place("http://host:1", "a") == "qdrant://host:1/a"
    assert collection_place(":memory:", "a") == ":memory:/a"
