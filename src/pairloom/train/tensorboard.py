"""A run's records as TensorBoard events, for those who watch several runs side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pairloom.errors import MissingExtraError

# How late a watcher sees a step at most, and how much a crash takes along.
_SECONDS_BEHIND = 10


class TensorBoardLog:
    """Writes what `MetricsLog` is given as scalars, too; the same record goes to both.

    Tags are ``train/…`` for what a step says of itself, ``datasets/NAME/…`` for its share of a batch, and
    ``evaluation/TASK/…``, where each metric has its 95 % interval beside it. In a tag, what is neither letter nor digit
    nor one of ``-_./`` becomes ``_``.

    Args:
        folder: For the event files, a new one each time.
        resume_after: The step of the checkpoint from which a run goes on. What was drawn beyond it will be drawn again,
            and TensorBoard is told to forget it; 0 for a new run.

    Raises:
        MissingExtraError: tensorboardX is not installed.
    """

    def __init__(self, folder: Path, *, resume_after: int = 0) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise MissingExtraError("train.tensorboard", "tensorboardX", "tensorboard") from None
        # Files are read in the order of their names, which begin with the second in which they were made.
        self._writer = SummaryWriter(
            str(folder),
            purge_step=resume_after + 1 if resume_after else None,
            flush_secs=_SECONDS_BEHIND,
            filename_suffix=f".{resume_after:013d}",
        )

    def write(self, record: dict[str, Any]) -> None:
        """Writes a step's or an evaluation's record; what is no finite number in it is left out."""
        for tag, value in _scalars(record):
            if math.isfinite(value):
                self._writer.add_scalar(tag, value, record["step"])

    def close(self) -> None:
        """Writes what is waiting, and ends."""
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _scalars(record: dict[str, Any]) -> Iterator[tuple[str, float]]:
    evaluation = record.get("evaluation")
    if evaluation is not None:
        for name, measured in evaluation["metrics"].items():
            tag = f"evaluation/{evaluation['task']}/{name}"
            yield tag, measured["value"]
            yield from zip((f"{tag}_low", f"{tag}_high"), measured["interval"], strict=True)
        return
    yield from _numbers("train", {name: value for name, value in record.items() if name != "step"})
    for name, part in record.get("datasets", {}).items():
        yield from _numbers(f"datasets/{name}", part)


def _numbers(group: str, values: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, int | float):
            yield f"{group}/{name}", value
