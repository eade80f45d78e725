"""Short codes of vectors in an inverted file: what millions of vectors are searched with in little memory.

IVF-PQ (Jégou et al. 2011, https://inria.hal.science/inria-00514462), searched by FAISS. Vectors are divided among lists by the
nearest of some centres (k-means), and what is left of a vector without its centre is cut into pieces of eight numbers, each of
which is stored as the number of one of 256 typical pieces: a byte. A search looks into the lists whose centres are the most
similar to the query, and the vectors with the best codes are compared exactly, in the flat file.

Vectors go to the nearest centre, and queries to those with the largest inner products, which is right for any lengths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from pairloom.json_types import Bounds
from pairloom.search.index.arrays import damaged, map_array, save_array
from pairloom.search.index.faiss_views import Positions, Vectors, faiss, faiss_threads
from pairloom.search.index.flat_file import FlatFile
from pairloom.search.index.watch import Watch

CENTRES, PIECES, SIZES, MEMBERS, CODES = "centres.npy", "pieces.npy", "sizes.npy", "members.npy", "codes.npy"
COMPACT_FILES = (CENTRES, PIECES, SIZES, MEMBERS, CODES)
_NUM_CODES = 256
_NUMBERS_A_PIECE = 8
# Of k-means: fewer vectors a centre leave lists of chance, more take longer and change little.
_SAMPLED_A_CENTRE = 50
_LEAST_A_CENTRE = 39
_CENTRE_ROUNDS = 10
_SAMPLED_FOR_PIECES = 1 << 15
_PIECE_ROUNDS = 12
_BLOCK_ROWS = 1 << 13
# Measured: with its list's share, a code takes as long as a vector that is read in its order.
_ROWS_PER_CODE = 1.0


@dataclass(frozen=True)
class CompactFacts:
    """What the shapes of the files follow from.

    Args:
        num_lists: Of the inverted file.
        num_pieces: Bytes of a vector's code.
    """

    num_lists: Annotated[int, Bounds(least=1)]
    num_pieces: Annotated[int, Bounds(least=1)]


class Compact:
    """Lists of codes, opened for searching; codes are in memory. Threads may share it.

    Args:
        folder: With the files that `build_compact` makes.
        flat: The vectors that the codes stand for.
        facts: As `build_compact` returns them.

    Raises:
        ArtifactError: The files are missing, cut, or make no sense.
    """

    def __init__(self, folder: Path, flat: FlatFile, facts: CompactFacts) -> None:
        self.facts = facts
        self._flat = flat
        lists, pieces = facts.num_lists, facts.num_pieces
        if flat.dimensions % pieces:
            raise damaged(folder, f"{flat.dimensions} numbers cannot be cut into {pieces} pieces")
        centres = map_array(folder / CENTRES, "<f4", (lists, flat.dimensions))
        typical = map_array(folder / PIECES, "<f4", (pieces, _NUM_CODES, flat.dimensions // pieces))
        sizes = map_array(folder / SIZES, "<i8", (lists,))
        members = map_array(folder / MEMBERS, "<i8", (len(flat),))
        codes = map_array(folder / CODES, "|u1", (len(flat), pieces))
        if sizes.min() < 0 or sizes.max() > len(flat) or int(sizes.sum()) != len(flat):
            raise damaged(folder / SIZES, f"lists do not have {len(flat):,} members")
        if not np.array_equal(np.bincount(np.clip(members, 0, len(flat)), minlength=len(flat)), np.ones(len(flat))):
            raise damaged(folder / MEMBERS, "a vector is in no list, or in two")
        self._coarse = faiss.IndexFlatIP(flat.dimensions)
        self._coarse.add(centres)
        self._index = faiss.IndexIVFPQ(self._coarse, flat.dimensions, lists, pieces, 8, faiss.METRIC_INNER_PRODUCT)
        self._index.own_fields = False
        faiss.copy_array_to_vector(np.ravel(typical), self._index.pq.centroids)
        self._index.is_trained = True
        self._fill(sizes, members, codes)

    def nearest(self, queries: Vectors, count: int, effort: int) -> tuple[Positions, None]:
        """As `pairloom.search.index.approximate.Source`; the effort is nprobe, how many lists are looked into."""
        parameters = faiss.SearchParametersIVF(nprobe=min(effort, self.facts.num_lists))
        with faiss_threads(self._flat.threads):
            _, positions = self._index.search(queries, count, params=parameters)
        return positions, None

    @property
    def efforts(self) -> Sequence[int]:
        """Numbers of lists worth trying: each half as many again."""
        found = [1, 2, 3]
        while found[-1] < self.facts.num_lists:
            found.append(min(self.facts.num_lists, found[-1] * 3 // 2))
        return [effort for effort in found if effort <= self.facts.num_lists]

    @property
    def most_candidates(self) -> int:
        """Codes are so coarse that up to 80 times ``k`` may have to be compared."""
        return 80

    @property
    def rows_per_effort(self) -> float:
        """A list more: its codes."""
        return _ROWS_PER_CODE * len(self._flat) / self.facts.num_lists

    def _fill(self, sizes: Positions, members: Positions, codes: npt.NDArray[np.uint8]) -> None:
        begin = 0
        for number, size in enumerate(sizes.tolist()):
            if size:
                ids = np.ascontiguousarray(members[begin : begin + size])
                part = np.ascontiguousarray(codes[begin : begin + size])
                self._index.invlists.add_entries(number, size, faiss.swig_ptr(ids), faiss.swig_ptr(part))
            begin += size
        self._index.ntotal = begin


def build_compact(
    folder: Path,
    flat: FlatFile,
    *,
    num_lists: int | None = None,
    threads: int = 1,
    watch: Watch | None = None,
) -> CompactFacts:
    """Writes the files of a `Compact`. While it is built, all codes and a sample of the vectors are in memory.

    Args:
        folder: Where.
        flat: The vectors, at least 256.
        num_lists: By default about twice the square root of their number.
        threads: So many work at it.
        watch: Looked at between rounds of k-means, and between blocks of vectors.
    """
    watch = watch or Watch()
    count = len(flat)
    num_lists = num_lists or max(1, min(2 * math.isqrt(count), count // _LEAST_A_CENTRE))
    with faiss_threads(threads):
        chosen = np.random.default_rng(0).permutation(count)[: max(_SAMPLED_A_CENTRE * num_lists, _NUM_CODES)]
        sample = flat.vectors(np.sort(chosen))
        centres = _centres(sample, num_lists, watch.part(0.0, 0.4))
        coarse = faiss.IndexFlatL2(flat.dimensions)
        coarse.add(centres)
        quantizer = _quantizer(sample, coarse, centres)
        del sample
        lists = np.empty(count, dtype=np.int64)
        codes = np.empty((count, quantizer.M), dtype=np.uint8)
        begin = 0
        for block in flat.blocks(_BLOCK_ROWS):
            watch.part(0.5, 1.0).at(begin / count)
            rows = slice(begin, begin + len(block))
            lists[rows] = coarse.search(block, 1)[1][:, 0]
            codes[rows] = quantizer.compute_codes(block - centres[lists[rows]])
            begin += len(block)
    order = np.argsort(lists, kind="stable")
    typical = faiss.vector_to_array(quantizer.centroids).reshape(quantizer.M, _NUM_CODES, -1)
    save_array(folder / CENTRES, centres)
    save_array(folder / PIECES, typical)
    save_array(folder / SIZES, np.bincount(lists, minlength=num_lists).astype(np.int64))
    save_array(folder / MEMBERS, order.astype(np.int64))
    save_array(folder / CODES, codes[order])
    watch.at(1.0)
    return CompactFacts(num_lists, int(quantizer.M))


def _centres(sample: Vectors, num_lists: int, watch: Watch) -> Vectors:
    """The means of k-means; a round at a time, so that somebody can look whether to stop."""
    centres = sample[np.sort(np.random.default_rng(1).permutation(len(sample))[:num_lists])]
    for done in range(_CENTRE_ROUNDS):
        watch.at(done / _CENTRE_ROUNDS)
        means = faiss.Kmeans(sample.shape[1], num_lists, niter=1, seed=done + 1, min_points_per_centroid=1)
        means.train(sample, init_centroids=centres)
        centres = np.ascontiguousarray(means.centroids, dtype=np.float32)
    return centres


def _quantizer(sample: Vectors, coarse: Any, centres: Vectors) -> Any:
    """Typical pieces of what is left of vectors without their centres."""
    dimensions = sample.shape[1]
    most = max(1, dimensions // _NUMBERS_A_PIECE)
    pieces = max(number for number in range(1, most + 1) if dimensions % number == 0)
    step = max(1, len(sample) // _SAMPLED_FOR_PIECES)
    some = sample[::step]
    left = some - centres[coarse.search(some, 1)[1][:, 0]]
    quantizer = faiss.ProductQuantizer(dimensions, pieces, 8)
    quantizer.cp.niter = _PIECE_ROUNDS
    quantizer.cp.min_points_per_centroid = 1
    quantizer.train(left)
    return quantizer
