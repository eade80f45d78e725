"""Which models are served."""

from __future__ import annotations

import httpx
import pytest

from pairloom.serve.errors import RequestError
from pairloom.serve.models import find_model


def test_all_models_are_listed_as_openai_lists_them(several_url: str) -> None:
    answer = httpx.get(f"{several_url}/v1/models").json()
    assert answer["object"] == "list"
    assert [model["id"] for model in answer["data"]] == ["tiny", "some/dot", "prompted"]
    assert {model["object"] for model in answer["data"]} == {"model"}
    assert [model["input_types"] for model in answer["data"]] == [[], [], ["query", "document"]]


def test_a_model_is_found_by_its_name_also_if_it_has_a_slash(several_url: str) -> None:
    model = httpx.get(f"{several_url}/v1/models/some/dot").json()
    assert isinstance(model.pop("created"), int)
    assert model == {
        "id": "some/dot",
        "object": "model",
        "owned_by": "pairloom",
        "dimensions": 32,
        "max_tokens": 64,
        "similarity": "dot",
        "input_types": [],
    }


@pytest.mark.parametrize("name", ["other", "", "tiny/", "%00", "..%2f..%2fetc%2fpasswd"])
def test_another_one_is_not_found(several_url: str, name: str) -> None:
    response = httpx.get(f"{several_url}/v1/models/{name}")
    assert response.status_code == 404
    assert response.json()["error"]["code"] in ("model_not_found", "not_found")


def test_where_no_model_is_served_the_error_says_so() -> None:
    with pytest.raises(RequestError, match="none") as raised:
        find_model({}, "tiny")
    assert raised.value.status == 404


def test_a_pair_is_three_models(pair_url: str) -> None:
    models = httpx.get(f"{pair_url}/v1/models").json()["data"]
    assert {model["id"]: (model["input_types"], model["max_tokens"]) for model in models} == {
        "two": (["query", "document"], 20),
        "two-q": (["query"], 20),
        "two-a": (["document"], 50),
    }
