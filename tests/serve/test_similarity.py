"""How alike texts are, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from pairloom import DualEncoder, Encoder

TEXTS = ["how do i brew coffee", "grind the bean", "read a file with python"]


def post(url: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/similarity", json=body, timeout=60)


def test_a_text_is_compared_with_others(url: str, encoder: Encoder) -> None:
    answer = post(url, text=TEXTS[0], others=TEXTS[1:]).json()
    expected = encoder.similarity(encoder.encode(TEXTS[0]), encoder.encode(TEXTS[1:]))
    np.testing.assert_allclose(answer["similarities"], expected, atol=1e-5)
    assert (answer["model"], answer["similarity"], answer["truncated"]) == ("tiny", "cosine", 0)
    tokens = int(encoder.model.tokenizer()(TEXTS).lengths.sum())
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_texts_are_compared_each_with_each_by_what_the_model_was_made_for(
    several_url: str, dot_encoder: Encoder
) -> None:
    answer = post(several_url, model="some/dot", texts=TEXTS).json()
    vectors = dot_encoder.encode(TEXTS)
    np.testing.assert_allclose(answer["similarities"], vectors @ vectors.T, rtol=1e-4)
    assert answer["similarity"] == "dot"


def test_the_text_is_a_query_and_the_others_are_documents(several_url: str, prompted_encoder: Encoder) -> None:
    answer = post(several_url, model="prompted", text=TEXTS[0], others=TEXTS[1:]).json()
    queries, documents = prompted_encoder.encode_query(TEXTS[:1]), prompted_encoder.encode_document(TEXTS[1:])
    np.testing.assert_allclose(answer["similarities"], prompted_encoder.similarity(queries, documents), atol=1e-5)


def test_all_may_be_of_one_kind(several_url: str, prompted_encoder: Encoder) -> None:
    answer = post(several_url, model="prompted", text=TEXTS[0], others=TEXTS[1:], input_type="document").json()
    vectors = prompted_encoder.encode_document(TEXTS)
    expected = prompted_encoder.similarity(vectors[:1], vectors[1:])
    np.testing.assert_allclose(answer["similarities"], expected, atol=1e-5)


def test_texts_on_an_equal_footing_have_no_prompt(several_url: str, prompted_encoder: Encoder) -> None:
    answer = post(several_url, model="prompted", texts=TEXTS).json()
    vectors = prompted_encoder.encode(TEXTS)
    np.testing.assert_allclose(answer["similarities"], prompted_encoder.similarity(vectors, vectors), atol=1e-5)


def test_of_a_pair_the_text_goes_through_one_half_and_the_others_through_the_other(
    pair_url: str, pair_folder: Path
) -> None:
    pair = DualEncoder(pair_folder, device="cpu", precision="float32", threads=1)
    answer = post(pair_url, text=TEXTS[0], others=TEXTS[1:]).json()
    expected = pair.similarity(pair.encode_query(TEXTS[:1]), pair.encode_document(TEXTS[1:]))
    np.testing.assert_allclose(answer["similarities"], expected, atol=1e-5)
    answer = post(pair_url, texts=TEXTS).json()
    np.testing.assert_allclose(answer["similarities"], pair.similarity(*[pair.encode(TEXTS)] * 2), atol=1e-5)


def test_an_empty_text_is_a_text(url: str) -> None:
    assert np.shape(post(url, text="", others=["", "a"]).json()["similarities"]) == (1, 2)


def test_texts_that_are_cut_are_counted(url: str) -> None:
    assert post(url, text="a " * 100, others=["a", "b " * 100]).json()["truncated"] == 2


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({}, None, "there is none"),
        ({"text": "a"}, None, "there is text"),
        ({"others": ["a"]}, None, "there is others"),
        ({"text": "a", "others": ["b"], "texts": ["c"]}, None, "there is others, text, texts"),
        ({"text": "a", "others": []}, "others", "is empty"),
        ({"texts": []}, "texts", "is empty"),
        ({"text": "a", "others": ["b"] * 101}, "others", "101 texts are more than the 100"),
        ({"texts": ["b"] * 101}, "texts", "101 texts are more than the 100"),
        ({"text": None, "others": ["b"]}, "text", "string"),
        ({"text": "a", "others": ["b", 3]}, "others[1]", "string"),
        ({"text": "a", "others": ["b"], "k": 3}, "k", "no such parameter"),
    ],
)
def test_what_makes_no_sense_is_refused(url: str, body: dict[str, Any], param: str | None, says: str) -> None:
    response = post(url, **body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert says in response.json()["error"]["message"]


def test_the_square_of_texts_that_are_compared_each_with_each_is_limited(several_url: str) -> None:
    response = post(several_url, model="tiny", texts=["a"] * 257)
    assert "257 texts are more than the 256" in response.json()["error"]["message"]
