"""The records that stages hand to each other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts that belong together, and optionally texts that look as if they did.

    Args:
        anchor: What is asked or said first: a question, a title, a comment.
        positive: What belongs to it: an answer, a body, a reply.
        negatives: Hard negatives: texts that are near the anchor but wrong.
    """

    anchor: str
    positive: str
    negatives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    """A text with the name under which it is found again."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A text found by a search, with its score under the model's similarity."""

    id: str
    score: float
    text: str
