"""Requests, prepared to the byte before anything is measured, and how they travel to the process that sends them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Words that make a text longer than any model takes.
_LONG_WORDS = 2_000
_HANG_UP_S = 0.02


@dataclass(frozen=True)
class Request:
    """A request.

    Args:
        kind: Under which it is counted.
        data: Its bytes.
        hang_up_s: After so long the client hangs up, if no answer has come; by default never.
    """

    kind: str
    data: bytes
    hang_up_s: float | None = None


def prepare(
    kind: str, path: str, body: bytes | None = None, *, method: str = "POST", hang_up_s: float | None = None
) -> Request:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return Request(kind, head.encode("ascii") + b"\r\n" + (body or b""), hang_up_s)


def write_requests(path: Path, requests: Iterable[Request]) -> Path:
    records = [[one.kind, one.data.decode("latin-1"), one.hang_up_s] for one in requests]
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def read_requests(path: Path) -> list[Request]:
    records = json.loads(path.read_text(encoding="utf-8"))
    return [Request(kind, data.encode("latin-1"), hang_up_s) for kind, data, hang_up_s in records]


def embeddings(texts: Sequence[str], model: str, encoding_format: str, texts_each: int = 1) -> list[Request]:
    """So many texts a request, as OpenAI's clients send them."""
    inputs = (
        texts
        if texts_each == 1
        else [texts[begin : begin + texts_each] for begin in range(max(1, len(texts) - texts_each + 1))]
    )
    bodies = ({"input": one, "model": model, "encoding_format": encoding_format} for one in inputs)
    return [prepare(encoding_format, "/v1/embeddings", as_json(body)) for body in bodies]


def searches(questions: Sequence[str], mode: str, k: int = 10) -> list[Request]:
    bodies = ({"query": question, "k": k, "mode": mode} for question in questions)
    return [prepare(mode, "/v1/search", as_json(body)) for body in bodies]


def mixed(texts: Sequence[str], model: str, count: int, *, seed: int = 0) -> list[Request]:
    """What a server gets on a mixed day, in random order: few and many texts, short and long ones, searches, mistakes, and
    clients that hang up."""
    dice = random.Random(seed)
    kinds, weights = zip(*_MIXTURE.items(), strict=True)
    return [_one(kind, texts, model, dice) for kind in dice.choices(kinds, weights, k=count)]


# How often each comes.
_MIXTURE = {
    "one text": 40,
    "one text, as floats": 10,
    "16 texts": 8,
    "256 texts": 1,
    "a long text": 4,
    "a long text, not to be cut": 4,
    "a search": 16,
    "a search by words": 4,
    "hanging up": 6,
    "the list of models": 2,
    "no JSON": 2,
    "an unknown model": 2,
    "an unknown path": 1,
}


def _one(kind: str, texts: Sequence[str], model: str, dice: random.Random) -> Request:
    match kind:
        case "no JSON":
            return prepare(kind, "/v1/embeddings", b'{"input": ')
        case "an unknown path":
            return prepare(kind, "/v1/nothing", method="GET")
        case "the list of models":
            return prepare(kind, "/v1/models", method="GET")
        case "a search" | "a search by words":
            mode = "hybrid" if kind == "a search" else "words"
            return prepare(kind, "/v1/search", as_json({"query": dice.choice(texts), "mode": mode}))
    num_texts = {"16 texts": 16, "256 texts": 256, "hanging up": 64}.get(kind, 1)
    body: dict[str, Any] = {"model": model, "encoding_format": "base64"}
    body["input"] = dice.choices(texts, k=num_texts) if num_texts > 1 else dice.choice(texts)
    match kind:
        case "one text, as floats":
            body["encoding_format"] = "float"
        case "an unknown model":
            body["model"] = "no-such-model"
        case "a long text" | "a long text, not to be cut":
            body["input"] = " ".join(dice.choices(body["input"].split(), k=_LONG_WORDS))
            body["truncate"] = kind == "a long text"
    hang_up_s = dice.uniform(0, _HANG_UP_S) if kind == "hanging up" else None
    return prepare(kind, "/v1/embeddings", as_json(body), hang_up_s=hang_up_s)


def as_json(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()
