"""The derived index as a whole: made, opened, searched, extended, stopped, and damaged."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pairloom.artifacts import MANIFEST, new_artifact, verify
from pairloom.errors import ArtifactError
from pairloom.search.index import compact, graph
from pairloom.search.index.flat_file import Storage
from pairloom.search.index.vector_index import IndexKind, VectorIndex, build_index, exact_rows
from pairloom.search.index.watch import StoppedError
from tests.search.indexing import clustered, in_blocks, oracle, share_found

KINDS: tuple[IndexKind, ...] = ("exact", "graph", "compact")
VECTORS = clustered(1600)
ROWS = np.arange(1600, dtype=np.int64) * 2 + 10
QUERIES = clustered(20, seed=5)

Make = Callable[..., VectorIndex]


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates cost nothing, so that they are looked for among so few vectors, too."""
    monkeypatch.setattr(graph, "ROWS_PER_EFFORT", 0.01)
    monkeypatch.setattr(compact, "_ROWS_PER_CODE", 0.001)


@pytest.fixture
def make(tmp_path: Path, eager: None) -> Make:
    """Makes an index and opens it."""

    def make(
        name: str = "index",
        rows: npt.NDArray[np.int64] = ROWS,
        vectors: npt.NDArray[np.float32] = VECTORS,
        **options: Any,
    ) -> VectorIndex:
        settings = {"dimensions": 32, "target_recall": 0.95, "num_queries": 100, **options}
        build_index(tmp_path / name, rows, in_blocks(vectors), **settings)
        return VectorIndex(tmp_path / name, threads=2)

    return make


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_each_kind_finds_what_it_promises(make: Make, kind: IndexKind, storage: Storage) -> None:
    index = make(kind=kind, storage=storage)
    assert (index.kind, len(index), index.dimensions) == (kind, 1600, 32)
    assert index.recall >= (1 if kind == "exact" else 0.95)
    np.testing.assert_array_equal(index.rows, ROWS)
    np.testing.assert_array_equal(np.concatenate(list(index.blocks(99))), VECTORS.astype(storage))
    np.testing.assert_array_equal(index.vectors(np.array([7, 3])), VECTORS[[7, 3]].astype(storage))
    for density in (None, 0.99, 0.5, 0.2, 0.05, 0.005):
        allowed = None if density is None else np.random.default_rng(3).random(1600) < density
        positions, scores = index.search(QUERIES, 10, allowed)
        expected, best = oracle(QUERIES, index.flat.stored, 10, allowed)
        assert share_found(positions, expected) >= (1 if kind == "exact" else 0.93)
        if allowed is not None:
            assert allowed[positions[positions >= 0]].all()
        same = positions == expected
        np.testing.assert_allclose(scores[same], best[same], atol=1e-5)
        assert (scores[:, 1:] <= scores[:, :-1]).all()
    assert verify(index.path, "index").facts == dataclasses.asdict(index.facts)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 5, 40, 500, 1600, 2000])
def test_there_are_k_hits_wherever_so_many_are_allowed(make: Make, kind: IndexKind, k: int) -> None:
    index = make(kind=kind)
    # Of one half of the subjects nothing is allowed: the neighbours of every other query lie elsewhere.
    centre = QUERIES[:1] @ VECTORS.T
    for allowed in (
        None,
        np.random.default_rng(0).random(1600) < 0.3,
        centre[0] < np.median(centre),
        np.arange(1600) == 1234,
        np.zeros(1600, dtype=np.bool_),
    ):
        positions, scores = index.search(QUERIES, k, allowed)
        count = min(k, 1600 if allowed is None else int(allowed.sum()))
        assert positions.shape == scores.shape == (20, k)
        for found in positions:
            assert len(set(found[:count].tolist()) - {-1}) == count
            assert (found[count:] == -1).all()
            assert allowed is None or allowed[found[:count]].all()
        assert np.isneginf(scores[:, count:]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_a_few_rows_are_an_exact_index(make: Make, kind: IndexKind, count: int) -> None:
    index = make(rows=ROWS[:count], vectors=VECTORS[:count], kind=kind)
    assert (index.kind, index.recall, len(index)) == ("exact", 1, count)
    np.testing.assert_array_equal(index.search(QUERIES, 3)[0], oracle(QUERIES, index.flat.stored, 3)[0])
    assert index.search(QUERIES[:0], 3)[0].shape == (0, 3)


def test_what_does_not_reach_the_recall_is_not_kept(make: Make) -> None:
    dice = np.random.default_rng(0)
    noise = dice.standard_normal((1500, 32)).astype(np.float32)
    for kind in ("graph", "compact"):
        index = make(kind, rows=ROWS[:1500], vectors=noise, kind=kind, target_recall=1.1)
        assert (index.kind, index.recall, index.facts.target_recall) == ("exact", 1, 1.1)
        assert index.facts.unreached is not None
        assert index.facts.unreached["kind"] == kind
        assert 0.5 < index.facts.unreached["recall"] <= 1
        assert sorted(file.name for file in index.path.iterdir()) == [MANIFEST, "rows.npy", "vectors.npy"]
        np.testing.assert_array_equal(index.search(QUERIES, 9)[0], oracle(QUERIES, index.flat.stored, 9)[0])


def test_many_queries_and_wrong_ones(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    index = make(kind="graph")
    expected = index.search(QUERIES, 7)
    monkeypatch.setattr("pairloom.search.index.vector_index._QUERIES_AT_ONCE", 6)
    for mine, its in zip(index.search(QUERIES.astype(np.float64), 7), expected, strict=True):
        np.testing.assert_array_equal(mine, its)
    wrong: list[tuple[Any, Any]] = [
        (QUERIES[:, :8], None),
        (QUERIES[0], None),
        (QUERIES, np.ones(5, dtype=np.bool_)),
        (QUERIES, np.ones(1600, dtype=np.uint8)),
    ]
    for queries, allowed in wrong:
        with pytest.raises(ValueError, match=r"shape|mask"):
            index.search(queries, 7, allowed)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_may_share_it(make: Make, kind: IndexKind) -> None:
    index = make(kind=kind)
    masks = [None, np.arange(1600) % 2 == 0, np.arange(1600) % 50 == 0]
    expected = [[index.search(query[None], 10, mask)[0] for query in QUERIES] for mask in masks]
    together = threading.Barrier(6)

    def search(number: int) -> None:
        together.wait()
        for _ in range(3):
            for query, hits in zip(QUERIES, expected[number % 3], strict=True):
                np.testing.assert_array_equal(index.search(query[None], 10, masks[number % 3])[0], hits)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(search, range(6)))


def test_how_many_rows_are_compared_in_time() -> None:
    assert exact_rows(384) == 300_000
    assert exact_rows(768) == 150_000


# Extending.


def without(gone: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    return ROWS[~gone], VECTORS[~gone]


def test_a_graph_is_extended_and_the_dead_are_never_found(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make("first", ROWS[:1200], VECTORS[:1200], kind="graph")
    gone = np.zeros(1600, dtype=np.bool_)
    gone[np.random.default_rng(0).choice(1200, 60, replace=False)] = True
    second = make("second", *without(gone), kind="graph", previous=first)
    assert (second.kind, second.facts.dead, len(second)) == ("graph", 60, 1600)
    np.testing.assert_array_equal(second.rows, ROWS)
    np.testing.assert_array_equal(second.live, ~gone)
    np.testing.assert_array_equal(second.vectors(np.arange(1600)), VECTORS.astype(np.float16))
    assert isinstance(second.source, graph.Graph)
    assert isinstance(first.source, graph.Graph)
    np.testing.assert_array_equal(second.source.levels[:1200], first.source.levels)
    for allowed in (None, np.arange(1600) % 3 == 0):
        live = ~gone if allowed is None else allowed & ~gone
        positions = second.search(QUERIES, 10, allowed)[0]
        assert live[positions].all()
        assert share_found(positions, oracle(QUERIES, second.flat.stored, 10, live)[0]) >= 0.93
    assert (second.search(QUERIES, 1600)[0] >= 0).sum(axis=1).tolist() == [1540] * 20
    # The dead stay dead, and more of them join.
    gone[1200:1230] = True
    third = make("third", *without(gone), kind="graph", previous=second)
    assert third.facts.dead == 90
    np.testing.assert_array_equal(third.live, ~gone)
    # When they are too many, all is made anew.
    gone[:300] = True
    fourth = make("fourth", *without(gone), kind="graph", previous=third)
    assert (fourth.facts.dead, fourth.live) == (0, None)
    np.testing.assert_array_equal(fourth.rows, ROWS[~gone])


def test_with_only_deletions_the_graph_stays_as_it_is(make: Make) -> None:
    first = make("first", kind="graph")
    gone = np.arange(1600) % 40 == 0
    second = make("second", *without(gone), kind="graph", previous=first)
    assert second.facts.dead == 40
    assert (second.path / "links.npy").read_bytes() == (first.path / "links.npy").read_bytes()


@pytest.mark.parametrize(
    "case", ["another kind", "previous is exact", "other dimensions", "other storage", "an older row has come"]
)
def test_otherwise_it_is_made_anew(make: Make, case: str) -> None:
    settings: dict[str, dict[str, Any]] = {
        "previous is exact": {"kind": "exact"},
        "other dimensions": {"dimensions": 16, "vectors": VECTORS[:, :16]},
        "other storage": {"storage": "float32"},
    }
    older = settings.get(case, {})
    keep = np.arange(1600) != (800 if case == "an older row has come" else 1599)
    vectors = older.pop("vectors", VECTORS)
    first = make("first", ROWS[keep], vectors[keep], **{"kind": "graph", **older})
    gone = np.arange(1600) == 5
    second = make("second", *without(gone), kind="compact" if case == "another kind" else "graph", previous=first)
    assert (second.facts.dead, second.live) == (0, None)
    np.testing.assert_array_equal(second.rows, ROWS[~gone])
    np.testing.assert_array_equal(second.vectors(np.arange(1599)), VECTORS[~gone].astype(np.float16))


# Building.


@pytest.mark.parametrize("kind", KINDS)
def test_a_build_that_is_stopped_leaves_nothing(make: Make, tmp_path: Path, kind: IndexKind) -> None:
    shares: list[float] = []
    make("whole", kind=kind, on_progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    before = sorted(tmp_path.iterdir())
    for count in {0, 1, len(shares) // 2, len(shares) - 1}:
        looks = iter([False] * count + [True])
        with pytest.raises(StoppedError):
            make("stopped", kind=kind, stop=looks.__next__)
        assert sorted(tmp_path.iterdir()) == before


def test_what_does_not_fit_leaves_nothing(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1,600 rows, and 1,500 vectors"):
        make(vectors=VECTORS[:1500])
    assert list(tmp_path.iterdir()) == []
    make()
    with pytest.raises(ArtifactError, match="already there"):
        make()


# Faults.


@pytest.mark.parametrize("kind", KINDS)
def test_every_cut_or_missing_file_is_named(make: Make, kind: IndexKind) -> None:
    path = make(kind=kind).path
    for file in sorted(path.iterdir()):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        with pytest.raises(ArtifactError, match=file.name):
            VectorIndex(path)
        file.unlink()
        with pytest.raises(ArtifactError, match=file.name):
            VectorIndex(path)
        file.write_bytes(content)
    VectorIndex(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_byte_is_noticed_by_its_checksum_and_never_ends_the_process(make: Make, kind: IndexKind) -> None:
    path = make(kind=kind).path
    dice = np.random.default_rng(0)
    for file in sorted(path.glob("*.npy")):
        content = file.read_bytes()
        for place in [70, *dice.integers(128, len(content), 10).tolist()]:
            damaged = bytearray(content)
            damaged[place] ^= 1 << int(dice.integers(8))
            file.write_bytes(damaged)
            with pytest.raises(ArtifactError, match=file.name):
                verify(path)
            with contextlib.suppress(ArtifactError):
                VectorIndex(path).search(QUERIES, 10)
        file.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"layout": 2}, "its layout is 2, and this version reads 1"),
        ({"kind": "tree"}, "it is tree of float16"),
        ({"kind": "exact"}, "it is exact, and has something else"),
        ({"kind": "compact"}, "it is compact, and has something else"),
        ({"storage": "int8"}, "it is graph of int8"),
        ({"settings": None}, "its settings are None"),
        ({"graph": None}, "it is graph, and has something else"),
        ({"rows": -1}, "rows must be at least 0"),
        ({"rows": 1 << 60}, "bytes instead of"),
        ({"rows": 1599}, "bytes instead of"),
        ({"dimensions": 0}, "dimensions must be at least 1"),
        ({"dimensions": 1 << 50}, "dimensions must be less than"),
        ({"dimensions": 16}, "bytes instead of"),
        ({"dead": 3}, r"live\.npy: damaged"),
        ({"recall": "high"}, "recall must be a number"),
    ],
)
def test_facts_that_make_no_sense(make: Make, change: dict[str, Any], expected: str) -> None:
    path = make(kind="graph").path
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["facts"] |= change
    (path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=f"damaged .*{expected}" if "npy" not in expected else expected):
        VectorIndex(path)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("settings", "effort_10", 0),
        ("settings", "effort_10", 10**12),
        ("settings", "masked_effort", 1e300),
        ("graph", "num_links", 0),
        ("graph", "num_links", 1 << 40),
        ("graph", "entry_point", -1),
    ],
)
def test_settings_that_make_no_sense(make: Make, part: str, name: str, value: float) -> None:
    path = make(kind="graph").path
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["facts"][part][name] = value
    (path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=f"damaged .*{name} must be"):
        VectorIndex(path)


def test_another_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such folder"):
        VectorIndex(tmp_path / "nothing")
    with new_artifact(tmp_path / "other", "vectors"):
        pass
    with pytest.raises(ArtifactError, match="holds vectors, not index"):
        VectorIndex(tmp_path / "other")
    with new_artifact(tmp_path / "empty", "index"):
        pass
    with pytest.raises(ArtifactError, match="its layout is None"):
        VectorIndex(tmp_path / "empty")
