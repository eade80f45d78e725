"""Embeddings in the form of hosted inference pages: ``/v1/inference/MODEL``."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from pairloom.encode.similarity import normalize
from pairloom.serve.answers import answered, failing, json_list, written
from pairloom.serve.bodies import Body, described, read
from pairloom.serve.gone import until_gone
from pairloom.serve.inputs import input_schema, read_inputs
from pairloom.serve.models import find_model, name_in_path
from pairloom.serve.served_model import InputType

if TYPE_CHECKING:
    from pairloom.serve.service import Service

_ANSWER = {
    "type": "object",
    "required": ["embeddings", "input_tokens", "request_id", "inference_status", "truncated"],
    "properties": {
        "embeddings": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        "input_tokens": {"type": "integer"},
        "request_id": {"type": "string"},
        "inference_status": {
            "type": "object",
            "required": ["status", "runtime_ms", "tokens_input"],
            "properties": {
                "status": {"const": "succeeded"},
                "runtime_ms": {"type": "integer", "description": "Waiting included."},
                "tokens_input": {"type": "integer"},
            },
        },
        "truncated": {"type": "integer", "description": "How many texts were longer than the model takes."},
    },
}
_EXAMPLE = {
    "embeddings": [[0.0260742962, -0.0412836559, 0.0318506211]],
    "input_tokens": 9,
    "request_id": "0b9d4a9c7f5e4b0f8c1d2e3f4a5b6c7d",
    "inference_status": {"status": "succeeded", "runtime_ms": 7, "tokens_input": 9},
    "truncated": 0,
}


class InferenceBody(Body):
    """What is to be embedded, and how."""

    inputs: Any
    """A text, texts, the token ids of a text (without special tokens), or those of several texts. A text may be empty."""

    input_type: InputType | None = None
    """What the texts are, for models that treat what is searched for and what is searched in differently."""

    normalize: bool | None = None
    """Whether vectors are brought to length 1; by default they are as the model makes them."""

    truncate: bool | None = None
    """Whether texts that are longer than the model takes are cut, which is the default, or refused with status 422."""


def native_router(service: Service) -> APIRouter:
    """``/v1/inference/MODEL``."""
    router = APIRouter(tags=["embeddings"])
    settings, models = service.settings, service.models

    async def infer(request: Request) -> Response:
        """The vectors of texts, in the form of hosted inference pages."""
        began = time.perf_counter()
        body = await read(request, InferenceBody)
        model = find_model(models, request.path_params["model"])
        encoding = model.encode(
            read_inputs("inputs", body.inputs, settings.max_inputs),
            input_type=body.input_type,
            truncate=body.truncate is not False,
            max_tokens_of_request=settings.max_request_tokens,
            client=request.scope["client_name"],
        )
        answer = await until_gone(request, encoding)
        rows = await written(normalize(answer.vectors) if body.normalize else answer.vectors)
        rest: dict[str, Any] = {
            "input_tokens": answer.num_tokens,
            "request_id": request.scope.get("request_id") or uuid.uuid4().hex,
            "inference_status": {
                "status": "succeeded",
                "runtime_ms": round(1000 * (time.perf_counter() - began)),
                "tokens_input": answer.num_tokens,
            },
            "truncated": int(answer.truncated.sum()),
        }
        content = b'{"embeddings":%b,%b' % (json_list(rows), to_json(rest)[1:])
        return Response(content, media_type="application/json")

    described_body = described(
        InferenceBody,
        {"several texts": {"inputs": ["How do I read a file?", "Open it, then read it."]}},
        inputs=input_schema(settings.max_inputs),
    )
    router.add_api_route(
        "/v1/inference/{model:path}",
        infer,
        methods=["POST"],
        responses=answered("The vectors, in the order of the texts.", _ANSWER, _EXAMPLE) | failing(400, 404, 415, 422),
        openapi_extra={**described_body, "parameters": [name_in_path(models)]},
    )
    return router
