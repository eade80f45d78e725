"""A server as people start it: a process of its own, found by what it prints."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

START_S = 60.0
END_S = 60.0
_URL = re.compile(r"at http://127\.0\.0\.1:(\d+)")


class RunningServer:
    """``pairloom serve`` with some words, on a free port.

    Args:
        words: What stands behind ``pairloom serve``.
        environment: Laid over the process's own.
        home: Where it runs.
    """

    def __init__(self, words: Sequence[str], environment: dict[str, str], home: Path) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pairloom", "serve", *words, "--port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=home,
            env={**os.environ, **environment},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        (port,) = self.wait_for(_URL).groups()
        self.port = int(port)
        self.url = f"http://127.0.0.1:{port}"

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: re.Pattern[str] | str) -> re.Match[str]:
        """The first line in which this stands, as soon as it does."""
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            for line in list(self.lines):
                if found := re.search(pattern, line):
                    return found
            if self.process.poll() is not None:
                self._reader.join(END_S)
                if not any(re.search(pattern, line) for line in self.lines):
                    break
            time.sleep(0.02)
        raise AssertionError(f"{pattern} was never said:\n{self.log}")

    def wait_until_ready(self) -> None:
        until = time.monotonic() + START_S
        with httpx.Client(timeout=START_S) as client:
            while time.monotonic() < until:
                if client.get(self.url + "/health/ready").status_code == 200:
                    return
                time.sleep(0.05)
        raise AssertionError(f"was never ready:\n{self.log}")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=END_S)

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=START_S, **options)

    def end(self, sig: int = signal.SIGTERM) -> int:
        """Its exit code, after a signal."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        code = self.process.wait(END_S)
        self._reader.join(END_S)
        return code

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
        self.process.stderr.close()


@contextmanager
def serving(home: Path, *words: str, environment: dict[str, str] | None = None) -> Iterator[RunningServer]:
    """A server that is ready, and ended afterwards."""
    server = RunningServer(words, environment or {}, home)
    try:
        server.wait_until_ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.process.terminate()
            try:
                server.process.wait(END_S)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait()


def head(path: str, length: int, *, host: str = "localhost") -> bytes:
    """The head of a request whose body comes by and by."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def read_all(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of one answer."""
    return read_answers(connection, 1)[0]


def read_answers(connection: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Those of several that may come at once."""
    answers = []
    with connection.makefile("rb") as stream:
        for _ in range(count):
            status = int(stream.readline().split()[1])
            length = 0
            while (line := stream.readline().strip().lower()) != b"":
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            answers.append((status, stream.read(length)))
    return answers
