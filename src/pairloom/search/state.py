"""What a process holds in memory of a collection's vectors: the ledger's as of some change, ready to be searched.

Rows up to some number lie in an index file (the *base*); newer ones are held in memory (the *tail*) and searched beside it; of
both, those that have been deleted are masked. So a search is complete and current whatever the age of the index.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from pairloom.artifacts import verify
from pairloom.encode.similarity import largest
from pairloom.errors import ArtifactError, CollectionError
from pairloom.search import rows as tables
from pairloom.search.filters.masks import LeafCache
from pairloom.search.index.vector_index import KIND, VectorIndex
from pairloom.search.ledger import Ledger, get

logger = logging.getLogger("pairloom")

INDEX_FOLDER = "index"
_READ_ROWS = 8_192
_QUERIES = 256
# Room for the vectors of newer rows, from the start. What is not written yet is memory that is promised and not taken; but to move
# what is there into memory that is new took readers up to 64 ms (docs/log.md).
_TAIL_BYTES = 128 << 20
_TAIL_GATHERED = 4  # below a fourth of the tail it is quicker to take the rows out than to score all

Positions = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class State:
    """The vectors of a collection after some change. It never changes itself.

    A *position* counts through ``rows``: first those of the base, then those of the tail.

    Args:
        change: The number of the change.
        generation: The folder of the base.
        base: The index file; None if there is none.
        rows: [N], rising.
        tail: [T, D], of the last T rows.
        alive: [N], which rows have not been deleted.
        num_alive: How many.
        last_row: The largest row number that has been looked at.
        last_deletion: The number of the last deletion that has been taken account of.
        leaves: Which rows conditions on the metadata let through, as far as it is known.
    """

    change: int
    generation: str | None
    base: VectorIndex | None
    rows: npt.NDArray[np.int64]
    tail: npt.NDArray[np.float32]
    alive: npt.NDArray[np.bool_]
    num_alive: int
    last_row: int
    last_deletion: int
    leaves: LeafCache

    @property
    def num_base(self) -> int:
        """Rows of the base."""
        return len(self.rows) - len(self.tail)

    def search(
        self, queries: npt.NDArray[np.float32], k: int, allowed: npt.NDArray[np.bool_] | None = None
    ) -> tuple[Positions, Scores]:
        """The rows with the largest inner products.

        Args:
            queries: [Q, D].
            k: How many.
            allowed: [N], which rows count; deleted ones never do.

        Returns:
            Positions [Q, min(k, N)], best first, and scores; where there are not so many, -1 and minus infinity.
        """
        mask = None if self.num_alive == len(self.rows) else self.alive
        if allowed is not None:
            mask = allowed if mask is None else mask & allowed
        parts = [
            self._search_block(queries[begin : begin + _QUERIES], min(k, len(self.rows)), mask)
            for begin in range(0, len(queries), _QUERIES)
        ]
        if not parts:
            return np.zeros((0, 0), np.int64), np.zeros((0, 0), np.float32)
        return np.concatenate([found for found, _ in parts]), np.concatenate([scores for _, scores in parts])

    def _search_block(
        self, queries: npt.NDArray[np.float32], k: int, mask: npt.NDArray[np.bool_] | None
    ) -> tuple[Positions, Scores]:
        if self.base is None:
            positions, scores = self._search_tail(queries, k, mask)
            return np.where(np.isneginf(scores), -1, positions), scores
        of_base = None if mask is None or mask[: self.num_base].all() else mask[: self.num_base]
        found, similar = self.base.search(queries, k, of_base)
        if not len(self.tail):
            return found, similar
        positions, scores = self._search_tail(queries, k, None if mask is None else mask[self.num_base :])
        positions, scores = np.concatenate([found, positions], axis=1), np.concatenate([similar, scores], axis=1)
        columns, best = largest(scores, k)
        chosen = np.take_along_axis(positions, columns, 1)
        return np.where(np.isneginf(best), -1, chosen), best

    def _search_tail(
        self, queries: npt.NDArray[np.float32], k: int, mask: npt.NDArray[np.bool_] | None
    ) -> tuple[Positions, Scores]:
        if mask is None:
            columns, scores = largest(queries @ self.tail.T, k)
            return columns + self.num_base, scores
        allowed = np.flatnonzero(mask)
        if len(allowed) * _TAIL_GATHERED < len(mask):
            columns, scores = largest(queries @ self.tail[allowed].T, k)
            return allowed[columns] + self.num_base, scores
        scores = queries @ self.tail.T
        if len(allowed) < len(mask):
            scores[:, ~mask] = -np.inf
        columns, scores = largest(scores, k)
        return columns + self.num_base, scores


class StaleError(Exception):
    """The transaction sees an older ledger than this process has seen already; begin a new one."""


class States:
    """Keeps the state of a collection up with its ledger. Safe to use from several threads.

    Args:
        ledger: The ledger.
        dtype: Of stored vectors.
        dimensions: Of vectors.
        on_damage: Called when an index turns out to be damaged, with what is wrong.
    """

    def __init__(self, ledger: Ledger, dtype: np.dtype[Any], dimensions: int, on_damage: Callable[[str], None]) -> None:
        self._ledger, self._dtype, self._dimensions, self._on_damage = ledger, dtype, dimensions, on_damage
        self._state: State | None = None
        self._least_change = 0  # older transactions do not have all rows of the index
        self._rows: _Growing[np.int64]
        self._tail: _Growing[np.float32]
        self._guard = threading.Lock()
        self._loader: threading.Thread | None = None

    def at(self, connection: sqlite3.Connection) -> State:
        """The state as a transaction sees it.

        A new index is opened in the background: checking its bytes takes time, and until then the old one with the newer
        rows beside it is as right.

        Raises:
            StaleError: The transaction began before one whose state is known already.
        """
        change = get(connection, "change")
        state = self._state
        if state is not None and state.change == change:
            return state
        with self._guard:
            if change < self._least_change:
                raise StaleError
            state = self._state
            if state is None or state.last_deletion < get(connection, "pruned"):
                state = self._adopt(self._load(connection))
            elif state.change > change:
                raise StaleError
            else:
                index = get(connection, "index")
                if index is not None and index["folder"] != state.generation and self._loader is None:
                    self._loader = threading.Thread(target=self._load_aside, name="open index", daemon=True)
                    self._loader.start()
            self._state = self._catch_up(connection, state, change)
            return self._state

    def adopt_index(self) -> None:
        """Goes over to the index that the ledger names now, before anybody asks."""
        with self._ledger.reading() as connection:
            change, loaded = get(connection, "change"), self._load(connection)
        with self._guard:  # for which readers wait; what takes time has been done
            self._least_change = max(change, self._least_change)
            self._state = self._adopt(loaded)

    def _load_aside(self) -> None:
        try:
            self.adopt_index()
        except (CollectionError, StaleError) as error:  # closed, or already replaced; of damage a search will tell
            logger.debug("no index was opened", exc_info=error)
        finally:
            self._loader = None

    def _load(self, connection: sqlite3.Connection) -> _Loaded:
        about = get(connection, "index")
        # Without an index all rows are read from the ledger, where those that have gone no longer are.
        base, generation, upto, number = None, None, 0, get(connection, "pruned")
        if about is not None:
            generation = about["folder"]
            try:
                base = open_index(self._ledger.folder, generation)
                upto, number = about["upto"], about["deletions"]
            except ArtifactError as error:
                with self._ledger.reading() as now:
                    is_replaced = (get(now, "index") or {}).get("folder") != generation
                if is_replaced:
                    raise StaleError from None
                self._on_damage(str(error))
        gone, last = tables.deleted_after(connection, number)
        rows = np.zeros(0, np.int64) if base is None else base.rows
        alive = np.ones(len(rows), np.bool_) if base is None or base.live is None else base.live
        state = State(
            -1,  # what came after the index is still to be looked at, also if nothing is written any more
            generation,
            base,
            rows,
            np.zeros((0, self._dimensions), np.float32),
            alive,
            int(alive.sum()),
            upto,
            last,
            LeafCache(read_metadata=tables.metadata_between),
        )
        room = _TAIL_BYTES // max(1, state.tail.itemsize * self._dimensions)
        return _Loaded(_without(state, gone), _Growing(state.rows, room), _Growing(state.tail, room))

    def _adopt(self, loaded: _Loaded) -> State:
        self._rows, self._tail = loaded.rows, loaded.tail
        return loaded.state

    def _catch_up(self, connection: sqlite3.Connection, state: State, change: int) -> State:
        last = state.last_row
        rows, tail = state.rows, state.tail
        while True:
            numbers, vectors = tables.vectors_after(connection, last, _READ_ROWS, self._dtype, self._dimensions)
            if not len(numbers):
                break
            rows, tail = self._rows.extended(len(rows), numbers), self._tail.extended(len(tail), vectors)
            last = int(numbers[-1])
        num_new = len(rows) - len(state.rows)
        alive = np.concatenate([state.alive, np.ones(num_new, np.bool_)]) if num_new else state.alive
        gone, number = tables.deleted_after(connection, state.last_deletion)
        state = replace(
            state,
            change=change,
            rows=rows,
            tail=tail,
            alive=alive,
            num_alive=state.num_alive + num_new,
            last_row=last,
            last_deletion=number,
        )
        return _without(state, gone)


def open_index(folder: Path, generation: str) -> VectorIndex:
    """Opens the index of a collection after comparing every byte with its checksum.

    Raises:
        ArtifactError: It is not there, or damaged.
    """
    path = folder / INDEX_FOLDER / generation
    verify(path, KIND)
    return VectorIndex(path)


def _without(state: State, gone: npt.NDArray[np.int64]) -> State:
    """The state without rows that have been deleted; some of them may never have been in it."""
    if not len(gone) or not len(state.rows):
        return state
    places = np.minimum(np.searchsorted(state.rows, gone), len(state.rows) - 1)
    alive = state.alive.copy()
    alive[places[state.rows[places] == gone]] = False
    return replace(state, alive=alive, num_alive=int(alive.sum()))


class _Growing(Generic[Number]):
    """An array that grows at its end. What it gave out before stays as it was: new rows are written behind it.

    Args:
        start: Its first rows.
        room: So many more come before all of them are moved.
    """

    def __init__(self, start: npt.NDArray[Number], room: int) -> None:
        self._buffer = np.empty((len(start) + room, *start.shape[1:]), start.dtype)
        self._buffer[: len(start)] = start

    def extended(self, size: int, more: npt.NDArray[Any]) -> npt.NDArray[Number]:
        """The first ``size`` rows, and more; what may have been written there by an attempt that failed does not count."""
        end = size + len(more)
        if end > len(self._buffer):
            buffer = np.empty((max(end, 2 * size), *self._buffer.shape[1:]), self._buffer.dtype)
            buffer[:size] = self._buffer[:size]
            self._buffer = buffer
        self._buffer[size:end] = more
        return self._buffer[:end]


@dataclass(frozen=True)
class _Loaded:
    """What was read of an index.

    Args:
        state: As it has it, without the rows that have gone since.
        rows: Its rows, to be continued.
        tail: The vectors of newer ones: none yet.
    """

    state: State
    rows: _Growing[np.int64]
    tail: _Growing[np.float32]
