"""The order in which a dataset's rows come: an endless stream of epochs, any place of which is computed at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairloom.errors import UsageError
from pairloom.pairs.counter_random import stream_key
from pairloom.pairs.permutation import Permutation

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class BlockShuffle:
    """A shuffle that is kind to disks: the blocks are shuffled, and the rows within a window of some blocks.

    A block is read as a whole while its window lasts, where a full shuffle reads a page here and a page there. The
    price: rows of a block, which often have something in common, come near to each other, and a batch is drawn from a
    window and not from the whole dataset. A window should hold many times the rows of a batch.

    Args:
        rows_per_block: Rows that lie together on disk.
        blocks_per_window: Blocks whose rows are mixed.
    """

    rows_per_block: int
    blocks_per_window: int

    def __post_init__(self) -> None:
        if self.rows_per_block < 1 or self.blocks_per_window < 1:
            raise UsageError("block_shuffle: rows_per_block and blocks_per_window must be at least 1")


class RowOrder:
    """Which row stands at a position of a dataset's stream.

    Position p belongs to epoch ``p // size``; each epoch holds every row once, in an order that depends on
    (seed, name, epoch) only. It is keyed by the dataset's name and not by its number in the mixture, so that another
    dataset beside it changes nothing within it.

    Args:
        name: Of the dataset.
        size: Rows of it.
        seed: Of the mixture.
        blocks: How to shuffle; by default fully.
    """

    def __init__(self, name: str, size: int, *, seed: int, blocks: BlockShuffle | None = None) -> None:
        self._name, self._size, self._seed, self._blocks = name, size, seed, blocks
        self._epochs: dict[int, Permutation | _Blocks] = {}

    def rows(self, positions: Positions) -> Positions:
        """The row numbers at some positions of the stream: int64 ``[n]``."""
        epochs, places = np.divmod(positions, self._size)
        result = np.empty_like(places)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            result[here] = self._epoch(epoch)(places[here])
        return result

    def _epoch(self, epoch: int) -> Permutation | _Blocks:
        if epoch not in self._epochs:
            self._epochs = {number: made for number, made in self._epochs.items() if number == epoch - 1}
            words = (self._seed, "rows", self._name, epoch)
            self._epochs[epoch] = (
                Permutation(self._size, stream_key(*words))
                if self._blocks is None
                else _Blocks(self._size, words, self._blocks)
            )
        return self._epochs[epoch]


class _Blocks:
    """An epoch of a block shuffle.

    Whole blocks are permuted and cut into windows. What is left over at the end of the dataset, less than a block,
    joins a window that is drawn for it.
    """

    def __init__(self, size: int, words: tuple[int, str, str, int], blocks: BlockShuffle) -> None:
        self._block, self._words = min(blocks.rows_per_block, size), words
        whole, self._rest = divmod(size, self._block)
        self._window = blocks.blocks_per_window * self._block
        self._whole = whole * self._block
        self._block_order = Permutation(whole, stream_key(*words, "blocks"))
        num_windows = -(-whole // blocks.blocks_per_window)
        # Windows after the one that the rest has joined begin later by as much.
        self._with_rest = int(Permutation(num_windows, stream_key(*words, "rest"))(np.zeros(1, dtype=np.int64))[0])

    def __call__(self, places: Positions) -> Positions:
        end_of_joined = (self._with_rest + 1) * self._window + self._rest
        before = np.minimum(places // self._window, self._with_rest)
        windows = np.where(places < end_of_joined, before, (places - self._rest) // self._window)
        rows = np.empty_like(places)
        for window in np.unique(windows).tolist():
            here = windows == window
            rows[here] = self._in_window(window, places[here])
        return rows

    def _in_window(self, window: int, places: Positions) -> Positions:
        begin = window * self._window
        num_whole = min(self._window, self._whole - begin)
        rest = self._rest if window == self._with_rest else 0
        later = self._rest if window > self._with_rest else 0
        order = Permutation(num_whole + rest, stream_key(*self._words, "window", window))
        shuffled = order(places - begin - later)
        blocks, offsets = np.divmod(begin + np.minimum(shuffled, num_whole - 1), self._block)
        in_whole = self._block_order(blocks) * self._block + offsets
        return np.where(shuffled < num_whole, in_whole, self._whole + shuffled - num_whole)
