"""Texts of like length together, as many as fit a budget of tokens: little is spent on padding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

# Of so many parts of a power of two is a number of rows made.
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


def even_micro_batches(
    lengths: npt.NDArray[np.int64], num_tokens: int, *, most_padding: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Splits texts into micro-batches of about as many tokens, longest text first.

    Args:
        lengths: Tokens of each text, at least one, [N].
        num_tokens: Of a micro-batch, which ends with the text that reaches it: a limit that is never passed would leave a small
            one at the end, for which cores wait.
        most_padding: Limit of what is missing to (texts × longest of them). A text with which it would be passed is the first of
            the next micro-batch.

    Yields:
        Row numbers; together they are 0 … N-1, each once.
    """
    order = np.argsort(-lengths, kind="stable")
    ordered = lengths[order]
    begin = 0
    while begin < len(order):
        tokens = np.cumsum(ordered[begin : begin + num_tokens])
        padding = np.arange(1, len(tokens) + 1) * ordered[begin] - tokens
        count = min(int(np.searchsorted(tokens, num_tokens)) + 1, int(np.searchsorted(padding, most_padding, "right")))
        yield order[begin : begin + count]
        begin += count


def few_rows(count: int) -> int:
    """The smallest number of rows out of 1, 2, …, 8, 10, …, 16, 20, …, 32, 40, … that is not below a count, at least 1.

    The last micro-batch of a block has any number, and kernels that are made for each shape would be made, and kept, for each
    of them: memory would grow as long as blocks come.
    """
    step = max(1, (1 << max(0, count - 1).bit_length()) // _SIZES)
    return max(1, -(-count // step) * step)


def rows_above(count: int) -> int:
    """The smallest number of rows out of 1, 2, 3, 4, 6, 8, 12, 16, … that is not below a count, at least 1.

    Even fewer, for micro-batches of texts of all lengths in any order; at most a third of the rows is there in vain.
    """
    power = 1 << max(0, count - 1).bit_length()  # the smallest power of two that is not below
    return power // 4 * 3 if power >= 4 and count <= power // 4 * 3 else power


def rows_below(count: int) -> int:
    """The largest of these numbers that is not above a count, which is at least 1."""
    power = 1 << (count.bit_length() - 1)
    return power // 2 * 3 if power >= 2 and count >= power // 2 * 3 else power
