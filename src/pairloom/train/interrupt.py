"""Ctrl-C and SIGTERM in a run: at once where nothing is lost, otherwise between two steps."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger("pairloom")

# Signals within this time say the same.
_SAME_REQUEST_S = 1.0


class StopRequest:
    """Whether somebody asked the run to stop.

    While `patient`, a first signal only sets `requested`, for the loop to see when its step is done; another one after
    a second, or any signal at another time, raises `KeyboardInterrupt`. (Under torchrun, Ctrl-C reaches a process twice
    at once: from the terminal, and passed on.)
    """

    def __init__(self) -> None:
        self.requested = False
        self.patient = False
        self._since = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self.patient or (self.requested and time.monotonic() - self._since > _SAME_REQUEST_S):
            raise KeyboardInterrupt
        if self.requested:
            return
        self.requested, self._since = True, time.monotonic()
        logger.warning("stopping after this step (again to stop at once, which loses what follows the last checkpoint)")


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Listens for SIGINT and SIGTERM while the block runs; only the main thread can."""
    request = StopRequest()
    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, request)
    except ValueError:
        pass  # whoever runs this in another thread decides how to stop it
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
