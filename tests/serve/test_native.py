"""Embeddings in the form of hosted inference pages."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from pairloom import Encoder

TEXTS = ["how do i brew coffee", "grind the bean"]


def post(url: str, name: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/inference/{name}", json=body, timeout=60)


def test_texts_get_vectors_and_what_it_took(url: str, encoder: Encoder) -> None:
    response = post(url, "tiny", inputs=TEXTS)
    answer = response.json()
    np.testing.assert_allclose(answer["embeddings"], encoder.encode(TEXTS), atol=1e-5)
    tokens = int(encoder.model.tokenizer()(TEXTS).lengths.sum())
    assert answer["input_tokens"] == answer["inference_status"]["tokens_input"] == tokens
    assert answer["inference_status"]["status"] == "succeeded"
    assert isinstance(answer["inference_status"]["runtime_ms"], int)
    assert answer["truncated"] == 0
    assert set(answer) == {"embeddings", "input_tokens", "request_id", "inference_status", "truncated"}


def test_the_request_id_is_that_of_the_header(url: str) -> None:
    response = post(url, "tiny", inputs=TEXTS)
    assert response.json()["request_id"] == response.headers["X-Request-Id"]


def test_one_text_is_a_list_of_one(url: str, encoder: Encoder) -> None:
    answer = post(url, "tiny", inputs=TEXTS[0]).json()
    np.testing.assert_allclose(answer["embeddings"], encoder.encode(TEXTS[:1]), atol=1e-5)


def test_vectors_of_any_length_are_brought_to_length_1_on_request(several_url: str, dot_encoder: Encoder) -> None:
    expected = dot_encoder.encode(TEXTS)
    answer = post(several_url, "some/dot", inputs=TEXTS).json()
    np.testing.assert_allclose(answer["embeddings"], expected, atol=1e-4)
    answer = post(several_url, "some/dot", inputs=TEXTS, normalize=True).json()
    np.testing.assert_allclose(
        answer["embeddings"], expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5
    )


def test_queries_get_the_prompt_of_the_model(several_url: str, prompted_encoder: Encoder) -> None:
    answer = post(several_url, "prompted", inputs=TEXTS, input_type="query").json()
    np.testing.assert_allclose(answer["embeddings"], prompted_encoder.encode_query(TEXTS), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "body", "status", "param"),
    [
        ("other", {"inputs": "a"}, 404, "model"),
        ("tiny", {}, 400, "inputs"),
        ("tiny", {"inputs": []}, 400, "inputs"),
        ("tiny", {"inputs": [None]}, 400, "inputs[0]"),
        ("tiny", {"inputs": ["a"] * 101}, 400, "inputs"),
        ("tiny", {"inputs": "a", "normalize": "yes"}, 400, "normalize"),
        ("tiny", {"inputs": "a", "input": "a"}, 400, "input"),
        ("tiny", {"inputs": "a " * 100, "truncate": False}, 422, None),
    ],
)
def test_what_makes_no_sense_is_refused(url: str, name: str, body: dict[str, Any], status: int, param: str) -> None:
    response = post(url, name, **body)
    assert response.status_code == status
    assert param is None or response.json()["error"]["param"] == param
