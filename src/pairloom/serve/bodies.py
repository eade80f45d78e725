"""What comes in: bodies of JSON, read strictly, and described in the OpenAPI document by the classes that read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect, Request

from pairloom.serve.errors import RequestError

Kind = TypeVar("Kind", bound="Body")

_SHOWN_FAULTS = 3


class Body(BaseModel):
    """A body. Nothing is converted, so that ``true`` is no number and ``"3"`` neither.

    An unknown key is refused, as OpenAI's server refuses it: who misspells ``dimensions`` should hear of it, and not get
    vectors of another size.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)


async def read(request: Request, kind: type[Kind]) -> Kind:
    """The body of a request.

    Raises:
        RequestError: 415 if it does not say that it is JSON, 400 if it is not what it should be.
    """
    # A browser lets any page send text/plain, or no type at all, to a server on the same machine without asking it first;
    # JSON it does not. So a foreign page cannot write into a collection that has no keys.
    declared = next((value for name, value in request.scope["headers"] if name == b"content-type"), b"")
    media_type = declared.decode("latin-1").partition(";")[0].strip().lower()
    if media_type != "application/json":
        given = f"is {media_type[:80]!r}" if media_type else "has no type"
        raise RequestError(f"the body {given}; send JSON, with the header 'Content-Type: application/json'", 415)
    try:
        return kind.model_validate_json(await _content(request))
    except ValidationError as error:
        raise refused(error.errors(include_url=False, include_context=False, include_input=False)) from None


async def _content(request: Request) -> bytes:
    """What was sent; mostly it is there at once, for which `Request.body` is a long way."""
    parts: list[bytes] = []
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def refused(faults: Sequence[Any]) -> RequestError:
    """What pydantic or FastAPI found wrong, as one error of status 400.

    Args:
        faults: Their ``errors()``: dictionaries with ``loc``, ``msg`` and ``type``.
    """
    sentences = [_sentence(fault) for fault in faults[:_SHOWN_FAULTS]]
    if len(faults) > _SHOWN_FAULTS:
        sentences.append(f"and {len(faults) - _SHOWN_FAULTS:,} more")
    kind = faults[0]["type"]
    code = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}.get(kind)
    return RequestError("; ".join(sentences), param=_place(faults[0]["loc"]) or None, code=code)


def described(kind: type[Body], examples: dict[str, dict[str, Any]], **properties: dict[str, Any]) -> dict[str, Any]:
    """A body in the OpenAPI document, for a route's ``openapi_extra``.

    Args:
        kind: What reads it.
        examples: What it is an example of, and a body.
        properties: What only the running server knows of some of its keys, such as their limits; it is added to what the
            class says.
    """
    schema = kind.model_json_schema()
    for name, known in properties.items():
        schema["properties"][name] |= known
    shown = {name.replace(" ", "_"): {"summary": name, "value": example} for name, example in examples.items()}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "examples": shown}}}}


def _sentence(fault: Any) -> str:
    place, message = _place(fault["loc"]), str(fault["msg"])
    match fault["type"]:
        case "json_invalid":
            return f"the body is not JSON: {message.removeprefix('Invalid JSON: ')}"
        case "missing":
            return f"{place}: is missing"
        case "extra_forbidden":
            return f"{place}: there is no such parameter here"
        case _:
            return f"{place or 'the body'}: {message[:1].lower()}{message[1:]}"


def _place(keys: Sequence[str | int]) -> str:
    """Such as ``documents[3].id``."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key[:80]}" for key in keys).removeprefix(".")
