"""An object in a process of its own, which waits between calls: `python -m benchmarks._encode_apart MODULE:CLASS ARGUMENTS`.

Contestants that take turns stay loaded, each in its own process, because loading and warming up are not what is compared,
and because none should have another's threads, memory allocator or settings: pairloom's process has no torch in it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

READY = "ready"


class Apart:
    """The object over there. Arguments and answers are JSON values.

    Args:
        what: Its class.
        arguments: Of its constructor; it is made before this one is ready, so that nothing of it falls into others' time.
        threads: For what computes and what tokenizes.
    """

    def __init__(self, what: type, arguments: dict[str, Any], *, threads: int) -> None:
        variables = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")}
        command = [sys.executable, "-m", __name__, f"{what.__module__}:{what.__name__}", json.dumps(arguments)]
        self._messages = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            text=True,
            cwd=Path(__file__).parents[1],
            env=os.environ | variables,
        )
        self._answer()

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """What the method returns; if it raised, or the process is gone, the reason under ``failed``."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([method, arguments]) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return {"failed": self._last_words()}
        return self._answer()

    def close(self) -> None:
        """Ends the process and waits for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._messages.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"failed": self._last_words()}
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._messages.seek(0)
        last = (self._messages.read().strip().splitlines() or ["nothing on stderr"])[-1]
        return f"the process ended ({code}): {last[:300]}"


def serve(what: str, arguments: str) -> None:
    """Makes the object, and answers a line of stdin with a line of stdout until there are no more."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what a library prints is no answer
        module, name = what.split(":")
        served = getattr(importlib.import_module(module), name)(**json.loads(arguments))
        print(json.dumps({READY: True}), file=answers, flush=True)
        for line in sys.stdin:
            method, given = json.loads(line)
            try:
                answer = json.dumps(getattr(served, method)(**given))
            except Exception as error:
                reason = str(error).strip().splitlines() or [""]
                answer = json.dumps({"failed": f"{type(error).__name__}: {reason[0][:300]}"})
            print(answer, file=answers, flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
