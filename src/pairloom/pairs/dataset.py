"""A dataset as the mixture sees it: a source of rows, and how to use it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pairloom.errors import UsageError
from pairloom.pairs.layout import CONTEXT_COLUMNS
from pairloom.recipe import DatasetSection


class TextRows(Protocol):
    """Rows that were read: see `pairloom.pairs.rows.Rows`."""

    @property
    def columns(self) -> tuple[list[str], ...]:
        """The texts, column by column."""


class RowSource(Protocol):
    """Where rows come from: shards, or anything else that can tell a row by its number."""

    def __len__(self) -> int: ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns: `PAIR_COLUMNS`, `TRIPLET_COLUMNS` or `CONTEXT_COLUMNS` of `pairloom.pairs.layout`."""

    @property
    def fingerprint(self) -> str:
        """Changes when the rows do."""

    def hashes(self, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        """The `text_hash` of each text of some rows: uint64 ``[n, num_columns]``; no text is read."""

    def take(self, rows: NDArray[np.int64]) -> TextRows:
        """The texts of some rows."""


@dataclass(frozen=True)
class Dataset:
    """A source of rows, and how a mixture uses it.

    Args:
        name: It keys the order of the rows and the place in a saved state; no two of a mixture have the same.
        rows: Where they come from.
        weight: How often it is drawn, relative to the others.
        batch_size: Rows of a batch; by default the mixture's.
        max_epochs: After so many it is passed over; by default never.
        swap: Whether anchors and positives change places.
        anchor_prompt: What is put before each anchor when it is tokenized.
        positive_prompt: What is put before each positive, negative and past context.
        anchor_max_tokens: Longer anchors are cut; by default as the recipe says for all.
        positive_max_tokens: Longer positives, negatives and past contexts are cut.
        num_distinct: Different texts of each column, where they have been counted or estimated.

    Raises:
        UsageError: The name is empty, or a number is out of bounds.
    """

    name: str
    rows: RowSource
    weight: float = 1.0
    batch_size: int | None = None
    max_epochs: int | None = None
    swap: bool = False
    anchor_prompt: str = ""
    positive_prompt: str = ""
    anchor_max_tokens: int | None = None
    positive_max_tokens: int | None = None
    num_distinct: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name:
            raise UsageError("a dataset has no name; give it one")
        if isinstance(self.weight, bool) or not isinstance(self.weight, int | float):
            raise UsageError(f"{self.name}: its weight is {self.weight!r}, not a number")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise UsageError(f"{self.name}: its weight is {self.weight}; give a number above zero or leave it out")
        for what in ("batch_size", "max_epochs"):
            value = getattr(self, what)
            if value is not None and value < 1:
                raise UsageError(f"{self.name}: {what} is {value}, but must be at least 1")
        if len(self.rows.columns) not in (2, 3):
            raise UsageError(f"{self.name}: has {len(self.rows.columns)} columns; pairs have two and triplets three")
        if self.swap and self.has_context:
            raise UsageError(
                f"{self.name}: swap is for pairs and triplets; here a past context belongs to each positive, and would be "
                "taken from it; leave swap out"
            )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def has_context(self) -> bool:
        """Whether the third text of each row is a past context, and no negative."""
        return self.rows.columns == CONTEXT_COLUMNS

    def texts(self, rows: NDArray[np.int64]) -> tuple[list[str], ...]:
        """The texts of some rows: anchors, positives and negatives or past contexts, where there are any."""
        anchors, positives, *others = self.rows.take(rows).columns
        return (positives, anchors, *others) if self.swap else (anchors, positives, *others)


def open_datasets(sections: Sequence[DatasetSection], *, reads_ahead: bool = False) -> list[Dataset]:
    """Opens the shards that a recipe names.

    Args:
        sections: Of the recipe.
        reads_ahead: Whether rows will be read in blocks, so that the system may read more than it is asked for.

    Raises:
        ArtifactError: Shards are missing, not whole, or no shards.
    """
    from pairloom.pairs.shards import Shards  # here, so that a mixture over something else needs no Arrow

    datasets = []
    for section in sections:
        shards = Shards(section.shards, reads_ahead=reads_ahead)
        counted = shards.facts.get("num_distinct")
        distinct = {
            column: number
            for column, number in (counted.items() if isinstance(counted, dict) else ())
            if isinstance(number, int) and column in shards.columns
        }
        datasets.append(
            Dataset(
                name=section.dataset_name,
                rows=shards,
                weight=section.weight,
                batch_size=section.batch_size,
                max_epochs=section.max_epochs,
                swap=section.swap,
                anchor_prompt=section.anchor_prompt,
                positive_prompt=section.positive_prompt,
                anchor_max_tokens=section.anchor_max_tokens,
                positive_max_tokens=section.positive_max_tokens,
                num_distinct=distinct,
            )
        )
    return datasets
