"""A graph over the vectors of a flat file, along which a search walks to the nearest ones.

HNSW (Malkov & Yashunin 2018, https://arxiv.org/abs/1603.09320), built and searched by FAISS; the vectors are those of the flat
file and are not stored again. ``levels.npy`` [n] says in how many layers each is, ``links.npy`` where its links lead: twice the
number of links in the lowest layer, once in each other one, -1 where there is none.

Links are chosen by inner product, whatever the vectors' lengths. Adding a dimension in which nearest by distance becomes
largest by inner product (Bachrach et al. 2014, https://doi.org/10.1145/2645710.2645741) was tried: where lengths differ, far
more effort then finds fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from pairloom.json_types import Bounds
from pairloom.search.index.arrays import damaged, map_array, save_array
from pairloom.search.index.faiss_views import (
    Positions,
    Vectors,
    empty_index,
    faiss,
    faiss_threads,
    flat_index,
    lend,
    numbers_of,
)
from pairloom.search.index.flat_file import FlatFile
from pairloom.search.index.watch import Watch

GRAPH_FILES = LEVELS, LINKS = "levels.npy", "links.npy"
# Of real questions, 32 links find more in the same time than 16. Twice as much effort of construction as 100 takes twice as long,
# once, and then two thirds of the effort find as much, in every search (docs/log.md).
NUM_LINKS = 32
CONSTRUCTION_EFFORT = 200
# Vectors that are added before somebody looks whether to stop.
CHUNK_ROWS = 1024
# Measured: one more in efSearch takes the time of comparing with so many vectors in their order.
ROWS_PER_EFFORT = 100.0
_EFFORTS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
# Larger ones are worth trying only where they still take less time than comparing with all.
_ALWAYS_TRIED = 2048
_COPIED_ROWS = 1 << 16


@dataclass(frozen=True)
class GraphFacts:
    """What the files do not say.

    Args:
        num_links: Of a vector in each layer but the lowest; M of the paper.
        construction_effort: efConstruction of the paper.
        entry_point: Where a search begins.
        num_links_in_all: The length of ``links.npy``.
    """

    num_links: Annotated[int, Bounds(least=2, below=1025)]
    construction_effort: Annotated[int, Bounds(least=1)]
    entry_point: Annotated[int, Bounds(least=0)]
    num_links_in_all: Annotated[int, Bounds(least=0)]


class Graph:
    """A graph, opened for searching. Threads may share it.

    Args:
        folder: With the files that `build_graph` makes.
        flat: The vectors that it was built over.
        facts: As `build_graph` returns them.

    Raises:
        ArtifactError: The files are missing or cut, or links lead where nothing is.
    """

    def __init__(self, folder: Path, flat: FlatFile, facts: GraphFacts) -> None:
        self.facts = facts
        self.levels: npt.NDArray[np.int32] = map_array(folder / LEVELS, "<i4", (len(flat),))
        self.links: npt.NDArray[np.int32] = map_array(folder / LINKS, "<i4", (facts.num_links_in_all,))
        offsets = _offsets(self.levels, facts.num_links)
        _check_sound(folder, self.levels, self.links, offsets, facts)
        self._flat = flat
        self._storage = flat_index(flat.stored)  # looked at by the index, which does not keep it
        self._index = faiss.IndexHNSW(self._storage, facts.num_links)
        self._index.own_fields = False
        lend(self._index.hnsw.neighbors, self.links)
        _set_layers(self._index, self.levels, offsets, facts.entry_point)

    def nearest(self, queries: Vectors, count: int, effort: int) -> tuple[Positions, Vectors]:
        """As `pairloom.search.index.approximate.Source`; the effort is efSearch, how many of the nearest so far are walked on from."""
        parameters = faiss.SearchParametersHNSW(efSearch=max(effort, count))
        with faiss_threads(self._flat.threads):
            scores, positions = self._index.search(queries, count, params=parameters)
        return positions, scores

    @property
    def efforts(self) -> Sequence[int]:
        """The values of efSearch worth trying."""
        most = max(_ALWAYS_TRIED, int(len(self._flat) / ROWS_PER_EFFORT))
        return [effort for effort in _EFFORTS if effort <= most]

    @property
    def most_candidates(self) -> int:
        """It compares with what is stored, as exactly as the flat file."""
        return 1

    @property
    def rows_per_effort(self) -> float:
        """Each step of a walk looks at the links of a vector, which lie anywhere in memory."""
        return ROWS_PER_EFFORT


def build_graph(
    folder: Path,
    flat: FlatFile,
    *,
    num_links: int = NUM_LINKS,
    construction_effort: int = CONSTRUCTION_EFFORT,
    threads: int = 1,
    watch: Watch | None = None,
    previous: Graph | None = None,
) -> GraphFacts:
    """Writes the files of a `Graph`. While it is built, its links and a copy of the stored vectors are in memory.

    Args:
        folder: Where.
        flat: The vectors, at least one.
        num_links: As `GraphFacts`.
        construction_effort: As `GraphFacts`.
        threads: So many work at it.
        watch: Looked at between chunks of vectors.
        previous: A graph over the first vectors of this flat file, with the same number of links, which is built on.
    """
    watch = watch or Watch()
    storage = empty_index(flat.stored.dtype, flat.dimensions)
    # With room for all of them from the start, nothing is moved while it grows.
    storage.codes.resize(len(flat) * storage.code_size)
    storage.codes.resize(0)
    index = faiss.IndexHNSW(storage, num_links)
    index.own_fields = False
    index.hnsw.efConstruction = construction_effort
    done = 0 if previous is None else _take_over(index, storage, flat, previous)
    first = done
    with faiss_threads(threads):
        while done < len(flat):
            watch.at((done - first) / (len(flat) - first))
            chunk = flat.stored[done : done + CHUNK_ROWS].astype(np.float32)
            index.add(chunk)
            done += len(chunk)
    watch.at(1.0)
    links = numbers_of(index.hnsw.neighbors)
    save_array(folder / LEVELS, faiss.vector_to_array(index.hnsw.levels).astype(np.int32))
    save_array(folder / LINKS, links)
    return GraphFacts(num_links, construction_effort, int(index.hnsw.entry_point), len(links))


def _take_over(index: Any, storage: Any, flat: FlatFile, previous: Graph) -> int:
    count = len(previous.levels)
    for begin in range(0, count, _COPIED_ROWS):
        part = flat.stored[begin : min(begin + _COPIED_ROWS, count)]
        storage.add_sa_codes(part.view(np.uint8))
    hnsw = index.hnsw
    hnsw.neighbors.resize(len(previous.links))
    np.copyto(numbers_of(hnsw.neighbors), previous.links)
    offsets = _offsets(previous.levels, previous.facts.num_links)
    _set_layers(index, previous.levels, offsets, previous.facts.entry_point)
    return count


def _set_layers(index: Any, levels: npt.NDArray[np.int32], offsets: npt.NDArray[np.uint64], entry_point: int) -> None:
    hnsw = index.hnsw
    faiss.copy_array_to_vector(np.ascontiguousarray(levels), hnsw.levels)
    faiss.copy_array_to_vector(offsets, hnsw.offsets)
    hnsw.entry_point = entry_point
    hnsw.max_level = int(levels.max()) - 1
    index.ntotal = len(levels)


def _offsets(levels: npt.NDArray[np.int32], num_links: int) -> npt.NDArray[np.uint64]:
    """Where the links of each vector begin, [n + 1]; the last number is where they end."""
    offsets = np.zeros(len(levels) + 1, dtype=np.uint64)
    np.cumsum((levels.astype(np.uint64) + np.uint64(1)) * np.uint64(num_links), out=offsets[1:])
    return offsets


def _check_sound(
    folder: Path,
    levels: npt.NDArray[np.int32],
    links: npt.NDArray[np.int32],
    offsets: npt.NDArray[np.uint64],
    facts: GraphFacts,
) -> None:
    """FAISS goes wherever a link leads, so each of them is looked at; that reads the file, which the first searches would do."""
    if not len(levels) or levels.min() < 1 or levels.max() > 64:
        raise damaged(folder / LEVELS, "a vector is in no layer, or in too many")
    if int(offsets[-1]) != len(links):
        raise damaged(folder / LINKS, f"it has {len(links):,} links instead of {int(offsets[-1]):,}")
    if links.min() < -1 or links.max() >= len(levels):
        raise damaged(folder / LINKS, "a link leads out of the graph")
    if facts.entry_point >= len(levels) or levels[facts.entry_point] != levels.max():
        raise damaged(folder, f"a search cannot begin at {facts.entry_point:,}")
    upper = np.flatnonzero(levels > 1)
    for layer in range(1, int(levels.max())):
        upper = upper[levels[upper] > layer]
        begin = offsets[upper].astype(np.int64) + (layer + 1) * facts.num_links
        there = links[begin[:, None] + np.arange(facts.num_links)]
        if np.any((levels[there] <= layer) & (there >= 0)):
            raise damaged(folder / LINKS, "a link leads to a layer in which its end is not")
