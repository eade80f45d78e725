"""The order of a dataset's rows: each once an epoch, and kind to disks when asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pairloom.errors import UsageError
from pairloom.pairs.order import BlockShuffle, RowOrder


@settings(max_examples=100, deadline=None)
@given(
    size=st.integers(1, 300),
    blocks=st.none() | st.builds(BlockShuffle, st.integers(1, 50), st.integers(1, 9)),
    seed=st.integers(0, 2**40),
)
def test_each_epoch_holds_each_row_once(size: int, blocks: BlockShuffle | None, seed: int) -> None:
    order = RowOrder("a", size, seed=seed, blocks=blocks)
    rows = order.rows(np.arange(3 * size))
    for epoch in range(3):
        assert sorted(rows[epoch * size : (epoch + 1) * size].tolist()) == list(range(size))


@pytest.mark.parametrize("blocks", [None, BlockShuffle(7, 3)])
def test_any_positions_in_any_order(blocks: BlockShuffle | None) -> None:
    order = RowOrder("a", 100, seed=0, blocks=blocks)
    everything = order.rows(np.arange(1000))
    positions = np.random.default_rng(0).integers(0, 1000, 400)
    assert order.rows(positions).tolist() == everything[positions].tolist()
    assert order.rows(np.empty(0, dtype=np.int64)).tolist() == []


@pytest.mark.parametrize("blocks", [None, BlockShuffle(7, 3)])
def test_seed_name_and_epoch_make_the_order(blocks: BlockShuffle | None) -> None:
    first = RowOrder("a", 100, seed=0, blocks=blocks).rows(np.arange(200))
    assert first[:100].tolist() != first[100:].tolist()
    assert first.tolist() == RowOrder("a", 100, seed=0, blocks=blocks).rows(np.arange(200)).tolist()
    for other in (RowOrder("b", 100, seed=0, blocks=blocks), RowOrder("a", 100, seed=1, blocks=blocks)):
        assert other.rows(np.arange(100)).tolist() != first[:100].tolist()


def test_a_window_holds_a_few_blocks_and_mixes_them() -> None:
    size, block, window = 10_000, 100, 8
    rows = RowOrder("a", size, seed=0, blocks=BlockShuffle(block, window)).rows(np.arange(size))
    windows = [set(rows[begin : begin + block * window] // block) for begin in range(0, size - block * window, 800)]
    assert max(map(len, windows)) == window, "a stretch of rows lies in a few blocks"
    assert len(set.union(*windows)) > 0.9 * size / block
    first = rows[: block * window]
    assert abs(stats.spearmanr(np.arange(len(first)), first % block).statistic) < 5 / np.sqrt(len(first))
    assert np.abs(np.diff(sorted(windows[0]))).max() > 1, "the blocks are not neighbours"


def test_what_is_left_over_joins_some_window() -> None:
    """Of 10 rows in blocks of 4, the last two come sometimes early and sometimes late."""
    places = [
        np.flatnonzero(RowOrder("a", 10, seed=seed, blocks=BlockShuffle(4, 1)).rows(np.arange(10)) >= 8).mean()
        for seed in range(50)
    ]
    assert min(places) < 4 < 6 < max(places)


def test_blocks_out_of_bounds() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        BlockShuffle(0, 1)
