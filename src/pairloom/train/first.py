"""What one process of a job does for all: reading, measuring, writing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pairloom.errors import PairloomError, TrainingError
from pairloom.train.world import World

Value = TypeVar("Value")


def on_first(world: World, work: Callable[[], Value]) -> Value | None:
    """Lets the first process do something, however long it takes, and all fail if it does.

    Returns:
        What it made, and None on the others.
    """
    made, failure = None, None
    if world.is_first:
        try:
            made = work()
        except PairloomError as error:
            failure = error
    world.wait()
    told = world.share(None if failure is None else str(failure))
    if failure is not None:
        raise failure
    if told is not None:
        raise TrainingError(f"rank 0 has stopped the job: {told}")
    return made
