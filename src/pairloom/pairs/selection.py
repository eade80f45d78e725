"""Hold-out for response selection: pairs without a common text, in candidate sets of a fixed size.

Pairs are put into an order that depends on their texts and a seed only, and gone through: a pair is held out if neither of
its texts has come before, until there are enough. So no text stands twice in the task, in whichever set. A pair of which
any text occurs in it is not trained on.

References: Henderson et al. 2019, *A Repository of Conversational Datasets*, https://arxiv.org/abs/1904.06472: candidate
sets of 100 pairs, drawn by chance.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairloom.errors import UsageError
from pairloom.pairs.holdout import Hashes, seeded_order

SET_SIZE = 100
"""Pairs of a candidate set."""
# So many times the pairs that are needed are looked at first; if too many of them share texts, four times as many.
_SPARE = 4


def is_selection_file(path: Path) -> bool:
    """Whether a path stands for a file of candidate sets: by its name."""
    return path.name.removesuffix(".gz").endswith(".jsonl")


@dataclass(frozen=True)
class HeldOutPairs:
    """Which pairs are held out, in the order in which they were chosen.

    Args:
        anchors: uint64 ``[num_pairs]``: hashes of their anchors, all different.
        positives: uint64 ``[num_pairs]``: hashes of their positives, all different, and none that of an anchor.
    """

    anchors: Hashes
    positives: Hashes


def choose_held_out_pairs(
    hashes: Callable[[], Iterable[Hashes]], *, num_pairs: int, num_in_all: int, seed: int
) -> HeldOutPairs:
    """Chooses pairs without a common text: the same ones for the same set of pairs, in whatever order they come.

    Memory holds a few times as many pairs as are wanted.

    Args:
        hashes: Gives all pairs whenever it is called, in parts: uint64 ``[n, 2 or more]``, anchor and positive first.
        num_pairs: As many as are wanted.
        num_in_all: About as many as there are.
        seed: Another seed, another choice.

    Raises:
        UsageError: There are fewer pairs without a common text.
    """
    share = min(1.0, _SPARE * num_pairs / max(num_in_all, 1))
    while True:
        chosen = _without_common_text(_first_pairs(hashes(), share, seed), num_pairs, seed)
        if len(chosen) == num_pairs:
            return HeldOutPairs(chosen[:, 0], chosen[:, 1])
        if share == 1:
            raise UsageError(
                f"{num_pairs:,} pairs cannot be held out: no more than {len(chosen):,} were found of which no two have a "
                "text in common"
            )
        share = min(1.0, 4 * share)


def _first_pairs(parts: Iterable[Hashes], share: float, seed: int) -> Hashes:
    """The pairs that come first in the seeded order, about this share of all: uint64 ``[n, 2]``."""
    last = np.uint64(min(int(share * 2.0**64), 2**64 - 1))
    first = [part[_order(part, seed) <= last, :2] for part in parts]
    return np.concatenate(first) if first else np.empty((0, 2), dtype=np.uint64)


def _without_common_text(pairs: Hashes, num_pairs: int, seed: int) -> Hashes:
    """Of the pairs in their order, those whose texts have not come before, up to so many."""
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0], _order(pairs, seed)))]
    seen: set[int] = set()
    chosen: list[int] = []
    for number, (anchor, positive) in enumerate(pairs.tolist()):
        if len(chosen) == num_pairs:
            break
        if anchor not in seen and positive not in seen:
            seen |= {anchor, positive}
            chosen.append(number)
    return pairs[chosen]


def _order(pairs: Hashes, seed: int) -> Hashes:
    return seeded_order(seeded_order(pairs[:, 0], seed) ^ pairs[:, 1], seed)


class HeldOutSelection:
    """Collects held-out pairs and writes them as candidate sets.

    Args:
        chosen: The pairs; a whole number of sets.
        anchor_answers: Whether anchors are the responses, and positives what is said.
    """

    def __init__(self, chosen: HeldOutPairs, *, anchor_answers: bool) -> None:
        assert len(chosen.anchors) % SET_SIZE == 0
        self._order = np.argsort(chosen.anchors)
        self._anchors, self._positives = chosen.anchors[self._order], chosen.positives[self._order]
        self._anchor_answers = anchor_answers
        self._pairs: dict[int, tuple[str, str]] = {}

    @property
    def texts(self) -> Hashes:
        """uint64, sorted: the hash of every text of the task; training must see none of them."""
        return np.union1d(self._anchors, self._positives)

    def holds(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Which rows, uint64 ``[n, num_columns]``, are held out: bool ``[n]``."""
        places = np.searchsorted(self._anchors, hashes[:, 0]).clip(max=len(self._anchors) - 1)
        return np.asarray((self._anchors[places] == hashes[:, 0]) & (self._positives[places] == hashes[:, 1]))

    def add(self, texts: Sequence[str], hashes: Sequence[int]) -> None:
        """Takes up a held-out row: its texts and their hashes, anchor first. Of several spellings the smallest is kept."""
        anchor, positive = texts[:2]
        pair = (positive, anchor) if self._anchor_answers else (anchor, positive)
        number = int(self._order[np.searchsorted(self._anchors, np.uint64(hashes[0]))])
        self._pairs[number] = min(pair, self._pairs.get(number, pair))

    def write(self, path: Path) -> dict[str, Any]:
        """Writes the file, gzipped if its name says so; returns its counts."""
        with ExitStack() as stack:
            stream: Any = stack.enter_context(path.open("wb"))
            if path.suffix == ".gz":
                # Without name and time the same pairs give the same bytes.
                stream = stack.enter_context(gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0))
            lines = stack.enter_context(io.TextIOWrapper(stream, encoding="utf-8", newline="\n"))
            lines.write(json.dumps({"candidates": SET_SIZE}) + "\n")
            lines.writelines(json.dumps(pair, ensure_ascii=False) + "\n" for _, pair in sorted(self._pairs.items()))
        return {
            "num_queries": len(self._pairs),
            "num_sets": len(self._pairs) // SET_SIZE,
            "candidates": SET_SIZE,
        }
