"""What was put aside becomes shards: each pair once, in an order that nothing but the pairs themselves decides.

Pairs are put aside in buckets by a hash of their texts, so equal ones meet in a bucket, and the buckets in their order,
each sorted by that hash, are a shuffled corpus: the same shards for the same pairs, in whatever order, from however
many files, and by however many processes they were read. Memory holds one bucket.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pairloom.pairs.holdout import Candidates, Hashes, HeldOut, HeldOutTask, touches
from pairloom.pairs.selection import HeldOutSelection
from pairloom.pairs.shards import ShardWriter
from pairloom.sources.pieces import Advance
from pairloom.sources.spill import Spill, scatter
from pairloom.sources.work import pair_kind

_NUM_SKETCHED = 1 << 16


class Distinct:
    """The distinct pairs of a spill that no excluded task has a text of.

    Args:
        spill: What was put aside.
        num_texts: Of a pair.
        excluded: By name, the hashes of texts that no pair may have.
    """

    def __init__(self, spill: Spill, num_texts: int, excluded: Mapping[str, Hashes]) -> None:
        self._spill, self._num_texts, self._excluded = spill, num_texts, excluded
        self._texts = [f"text_{number}" for number in range(num_texts)]
        self._hashes = [f"hash_{number}" for number in range(num_texts)]

    def hashes(self) -> Iterator[Hashes]:
        """Yields the hashes of the pairs that are left, uint64 ``[n, num_texts]``, bucket by bucket; some repeated."""
        for number in range(self._spill.num_buckets):
            hashes = self._stack(self._spill.bucket(number, self._hashes))
            yield hashes[self._allowed(hashes, Counter())]

    def tables(self, dropped: Counter[str]) -> Iterator[tuple[Any, Hashes]]:
        """Yields the pairs, bucket by bucket, with their hashes; counts what is dropped."""
        for number in range(self._spill.num_buckets):
            table = self._spill.bucket(number)
            table, hashes = self._once(table, dropped)
            kept = self._allowed(hashes, dropped)
            yield table.filter(pa.array(kept)), hashes[kept]

    def _stack(self, table: Any) -> Hashes:
        return np.stack([table.column(name).to_numpy() for name in self._hashes], axis=1)

    def _once(self, table: Any, dropped: Counter[str]) -> tuple[Any, Hashes]:
        """The table in the order of its pairs, each once; of spellings that differ in case the smallest."""
        hashes = self._stack(table)
        order = pair_kind(self._num_texts).order(table)
        places = np.lexsort((*hashes.T[::-1], order))
        hashes = hashes[places]
        repeats = np.zeros(len(places), dtype=bool)
        repeats[1:] = (hashes[1:] == hashes[:-1]).all(axis=1)
        dropped["duplicate pair"] += int(repeats.sum())
        firsts = np.flatnonzero(~repeats)
        chosen = places[firsts]
        sizes = np.diff(np.append(firsts, len(places)))
        many = np.flatnonzero(sizes > 1)
        if len(many):
            members = np.flatnonzero(np.repeat(sizes > 1, sizes))
            columns = [table.column(name).take(pa.array(places[members])).to_pylist() for name in self._texts]
            spellings = list(zip(*columns, strict=True))
            begin = 0
            for group, size in zip(many.tolist(), sizes[many].tolist(), strict=True):
                best = min(range(begin, begin + size), key=spellings.__getitem__)
                chosen[group] = places[members[best]]
                begin += size
        return table.take(pa.array(chosen)), hashes[firsts]

    def _allowed(self, hashes: Hashes, dropped: Counter[str]) -> NDArray[np.bool_]:
        allowed = np.ones(len(hashes), dtype=bool)
        for name, texts in self._excluded.items():
            touching = touches(hashes, texts) & allowed
            dropped[f"a text of it occurs in the excluded task {name}"] += int(touching.sum())
            allowed &= ~touching
        return allowed


class DistinctTexts:
    """Counts the different texts of each column: exactly up to 65,536, by estimate beyond.

    It keeps the smallest of the scattered hashes; how small the largest of them is tells how many there are. The
    estimate's standard error is one in the square root of what is kept, 0.4 %.

    References: Bar-Yossef et al. 2002, Counting distinct elements in a data stream (the first algorithm).
    """

    def __init__(self, num_columns: int) -> None:
        self._smallest = [np.empty(0, dtype=np.uint64) for _ in range(num_columns)]
        self._new: list[list[Hashes]] = [[] for _ in range(num_columns)]

    def add(self, hashes: Hashes) -> None:
        """Takes up rows: uint64 ``[n, num_columns]``."""
        for column, kept in enumerate(self._smallest):
            new = scatter(hashes[:, column])
            if len(kept) == _NUM_SKETCHED:
                new = new[new < kept[-1]]
            self._new[column].append(new)
            # Seldom, because it sorts what is kept anew.
            if sum(map(len, self._new[column])) >= _NUM_SKETCHED:
                self._merge(column)

    def counts(self) -> list[int]:
        """How many different texts each column has."""
        for column in range(len(self._smallest)):
            self._merge(column)
        return [
            len(kept) if len(kept) < _NUM_SKETCHED else round((len(kept) - 1) / (int(kept[-1]) / 2.0**64))
            for kept in self._smallest
        ]

    def _merge(self, column: int) -> None:
        self._smallest[column] = np.unique(np.concatenate([self._smallest[column], *self._new[column]]))[:_NUM_SKETCHED]
        self._new[column].clear()


def write_all(
    distinct: Distinct,
    shards: ShardWriter,
    dropped: Counter[str],
    advance: Advance,
    *,
    task: HeldOutTask | HeldOutSelection | None = None,
) -> int:
    """Gives the pairs that are held out to the task, and writes those that have no text of it to the shards.

    Returns:
        How many pairs are held out.
    """
    texts = DistinctTexts(len(shards.layout.columns))
    num_held_out = 0
    for table, hashes in distinct.tables(dropped):
        advance(table.num_rows)
        if task is not None:
            held = task.holds(hashes)
            for row in zip(*table.filter(pa.array(held)).to_pydict().values(), strict=True):
                task.add(row[: len(row) // 2], row[len(row) // 2 :])
            num_held_out += int(held.sum())
            leaking = ~held & touches(hashes, task.texts)
            dropped["a text of it occurs in the held-out task"] += int(leaking.sum())
            free = ~held & ~leaking
            table, hashes = table.filter(pa.array(free)), hashes[free]
        if table.num_rows:
            texts.add(hashes)
            shards.write_table(table.rename_columns(shards.layout.schema.names).cast(shards.layout.schema))
    shards.facts["num_distinct"] = dict(zip(shards.layout.columns, texts.counts(), strict=True))
    return num_held_out


def choose(distinct: Distinct, num_queries: int, num_documents: int, seed: int) -> HeldOut:
    """Chooses what is held out of the distinct pairs; raises `UsageError` if there are too few."""
    candidates = Candidates(num_queries, num_documents, seed)
    for hashes in distinct.hashes():
        candidates.add(hashes[:, 0], hashes[:, 1])
    return candidates.choose()
