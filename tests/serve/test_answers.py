"""Vectors as text: what is read back is what was computed."""

from __future__ import annotations

import asyncio
import base64
import json

import numpy as np
import numpy.typing as npt
import pytest

from pairloom.serve.answers import base64_rows, error_response, json_list, json_rows, written
from pairloom.serve.errors import RequestError, TooBusyError


def odd_vectors() -> npt.NDArray[np.float32]:
    """Every kind of float32: of all sizes, powers of ten and their neighbours, the smallest and the largest, zeros."""
    dice = np.random.default_rng(0)
    bits = dice.integers(0, 2**32, size=40_000, dtype=np.uint32).view(np.float32)
    usual = dice.standard_normal(40_000).astype(np.float32) * 0.05
    powers = (10.0 ** np.arange(-45, 38)).astype(np.float32)
    neighbours = [np.nextafter(powers, np.float32(side)) for side in (-np.inf, np.inf)]
    limits = np.array([0, -0.0, 1, -1, np.finfo(np.float32).max, np.finfo(np.float32).tiny, 1e-45], dtype=np.float32)
    vectors = np.concatenate([bits[np.isfinite(bits)], usual, powers, *neighbours, limits])
    return vectors[: len(vectors) // 100 * 100].reshape(100, -1)


def test_numbers_come_back_to_the_bit_as_json() -> None:
    vectors = odd_vectors()
    read = np.array(json.loads(json_list(json_rows(vectors))))
    np.testing.assert_array_equal(read.astype(np.float32).view(np.uint32), vectors.view(np.uint32))


def test_usual_numbers_have_no_more_than_nine_digits() -> None:
    vectors = np.random.default_rng(1).standard_normal((50, 50)).astype(np.float32)
    for number in json.loads(json_list(json_rows(vectors)), parse_float=str):
        for digits in number:
            assert len(digits.lstrip("-").replace(".", "").lstrip("0").partition("e")[0]) <= 9


def test_numbers_come_back_to_the_bit_as_base64() -> None:
    vectors = odd_vectors()
    for row, text in zip(vectors, base64_rows(vectors), strict=True):
        read = np.frombuffer(base64.b64decode(json.loads(text)), dtype="<f4")
        np.testing.assert_array_equal(read.view(np.uint32), row.view(np.uint32))


def test_a_part_of_each_row_is_written_as_that_part() -> None:
    vectors = odd_vectors()[:, :3]
    for row, text in zip(vectors, base64_rows(vectors), strict=True):
        np.testing.assert_array_equal(np.frombuffer(base64.b64decode(json.loads(text)), dtype="<f4"), row)


@pytest.mark.parametrize("count", [1, 64, 65, 200])
def test_many_rows_are_written_as_few_are(count: int) -> None:
    vectors = np.random.default_rng(2).standard_normal((count, 4)).astype(np.float32)
    assert asyncio.run(written(vectors)) == json_rows(vectors)
    assert asyncio.run(written(vectors, as_base64=True)) == base64_rows(vectors)


def test_an_error_has_the_form_that_openai_clients_read() -> None:
    response = error_response(RequestError("input[3]: must be a string", param="input[3]", code="wrong"))
    assert response.status_code == 400
    assert json.loads(bytes(response.body)) == {
        "error": {
            "message": "input[3]: must be a string",
            "type": "invalid_request_error",
            "param": "input[3]",
            "code": "wrong",
        }
    }


@pytest.mark.parametrize(("after_s", "header"), [(0.01, "1"), (2.2, "3"), (30.0, "30")])
def test_a_busy_server_says_in_whole_seconds_when_to_come_again(after_s: float, header: str) -> None:
    response = error_response(TooBusyError(after_s))
    assert (response.status_code, response.headers["Retry-After"]) == (429, header)


def test_half_of_a_surrogate_pair_in_a_message_is_no_fault() -> None:
    assert b"ud800" in bytes(error_response(RequestError("model: '\ud800'")).body)
