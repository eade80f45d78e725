"""The derived index of a collection's vectors: files that are made of its rows, and can be dropped and made again.

It knows nothing of documents. It gets numbers of rows and their vectors, and answers with positions, which ``rows`` turns into
numbers of rows again. Vectors are compared by inner product; who wants the cosine normalises them.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from pairloom.artifacts import new_artifact, read_manifest
from pairloom.search.index.approximate import ApproximateSearch, Source
from pairloom.search.index.arrays import damaged, map_array, save_array
from pairloom.search.index.calibrate import NUM_QUERIES, calibrate
from pairloom.search.index.compact import COMPACT_FILES, Compact, build_compact
from pairloom.search.index.facts import IndexFacts, read_facts
from pairloom.search.index.faiss_views import Floats, Positions, Vectors
from pairloom.search.index.flat_file import FlatFile, Found, Mask, Storage, write_flat
from pairloom.search.index.graph import GRAPH_FILES, NUM_LINKS, Graph, build_graph
from pairloom.search.index.watch import Watch

KIND = "index"
LIVE = "live.npy"
EXACT_ROWS = 300_000
"""Of 384 dimensions: so many are compared one by one. The aim is 10 ms, which ``benchmarks/search.py`` measures."""
SMALLEST_ROWS = 1000
"""Of fewer vectors, nothing but an exact index is made."""
# More dead vectors would be walked through for nothing.
_MOST_DEAD = 0.1
_MOST_THREADS = 4
_QUERIES_AT_ONCE = 1024
_COPIED_ROWS = 1 << 14

IndexKind = Literal["exact", "graph", "compact"]


def exact_rows(dimensions: int) -> int:
    """Up to how many vectors a search compares with all of them: as many bytes as `EXACT_ROWS` have of 384 dimensions."""
    return EXACT_ROWS * 384 // dimensions


class VectorIndex:
    """An index, opened for searching. Threads may share it.

    Opening compares sizes, and looks at everything that a search would follow; `pairloom.artifacts.verify` compares every byte.

    Args:
        path: The folder.
        threads: At most so many work at one search; by default as many as there are processors, up to four.

    Raises:
        ArtifactError: The folder is no index, not whole, or damaged.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        self.path, self.facts = path, read_facts(path, read_manifest(path, KIND).facts)
        self.flat = _open_flat(path, self.facts, threads or min(os.cpu_count() or 1, _MOST_THREADS))
        self.live: Mask | None = _read_live(path, self.facts)
        """Which positions, [n], belong to rows that the index was made of; None if all do. The others are never found."""
        self.source = _open_source(path, self.flat, self.facts)
        self._approximate: ApproximateSearch | None = None
        if self.source is not None and self.facts.settings is not None:
            self._approximate = ApproximateSearch(self.flat, self.source, self.facts.settings)

    def __len__(self) -> int:
        return len(self.flat)

    @property
    def rows(self) -> Positions:
        """The number of the row at each position, [n], rising; of dead ones, too."""
        return self.flat.rows

    @property
    def kind(self) -> IndexKind:
        """What it is; also ``exact`` if what was asked for did not reach the recall."""
        return cast("IndexKind", self.facts.kind)

    @property
    def recall(self) -> float:
        """Of the nearest 10, as it was measured when the index was built; 1 if every vector is compared."""
        return self.facts.recall

    @property
    def dimensions(self) -> int:
        """Numbers in a vector."""
        return self.flat.dimensions

    def search(self, queries: Floats, k: int, allowed: Mask | None = None) -> Found:
        """The vectors with the largest inner products with each query: ``k`` of them wherever so many are allowed.

        Whether all that are allowed are compared, or only candidates, follows from their number.

        Args:
            queries: [Q, D].
            k: How many.
            allowed: [n], which positions count; by default all.

        Returns:
            Positions [Q, k], -1 where there are no more, and scores, there -inf; best first, of equal scores the smaller
            position first.

        Raises:
            ValueError: Queries or mask have another shape or type.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dimensions or k < 0:
            raise ValueError(
                f"the nearest {k} of {self.dimensions} dimensions to queries of the shape {list(queries.shape)}"
            )
        if allowed is not None and (allowed.shape != (len(self),) or allowed.dtype != np.bool_):
            raise ValueError(f"a mask {list(allowed.shape)} of {allowed.dtype} for {len(self):,} vectors")
        exact_queries = np.ascontiguousarray(queries, dtype=np.float32)
        if self.live is not None:
            allowed = self.live if allowed is None else allowed & self.live
        count = len(self) if allowed is None else int(np.count_nonzero(allowed))
        mask = None if count == len(self) else allowed
        by: ApproximateSearch | FlatFile = self.flat
        if self._approximate is not None and self._approximate.is_faster(k, count):
            by = self._approximate
        # At least one part, which says the shape.
        begins = range(0, max(1, len(queries)), _QUERIES_AT_ONCE)
        parts = [by.search(exact_queries[begin : begin + _QUERIES_AT_ONCE], k, mask) for begin in begins]
        return parts[0] if len(parts) == 1 else cast("Found", tuple(map(np.concatenate, zip(*parts, strict=True))))

    def vectors(self, positions: npt.NDArray[np.integer[Any]]) -> Vectors:
        """The vectors [m, D] at some positions, as what is stored stands for them."""
        return self.flat.vectors(positions)

    def blocks(self, max_rows: int) -> Iterator[Vectors]:
        """All vectors in order, dead ones, too, [at most ``max_rows``, D] at a time."""
        return self.flat.blocks(max_rows)


def build_index(
    path: Path,
    rows: npt.NDArray[np.integer[Any]],
    blocks: Iterable[Floats],
    *,
    dimensions: int,
    storage: Storage = "float16",
    kind: IndexKind = "exact",
    target_recall: float = 0.99,
    threads: int = 1,
    stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[float], None] = lambda share: None,
    previous: VectorIndex | None = None,
    smallest_rows: int = SMALLEST_ROWS,
    num_queries: int = NUM_QUERIES,
) -> IndexFacts:
    """Makes an index, which appears whole or not at all.

    A graph is made by adding to the previous one if that has the same dimensions and storage, its rows are still there but for
    a tenth at most, and the other rows are newer. Rows that have gone then stay in the files as dead ones.

    Args:
        path: The folder; nothing may stand there.
        rows: [n], numbers of rows, rising.
        blocks: Their vectors in order, [any number, D] at a time.
        dimensions: D.
        storage: How numbers are stored.
        kind: What to make; with few rows, or if the target is not reached, it becomes ``exact``.
        target_recall: Which share of the nearest 10 must be found.
        threads: So many work at it.
        stop: Asked many times a second whether to stop.
        on_progress: Told the share that is done, from 0 to 1.
        previous: An older index of the same rows, if there is one.
        smallest_rows: Of fewer rows an exact index is made.
        num_queries: Stand-ins for queries with which the recall is measured.

    Returns:
        What the manifest says.

    Raises:
        ArtifactError: Something stands there, or the disk is full.
        StoppedError: It was asked to stop.
        ValueError: Blocks and rows do not fit together.
    """
    watch = Watch(stop, on_progress)
    ground = _ground(
        np.asarray(rows, dtype=np.int64), blocks, dimensions, storage, previous if kind == "graph" else None
    )
    facts = IndexFacts("exact", len(ground.rows), ground.dead, dimensions, storage, 1.0, target_recall)
    more = kind != "exact" and len(ground.rows) >= smallest_rows
    with new_artifact(path, KIND) as draft:
        folder = draft.path
        flat_watch = watch.part(0.0, 0.1 if more else 1.0)
        write_flat(folder, ground.rows, ground.blocks, dimensions=dimensions, storage=storage, watch=flat_watch)
        if ground.dead:
            save_array(folder / LIVE, ground.live.astype(np.uint8))
        if more:
            flat = _open_flat(folder, facts, threads)
            facts = _make_source(folder, flat, facts, kind, ground, threads, watch.part(0.1, 0.75))
            live = ground.live if ground.dead else None
            facts = _measure(folder, flat, facts, live, num_queries, watch.part(0.75, 1.0))
        watch.at(1.0)
        draft.facts.update(asdict(facts))
    return facts


@dataclass(frozen=True)
class _Ground:
    """What an index is made of; the first rows may be those of an older one, dead ones among them."""

    rows: Positions
    live: Mask
    blocks: Iterable[Floats]
    graph: Graph | None = None

    @property
    def dead(self) -> int:
        return len(self.live) - int(np.count_nonzero(self.live))


def _ground(
    rows: Positions, blocks: Iterable[Floats], dimensions: int, storage: Storage, previous: VectorIndex | None
) -> _Ground:
    new = _Ground(rows, np.ones(len(rows), np.bool_), blocks)
    if previous is None or not isinstance(previous.source, Graph):
        return new
    graph, flat = previous.source, previous.flat
    if (flat.dimensions, flat.storage, graph.facts.num_links) != (dimensions, storage, NUM_LINKS):
        return new
    newer = rows[np.searchsorted(rows, flat.rows[-1], side="right") :]
    kept = np.isin(flat.rows, rows, assume_unique=True)
    num_kept = int(np.count_nonzero(kept))
    all_rows = np.concatenate([flat.rows, newer])
    if num_kept + len(newer) != len(rows) or len(all_rows) - len(rows) > _MOST_DEAD * len(all_rows):
        return new
    live = np.concatenate([kept, np.ones(len(newer), np.bool_)])
    older = (flat.stored[begin : begin + _COPIED_ROWS] for begin in range(0, len(flat), _COPIED_ROWS))
    return _Ground(all_rows, live, itertools.chain(older, _behind(blocks, num_kept)), graph)


def _behind(blocks: Iterable[Floats], count: int) -> Iterator[Floats]:
    """Blocks without their first vectors."""
    for block in blocks:
        passed = min(count, len(block))
        count -= passed
        if passed < len(block):
            yield block[passed:]


def _make_source(
    folder: Path, flat: FlatFile, facts: IndexFacts, kind: IndexKind, ground: _Ground, threads: int, watch: Watch
) -> IndexFacts:
    if kind == "graph":
        graph = build_graph(folder, flat, threads=threads, watch=watch, previous=ground.graph)
        return replace(facts, kind=kind, graph=graph)
    return replace(facts, kind=kind, compact=build_compact(folder, flat, threads=threads, watch=watch))


def _measure(
    folder: Path, flat: FlatFile, facts: IndexFacts, live: Mask | None, num_queries: int, watch: Watch
) -> IndexFacts:
    """Adds the settings that reach the target; if none do, takes away what was to be searched with them."""
    source = _open_source(folder, flat, facts)
    assert source is not None
    found = calibrate(flat, source, target_recall=facts.target_recall, live=live, num_queries=num_queries, watch=watch)
    if found.settings is not None:
        return replace(facts, recall=found.recall, settings=found.settings, masked_recall=found.masked_recall)
    for name in (*GRAPH_FILES, *COMPACT_FILES):
        (folder / name).unlink(missing_ok=True)
    unreached = {"kind": facts.kind, "recall": found.recall, "rows": facts.rows}
    return replace(facts, kind="exact", recall=1.0, unreached=unreached, graph=None, compact=None)


def _open_flat(folder: Path, facts: IndexFacts, threads: int) -> FlatFile:
    storage = cast("Storage", facts.storage)
    return FlatFile(folder, num_rows=facts.rows, dimensions=facts.dimensions, storage=storage, threads=threads)


def _open_source(folder: Path, flat: FlatFile, facts: IndexFacts) -> Source | None:
    if facts.graph is not None:
        return Graph(folder, flat, facts.graph)
    return None if facts.compact is None else Compact(folder, flat, facts.compact)


def _read_live(folder: Path, facts: IndexFacts) -> Mask | None:
    if not facts.dead:
        return None
    live: Mask = map_array(folder / LIVE, "|u1", (facts.rows,)) != 0
    if facts.rows - int(np.count_nonzero(live)) != facts.dead:
        raise damaged(folder / LIVE, f"it does not count {facts.dead:,} vectors as dead")
    return live
