"""Vectors on the disk, and the exact search over them, beside float64."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pairloom.errors import ArtifactError
from pairloom.search.index import flat_file
from pairloom.search.index.faiss_views import Floats, Positions, Vectors, best_of, faiss, faiss_threads
from pairloom.search.index.flat_file import FlatFile, Storage, num_wanted, write_flat
from pairloom.search.index.watch import StoppedError, Watch
from tests.search.indexing import clustered, flat_of, in_blocks, oracle

VECTORS = clustered(700)
QUERIES = clustered(9, seed=5)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """700 vectors go through many blocks, and through several threads."""
    for name in ("_BLOCK_BYTES", "_PICKED_BYTES", "_BYTES_A_THREAD"):
        monkeypatch.setattr(flat_file, name, 64 * 64)


@pytest.mark.parametrize("storage", ["float16", "float32"])
@pytest.mark.parametrize("density", [None, 1.0, 0.9, 0.6, 0.4, 0.1, 0.01, 0.0])
@pytest.mark.parametrize("num_queries", [1, 9])
def test_it_finds_what_float64_finds(
    tmp_path: Path, storage: Storage, density: float | None, num_queries: int, small_parts: None
) -> None:
    flat = flat_of(tmp_path, VECTORS, storage=storage, threads=2)
    allowed = None if density is None else np.random.default_rng(3).random(len(flat)) < density
    queries = QUERIES[:num_queries]
    positions, scores = flat.search(queries, 20, allowed)
    expected, best = oracle(queries, flat.stored, 20, allowed)
    assert positions.dtype == np.int64
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(positions, expected)
    np.testing.assert_allclose(scores, best, atol=1e-5)


def test_blocks_and_threads_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = flat_of(tmp_path, VECTORS)
    for queries in (QUERIES[:1], QUERIES):
        whole = flat.search(queries, 30)
        with monkeypatch.context() as patch:
            for name in ("_BLOCK_BYTES", "_BYTES_A_THREAD"):
                patch.setattr(flat_file, name, 64 * 50)
            for threads in (1, 3):
                in_parts = flat_of(tmp_path, VECTORS, threads=threads).search(queries, 30)
                for mine, its in zip(in_parts, whole, strict=True):
                    np.testing.assert_array_equal(mine, its)


def test_searches_at_the_same_time_share_the_threads(tmp_path: Path, small_parts: None) -> None:
    """As many as come while others are under way, with masks and without, find what each would find alone."""
    flat = flat_of(tmp_path, VECTORS, threads=4)
    masks = [None, np.random.default_rng(3).random(len(flat)) < 0.3]
    wanted = [(QUERIES[begin : begin + size], mask) for begin in range(6) for size in (1, 3) for mask in masks]
    alone = [flat.search(queries, 20, mask) for queries, mask in wanted]
    for _ in range(5):
        with ThreadPoolExecutor(8) as threads:
            together = list(threads.map(lambda one: flat.search(one[0], 20, one[1]), wanted))
        for mine, its in zip(together, alone, strict=True):
            np.testing.assert_array_equal(mine[0], its[0])
            np.testing.assert_array_equal(mine[1], its[1])


def test_a_search_alone_has_all_threads_and_beside_another_its_share(
    tmp_path: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = flat_of(tmp_path, VECTORS, threads=4)
    shares: list[int] = []
    may_go, has_begun = threading.Event(), threading.Event()

    def watched(queries: Vectors, stored: Floats, k: int) -> tuple[Positions, Vectors]:
        if len(queries) == 1:
            shares.append(len(stored))
        else:
            has_begun.set()
            assert may_go.wait(30)
        return best_of(queries, stored, k)

    monkeypatch.setattr(flat_file, "best_of", watched)

    def shares_of_a_search() -> list[int]:
        shares.clear()
        flat.search(QUERIES[:1], 5)
        return shares

    assert shares_of_a_search() == [175] * 4
    with ThreadPoolExecutor(1) as other:
        beside = other.submit(flat.search, QUERIES[:2], 5)
        assert has_begun.wait(30)
        assert shares_of_a_search() == [350] * 2
        may_go.set()
        beside.result()
    assert shares_of_a_search() == [175] * 4
    with pytest.raises(AssertionError):
        flat.search(QUERIES[:2, :3], 5)
    assert shares_of_a_search() == [175] * 4, "what failed is over, too"


@pytest.mark.parametrize("storage", ["float16", "float32"])
@pytest.mark.parametrize("k", [1, 3, 10, 50])
def test_of_equal_scores_the_smaller_position_comes_first(
    tmp_path: Path, storage: Storage, k: int, small_parts: None
) -> None:
    few = clustered(5, seed=8)
    copies = few[np.random.default_rng(2).integers(0, 5, 400)]
    flat = flat_of(tmp_path, copies, storage=storage, threads=2)
    for allowed in (None, np.random.default_rng(4).random(400) < 0.8, np.random.default_rng(5).random(400) < 0.2):
        # One by one: a matrix product may round the same product differently at the edge of a block.
        for query in QUERIES[:, None]:
            np.testing.assert_array_equal(flat.search(query, k, allowed)[0], oracle(query, flat.stored, k, allowed)[0])


def test_a_better_one_after_equal_ones_pushes_the_last_of_them_out() -> None:
    stored = np.ones((6, 8), dtype=np.float16)
    stored[4] = 2
    positions, scores = best_of(np.ones((1, 8), dtype=np.float32), stored, 3)
    np.testing.assert_array_equal(positions, [[4, 0, 1]])
    np.testing.assert_array_equal(scores, [[16, 8, 8]])


def test_every_score_is_the_same_for_a_query_of_zeros(tmp_path: Path) -> None:
    flat = flat_of(tmp_path, VECTORS)
    positions, scores = flat.search(np.zeros((1, 32), dtype=np.float32), 4)
    np.testing.assert_array_equal(positions, [[0, 1, 2, 3]])
    np.testing.assert_array_equal(scores, np.zeros((1, 4)))


def test_of_a_dense_mask_that_leaves_out_the_neighbours_nothing_is_lost(tmp_path: Path) -> None:
    flat = flat_of(tmp_path, VECTORS)
    query = QUERIES[:1]
    allowed = np.ones(len(flat), dtype=np.bool_)
    allowed[oracle(query, flat.stored, 200)[0][0]] = False
    np.testing.assert_array_equal(flat.search(query, 10, allowed)[0], oracle(query, flat.stored, 10, allowed)[0])


def test_more_hits_than_there_are(tmp_path: Path) -> None:
    flat = flat_of(tmp_path, VECTORS[:5])
    allowed = np.array([True, True, True, True, False])
    for mask, count in ((None, 5), (allowed, 4), (~allowed, 1), (np.zeros(5, np.bool_), 0)):
        positions, scores = flat.search(QUERIES, 8, mask)
        assert positions.shape == scores.shape == (9, 8)
        assert (positions >= 0).sum(axis=1).tolist() == [count] * 9
        assert (positions[:, count:] == -1).all()
        assert np.isneginf(scores[:, count:]).all()


def test_nothing_and_one(tmp_path: Path) -> None:
    nothing = flat_of(tmp_path / "nothing", VECTORS[:0])
    assert len(nothing) == 0
    positions, scores = nothing.search(QUERIES, 3)
    assert (positions == -1).all()
    assert np.isneginf(scores).all()
    assert list(nothing.blocks(10)) == []
    assert nothing.vectors(np.zeros(0, dtype=np.int64)).shape == (0, 32)
    one = flat_of(tmp_path / "one", VECTORS[:1])
    assert one.search(QUERIES, 1)[0].tolist() == [[0]] * 9
    assert one.search(QUERIES[:0], 3)[0].shape == (0, 3)
    assert one.search(QUERIES, 0)[0].shape == (9, 0)


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    flat = flat_of(tmp_path, VECTORS)
    np.testing.assert_array_equal(np.concatenate(list(flat.blocks(64))), VECTORS.astype(np.float16))
    np.testing.assert_array_equal(flat.vectors(np.array([5, 3])), VECTORS[[5, 3]].astype(np.float16))
    np.testing.assert_array_equal(flat.rows[:3], [10, 12, 14])
    # Anybody can read them.
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), VECTORS.astype(np.float16))
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), flat.rows)


def test_a_few_among_all(tmp_path: Path) -> None:
    flat = flat_of(tmp_path, VECTORS)
    some = np.array([2, 30, 31, 500])
    positions, scores = flat.among(QUERIES[0], some, 3)
    mask = np.isin(np.arange(700), some)
    expected, best = oracle(QUERIES[:1], flat.stored, 3, mask)
    np.testing.assert_array_equal(positions, expected[0])
    np.testing.assert_allclose(scores, best[0], atol=1e-6)


def test_of_so_many_enough_count() -> None:
    assert num_wanted(10, 1.0) == 10
    dice = np.random.default_rng(0)
    for share in (0.9, 0.5, 0.2, 0.02):
        count = num_wanted(10, share)
        assert count >= 10 / share
        assert (dice.binomial(count, share, 10_000) >= 10).mean() > 0.98


# Writing.


def test_rows_must_rise_and_blocks_must_fit(tmp_path: Path) -> None:
    def write(rows: list[int], blocks: list[np.ndarray]) -> None:
        write_flat(tmp_path, np.array(rows), blocks, dimensions=4, storage="float32")

    with pytest.raises(ValueError, match="do not rise"):
        write([1, 1], [np.zeros((2, 4))])
    with pytest.raises(ValueError, match=r"shape \[2, 3\], and vectors have 4"):
        write([1, 2], [np.zeros((2, 3))])
    with pytest.raises(ValueError, match="3 rows, and 2 vectors"):
        write([1, 2, 3], [np.zeros((2, 4))])


def test_writing_can_be_watched_and_stopped(tmp_path: Path) -> None:
    shares: list[float] = []
    watch = Watch(stop=lambda: len(shares) == 2, on_progress=shares.append).part(0.5, 1.0)
    with pytest.raises(StoppedError):
        write_flat(tmp_path, np.arange(700), in_blocks(VECTORS, 100), dimensions=32, storage="float16", watch=watch)
    assert shares == pytest.approx([0.5 + 0.5 / 7, 0.5 + 1 / 7])


# Faults.


@pytest.mark.parametrize("name", ["vectors.npy", "rows.npy"])
def test_a_file_that_is_cut_or_another_is_named(tmp_path: Path, name: str) -> None:
    flat_of(tmp_path, VECTORS)
    content = (tmp_path / name).read_bytes()

    def opened() -> FlatFile:
        return FlatFile(tmp_path, num_rows=700, dimensions=32, storage="float16")

    for wrong, expected in (
        (content[:-1], "bytes instead of"),
        (content[:20], "has 20 bytes"),
        (b"", "has 0 bytes"),
        (content[:70] + b"\x00" + content[71:], "its header is not that of"),
        (b"x" * len(content), "its header is not that of"),
    ):
        (tmp_path / name).write_bytes(wrong)
        with pytest.raises(ArtifactError, match=rf"{name}: damaged \(.*{expected}.*build the index again"):
            opened()
    (tmp_path / name).unlink()
    with pytest.raises(ArtifactError, match=rf"{name}: damaged \(.*No such file"):
        opened()


def test_what_is_claimed_is_not_allocated(tmp_path: Path) -> None:
    flat_of(tmp_path, VECTORS)
    with pytest.raises(ArtifactError, match="bytes instead of"):
        FlatFile(tmp_path, num_rows=1 << 60, dimensions=32, storage="float16")


def test_rows_that_do_not_rise_any_more(tmp_path: Path) -> None:
    flat = flat_of(tmp_path, VECTORS)
    rows = flat.rows.copy()
    rows[5] = 10**12
    content = (tmp_path / "rows.npy").read_bytes()
    (tmp_path / "rows.npy").write_bytes(content[: -rows.nbytes] + rows.tobytes())
    with pytest.raises(ArtifactError, match=r"rows\.npy: damaged \(its numbers do not rise\)"):
        FlatFile(tmp_path, num_rows=700, dimensions=32, storage="float16")


def test_threads_are_remembered_and_put_back() -> None:
    before = faiss.omp_get_max_threads()
    with faiss_threads(before + 1):
        assert faiss.omp_get_max_threads() == before + 1
    assert faiss.omp_get_max_threads() == before
