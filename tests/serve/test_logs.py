"""Lines on stderr."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from pairloom.serve.logs import JsonLines, TextLines

TEXT = "a secret text"


def record(message: object, *arguments: object, failed: bool = False) -> logging.LogRecord:
    made = logging.LogRecord("pairloom.serve", logging.INFO, __file__, 1, message, arguments, None)
    made.created, made.msecs = 1_777_636_800.25, 250.0
    if failed:
        try:
            raise ValueError(TEXT)
        except ValueError:
            made.exc_info = sys.exc_info()
    return made


def test_facts_are_words_for_people() -> None:
    line = TextLines(log_texts=False).format(record({"id": "a", "ms": 1.5, "route": "/v1/x", "body": 'two "words"\n'}))
    assert line == '2026-05-01T12:00:00.250Z info id=a ms=1.5 route=/v1/x body="two \\"words\\"\\n"'


def test_facts_are_an_object_for_programs() -> None:
    line = JsonLines(log_texts=False).format(record({"id": "a", "ms": 1.5, "body": "zwei\nWörter"}))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2026-05-01T12:00:00.250Z",
        "level": "info",
        "logger": "pairloom.serve",
        "id": "a",
        "ms": 1.5,
        "body": "zwei\nWörter",
    }


def test_a_message_cannot_pretend_to_be_two() -> None:
    message = record("worker %s has died", "1\n2026-05-01T12:00:00.000Z info all is well")
    assert "\n" not in TextLines(log_texts=False).format(message)
    assert json.loads(JsonLines(log_texts=False).format(message))["message"].startswith("worker 1\n2026")


@pytest.mark.parametrize("kind", [TextLines, JsonLines])
def test_an_error_says_where_but_not_what_it_choked_on(kind: type[TextLines] | type[JsonLines]) -> None:
    line = kind(log_texts=False).format(record("it failed", failed=True))
    assert TEXT not in line
    assert "ValueError" in line
    assert "test_logs.py" in line
    assert TEXT in kind(log_texts=True).format(record("it failed", failed=True))
