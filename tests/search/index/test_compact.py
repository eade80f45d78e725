"""Short codes in an inverted file: what they find, and what damaged ones lead to."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pairloom.errors import ArtifactError
from pairloom.search.index.arrays import save_array
from pairloom.search.index.compact import Compact, CompactFacts, build_compact
from pairloom.search.index.flat_file import FlatFile
from pairloom.search.index.watch import StoppedError, Watch
from tests.search.indexing import clustered, flat_of, oracle, share_found

VECTORS = clustered(1500)
QUERIES = clustered(30, seed=5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FlatFile, CompactFacts]:
    folder = tmp_path_factory.mktemp("compact")
    flat = flat_of(folder, VECTORS)
    return folder, flat, build_compact(folder, flat)


@pytest.fixture
def copied(made: tuple[Path, FlatFile, CompactFacts], tmp_path: Path) -> tuple[Path, FlatFile, CompactFacts]:
    """The same, to be damaged."""
    folder, flat, facts = made
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path, flat, facts


def test_its_candidates_hold_the_nearest(made: tuple[Path, FlatFile, CompactFacts]) -> None:
    compact = Compact(*made)
    expected = oracle(QUERIES, made[1].stored, 10)[0]
    every_list = compact.facts.num_lists
    for count, least in ((200, 0.97), (1500, 1.0)):
        found = compact.nearest(QUERIES, count, every_list)[0]
        assert np.mean([np.isin(mine, its).mean() for mine, its in zip(expected, found, strict=True)]) >= least
    few = share_found(compact.nearest(QUERIES, 10, 1)[0], expected)
    assert few < share_found(compact.nearest(QUERIES, 10, every_list)[0], expected)


def test_it_says_what_may_be_tried(made: tuple[Path, FlatFile, CompactFacts]) -> None:
    compact = Compact(*made)
    assert compact.facts == CompactFacts(num_lists=1500 // 39, num_pieces=4)
    assert compact.efforts == [1, 2, 3, 4, 6, 9, 13, 19, 28, 38]
    # More lists than there are is all of them.
    np.testing.assert_array_equal(compact.nearest(QUERIES, 10, 38)[0], compact.nearest(QUERIES, 10, 1000)[0])


def test_each_vector_is_in_the_list_of_its_nearest_centre(made: tuple[Path, FlatFile, CompactFacts]) -> None:
    folder, flat, _ = made
    centres, sizes, members = (np.load(folder / f"{name}.npy") for name in ("centres", "sizes", "members"))
    lists = np.repeat(np.arange(len(sizes)), sizes)
    distances = ((flat.vectors(members)[:, None].astype(np.float64) - centres[None]) ** 2).sum(axis=2)
    assert (distances.argmin(axis=1) == lists).mean() > 0.999


def test_dimensions_that_cannot_be_cut_into_eights(tmp_path: Path) -> None:
    vectors = clustered(600, 15)
    flat = flat_of(tmp_path, vectors)
    facts = build_compact(tmp_path, flat)
    assert facts.num_pieces == 1
    found = Compact(tmp_path, flat, facts).nearest(vectors[:5], 600, facts.num_lists)[0]
    assert np.sort(found, axis=1).tolist() == [list(range(600))] * 5


def test_building_can_be_stopped(made: tuple[Path, FlatFile, CompactFacts], tmp_path: Path) -> None:
    shares: list[float] = []
    build_compact(tmp_path, made[1], watch=Watch(on_progress=shares.append))
    assert shares == sorted(shares)
    assert shares[-1] == 1
    for count in (1, len(shares) - 1):
        looks = iter([False] * count + [True])
        with pytest.raises(StoppedError):
            build_compact(tmp_path, made[1], watch=Watch(stop=looks.__next__))


def test_threads_may_share_it(made: tuple[Path, FlatFile, CompactFacts]) -> None:
    compact = Compact(*made)
    expected = compact.nearest(QUERIES, 50, 8)[0]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: compact.nearest(QUERIES, 50, 8)[0], range(8)):
            np.testing.assert_array_equal(found, expected)


# Faults.


@pytest.mark.parametrize("name", ["centres.npy", "pieces.npy", "sizes.npy", "members.npy", "codes.npy"])
def test_a_cut_file(copied: tuple[Path, FlatFile, CompactFacts], name: str) -> None:
    folder, flat, facts = copied
    (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=f"{name}: damaged"):
        Compact(folder, flat, facts)


def test_lists_that_do_not_hold_each_vector_once(copied: tuple[Path, FlatFile, CompactFacts]) -> None:
    folder, flat, facts = copied
    for name, value in (("sizes", -5), ("sizes", 2**62), ("members", -1), ("members", 1500), ("members", 2**62)):
        content = (folder / f"{name}.npy").read_bytes()
        numbers = np.load(folder / f"{name}.npy")
        numbers[3] = value
        save_array(folder / f"{name}.npy", numbers)
        with pytest.raises(ArtifactError, match=rf"{name}\.npy: damaged"):
            Compact(folder, flat, facts)
        (folder / f"{name}.npy").write_bytes(content)
    numbers = np.load(folder / "members.npy")
    numbers[0] = numbers[1]
    save_array(folder / "members.npy", numbers)
    with pytest.raises(ArtifactError, match=r"members\.npy: damaged \(a vector is in no list, or in two\)"):
        Compact(folder, flat, facts)


def test_facts_that_do_not_fit(copied: tuple[Path, FlatFile, CompactFacts]) -> None:
    folder, flat, facts = copied
    for change in ({"num_lists": 7}, {"num_lists": 1 << 50}, {"num_pieces": 8}, {"num_pieces": 5}):
        with pytest.raises(ArtifactError, match="damaged"):
            Compact(folder, flat, dataclasses.replace(facts, **change))
