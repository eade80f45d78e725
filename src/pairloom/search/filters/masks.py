"""From conditions to rows: what the tables of `pairloom.search.filters.facets` hold, as masks over positions."""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pairloom.search.filters.conditions import And, Condition, Equals, Exists, In, Leaf, Not, Or, Range, matches
from pairloom.search.filters.facets import CODES, facet_of, field_number, fields_beneath

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
ReadMetadata = Callable[[sqlite3.Connection, int, int], Iterable[tuple[int, Mapping[str, Any]]]]
"""Reads ``(row, metadata)`` of the documents whose rows are greater than one number and at most another."""

_LAST_ROW = 2**63 - 1
_EQUALS = (
    "SELECT group_concat(row) FROM facets WHERE field = :field AND kind = :kind AND value = :value "
    "AND row > :after AND row <= :upto"
)
_RANGE = (
    "SELECT group_concat(row) FROM facets WHERE field = :field AND kind = :kind AND value >= :least AND value <= :most "
    "AND value IS NOT :above AND value IS NOT :below AND row > :after AND row <= :upto"
)
_EXISTS = "SELECT group_concat(row) FROM facets WHERE field = :field AND kind < :kind AND row > :after AND row <= :upto"
# A leaf whose rows do not lie together by number is read whole to find a few newer ones; so many of its rows take as
# long as the metadata of one document.
_ROWS_A_DOCUMENT = 100


def leaf_rows(connection: sqlite3.Connection, leaf: Leaf, after: int = 0, upto: int | None = None) -> Rows:
    """The rows of the documents that fulfil a condition on one field.

    Args:
        connection: To the database.
        leaf: The condition.
        after: Only rows with greater numbers.
        upto: Only rows with numbers that are not greater; None for all.

    Returns:
        Row numbers, ascending, each once.
    """
    limits = {"after": after, "upto": _LAST_ROW if upto is None else upto}
    found = [_read(connection, query, {**values, **limits}) for query, values in _queries(connection, leaf)]
    if not found:
        return np.empty(0, np.int64)
    return _sorted_once(np.concatenate(found))


def evaluate(condition: Condition, leaf_mask: Callable[[Leaf], Mask], size: int) -> Mask:
    """Where a condition is fulfilled.

    Args:
        condition: The condition.
        leaf_mask: Where one of its leaves is, [size].
        size: The number of positions.

    Returns:
        [size], not to be written to: of a single leaf it is what ``leaf_mask`` gave.
    """
    match condition:
        case And(parts):
            mask = np.ones(size, np.bool_)
            for part in sorted(parts, key=_cost):
                mask &= evaluate(part, leaf_mask, size)
                if not mask.any():
                    break
        case Or(parts):
            mask = np.zeros(size, np.bool_)
            for part in parts:
                mask |= evaluate(part, leaf_mask, size)
        case Not(part):
            mask = ~evaluate(part, leaf_mask, size)
        case _:
            mask = leaf_mask(condition)
    return mask


class _Known(NamedTuple):
    """A mask over the first rows, as it was at a change of the collection."""

    mask: Mask
    num_true: int
    version: int
    num_bytes: int


class LeafCache:
    """Where the documents of a collection fulfil conditions on one field; newer documents are looked up as they come.

    It belongs to one sequence of rows, which only ever grows at its end: rows that are deleted stay in it. When it is
    replaced, so is the cache. Safe to use from several threads.

    Args:
        max_bytes: How much it may hold; what was not asked for longest goes first.
        read_metadata: With it, ranges and existence are decided for a few newer documents by their metadata, which takes
            less time than finding them among all values of the field.
    """

    def __init__(self, max_bytes: int = 64 << 20, read_metadata: ReadMetadata | None = None) -> None:
        self._max_bytes = max_bytes
        self._read_metadata = read_metadata
        self._lock = threading.Lock()
        self._known: OrderedDict[Leaf, _Known] = OrderedDict()
        self._num_bytes = 0

    @property
    def num_bytes(self) -> int:
        """How much it holds."""
        return self._num_bytes

    def mask(self, connection: sqlite3.Connection, leaf: Leaf, rows: Rows, version: int) -> Mask:
        """Where the rows' documents fulfil a condition on one field.

        Args:
            connection: To the database, in a transaction that sees the collection as it was at this version.
            leaf: The condition.
            rows: Row numbers, ascending, [N].
            version: A number that grows with every change of the collection. What a deleted document was like can no
                longer be looked up, so a mask that was made later does not hold for a reader who still sees it.

        Returns:
            [N], read-only; of deleted documents it says nothing.
        """
        with self._lock:
            known = self._known.get(leaf)
            if known is not None:
                self._known.move_to_end(leaf)
        if known is None or known.version > version:
            known = _Known(_read_only(np.zeros(0, np.bool_)), 0, version, 0)
        if known.mask.size < rows.size:
            newer = self._look_up(connection, leaf, rows[known.mask.size :], known.num_true)
            mask = _read_only(np.concatenate([known.mask, newer]))
            # A condition may be longer than its mask.
            num_bytes = mask.nbytes + len(repr(leaf))
            known = _Known(mask, known.num_true + int(np.count_nonzero(newer)), version, num_bytes)
            self._keep(leaf, known)
        return known.mask[: rows.size]

    def _look_up(self, connection: sqlite3.Connection, leaf: Leaf, rows: Rows, num_known: int) -> Mask:
        after, upto = int(rows[0]) - 1, int(rows[-1])
        few = isinstance(leaf, Range | Exists) and rows.size * _ROWS_A_DOCUMENT < num_known
        if self._read_metadata is not None and few:
            documents = self._read_metadata(connection, after, upto)
            found = np.array([row for row, metadata in documents if matches(leaf, metadata)], np.int64)
        else:
            found = leaf_rows(connection, leaf, after, upto)
        mask = np.zeros(rows.size, np.bool_)
        positions = np.searchsorted(rows, found)
        mask[positions[rows[positions] == found]] = True
        return mask

    def _keep(self, leaf: Leaf, new: _Known) -> None:
        with self._lock:
            old = self._known.get(leaf)
            if new.num_bytes > self._max_bytes or (old is not None and old.mask.size >= new.mask.size):
                return
            self._known[leaf] = new
            self._known.move_to_end(leaf)
            self._num_bytes += new.num_bytes - (0 if old is None else old.num_bytes)
            while self._num_bytes > self._max_bytes:
                _, gone = self._known.popitem(last=False)
                self._num_bytes -= gone.num_bytes


def _queries(connection: sqlite3.Connection, leaf: Leaf) -> Iterator[tuple[str, dict[str, object]]]:
    """Statements that find the rows of a leaf together, and their values."""
    if isinstance(leaf, Exists):
        for number in fields_beneath(connection, leaf.field):
            yield _EXISTS, {"field": number, "kind": CODES["instant"]}
        return
    if (field := field_number(connection, leaf.field)) is None:
        return
    match leaf:
        case Range(_, kind, gt, gte, lt, lte):
            least = next((bound for bound in (gt, gte) if bound is not None), -np.inf)
            most = next((bound for bound in (lt, lte) if bound is not None), np.inf)
            bounds = {"least": least, "most": most, "above": gt, "below": lt}
            yield _RANGE, {"field": field, "kind": CODES[kind], **bounds}
        case Equals(_, value):
            facet = facet_of(leaf.field, value)
            yield _EQUALS, {"field": field, "kind": CODES[facet.kind], "value": facet.value}
        case In(_, values):
            for facet in (facet_of(leaf.field, value) for value in values):
                yield _EQUALS, {"field": field, "kind": CODES[facet.kind], "value": facet.value}


def _read(connection: sqlite3.Connection, query: str, values: Mapping[str, object]) -> Rows:
    # One string of all numbers takes less than half the time of a Python object for each.
    (numbers,) = connection.execute(query, values).fetchone()
    return np.empty(0, np.int64) if numbers is None else np.fromstring(numbers, np.int64, sep=",")


def _sorted_once(rows: Rows) -> Rows:
    """What ``np.unique`` gives, in a fraction of its time."""
    rows.sort()
    first = np.ones(rows.size, np.bool_)
    np.not_equal(rows[1:], rows[:-1], out=first[1:])
    return rows[first]


def _read_only(mask: Mask) -> Mask:
    mask.flags.writeable = False
    return mask


def _cost(condition: Condition) -> int:
    """What is looked up first: what takes little, and may spare the rest."""
    return next(cost for cost, kind in enumerate((Equals, In, Exists, Range, object)) if isinstance(condition, kind))
