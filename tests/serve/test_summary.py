"""What a person is told when a server starts."""

from __future__ import annotations

import json
import shlex

from pairloom.serve.keys import Key
from pairloom.serve.settings import Settings
from pairloom.serve.summary import summary


def test_what_where_and_how_to_try() -> None:
    lines = summary(Settings(models=("folder/m",)), 8123, (), ["m"])
    assert lines[0] == "serves m at http://127.0.0.1:8123"
    assert "http://127.0.0.1:8123/" in lines[2]
    words = shlex.split(lines[-1].removeprefix("try: "))
    assert words[:2] == ["curl", "http://127.0.0.1:8123/v1/embeddings"]
    assert json.loads(words[words.index("-d") + 1]) == {"model": "m", "input": "a text"}


def test_a_collection_is_tried_by_a_search() -> None:
    lines = summary(Settings(models=("m",), collection="questions", page=False), 1, (), ["m"])
    assert lines[0] == "serves m and the collection questions at http://127.0.0.1:1"
    assert "/v1/search" in lines[-1]
    assert not any("page" in line for line in lines)


def test_keys_are_named_and_never_shown() -> None:
    key = Key("web", frozenset({"read"}), b"digest")
    lines = summary(Settings(models=("m",)), 1, [key], ["m"])
    assert "API keys are asked for: web" in lines
    assert "Authorization: Bearer KEY" in lines[-1]


def test_addresses_are_such_that_can_be_opened() -> None:
    assert "http://127.0.0.1:1" in summary(Settings(models=("m",), host="0.0.0.0"), 1, ())[0]
    assert "http://[::1]:1" in summary(Settings(models=("m",), host="::1"), 1, ())[0]


def test_workers_are_counted() -> None:
    lines = summary(Settings(models=("m", "b=n"), workers=2), 1, ())
    assert lines[0] == "serves m, b=n at http://127.0.0.1:1, by 2 workers"
    assert lines[-1] == "try: curl http://127.0.0.1:1/v1/models"
