"""What a source is: a corpus that pairloom can read, and the views that make pairs of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pairloom.errors import UsageError
from pairloom.pairs.layout import CONTEXT_COLUMNS, PAIR_COLUMNS, TRIPLET_COLUMNS
from pairloom.records import Pair
from pairloom.sources.formats import InputFile


@dataclass
class Intake:
    """What a view tells of its work besides the pairs.

    Args:
        dropped: How many records, or pairs of them, were not wanted, by reason.
    """

    dropped: Counter[str] = field(default_factory=Counter)

    def drop(self, reason: str) -> None:
        """Counts what gives no pair."""
        self.dropped[reason] += 1


@dataclass(frozen=True, slots=True)
class Keyed:
    """What a record contributes to a join: it meets everything that was given the same key.

    Args:
        key: From 0 to 2^63 - 1, exact: equal keys belong together, others don't.
        kind: What it is, such as ``question``.
        fields: Texts and numbers, as many and in the order that the view likes.
    """

    key: int
    kind: str
    fields: tuple[Any, ...]


Read = Callable[[Any, InputFile, Any, Intake], Iterable[Pair | Keyed]]
"""Makes pairs, or parts of a join, of a record, given its file and the source's section of the recipe."""

Join = Callable[[list[Keyed], Any, Intake], Iterable[Pair | Keyed]]
"""Makes pairs, or parts of the next join, of all that has one key. The order of the list is that of no file."""


@dataclass(frozen=True)
class View:
    """One way to make pairs from a corpus.

    Pairs are raw: they are cleaned and their lengths are checked when they have been made. A view applies the filters
    that need the record (scores, kinds), tells the intake what it drops, and raises `RecordError` for a record that
    makes no sense.

    Args:
        name: As on the command line.
        description: Anchor and positive, in a few words.
        read: What is made of each record.
        joins: Where a pair's texts stand in different records: what is made of those that share a key, join by join.
        num_negatives: Hard negatives of each pair: 0 for pairs, 1 for triplets.
        has_context: Whether each pair has a past context; then it has no negatives.
        anchor_answers: Whether the anchor is what answers and the positive what is answered, as in Reddit's pairs of
            response and context. A task that asks for the answer takes them the other way round.
        num_published: Pairs that the published models' cards count, where they do.
    """

    name: str
    description: str
    read: Read
    joins: tuple[Join, ...] = ()
    num_negatives: int = 0
    has_context: bool = False
    anchor_answers: bool = False
    num_published: int | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Of its shards."""
        if self.has_context:
            return CONTEXT_COLUMNS
        return TRIPLET_COLUMNS if self.num_negatives else PAIR_COLUMNS


@dataclass(frozen=True)
class Source:
    """A corpus.

    Args:
        name: As on the command line.
        description: One line.
        inputs: What INPUT is.
        licence: Of the texts.
        citation: Where the corpus comes from.
        find: From the inputs, the name of the view and the source's section of the recipe to the files that are read.
            Raises `InputError` if what is needed is not there.
        views: The first is the default.
        needs_inputs: Whether there is nothing to read without an INPUT.
    """

    name: str
    description: str
    inputs: str
    licence: str
    citation: str
    find: Callable[[Sequence[str], str, Any], list[InputFile]]
    views: tuple[View, ...]
    needs_inputs: bool = True

    def view(self, name: str | None = None) -> View:
        """The view of that name; without a name, the first.

        Raises:
            UsageError: There is none; the message lists those that are.
        """
        for view in self.views:
            if name in (None, view.name):
                return view
        known = ", ".join(view.name for view in self.views)
        raise UsageError(f"{self.name} has no view {name}; it has {known}")
