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
class Hit:
    """A text found by a search, with its score under the model's similarity."""

    id: str
    score: float
    text: str
