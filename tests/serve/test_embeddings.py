"""Embeddings as OpenAI's clients ask for them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from pairloom import DualEncoder, Encoder

TEXTS = ["how do i brew coffee", "", "the water is hot and the cup is cold", "grind the bean"]
LONG = "coffee " * 100


def post(url: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/embeddings", json=body, timeout=60)


def vectors_of(response: httpx.Response) -> npt.NDArray[np.float32]:
    assert response.status_code == 200, response.text
    return np.array([row["embedding"] for row in response.json()["data"]], dtype=np.float32)


def error_of(response: httpx.Response) -> tuple[int, str | None, str]:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return response.status_code, error["param"], error["message"]


def token_ids(encoder: Encoder, text: str) -> list[int]:
    """Without the special tokens around them."""
    return [int(token) for token in encoder.model.tokenizer()([text]).ids[1:-1]]


def test_texts_get_the_vectors_that_the_encoder_makes(url: str, encoder: Encoder) -> None:
    response = post(url, model="tiny", input=TEXTS)
    np.testing.assert_allclose(vectors_of(response), encoder.encode(TEXTS), atol=1e-5)
    answer = response.json()
    assert [row["index"] for row in answer["data"]] == [0, 1, 2, 3]
    assert {row["object"] for row in answer["data"]} == {"embedding"}
    assert (answer["object"], answer["model"], answer["truncated"]) == ("list", "tiny", 0)
    tokens = int(encoder.model.tokenizer()(TEXTS).lengths.sum())
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_one_text_is_a_list_of_one(url: str, encoder: Encoder) -> None:
    np.testing.assert_allclose(
        vectors_of(post(url, model="tiny", input=TEXTS[0])), encoder.encode(TEXTS[:1]), atol=1e-5
    )


def test_a_request_may_be_full(url: str, encoder: Encoder) -> None:
    texts = [f"{TEXTS[number % 4]} {number}" for number in range(100)]
    np.testing.assert_allclose(vectors_of(post(url, model="tiny", input=texts)), encoder.encode(texts), atol=1e-5)


def test_token_ids_stand_for_their_text(url: str, encoder: Encoder) -> None:
    texts = [TEXTS[0], TEXTS[2]]
    ids = [token_ids(encoder, text) for text in texts]
    np.testing.assert_allclose(vectors_of(post(url, input=ids)), encoder.encode(texts), atol=1e-5)
    np.testing.assert_allclose(vectors_of(post(url, input=ids[1])), encoder.encode(texts[1:]), atol=1e-5)


def test_base64_holds_the_same_numbers(url: str) -> None:
    as_numbers = vectors_of(post(url, input=TEXTS, encoding_format="float"))
    rows = post(url, input=TEXTS, encoding_format="base64").json()["data"]
    as_text = [np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4") for row in rows]
    np.testing.assert_allclose(np.stack(as_text), as_numbers, atol=1e-5)


def test_fewer_dimensions_are_the_first_ones_at_length_1(url: str, encoder: Encoder) -> None:
    shorter = vectors_of(post(url, input=TEXTS, dimensions=8))
    whole = encoder.encode(TEXTS)[:, :8]
    np.testing.assert_allclose(shorter, whole / np.linalg.norm(whole, axis=1, keepdims=True), atol=1e-5)
    assert vectors_of(post(url, input=TEXTS, dimensions=32)).shape == (4, 32)


def test_where_the_dot_product_counts_fewer_dimensions_keep_their_size(several_url: str, dot_encoder: Encoder) -> None:
    shorter = vectors_of(post(several_url, model="some/dot", input=TEXTS, dimensions=8))
    np.testing.assert_allclose(shorter, dot_encoder.encode(TEXTS)[:, :8], atol=1e-4)


@pytest.mark.parametrize("dimensions", [0, -1, 33, 10**30, "8", 8.5, True])
def test_dimensions_that_make_no_sense_are_refused(url: str, dimensions: Any) -> None:
    status, param, message = error_of(post(url, input="a", dimensions=dimensions))
    assert (status, param) == (400, "dimensions")
    assert message.startswith("dimensions: ")


@pytest.mark.parametrize(
    ("given", "param", "says"),
    [
        (None, "input", "a string, or a list"),
        (3, "input", "a string, or a list"),
        (True, "input", "but is true or false"),
        ({"text": "a"}, "input", "but is an object"),
        ([], "input", "is empty"),
        ([[]], "input[0]", "is empty"),
        (["a", 1], "input[1]", "must be a string"),
        (["a", None], "input[1]", "but is null"),
        (["a", ["b"]], "input[1]", "but is a list"),
        ([True], "input[0]", "but is true or false"),
        ([1.5], "input[0]", "must be a string"),
        ([1, "a"], "input[1]", "a token id"),
        ([1, True], "input[1]", "a token id"),
        ([1, 2.0], "input[1]", "a token id"),
        ([1, -1], "input[1]", "a token id"),
        ([1, 2**31], "input[1]", "a token id"),
        ([1, 10**400], "input[1]", "a token id"),
        ([[1], "a"], "input[1]", "a list of token ids"),
        ([[1], [2, "a"]], "input[1][1]", "a token id"),
        (["a"] * 101, "input", "101 texts are more than the 100"),
    ],
)
def test_an_input_that_makes_no_sense_is_refused_with_its_place(url: str, given: Any, param: str, says: str) -> None:
    status, place, message = error_of(post(url, input=given))
    assert (status, place) == (400, param)
    assert message.startswith(f"{param}: ")
    assert says in message


def test_token_ids_that_the_model_does_not_have_are_refused(url: str) -> None:
    status, param, _ = error_of(post(url, input=[[5], [5, 100_000]]))
    assert status == 400
    assert param is not None
    assert param.startswith("input[1]")


def test_a_misspelt_parameter_is_refused(url: str) -> None:
    response = post(url, input="a", dimension=8)
    assert error_of(response) == (400, "dimension", "dimension: there is no such parameter here")
    assert response.json()["error"]["code"] == "unknown_parameter"


def test_a_missing_input_is_refused(url: str) -> None:
    response = post(url, model="tiny")
    assert error_of(response) == (400, "input", "input: is missing")
    assert response.json()["error"]["code"] == "missing_required_parameter"


def test_what_is_null_is_as_if_it_were_not_there(url: str, encoder: Encoder) -> None:
    names = ("model", "encoding_format", "dimensions", "user", "input_type", "truncate")
    response = post(url, input=TEXTS, **dict.fromkeys(names))
    np.testing.assert_allclose(vectors_of(response), encoder.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("encoding_format", "hex"), ("user", 3), ("input_type", "passage"), ("truncate", "false"), ("model", 1)],
)
def test_other_parameters_of_another_kind_are_refused(url: str, name: str, value: Any) -> None:
    status, param, _ = error_of(post(url, input="a", **{name: value}))
    assert (status, param) == (400, name)


def test_a_user_may_be_named(url: str) -> None:
    assert post(url, input="a", user="somebody").status_code == 200


def test_a_model_that_is_not_served_is_not_found_and_those_that_are_are_named(several_url: str) -> None:
    response = post(several_url, model="text-embedding-3-small", input="a")
    status, param, message = error_of(response)
    assert (status, param) == (404, "model")
    assert response.json()["error"]["code"] == "model_not_found"
    assert "tiny, some/dot, prompted" in message


def test_a_model_is_not_guessed_even_where_there_is_one(url: str) -> None:
    assert post(url, model="text-embedding-3-small", input="a").status_code == 404


def test_without_a_name_it_is_the_only_model_and_among_several_none(url: str, several_url: str) -> None:
    assert post(url, input="a").json()["model"] == "tiny"
    status, param, message = error_of(post(several_url, input="a"))
    assert (status, param) == (400, "model")
    assert "some/dot" in message


def test_texts_that_are_cut_are_counted(url: str) -> None:
    assert post(url, input=["a", LONG, LONG]).json()["truncated"] == 2


def test_texts_that_must_not_be_cut_are_refused_with_their_place(url: str) -> None:
    status, param, _ = error_of(post(url, input=["a", LONG], truncate=False))
    assert (status, param) == (422, "input[1]")
    assert post(url, input=["a", "b"], truncate=False).status_code == 200


def test_queries_and_documents_get_the_prompts_of_the_model(several_url: str, prompted_encoder: Encoder) -> None:
    for kind, encode in (("query", prompted_encoder.encode_query), ("document", prompted_encoder.encode_document)):
        response = post(several_url, model="prompted", input=TEXTS, input_type=kind)
        np.testing.assert_allclose(vectors_of(response), encode(TEXTS), atol=1e-5)
    plain = vectors_of(post(several_url, model="prompted", input=TEXTS))
    np.testing.assert_allclose(plain, prompted_encoder.encode(TEXTS), atol=1e-5)


def test_a_pair_answers_as_each_half_and_by_what_texts_are(pair_url: str, pair_folder: Path) -> None:
    pair = DualEncoder(pair_folder, device="cpu", precision="float32", threads=1)
    for name, kind, encode in (("two-q", "query", pair.encode_query), ("two-a", "document", pair.encode_document)):
        for body in ({"model": name}, {"model": "two", "input_type": kind}, {"input_type": kind}):
            np.testing.assert_allclose(vectors_of(post(pair_url, input=TEXTS, **body)), encode(TEXTS), atol=1e-5)
    status, param, message = error_of(post(pair_url, model="two", input=TEXTS))
    assert (status, param) == (400, "input_type")
    assert "two-q" in message
