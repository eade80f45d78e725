"""What goes out: vectors as JSON, errors as OpenAI's clients understand them, and how the OpenAPI document describes both."""

from __future__ import annotations

import asyncio
import binascii
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic_core import to_json
from starlette.responses import Response

from pairloom.serve.errors import RequestError

# Rows that the thread that serves everyone writes itself; more are written beside it.
_QUICK_ROWS = 64
# Which decimal places a double can be rounded to by one exact power of ten.
_EXACT_POWERS = 22
_DIGITS = 9

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "What is wrong, where, and what to do."},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "Which part of the request, such as `input[3]`."},
                "code": {"type": ["string", "null"], "description": "A word for programs."},
            },
        }
    },
}

_STATUSES = {
    400: "The request makes no sense; `message` says why, and `param` where.",
    401: "There is no API key, or an unknown one.",
    403: "The API key does not allow this.",
    404: "There is no such thing.",
    408: "The request took too long to arrive.",
    413: "The request is larger than this server takes.",
    415: "The body is not declared as JSON.",
    421: "The server is not known by this name.",
    422: "A text is longer than the model takes, and was not to be cut.",
    429: "There is more to do than can be done in time. Try again after as many seconds as `Retry-After` says.",
    500: "A fault of the server.",
    503: "Not now. Try again after as many seconds as `Retry-After` says.",
}

# What any request may meet before it is looked at.
_ANYWHERE = (401, 403, 408, 413, 421, 429, 500, 503)


def error_response(error: RequestError) -> Response:
    """An error as OpenAI's clients understand it."""
    content = {"error": {"message": str(error), "type": error.type, "param": error.param, "code": error.code}}
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(json.dumps(content), error.status, headers, media_type="application/json")


def answered(description: str, schema: dict[str, Any], example: Any) -> dict[int | str, dict[str, Any]]:
    """A good answer in the OpenAPI document, for a route's ``responses``."""
    return {200: {"description": description, "content": {"application/json": {"schema": schema, "example": example}}}}


def failing(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Errors in the OpenAPI document: a route's own, and those that any request may meet."""
    content = {"application/json": {"schema": _ERROR}}
    return {
        status: {"description": _STATUSES[status], "content": content} for status in sorted({*statuses, *_ANYWHERE})
    }


async def written(vectors: npt.NDArray[np.float32], *, as_base64: bool = False) -> Sequence[bytes]:
    """Each row of ``vectors`` [N, D] as JSON; many of them without keeping other requests waiting."""
    write = base64_rows if as_base64 else json_rows
    return write(vectors) if len(vectors) <= _QUICK_ROWS else await asyncio.to_thread(write, vectors)


def json_rows(vectors: npt.NDArray[np.float32]) -> list[bytes]:
    """Each row of ``vectors`` [N, D] as a JSON list.

    Numbers have nine significant digits: as few as give back the same float32.
    """
    return [to_json(row.tolist()) for row in _rounded(vectors)]


def base64_rows(vectors: npt.NDArray[np.float32]) -> list[bytes]:
    """Each row of ``vectors`` [N, D] as a JSON string of its little-endian float32 numbers in base64."""
    little = np.ascontiguousarray(vectors, dtype="<f4")
    return [b'"%b"' % binascii.b2a_base64(row.tobytes(), newline=False) for row in little]


def json_list(rows: Iterable[bytes]) -> bytes:
    """Rows of JSON as one list."""
    return b"[%b]" % b",".join(rows)


def _rounded(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """As float64 whose shortest decimals have at most nine significant digits; what is tiny keeps all it has."""
    exact = vectors.astype(np.float64)
    sizes = np.maximum(np.abs(exact), np.finfo(np.float32).tiny)
    places = _DIGITS - 1 - np.floor(np.log10(sizes))
    powers = 10.0 ** np.clip(places, 0, _EXACT_POWERS)
    return np.where(places > _EXACT_POWERS, exact, np.round(exact * powers) / powers)
