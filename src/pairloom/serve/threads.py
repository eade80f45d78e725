"""Calls that block, beside the event loop: a few threads, and a line before them that is never too long."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from pairloom.serve.errors import TooBusyError

Result = TypeVar("Result")

# How much the last call counts in what calls take on average.
_NEWEST = 0.1


class Threads:
    """Does calls that block in a few threads, in the order in which they come.

    Who would wait until the deadline is over is refused at once, and so is who finds too many waiting.

    Args:
        name: Of the threads.
        count: How many.
        deadline_s: So long a call may wait.
        most_waiting: So many calls may wait; what they were given lies in memory meanwhile.
    """

    def __init__(self, name: str, count: int, *, deadline_s: float, most_waiting: int) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._count, self._deadline_s, self._most_waiting = count, deadline_s, most_waiting
        self._guard = threading.Lock()
        self._num_pending = 0
        self._mean_s = 0.0

    @property
    def num_waiting(self) -> int:
        """Calls that have not begun."""
        return max(0, self._num_pending - self._count)

    async def run(self, call: Callable[[], Result]) -> Result:
        """What a call returns; it sees the context variables of the caller. Cancelled before it has begun, it never does.

        Raises:
            TooBusyError: It could not begin within the deadline.
        """
        wait_s = (self.num_waiting + 1) * self._mean_s / self._count if self._num_pending >= self._count else 0.0
        if wait_s > self._deadline_s or self.num_waiting >= self._most_waiting:
            raise TooBusyError(max(self._mean_s, wait_s - self._deadline_s))
        until = time.monotonic() + self._deadline_s
        context = contextvars.copy_context()
        with self._guard:
            self._num_pending += 1
        future = self._executor.submit(context.run, self._timed, call, until)
        future.add_done_callback(self._forget)
        return await asyncio.wrap_future(future)

    def _timed(self, call: Callable[[], Result], until: float) -> Result:
        begun = time.monotonic()
        if begun > until:  # calls took longer than those before them, and who asked has gone or soon will
            raise TooBusyError(self._mean_s)
        try:
            return call()
        finally:
            took_s = time.monotonic() - begun
            with self._guard:
                self._mean_s += _NEWEST * (took_s - self._mean_s) if self._mean_s else took_s

    def _forget(self, future: Future[Any]) -> None:
        with self._guard:
            self._num_pending -= 1
