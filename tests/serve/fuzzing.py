"""A real server that is treated badly, and what must hold whatever it is sent."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks._serve_crowds import HOST
from benchmarks._serve_process import Server, serve_command

from pairloom import Encoder
from pairloom.records import Document
from pairloom.search.collection import Collection

MIB = 2**20
PATIENCE_S = 20.0
_NORMAL = "a cup of hot coffee"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __str__(self) -> str:
        return f"{self.status} {self.body[:200]!r}"


class Target:
    """A server, and how it answers a normal request."""

    def __init__(self, server: Server, headers: Mapping[str, str] | None = None) -> None:
        self.server, self.headers = server, dict(headers or {})
        models = json.loads(self.ask("GET", "/v1/models").body)
        self.model: str = models["data"][0]["id"]
        self._right = self._vector()

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request, written as it should be, whatever is in its body."""
        connection = http.client.HTTPConnection(HOST, self.server.port, timeout=PATIENCE_S)
        try:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, {"Content-Type": "application/json", **self.headers, **given})
            response = connection.getresponse()
            return Answer(response.status, lower(response), response.read())
        finally:
            connection.close()

    def send(self, data: bytes | Iterable[bytes], *, ends: bool = False) -> Answer | None:
        """Bytes as they are; None if the server closes the connection without a word.

        Args:
            data: All of it, or piece by piece.
            ends: Whether the client sends no more after that.
        """
        with socket.create_connection((HOST, self.server.port), timeout=PATIENCE_S) as one:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has heard enough
                for piece in [data] if isinstance(data, bytes) else data:
                    one.sendall(piece)
                if ends:
                    one.shutdown(socket.SHUT_WR)
            return read_answer(one)

    def drip(self, head: bytes, *, every_s: float = 0.02) -> Answer | None:
        """A beginning, and then a letter now and then, until the server has had enough.

        Raises:
            TimeoutError: It has not, for a long time.
        """
        end = time.monotonic() + PATIENCE_S
        with socket.create_connection((HOST, self.server.port), timeout=PATIENCE_S) as one:
            one.sendall(head)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                while not select.select([one], [], [], every_s)[0]:
                    if time.monotonic() > end:
                        raise TimeoutError(f"it listens for more than {PATIENCE_S} s")
                    one.sendall(b"a")
            return read_answer(one)

    def is_well(self) -> bool:
        """Whether it answers a normal request as it did at first."""
        return bool(np.allclose(self._vector(), self._right, atol=1e-3))

    @contextlib.contextmanager
    def bounded(self, most_bytes: int) -> Iterator[None]:
        """Its own memory grows by no more than this meanwhile."""
        before = self.server.glance().own_bytes
        yield
        grown = self.server.glance().own_bytes - before
        assert grown < most_bytes, f"its memory has grown by {grown / MIB:.0f} MiB"

    def _vector(self) -> list[float]:
        body = {"input": _NORMAL, "model": getattr(self, "model", None)}
        answer = self.ask("POST", "/v1/embeddings", json.dumps(body).encode())
        assert answer.status == 200, answer
        vector: list[float] = json.loads(answer.body)["data"][0]["embedding"]
        return vector


def start(model: Path, *words: str, **settings: Any) -> Server:
    """A server of a tiny model; settings are those of `pairloom.serve.settings`."""
    variables = {f"PAIRLOOM_SERVE_{name.upper()}": str(value) for name, value in settings.items()}
    return Server(serve_command(str(model), "--threads", "1", *words), "/health/ready", variables)


def make_collection(path: Path, model: Path) -> Path:
    texts = ["grind the beans", "brew a cup of coffee", "open a file in python", "read a list", "train a model"]
    documents = [
        Document(f"d{number}", text, {"tag": "coffee" if number < 2 else "python", "number": number})
        for number, text in enumerate(texts)
    ]
    with Collection(path, Encoder(model)) as collection:
        collection.add(documents)
    return path


def read_answer(one: socket.socket) -> Answer | None:
    try:
        response = http.client.HTTPResponse(one)
        response.begin()
        return Answer(response.status, lower(response), response.read())
    except (http.client.RemoteDisconnected, ConnectionResetError):
        return None


def lower(response: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}


def why_not_refused(answer: Answer | None) -> str | None:
    """What is wrong with an answer that should be a refusal with a reason; None if nothing is."""
    if answer is None or not 400 <= answer.status < 500:
        return f"is not refused: {answer}"
    if answer.headers.get("content-type", "").split(";")[0] != "application/json":
        return f"is refused without JSON: {answer}"
    try:
        error = json.load(io.BytesIO(answer.body))["error"]
    except (ValueError, KeyError, TypeError):
        return f"is refused without an error: {answer}"
    if set(error) != {"message", "type", "param", "code"} or not error["message"] or not error["type"]:
        return f"is refused without a reason: {answer}"
    return None


def why_a_fault(answer: Answer | None) -> str | None:
    """Likewise, of what may be answered well or be refused, if only the server has no fault in it."""
    if answer is not None and 200 <= answer.status < 300:
        return None
    return why_not_refused(answer)


def faults(
    target: Target, cases: Iterable[tuple[str, Callable[[], Answer | None], Callable[[Answer | None], str | None]]]
) -> list[str]:
    """What is wrong, case by case: its name, how it is sent, and what judges the answer. After each the server must be well."""
    found = []
    for name, send, judge in cases:
        if fault := judge(send()):
            found.append(f"{name}: {fault}")
        if not target.is_well():
            found.append(f"{name}: leaves the server ill")
    return found
