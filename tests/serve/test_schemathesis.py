"""Requests that are made from the server's own description: what comes back is as it describes, and never a fault of the server.

Tests are drawn by schemathesis, right ones and wrong ones, the same at every run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.serve.fuzzing import make_collection, start

NUM_EXAMPLES = 8
KEY = "k" * 43
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@dataclass(frozen=True)
class Described:
    """A server's description, and what must be sent along."""

    schema: Any
    headers: dict[str, str]


@pytest.fixture(
    scope="module", params=["alone", "with a collection", "with a key for everything", "with a key for reading"]
)
def described(
    request: pytest.FixtureRequest, model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Described]:
    words: list[str] = []
    more: dict[str, str] = {}
    if request.param != "alone":
        words = [
            "--collection",
            str(make_collection(tmp_path_factory.mktemp("described") / "collection", model_folder)),
        ]
    headers = {}
    if "key" in request.param:
        scopes = "read+write" if "everything" in request.param else "read"
        more = {"api_keys": f"tester:{KEY}:{scopes}"}
        headers = {"Authorization": f"Bearer {KEY}"}
    with start(model_folder, *words, **more) as server:
        url = f"http://127.0.0.1:{server.port}/openapi.json"
        yield Described(schemathesis.openapi.from_url(url, config=schemathesis.Config()), headers)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
def test_answers_are_as_they_are_described(described: Described, mode: GenerationMode) -> None:
    # Its own integration with pytest is not used: it needs what pytest 9.2 has no more.
    found = []
    for result in described.schema.get_all_operations():
        operation = result.ok()

        @settings(max_examples=NUM_EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(mode))
        def ask(case: Any) -> None:
            case.call_and_validate(headers=described.headers, checks=CHECKS, timeout=20)

        try:
            ask()
        except Unsatisfiable:
            # Whatever it is asked with is right.
            assert mode is GenerationMode.NEGATIVE, operation.label
        except FailureGroup as failures:
            found.append(f"{operation.label}: {failures.exceptions}")
    assert not found, "\n".join(found)
