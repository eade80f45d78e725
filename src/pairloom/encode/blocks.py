"""Cutting a stream of texts into the blocks that are encoded at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from pairloom.records import Document, Text

Item = TypeVar("Item", Text, Document)

# A block is what is sorted by length at once, so it needs many times the texts of a micro-batch; and it is what is lost
# at most when a job is killed, and what lies in memory, so its work is bounded as well. Short texts are cut by their
# number. Long ones are cut by their characters, which cost nothing to count, unlike tokens, and do not depend on the
# model: at 4 characters a token this is 512 texts of 256 tokens.
BLOCK_TEXTS = 4096
BLOCK_CHARACTERS = 1 << 19


def text_blocks(texts: Iterable[Item]) -> Iterator[list[Item]]:
    """Yields the texts in order, in blocks of `BLOCK_TEXTS`, or of fewer as soon as they have `BLOCK_CHARACTERS`.

    A block has at least one text, and only the last may end before it is full. Where blocks end depends on the texts
    before and nothing else, so a job that is resumed or divided has the same blocks as the unbroken one.

    Args:
        texts: Any number of them; no more are read than are given out.
    """
    block: list[Item] = []
    num_characters = 0
    for text in texts:
        block.append(text)
        num_characters += len(text.text)
        if len(block) == BLOCK_TEXTS or num_characters >= BLOCK_CHARACTERS:
            yield block
            block, num_characters = [], 0
    if block:
        yield block
