"""A graph over a flat file: what it finds, how it is opened again, and what a damaged one leads to."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pairloom.errors import ArtifactError
from pairloom.search.index import graph as graph_module
from pairloom.search.index.arrays import save_array
from pairloom.search.index.faiss_views import faiss
from pairloom.search.index.flat_file import FlatFile, Storage
from pairloom.search.index.graph import Graph, GraphFacts, build_graph
from pairloom.search.index.watch import StoppedError, Watch
from tests.search.indexing import clustered, flat_of, oracle, share_found

VECTORS = clustered(2000)
QUERIES = clustered(50, seed=5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FlatFile, GraphFacts]:
    folder = tmp_path_factory.mktemp("graph")
    flat = flat_of(folder, VECTORS)
    return folder, flat, build_graph(folder, flat)


@pytest.fixture
def copied(made: tuple[Path, FlatFile, GraphFacts], tmp_path: Path) -> tuple[Path, FlatFile, GraphFacts]:
    """The same, to be damaged."""
    folder, flat, facts = made
    for name in ("levels.npy", "links.npy"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    return tmp_path, flat, facts


@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_it_finds_nearly_all(tmp_path: Path, storage: Storage) -> None:
    flat = flat_of(tmp_path, VECTORS, storage=storage)
    graph = Graph(tmp_path, flat, build_graph(tmp_path, flat))
    expected = oracle(QUERIES, flat.stored, 10)[0]
    with_effort = share_found(graph.nearest(QUERIES, 10, 200)[0], expected)
    assert with_effort > 0.99
    assert share_found(graph.nearest(QUERIES, 10, 10)[0], expected) < with_effort
    # As many as there are, if no effort is spared.
    assert np.unique(graph.nearest(QUERIES[:1], 2000, 2000)[0]).size > 1990


@pytest.mark.parametrize("storage", ["float16", "float32"])
@pytest.mark.parametrize("dimensions", [7, 32, 384])
def test_its_scores_are_those_of_the_flat_file_to_the_last_bit(
    tmp_path: Path, storage: Storage, dimensions: int
) -> None:
    vectors = np.random.default_rng(0).standard_normal((300, dimensions)).astype(np.float32)
    flat = flat_of(tmp_path, vectors, storage=storage)
    positions, scores = Graph(tmp_path, flat, build_graph(tmp_path, flat)).nearest(vectors[:40] + 0.5, 10, 100)
    for query, found, similar in zip(vectors[:40] + np.float32(0.5), positions, scores, strict=True):
        order = np.argsort(found)
        among = dict(zip(*(values.tolist() for values in flat.among(query, found[order], 10)), strict=True))
        assert [among[place] for place in found.tolist()] == similar.tolist()


def test_a_graph_opened_again_walks_like_the_one_that_was_built(made: tuple[Path, FlatFile, GraphFacts]) -> None:
    folder, flat, facts = made
    index = faiss.IndexHNSWSQ(32, faiss.ScalarQuantizer.QT_fp16, facts.num_links, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = facts.construction_effort
    index.train(VECTORS)
    for begin in range(0, 2000, graph_module.CHUNK_ROWS):
        index.add(flat.stored[begin : begin + graph_module.CHUNK_ROWS].astype(np.float32))
    index.hnsw.efSearch = 20
    opened = Graph(folder, flat, facts)
    np.testing.assert_array_equal(opened.nearest(QUERIES, 10, 20)[0], index.search(QUERIES, 10)[1])
    np.testing.assert_array_equal(faiss.vector_to_array(index.hnsw.levels), opened.levels)


def test_the_order_of_unnormalised_vectors_is_that_of_inner_products(tmp_path: Path) -> None:
    vectors = clustered(2000, normalized=False)
    vectors *= np.random.default_rng(1).uniform(0.7, 1.4, (2000, 1)).astype(np.float32)
    flat = flat_of(tmp_path, vectors)
    graph = Graph(tmp_path, flat, build_graph(tmp_path, flat))
    queries = clustered(50, seed=6, normalized=False)
    assert share_found(graph.nearest(queries, 10, 400)[0], oracle(queries, flat.stored, 10)[0]) > 0.95


def test_the_number_of_threads_does_not_change_the_graph(
    made: tuple[Path, FlatFile, GraphFacts], tmp_path: Path
) -> None:
    folder, flat, facts = made
    assert build_graph(tmp_path, flat, threads=2) == facts
    for name in ("levels.npy", "links.npy"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_it_is_built_on(tmp_path: Path) -> None:
    first, both = tmp_path / "first", tmp_path / "both"
    flat = flat_of(first, VECTORS[:1200])
    graph = Graph(first, flat, build_graph(first, flat))
    longer = flat_of(both, VECTORS)
    shares: list[float] = []
    facts = build_graph(both, longer, previous=graph, watch=Watch(on_progress=shares.append))
    grown = Graph(both, longer, facts)
    np.testing.assert_array_equal(grown.levels[:1200], graph.levels)
    assert share_found(grown.nearest(QUERIES, 10, 200)[0], oracle(QUERIES, longer.stored, 10)[0]) > 0.99
    assert shares == [0, 1]
    # With nothing to add it is the same again.
    same = tmp_path / "same"
    again = build_graph(same, flat_of(same, VECTORS[:1200]), previous=graph)
    assert (again.entry_point, again.num_links_in_all) == (graph.facts.entry_point, graph.facts.num_links_in_all)
    assert (same / "links.npy").read_bytes() == (first / "links.npy").read_bytes()


def test_one_vector_and_many_equal_ones(tmp_path: Path) -> None:
    flat = flat_of(tmp_path / "one", VECTORS[:1])
    one = Graph(tmp_path / "one", flat, build_graph(tmp_path / "one", flat))
    assert one.nearest(QUERIES[:2], 3, 16)[0].tolist() == [[0, -1, -1]] * 2
    flat = flat_of(tmp_path / "equal", np.repeat(VECTORS[:1], 300, axis=0))
    equal = Graph(tmp_path / "equal", flat, build_graph(tmp_path / "equal", flat))
    assert (equal.nearest(QUERIES[:2], 10, 64)[0] >= 0).all()


def test_building_tells_how_far_it_is_and_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "CHUNK_ROWS", 100)
    flat = flat_of(tmp_path, VECTORS[:1000])
    shares: list[float] = []
    build_graph(tmp_path, flat, watch=Watch(on_progress=shares.append))
    assert shares == pytest.approx([step / 10 for step in range(11)])
    shares.clear()
    with pytest.raises(StoppedError):
        build_graph(tmp_path, flat, watch=Watch(stop=lambda: len(shares) == 3, on_progress=shares.append))
    assert len(shares) == 3


def test_threads_may_share_it_and_it_needs_nobody_else(tmp_path: Path) -> None:
    def opened() -> Graph:
        flat = flat_of(tmp_path, VECTORS[:800])
        return Graph(tmp_path, flat, build_graph(tmp_path, flat))

    graph = opened()  # nothing but the graph holds on to the vectors now
    expected = graph.nearest(QUERIES, 10, 50)[0]
    together = threading.Barrier(4)

    def search(_: int) -> npt.NDArray[np.int64]:
        together.wait()
        return np.concatenate([graph.nearest(QUERIES[row : row + 1], 10, 50)[0] for row in range(50)])

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(search, range(4)):
            np.testing.assert_array_equal(found, expected)


# Faults: FAISS would follow a wrong link out of its memory.


def write_links(folder: Path, graph: Graph, place: int, value: int) -> None:
    links = graph.links.copy()
    links[place] = value
    save_array(folder / "links.npy", links)


@pytest.mark.parametrize("value", [-2, 2000, 2**31 - 1, -(2**31)])
def test_a_link_out_of_the_graph(copied: tuple[Path, FlatFile, GraphFacts], value: int) -> None:
    folder, flat, facts = copied
    write_links(folder, Graph(folder, flat, facts), 77, value)
    with pytest.raises(ArtifactError, match=r"links\.npy: damaged \(a link leads out of the graph\)"):
        Graph(folder, flat, facts)


def test_a_link_to_what_is_not_in_its_layer(copied: tuple[Path, FlatFile, GraphFacts]) -> None:
    folder, flat, facts = copied
    graph = Graph(folder, flat, facts)
    high = int(np.flatnonzero(graph.levels > 1)[3])
    low = int(np.flatnonzero(graph.levels == 1)[0])
    begin = int(((graph.levels[:high].astype(np.int64) + 1) * facts.num_links).sum())
    write_links(folder, graph, begin, low)  # in the lowest layer everybody is
    Graph(folder, flat, facts)
    write_links(folder, graph, begin + 2 * facts.num_links, low)
    with pytest.raises(ArtifactError, match=r"links\.npy: damaged \(a link leads to a layer in which its end is not"):
        Graph(folder, flat, facts)


@pytest.mark.parametrize("value", [0, -1, 65, 2**31 - 1])
def test_a_layer_that_cannot_be(copied: tuple[Path, FlatFile, GraphFacts], value: int) -> None:
    folder, flat, facts = copied
    levels = Graph(folder, flat, facts).levels.copy()
    levels[3] = value
    save_array(folder / "levels.npy", levels)
    with pytest.raises(ArtifactError, match=r"levels\.npy: damaged \(a vector is in no layer, or in too many"):
        Graph(folder, flat, facts)


def test_another_layer_makes_all_links_another_vectors(copied: tuple[Path, FlatFile, GraphFacts]) -> None:
    folder, flat, facts = copied
    levels = Graph(folder, flat, facts).levels.copy()
    levels[3] += 1
    save_array(folder / "levels.npy", levels)
    with pytest.raises(ArtifactError, match=r"links\.npy: damaged \(it has [\d,]+ links instead of [\d,]+\)"):
        Graph(folder, flat, facts)


@pytest.mark.parametrize("name", ["levels.npy", "links.npy"])
def test_a_cut_file(copied: tuple[Path, FlatFile, GraphFacts], name: str) -> None:
    folder, flat, facts = copied
    (folder / name).write_bytes((folder / name).read_bytes()[:-4])
    with pytest.raises(ArtifactError, match=f"{name}: damaged"):
        Graph(folder, flat, facts)


def test_facts_that_do_not_fit(copied: tuple[Path, FlatFile, GraphFacts]) -> None:
    folder, flat, facts = copied
    low = int(np.flatnonzero(Graph(folder, flat, facts).levels == 1)[0])
    for entry_point in (low, 2000, 10**15):
        with pytest.raises(ArtifactError, match="a search cannot begin at"):
            Graph(folder, flat, dataclasses.replace(facts, entry_point=entry_point))
    with pytest.raises(ArtifactError, match=r"links\.npy: damaged"):
        Graph(folder, flat, dataclasses.replace(facts, num_links=8))
    with pytest.raises(ArtifactError, match=r"links\.npy: damaged"):
        Graph(folder, flat, dataclasses.replace(facts, num_links_in_all=1 << 60))


def test_flipped_bytes_never_end_the_process(copied: tuple[Path, FlatFile, GraphFacts]) -> None:
    folder, flat, facts = copied
    dice = np.random.default_rng(0)
    refused = 0
    for name in ("levels.npy", "links.npy"):
        content = (folder / name).read_bytes()
        for place in dice.integers(0, len(content), 60).tolist():
            damaged = bytearray(content)
            damaged[place] ^= 1 << int(dice.integers(8))
            (folder / name).write_bytes(damaged)
            try:
                Graph(folder, flat, facts).nearest(QUERIES[:3], 10, 50)[0]
            except ArtifactError:
                refused += 1
        (folder / name).write_bytes(content)
    assert refused > 60  # of the others, most lead to another vector that is there
