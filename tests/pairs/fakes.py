"""Rows that are made up as they are asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pairloom.pairs.rows import Rows


class FakeRows:
    """Rows in memory whose texts are numbers; a text's hash is the number itself."""

    def __init__(
        self, texts: Sequence[Sequence[int]] | NDArray[np.int64], *, fingerprint: str = "0" * 64, contexts: bool = False
    ) -> None:
        self._texts = np.array(texts, dtype=np.uint64)
        self.columns = ("anchor", "positive", "context" if contexts else "negative")[: self._texts.shape[1]]
        self.fingerprint = fingerprint
        self.rows_taken: list[int] = []

    def __len__(self) -> int:
        return len(self._texts)

    def hashes(self, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        return self._texts[rows]

    def take(self, rows: NDArray[np.int64]) -> Rows:
        self.rows_taken += rows.tolist()
        texts = self._texts[rows]
        return Rows(tuple([str(text) for text in column] for column in texts.T.tolist()), texts)


def different(count: int, *, first: int = 0, columns: int = 2, contexts: bool = False) -> FakeRows:
    """Rows without a common text."""
    return FakeRows(first + np.arange(count * columns).reshape(count, columns), contexts=contexts)


class VastRows:
    """As many rows as wished, without memory for them: a text's hash is computed from the row's number."""

    columns = ("anchor", "positive")
    fingerprint = "f" * 64

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def hashes(self, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        return np.stack([2 * rows, 2 * rows + 1], axis=1).astype(np.uint64)

    def take(self, rows: NDArray[np.int64]) -> Rows:
        return Rows(([f"a{row}" for row in rows], [f"p{row}" for row in rows]), self.hashes(rows))
