"""``python -m pairloom.serve.worker``: one of several workers, started by `pairloom.serve.supervisor`."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading

from pairloom.errors import PairloomError
from pairloom.serve import logs
from pairloom.serve.answering import answer
from pairloom.serve.building import build_service
from pairloom.serve.settings import Settings
from pairloom.serve.supervisor import CANNOT_START


def main() -> None:
    """Reads its settings from stdin, and answers until it is asked to end or stdin does."""
    told = json.loads(sys.stdin.readline())
    settings = Settings.model_validate(told["settings"])
    logs.set_up(settings.log_format, log_texts=settings.log_texts)
    threading.Thread(target=_end_with_the_supervisor, name="supervisor", daemon=True).start()
    try:
        service = build_service(settings)
    except PairloomError as error:
        logs.logger.error("%s", error)
        sys.exit(CANNOT_START)
    answer(service, socket.socket(fileno=told["socket"]))


def _end_with_the_supervisor() -> None:
    # Not by sys.stdin: Python could not end while a thread waits in it.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
