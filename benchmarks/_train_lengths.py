"""Lengths of real texts, for benchmarks that have none: `python -m benchmarks._train_lengths PAIRS` measures a file's."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

# Tokens of titles and of bodies, special ones included: 33 quantiles from 0 to 1 of every twelfth pair of the first 60,000
# of a Reddit (title, body) file (the published training data reddit-title-body), by the tokenizer of all-MiniLM-L6-v2
# without a limit. Made by this program.
# fmt: off
TITLE_TOKENS = (
    4, 7, 8, 8, 9, 9, 10, 10, 11, 11, 11, 12, 12, 13, 13, 14, 14, 15, 16, 16, 17, 18, 19, 19, 21, 22, 23, 24, 26, 29, 32, 38, 80,
)
BODY_TOKENS = (
    20, 33, 39, 45, 50, 56, 61, 67, 74, 80, 86, 93, 100, 107, 116, 124, 134, 144, 154, 167, 180, 195, 212, 233, 255, 287,
    323, 365, 419, 486, 588, 751, 2051,
)
# fmt: on
_STRIDE = 12


def draw_lengths(
    count: int, *, anchor_max_tokens: int, positive_max_tokens: int, random: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Lengths of ``count`` anchors and then of as many positives, int64 [2 × count], cut at the limits.

    Titles and bodies are drawn independently: in the file their lengths hardly correlate.
    """
    parts = []
    for table, limit in ((TITLE_TOKENS, anchor_max_tokens), (BODY_TOKENS, positive_max_tokens)):
        drawn = np.interp(random.random(count), np.linspace(0, 1, len(table)), table)
        parts.append(np.minimum(np.rint(drawn), limit).astype(np.int64))
    return np.concatenate(parts)


def main() -> None:
    from benchmarks._train_pairs import MODEL, read_pair_file
    from pairloom.models.names import load_model

    pairs = list(read_pair_file(Path(sys.argv[1])))[:60_000:_STRIDE]
    tokenizer = load_model(MODEL).tokenizer(cut=False)
    for texts in zip(*pairs, strict=True):
        print(np.quantile(tokenizer(texts).lengths, np.linspace(0, 1, 33)).round().astype(int).tolist())


if __name__ == "__main__":
    main()
