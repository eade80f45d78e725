"""The official client, as it is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import httpx
import numpy as np
import openai
import pytest

from pairloom import Encoder
from tests.serve.servers import GatedEngine, make_service, running

TEXTS = ["how do i brew coffee", "", "the water is hot and the cup is cold"]


@pytest.fixture
def client(several_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{several_url}/v1", api_key="x", max_retries=0) as client:
        yield client


def test_texts_come_by_base64_unless_the_client_is_told_otherwise(client: openai.OpenAI, encoder: Encoder) -> None:
    answer = client.embeddings.create(model="tiny", input=TEXTS)
    np.testing.assert_allclose([row.embedding for row in answer.data], encoder.encode(TEXTS), atol=1e-5)
    assert answer.usage.prompt_tokens == int(encoder.model.tokenizer()(TEXTS).lengths.sum())
    as_numbers = client.embeddings.create(model="tiny", input=TEXTS, encoding_format="float")
    np.testing.assert_allclose([row.embedding for row in as_numbers.data], encoder.encode(TEXTS), atol=1e-5)


def test_one_text(client: openai.OpenAI, encoder: Encoder) -> None:
    answer = client.embeddings.create(model="tiny", input=TEXTS[0])
    np.testing.assert_allclose(answer.data[0].embedding, encoder.encode(TEXTS[0]), atol=1e-5)


def test_token_ids(client: openai.OpenAI, encoder: Encoder) -> None:
    tokens = encoder.model.tokenizer()([TEXTS[2]]).ids[1:-1].tolist()
    for given in (tokens, [tokens]):
        answer = client.embeddings.create(model="tiny", input=given)
        np.testing.assert_allclose(answer.data[0].embedding, encoder.encode(TEXTS[2]), atol=1e-5)


def test_dimensions_and_what_only_we_have(client: openai.OpenAI, prompted_encoder: Encoder) -> None:
    answer = client.embeddings.create(
        model="prompted", input=TEXTS, dimensions=8, user="somebody", extra_body={"input_type": "query"}
    )
    expected = prompted_encoder.encode_query(TEXTS)[:, :8]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose([row.embedding for row in answer.data], expected, atol=1e-5)


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny", "some/dot", "prompted"]
    assert client.models.retrieve("tiny").owned_by == "pairloom"
    assert client.models.retrieve("some/dot").id == "some/dot"


def test_errors_are_the_client_s_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="text-embedding-3-small") as missing:
        client.embeddings.create(model="text-embedding-3-small", input="a")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match="dimensions") as wrong:
        client.embeddings.create(model="tiny", input="a", dimensions=1000)
    assert (wrong.value.type, wrong.value.param) == ("invalid_request_error", "dimensions")
    with pytest.raises(openai.UnprocessableEntityError):
        client.embeddings.create(model="tiny", input="a " * 100, extra_body={"truncate": False})


def test_many_at_once_from_asyncio(several_url: str, encoder: Encoder) -> None:
    texts = [f"{text} {number}" for number in range(10) for text in TEXTS]

    async def embed_all() -> list[list[float]]:
        async with openai.AsyncOpenAI(base_url=f"{several_url}/v1", api_key="x", max_retries=0) as client:
            answers = await asyncio.gather(*(client.embeddings.create(model="tiny", input=text) for text in texts))
        return [answer.data[0].embedding for answer in answers]

    np.testing.assert_allclose(asyncio.run(embed_all()), encoder.encode(texts), atol=1e-5)


def test_a_busy_server_is_a_rate_limit_with_a_time_to_come_again(encoder: Encoder, gated: GatedEngine) -> None:
    busy = Encoder(encoder.model, engine=gated)
    with running(make_service({"tiny": busy}, deadline_s=0.3)) as url:
        first = threading.Thread(
            target=httpx.post, args=(f"{url}/v1/embeddings",), kwargs={"json": {"input": "a"}, "timeout": 60}
        )
        first.start()
        assert gated.arrived.wait(30)
        with (
            openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client,
            pytest.raises(openai.RateLimitError) as raised,
        ):
            client.embeddings.create(model="tiny", input="b")
        assert int(raised.value.response.headers["Retry-After"]) >= 1
        gated.gate.set()
        first.join(30)
