"""A dataset's part of a batch: the next rows of its stream, but for those that would bring a text again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairloom.errors import InputError
from pairloom.pairs.dataset import Dataset
from pairloom.pairs.distinct import Hashes, fitting, repeats_itself
from pairloom.pairs.order import Positions, RowOrder
from pairloom.pairs.place import Cursor

# Rows that are looked at to fill a part: so many for each that is needed, and so many in any case. A dataset that
# needs more has so few texts that nearly all of its rows would be thrown away.
_MAX_LOOKED_AT_PER_ROW = 256
_MAX_LOOKED_AT = 65536
_FEWEST_AT_ONCE, _MOST_AT_ONCE = 16, 65536


@dataclass(frozen=True)
class Stream:
    """A dataset's stream of rows.

    Args:
        dataset: Where the rows come from.
        order: Which row stands at a position.
        end: The position at which it ends; None if it does not.
        max_waiting: How many rows may wait for the next batch.
    """

    dataset: Dataset
    order: RowOrder
    end: int | None
    max_waiting: int


@dataclass(frozen=True)
class Filled:
    """A part of a batch.

    Args:
        rows: int64 ``[size]``: row numbers.
        taken: uint64, sorted: the hashes of the texts of this part and of those before it.
        cursor: How far the dataset has been read. If it has run out, the part is not full and counts for nothing.
    """

    rows: NDArray[np.int64]
    taken: Hashes
    cursor: Cursor


def fill(stream: Stream, cursor: Cursor, *, size: int, taken: Hashes) -> Filled:
    """Fills a dataset's part of a batch.

    The rows that wait are gone through first, oldest first, and then the stream, up to the row that makes the part
    full. A row fits if none of its texts is taken so far. Otherwise it waits, and of more than ``max_waiting`` the oldest
    are left out; a row that has a text twice is left out at once.

    Args:
        stream: Of the dataset.
        cursor: How far it has been read.
        size: Rows of the part.
        taken: uint64, sorted: hashes of the texts that are in the batch, or in its group of batches, already.

    Raises:
        InputError: The dataset has too few different texts: a whole epoch, or very many rows, did not fill the part.
    """
    part = _Part(stream, size, taken, cursor.num_left_out)
    num_looked_at = part.go_through(cursor.waiting)
    part.wait(cursor.waiting[num_looked_at:])
    begin = position = cursor.position
    epoch = len(stream.dataset)
    whole_epoch = (-(-begin // epoch) + 1) * epoch  # the rest of this epoch, and then one that is seen from end to end
    most = begin + max(_MAX_LOOKED_AT_PER_ROW * size, _MAX_LOOKED_AT)
    end = min(whole_epoch, most, whole_epoch if stream.end is None else stream.end)
    at_once = part.missing
    while part.missing:
        if position >= end:  # above, if the limit was lowered since
            if end in (whole_epoch, most):
                found = size - part.missing
                raise _too_few_texts(stream.dataset, size, looked_at=end - begin, found=found, beside=len(taken) > 0)
            left_out = part.num_left_out + len(part.waiting) + sum(map(len, part.rows))
            return Filled(part.rows[0][:0], taken, Cursor(position, num_left_out=left_out, run_out=True))
        fresh = np.arange(position, min(position + at_once, end), dtype=np.int64)
        position += part.go_through(fresh)
        # A collision or two need a few rows more; where there are many, fewer and larger rounds are quicker.
        at_once = min(max(2 * part.missing, 2 * at_once if at_once < size else _FEWEST_AT_ONCE), _MOST_AT_ONCE)
    return Filled(np.concatenate(part.rows), part.taken, Cursor(position, part.waiting, part.num_left_out))


class _Part:
    """A part while it is being filled."""

    def __init__(self, stream: Stream, size: int, taken: Hashes, num_left_out: int) -> None:
        self._stream = stream
        self.missing, self.taken, self.num_left_out = size, taken, num_left_out
        self.rows: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        self.waiting: Positions = np.empty(0, dtype=np.int64)

    def go_through(self, positions: Positions) -> int:
        """Takes what fits, in order, until the part is full; tells how many positions were looked at."""
        if not len(positions):
            return 0
        rows = self._stream.order.rows(positions)
        hashes = self._stream.dataset.rows.hashes(rows)
        fits = fitting(hashes, self.taken)
        chosen = np.flatnonzero(fits)[: self.missing]
        self.missing -= len(chosen)
        looked_at = len(positions) if self.missing else int(chosen[-1]) + 1
        if len(chosen) < looked_at:
            hopeless = repeats_itself(hashes[:looked_at])
            self.num_left_out += int(hopeless.sum())
            self.wait(positions[:looked_at][~fits[:looked_at] & ~hopeless])
        self.rows.append(rows[chosen])
        self.taken = np.sort(np.concatenate([self.taken, hashes[chosen].ravel()]))
        return looked_at

    def wait(self, positions: Positions) -> None:
        """Lets rows wait behind those that wait already."""
        waiting = np.concatenate([self.waiting, positions])
        too_many = max(len(waiting) - self._stream.max_waiting, 0)
        self.num_left_out += too_many
        self.waiting = waiting[too_many:]


def _too_few_texts(dataset: Dataset, size: int, *, looked_at: int, found: int, beside: bool) -> InputError:
    others = "another of them, or what was drawn before them," if beside else "another of them"
    return InputError(
        f"has too few different texts for a batch of {size:,} without repeating one: of {looked_at:,} rows only "
        f"{found:,} had none that {others} has; lower its batch size or leave the dataset out",
        dataset.name,
    )
