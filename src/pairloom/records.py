"""The records that stages hand to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts that belong together, and optionally texts that look as if they did.

    Args:
        anchor: What is asked or said first: a question, a title, a comment.
        positive: What belongs to it: an answer, a body, a reply.
        negatives: Hard negatives: texts that are near the anchor but wrong.
        context: Where anchor and positive are a reply and what it answers: what was said before that. It belongs to
            them, and is no negative.
    """

    anchor: str
    positive: str
    negatives: tuple[str, ...] = ()
    context: str | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """All of them, in the order of the columns of shards."""
        return (self.anchor, self.positive, *self.negatives, *(() if self.context is None else (self.context,)))


@dataclass(frozen=True, slots=True)
class Text:
    """A text with the name under which it is found again."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A text that is searched for, and what is known of it.

    Args:
        id: The name under which it is found again.
        text: What is searched in.
        metadata: JSON values by name, by which searches are filtered: strings, numbers, booleans, null, lists of them,
            and objects, into which dots lead (``author.name``).
    """

    id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hit:
    """A text found by a search.

    Args:
        id: Its name.
        score: Its similarity under the model; of a search for words its BM25, and of both the fusion of their ranks.
        text: The text.
        metadata: What is known of it.
        highlights: Where words of the query stand in the text, from character to character (not included), in order.
    """

    id: str
    score: float
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    highlights: tuple[tuple[int, int], ...] = ()
