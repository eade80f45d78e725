"""Texts of like length together, as many as fit a budget of tokens: little is spent on padding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt


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
