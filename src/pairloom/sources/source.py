"""What a source is: a corpus that pairloom can read, and the views that make pairs of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pairloom.artifacts import file_sha256
from pairloom.errors import UsageError
from pairloom.records import Pair


@dataclass
class Intake:
    """What a view tells of its work besides the pairs.

    Args:
        dropped: How many records of the corpus gave no pair, by reason.
        origins: What was read: name, size in bytes, SHA-256.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    origins: list[dict[str, Any]] = field(default_factory=list)

    def drop(self, reason: str) -> None:
        """Counts a record that gives no pair."""
        self.dropped[reason] += 1

    def add_file(self, path: Path) -> None:
        """Notes a file that is about to be read."""
        self.origins.append({"name": str(path), "bytes": path.stat().st_size, "sha256": file_sha256(path)})


@dataclass(frozen=True)
class View:
    """One way to make pairs from a corpus.

    Args:
        name: As on the command line.
        description: Anchor and positive, in a few words.
        pairs: Generator of raw pairs from the inputs, the source's section of the recipe, and an `Intake`. It applies
            the filters that need the record (scores, kinds) and counts what it drops; cleaning and lengths come
            after it.
        num_negatives: Hard negatives of each pair: 0 for pairs, 1 for triplets.
    """

    name: str
    description: str
    pairs: Callable[[Sequence[str], Any, Intake], Generator[Pair, None, None]]
    num_negatives: int = 0


@dataclass(frozen=True)
class Source:
    """A corpus.

    Args:
        name: As on the command line.
        description: One line.
        inputs: What INPUT is.
        licence: Of the texts.
        citation: Where the corpus comes from.
        views: The first is the default.
        needs_inputs: Whether there is nothing to read without an INPUT.
    """

    name: str
    description: str
    inputs: str
    licence: str
    citation: str
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
