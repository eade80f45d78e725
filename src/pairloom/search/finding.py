"""Finding documents: by meaning, by words and by both, as the ledger is at one moment."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import numpy.typing as npt

from pairloom.records import Document, Hit
from pairloom.search import rows as tables
from pairloom.search.filters.conditions import Condition
from pairloom.search.filters.masks import evaluate
from pairloom.search.fusion import reciprocal_rank_fusion
from pairloom.search.ledger import Ledger, get, put
from pairloom.search.protocol import Mode, Vectors
from pairloom.search.state import StaleError, State, States
from pairloom.search.words.highlight import highlights
from pairloom.search.words.search import WordSearch

FUSED_DEPTH = 100
"""How far down either list a document may stand and still be lifted by the other one."""

_WEIGHTS = "weights"
_EQUAL = (1.0, 1.0)

Ranked = list[tuple[int, float]]
"""Row numbers and scores, best first."""
Mask = npt.NDArray[np.bool_]


class Finder:
    """Finds documents of a ledger. Safe to use from several threads.

    Args:
        ledger: The ledger.
        states: What is held of its vectors.
    """

    def __init__(self, ledger: Ledger, states: States) -> None:
        self._ledger, self._states = ledger, states
        self._words = WordSearch()

    @contextmanager
    def reading(self) -> Iterator[tuple[sqlite3.Connection, State]]:
        """A transaction, and the vectors as it sees them."""
        while True:
            with ExitStack() as stack:
                connection = stack.enter_context(self._ledger.reading())
                try:
                    state = self._states.at(connection)
                except StaleError:
                    continue
                yield connection, state
                return

    def mask(self, connection: sqlite3.Connection, state: State, condition: Condition) -> Mask:
        """Which positions [N] have not been deleted and are let through by a condition on the metadata."""
        passed = evaluate(
            condition,
            lambda leaf: state.leaves.mask(connection, leaf, state.rows, state.change),
            len(state.rows),
        )
        return np.asarray(passed & state.alive)

    def search(
        self, vectors: Vectors | None, texts: Sequence[str] | None, k: int, mode: Mode, condition: Condition | None
    ) -> list[list[Hit]]:
        """The ``k`` best documents of each query.

        Args:
            vectors: Of the queries, [Q, D]; None if only words are looked for.
            texts: The queries; None if only vectors are known.
            k: How many.
            mode: By what.
            condition: What their metadata must be like.
        """
        depth = max(k, FUSED_DEPTH) if mode == "hybrid" else k
        with self.reading() as (connection, state):
            mask = None if condition is None else self.mask(connection, state, condition)
            lists: list[list[Ranked]] = []
            if mode != "words":
                assert vectors is not None
                lists.append(_by_vector(state, vectors, depth, mask))
            telling: list[tuple[str, ...]] | None = None
            if mode != "vector":
                assert texts is not None
                # Beside vectors it does not matter what words that stand everywhere would find.
                complete = mode == "words"
                lists.append([self._by_words(connection, state, text, depth, mask, complete) for text in texts])
                telling = [self._words.telling_words(connection, text, state.num_alive) for text in texts]
            found = lists[0]
            if len(lists) > 1:
                weights = weights_of(connection)
                found = [_fused(both, weights) for both in zip(*lists, strict=True)]
            found = [one[:k] for one in found]
            documents = tables.read_documents(connection, list({row for one in found for row, _ in one}))
        return [_hits(one, documents, () if telling is None else telling[place]) for place, one in enumerate(found)]

    def nearest(self, vectors: Vectors, k: int) -> list[list[tuple[str, float]]]:
        """Ids and similarities of the ``k`` documents nearest to each vector."""
        with self.reading() as (connection, state):
            found = _by_vector(state, vectors, k, None)
            documents = tables.read_documents(connection, list({row for one in found for row, _ in one}))
        return [[(documents[row].id, score) for row, score in one] for one in found]

    def _by_words(
        self,
        connection: sqlite3.Connection,
        state: State,
        text: str,
        k: int,
        mask: Mask | None,
        complete: bool,
    ) -> Ranked:
        def allowed(rows: npt.NDArray[np.int64]) -> Mask:
            assert mask is not None
            return np.asarray(mask[np.searchsorted(state.rows, rows)])

        return self._words.search(
            connection,
            text,
            k,
            num_documents=state.num_alive,
            change=state.change,
            allowed=None if mask is None else allowed,
            complete=complete,
        )


def weights_of(connection: sqlite3.Connection) -> tuple[float, float]:
    """How much meaning and words count when they are fused."""
    vector, words = get(connection, _WEIGHTS, default=_EQUAL)
    return float(vector), float(words)


def put_weights(connection: sqlite3.Connection, weights: tuple[float, float]) -> None:
    """Sets how much meaning and words count when they are fused."""
    put(connection, _WEIGHTS, weights)


def _by_vector(state: State, vectors: Vectors, k: int, mask: Mask | None) -> list[Ranked]:
    positions, scores = state.search(vectors, k, mask)
    return [
        [(int(state.rows[place]), score) for place, score in zip(places, similar, strict=True) if place >= 0]
        for places, similar in zip(positions.tolist(), scores.tolist(), strict=True)
    ]


def _fused(rankings: Sequence[Ranked], weights: Sequence[float]) -> Ranked:
    return reciprocal_rank_fusion([[row for row, _ in ranking] for ranking in rankings], weights)


def _hits(found: Ranked, documents: dict[int, Document], words: Sequence[str]) -> list[Hit]:
    chosen = [documents[row] for row, _ in found]
    places = highlights(words, [document.text for document in chosen]) if words else [()] * len(chosen)
    return [
        Hit(document.id, score, document.text, document.metadata, marked)
        for document, (_, score), marked in zip(chosen, found, places, strict=True)
    ]
