"""Ctrl-C and SIGTERM in a run: at once where nothing is lost, otherwise between two steps."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger("pairloom")


class StopRequest:
    """Whether somebody asked the run to stop.

    While `patient`, a first signal only sets `requested`, for the loop to see when its step is done; a second one,
    or any signal at another time, raises `KeyboardInterrupt`.
    """

    def __init__(self) -> None:
        self.requested = False
        self.patient = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.requested or not self.patient:
            raise KeyboardInterrupt
        self.requested = True
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
