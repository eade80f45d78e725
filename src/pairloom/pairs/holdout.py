"""Hold-out by text: pairs kept for evaluation, and nothing in training that occurs among them.

Anchors are put into an order that depends on their text and a seed only. The first of them become the queries of a
retrieval task; their positives, and those of as many more anchors as are wanted, become its documents. All pairs of a
held-out anchor are held out together, so the judgements are complete as far as the pairs go, and a pair of which any
text occurs in the task is not trained on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairloom.errors import UsageError

Hashes = NDArray[np.uint64]

_MIN_ROOM = 1 << 20  # pairs, of 16 bytes each


@dataclass(frozen=True)
class HeldOut:
    """Which anchors are held out.

    Args:
        queries: uint64 ``[num_queries]``, sorted: hashes of the anchors that become queries.
        anchors: uint64 ``[≥ num_queries]``, sorted: hashes of all held-out anchors.
        documents: uint64, sorted: hashes of their positives.
    """

    queries: Hashes
    anchors: Hashes
    documents: Hashes

    @property
    def texts(self) -> Hashes:
        """uint64, sorted: the hash of every text of the task; training must see none of them."""
        return np.union1d(self.queries, self.documents)


def choose_held_out(anchors: Hashes, positives: Hashes, *, num_queries: int, num_documents: int, seed: int) -> HeldOut:
    """Chooses the anchors to hold out: the same ones for the same set of pairs, in whatever order they come.

    Args:
        anchors: uint64 ``[num_pairs]``: the `text_hash` of each pair's anchor.
        positives: uint64 ``[num_pairs]``: the `text_hash` of each pair's positive.
        num_queries: Anchors that become queries.
        num_documents: Different positives wanted at least; anchors are added until they are reached.
        seed: Another seed, another choice.

    Raises:
        UsageError: There are fewer different anchors or positives than asked for.
    """
    different, which = np.unique(anchors, return_inverse=True)
    if len(different) < num_queries:
        raise UsageError(f"{num_queries:,} queries cannot be held out of {len(different):,} different anchors")
    order = np.argsort(seeded_order(different, seed), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    texts, document = np.unique(positives, return_inverse=True)
    if len(texts) < num_documents:
        raise UsageError(f"{num_documents:,} documents cannot be held out of {len(texts):,} different positives")
    first_rank = np.full(len(texts), len(order))
    np.minimum.at(first_rank, document, rank[which])
    # Document number n (from 0) of the task arrives with the anchor that has the n-th smallest rank.
    enough = int(np.sort(first_rank)[num_documents - 1]) + 1 if num_documents else 0
    held = order[: max(num_queries, enough)]
    return HeldOut(
        queries=np.sort(different[held[:num_queries]]),
        anchors=np.sort(different[held]),
        documents=texts[first_rank < len(held)],
    )


class Candidates:
    """The pairs that may still be held out, of a stream of pairs, in memory for a few times as many as are wanted.

    Which anchors are held out depends on their order under the seed, and more pairs can only make fewer of them
    needed. So whenever there are enough, what comes after the last one needed can be forgotten.

    Args:
        num_queries: As in `choose_held_out`.
        num_documents: As in `choose_held_out`.
        seed: As in `choose_held_out`.
    """

    def __init__(self, num_queries: int, num_documents: int, seed: int) -> None:
        self._wanted = {"num_queries": num_queries, "num_documents": num_documents, "seed": seed}
        self._seed = seed
        self._anchors: list[Hashes] = []
        self._positives: list[Hashes] = []
        self._num_pairs = 0
        self._room = _MIN_ROOM
        self._last = np.uint64(2**64 - 1)

    def add(self, anchors: Hashes, positives: Hashes) -> None:
        """Takes up pairs: uint64 ``[n]`` each."""
        near = seeded_order(anchors, self._seed) <= self._last
        self._anchors.append(anchors[near])
        self._positives.append(positives[near])
        self._num_pairs += int(near.sum())
        if self._num_pairs > self._room:
            self._forget()
            self._room = max(_MIN_ROOM, 2 * self._num_pairs)

    def choose(self) -> HeldOut:
        """Chooses among all pairs that were added; raises like `choose_held_out`."""
        return choose_held_out(self._all(self._anchors), self._all(self._positives), **self._wanted)

    def _forget(self) -> None:
        try:
            held_out = self.choose()
        except UsageError:
            return  # not enough of them yet
        self._last = seeded_order(held_out.anchors, self._seed).max()
        anchors, positives = self._all(self._anchors), self._all(self._positives)
        near = seeded_order(anchors, self._seed) <= self._last
        self._anchors, self._positives = [anchors[near]], [positives[near]]
        self._num_pairs = int(near.sum())

    @staticmethod
    def _all(parts: list[Hashes]) -> Hashes:
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint64)


def seeded_order(hashes: Hashes, seed: int) -> Hashes:
    """A seeded permutation of the 64-bit numbers (the finaliser of SplitMix64), for an order without pattern."""
    state = hashes ^ np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


class HeldOutTask:
    """Collects held-out pairs and writes them as a retrieval task in BEIR layout.

    A text that comes more than once (up to case) is one query or one document. Identifiers are made of the text's
    hash, so they are the same in every run; of spellings that differ in case the smallest stands for all. Hard
    negatives of held-out pairs are left out: nobody has judged them.
    """

    def __init__(self, held_out: HeldOut) -> None:
        self._held_out = held_out
        self._queries_wanted = {int(anchor) for anchor in held_out.queries}
        self._queries: dict[int, str] = {}
        self._documents: dict[int, str] = {}
        self._judgements: set[tuple[int, int]] = set()

    @property
    def texts(self) -> Hashes:
        """uint64, sorted: the hash of every text of the task; training must see none of them."""
        return self._held_out.texts

    def holds(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Which rows, uint64 ``[n, num_columns]``, are held out: bool ``[n]``."""
        return np.isin(hashes[:, 0], self._held_out.anchors)

    def add(self, texts: Sequence[str], hashes: Sequence[int]) -> None:
        """Takes up a held-out pair: its texts and their hashes, anchor first."""
        anchor, positive = int(hashes[0]), int(hashes[1])
        if anchor in self._queries_wanted:
            self._queries[anchor] = min(texts[0], self._queries.get(anchor, texts[0]))
            self._judgements.add((anchor, positive))
        self._documents[positive] = min(texts[1], self._documents.get(positive, texts[1]))

    def write(self, folder: Path) -> dict[str, Any]:
        """Writes ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/test.tsv``; returns their counts.

        References: Thakur et al. 2021, BEIR (the file layout).
        """
        _write_texts(folder / "corpus.jsonl", "d", self._documents, {"title": ""})
        _write_texts(folder / "queries.jsonl", "q", self._queries, {})
        (folder / "qrels").mkdir()
        with (folder / "qrels" / "test.tsv").open("w", encoding="utf-8", newline="\n") as stream:
            stream.write("query-id\tcorpus-id\tscore\n")
            stream.writelines(f"q{q:016x}\td{d:016x}\t1\n" for q, d in sorted(self._judgements))
        return {
            "num_queries": len(self._queries),
            "num_documents": len(self._documents),
            "num_judgements": len(self._judgements),
        }


def touches(hashes: Hashes, texts: Hashes) -> NDArray[np.bool_]:
    """Tells which rows have a text in common with a set of texts.

    Args:
        hashes: uint64 ``[num_rows, num_columns]``.
        texts: uint64 ``[num_texts]``.

    Returns:
        bool ``[num_rows]``.
    """
    return np.asarray(np.isin(hashes, texts).any(axis=1))


def _write_texts(path: Path, prefix: str, texts: dict[int, str], more: dict[str, str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for number, text in sorted(texts.items()):
            record = {"_id": f"{prefix}{number:016x}", **more, "text": text}
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")
