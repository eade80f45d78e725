"""Texts of like length together, as many as fit a budget of tokens: little is spent on padding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

_SIZES = 8


def micro_batches(lengths: npt.NDArray[np.int64], max_tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """Splits texts into micro-batches, longest first.

    Longest first, because then memory is at its peak at once and not after an hour.

    Args:
        lengths: Tokens of each text, [N].
        max_tokens: Limit of (texts × longest of them) in a micro-batch. A text that alone is longer gets one of its own.

    Yields:
        Row numbers; together they are 0 … N-1, each once.
    """
    order = np.argsort(-lengths, kind="stable")
    begin = 0
    while begin < len(order):
        count = max(1, max_tokens // max(1, int(lengths[order[begin]])))
        yield order[begin : begin + count]
        begin += count


def filled_up(rows: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], max_tokens: int) -> npt.NDArray[np.int64]:
    """A micro-batch with its last text repeated until it has one of few sizes: up to eight for each longest text.

    The last micro-batch of a block has any size, and kernels that are made for each shape would be made, and kept, for each
    of them: memory would grow as long as blocks come.

    Args:
        rows: Of the micro-batch, longest first.
        lengths: Tokens of each text, [N].
        max_tokens: As in `micro_batches`.
    """
    most = max(1, max_tokens // max(1, int(lengths[rows[0]])))
    step = max(1, most // _SIZES)
    missing = min(most, -(-len(rows) // step) * step) - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing)]) if missing > 0 else rows


def rows_above(count: int) -> int:
    """The smallest number of rows out of 1, 2, 3, 4, 6, 8, 12, 16, … that is not below a count, at least 1.

    Shapes of these are few, and at most a third of the rows is there in vain.
    """
    power = 1 << max(0, count - 1).bit_length()  # the smallest power of two that is not below
    return power // 4 * 3 if power >= 4 and count <= power // 4 * 3 else power


def rows_below(count: int) -> int:
    """The largest of these numbers that is not above a count, which is at least 1."""
    power = 1 << (count.bit_length() - 1)
    return power // 2 * 3 if power >= 2 and count >= power // 2 * 3 else power
