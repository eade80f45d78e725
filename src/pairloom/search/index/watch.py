"""What a long build is told on its way, and what it tells: whether to stop, and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace


class StoppedError(Exception):
    """A build was asked to stop, and has; what it had made is gone."""


def _never() -> bool:
    return False


def _nobody(_share: float) -> None:
    return None


@dataclass(frozen=True)
class Watch:
    """Looked at between the small steps of a build.

    Args:
        stop: Whether to stop; asked many times a second.
        on_progress: Told the share of the whole that is done, from 0 to 1, rising.
        begin: Where on that scale the part of the build begins that holds this watch.
        end: Where it ends.
    """

    stop: Callable[[], bool] = _never
    on_progress: Callable[[float], None] = _nobody
    begin: float = 0.0
    end: float = 1.0

    def at(self, share: float) -> None:
        """Says that a share of this part, from 0 to 1, is done.

        Raises:
            StoppedError: The build is to stop.
        """
        self.look()
        self.on_progress(self.begin + share * (self.end - self.begin))

    def look(self) -> None:
        """Only looks whether to stop.

        Raises:
            StoppedError: The build is to stop.
        """
        if self.stop():
            raise StoppedError

    def part(self, begin: float, end: float) -> Watch:
        """The watch for a part of this part."""
        length = self.end - self.begin
        return replace(self, begin=self.begin + begin * length, end=self.begin + end * length)
