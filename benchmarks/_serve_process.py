"""A server in a process of its own, started as its users start it, and what the system says of it meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks._encode_sides import memory_bytes
from benchmarks._serve_crowds import HOST

_GLANCE_S = 0.005
_START_S = 120.0
_STOP_S = 60.0
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
# Of the fields after the name in /proc/PID/stat: time in the program and in the kernel.
_USER, _SYSTEM = 11, 12


@dataclass(frozen=True)
class Glance:
    """A server at a moment, all of its processes together.

    Args:
        passed_s: Since the watch began.
        resident_bytes: Memory, mapped files included.
        own_bytes: Of it what belongs to no file.
        threads: How many.
        files: Open file handles, sockets included.
    """

    passed_s: float
    resident_bytes: int
    own_bytes: int
    threads: int
    files: int


class Server:
    """A server.

    Args:
        command: What starts it; the word ``PORT`` in it stands for a free port.
        ready: The path that answers with 200 when it is ready.
        settings: Variables of its environment.

    Raises:
        SystemExit: It does not become ready.
    """

    def __init__(self, command: Sequence[str], ready: str, settings: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        self._messages = tempfile.TemporaryFile("w+")  # noqa: SIM115
        begin = time.perf_counter()
        self._process = subprocess.Popen(
            [str(self.port) if word == "PORT" else word for word in command],
            stdin=subprocess.DEVNULL,
            stdout=self._messages,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parents[1],
            env=os.environ | dict(settings or {}),
        )
        self._wait_until(ready)
        self.start_s = time.perf_counter() - begin
        """From the start of its process until it was ready."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> int:
        """Ends it as an operator does, by SIGTERM; returns its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise SystemExit(f"the server did not end in {_STOP_S:.0f} s: {self.last_words()}") from None
        finally:
            self._process.wait()
            self._messages.close()

    def post(self, path: str, body: Any) -> Any:
        """The answer to one request.

        Raises:
            SystemExit: It is not 200.
        """
        status, answer = _ask(self.port, "POST", path, json.dumps(body))
        if status != 200:
            raise SystemExit(f"{path} answered {status}: {answer[:300]!r}")
        return json.loads(answer)

    def get(self, path: str) -> Any:
        """Likewise."""
        status, answer = _ask(self.port, "GET", path)
        if status != 200:
            raise SystemExit(f"{path} answered {status}: {answer[:300]!r}")
        return json.loads(answer)

    def cpu_s(self) -> float:
        """Time on processors so far."""
        total = 0.0
        for process in self._family():
            with contextlib.suppress(OSError):
                total += _cpu_s(Path(f"/proc/{process}"))
        return total

    def loop_s(self) -> float:
        """That of the first thread of the first process alone, which reads requests and writes answers."""
        return _cpu_s(Path(f"/proc/{self._process.pid}/task/{self._process.pid}"))

    def glance(self, passed_s: float = 0.0) -> Glance:
        processes = self._family()
        folders = [Path(f"/proc/{process}") for process in processes]
        return Glance(
            passed_s,
            sum(memory_bytes("VmRSS", process) for process in processes),
            sum(memory_bytes("RssAnon", process) for process in processes),
            sum(len(list((folder / "task").iterdir())) for folder in folders),
            sum(len(list((folder / "fd").iterdir())) for folder in folders),
        )

    def last_words(self) -> str:
        self._messages.seek(0)
        return (self._messages.read().strip().splitlines() or ["it said nothing"])[-1][:300]

    def _family(self) -> list[int]:
        found = [self._process.pid]
        for process in found:
            with contextlib.suppress(OSError):
                children = Path(f"/proc/{process}/task/{process}/children").read_text()
                found += [int(word) for word in children.split()]
        return found

    def _wait_until(self, ready: str) -> None:
        end = time.perf_counter() + _START_S
        while time.perf_counter() < end and self._process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if _ask(self.port, "GET", ready)[0] == 200:
                    return
            time.sleep(_GLANCE_S)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        reason = self.last_words()
        self._messages.close()
        raise SystemExit(f"the server did not become ready: {reason}")


class Watch:
    """Looks at a server again and again while it is open."""

    def __init__(self, server: Server, every_s: float) -> None:
        self._server, self._every_s = server, every_s
        self.glances: list[Glance] = []

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        begin = time.perf_counter()
        while True:
            with contextlib.suppress(OSError):  # of a process or a file handle that has just gone
                self.glances.append(self._server.glance(time.perf_counter() - begin))
            if self._stop.wait(self._every_s):
                return


def measured(server: Server, call: Callable[..., dict[str, Any]], *args: Any, **given: Any) -> dict[str, Any]:
    """What a call returns, with the time that the server had on processors meanwhile."""
    before, loop_before = server.cpu_s(), server.loop_s()
    figures = call(*args, **given)
    return figures | {"server_cpu_s": server.cpu_s() - before, "loop_cpu_s": server.loop_s() - loop_before}


def _cpu_s(folder: Path) -> float:
    """Of a process or thread."""
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS_A_SECOND


def free_port() -> int:
    """A port on which nobody listens at the moment."""
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])


def serve_command(model: str, *words: str) -> list[str]:
    return [sys.executable, "-m", "pairloom", "serve", model, "--port", "PORT", *words]


def _ask(port: int, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=_STOP_S)
    try:
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, None if body is None else body.encode(), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
