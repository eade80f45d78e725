"""Several workers on one socket: started, replaced when one dies, and ended together."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from pairloom.errors import PairloomError
from pairloom.serve import logs
from pairloom.serve.metrics import MULTIPROCESS_VARIABLE
from pairloom.serve.settings import Settings

CANNOT_START = 3
"""The exit code of a worker that would not start the next time either."""

_LOOK_S = 0.2
# A worker that dies at once each time is not started as often as the machine can.
_LEAST_LIFE_S = 2.0
# When all is answered: closing the collection, and Python itself.
_END_S = 15.0


@dataclass(frozen=True)
class _Worker:
    process: subprocess.Popen[bytes]
    started: float


class Supervisor:
    """Keeps as many workers as the settings say.

    Each is an interpreter of its own, which shares nothing but the socket. It is told its settings through its stdin, and learns
    from the end of that when the supervisor is no more, whatever became of it.

    Args:
        settings: Theirs.
        listening: Where all of them take connections from.
    """

    def __init__(self, settings: Settings, listening: socket.socket) -> None:
        self._settings, self._listening = settings, listening
        self._workers: list[_Worker] = []
        self._asked_to_end = False

    def run(self) -> None:
        """Returns when it was asked to end, by SIGTERM or Ctrl-C, and all workers have.

        Raises:
            PairloomError: A worker cannot start, or could only be killed.
        """
        before = {sig: signal.signal(sig, self._ask) for sig in (signal.SIGTERM, signal.SIGINT)}
        try:
            with tempfile.TemporaryDirectory(prefix="pairloom-metrics-") as folder:
                try:
                    self._keep(folder)
                finally:
                    self._end()
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)

    def _ask(self, sig: int, frame: FrameType | None) -> None:
        self._asked_to_end = True

    def _keep(self, folder: str) -> None:
        self._workers = [self._start(folder) for _ in range(self._settings.workers)]
        while not self._asked_to_end:
            time.sleep(_LOOK_S)
            for number, worker in enumerate(self._workers):
                code = worker.process.poll()
                if code == CANNOT_START:
                    raise PairloomError("a worker could not start, for the reason above")
                if code is None or self._asked_to_end or time.monotonic() - worker.started < _LEAST_LIFE_S:
                    continue
                logs.logger.error("worker %s has died (%s); another takes its place", worker.process.pid, _reason(code))
                _close_pipe(worker)
                mark_process_dead(worker.process.pid, folder)
                self._workers[number] = self._start(folder)

    def _start(self, folder: str) -> _Worker:
        socket_number = self._listening.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", "pairloom.serve.worker"],
            stdin=subprocess.PIPE,
            pass_fds=(socket_number,),
            env={**os.environ, MULTIPROCESS_VARIABLE: folder},
        )
        told = {"socket": socket_number, "settings": self._settings.model_dump(mode="json")}
        if self._settings.api_keys is not None:
            told["settings"]["api_keys"] = self._settings.api_keys.get_secret_value()
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has died already, which will be noticed
            process.stdin.write(json.dumps(told).encode() + b"\n")
            process.stdin.flush()
        return _Worker(process, time.monotonic())

    def _end(self) -> None:
        self._listening.close()  # or connections would be taken that nobody answers
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.terminate()
        until = time.monotonic() + self._settings.drain_s + _END_S
        killed = []
        for worker in self._workers:
            try:
                worker.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
                killed.append(worker.process.pid)
            _close_pipe(worker)
        if killed:
            raise PairloomError(f"workers had to be killed, as they did not end in time: {', '.join(map(str, killed))}")


def _close_pipe(worker: _Worker) -> None:
    assert worker.process.stdin is not None
    with suppress(BrokenPipeError):  # what it was told has never been read
        worker.process.stdin.close()


def _reason(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
