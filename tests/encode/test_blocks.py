"""Blocks: as many texts or characters as they may have, and the same ones from wherever they are read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from pairloom.encode.blocks import BLOCK_CHARACTERS, BLOCK_TEXTS, text_blocks
from pairloom.records import Text


def texts_of(lengths: list[int]) -> list[Text]:
    return [Text(str(number), "x" * length) for number, length in enumerate(lengths)]


def sizes(lengths: list[int]) -> list[int]:
    return [len(block) for block in text_blocks(texts_of(lengths))]


def test_no_texts_make_no_block() -> None:
    assert list(text_blocks([])) == []


def test_short_texts_are_cut_by_their_number() -> None:
    assert sizes([1] * (2 * BLOCK_TEXTS)) == [BLOCK_TEXTS, BLOCK_TEXTS]
    assert sizes([0] * (BLOCK_TEXTS + 1)) == [BLOCK_TEXTS, 1]


def test_long_texts_are_cut_by_their_characters() -> None:
    assert sizes([BLOCK_CHARACTERS // 2] * 5) == [2, 2, 1]
    assert sizes([BLOCK_CHARACTERS // 2 - 1] * 5) == [3, 2], "a block ends with the text that fills it"
    assert sizes([BLOCK_CHARACTERS * 3, 1, 1]) == [1, 2], "a text of any length is in some block"


@given(st.lists(st.integers(0, BLOCK_CHARACTERS), max_size=20), st.integers(0, 20))
def test_a_job_that_goes_on_behind_a_block_has_the_same_blocks(lengths: list[int], done: int) -> None:
    texts = texts_of(lengths)
    blocks = list(text_blocks(texts))
    assert list(itertools.chain.from_iterable(blocks)) == texts
    assert all(blocks)
    num_done = sum(map(len, blocks[:done]))
    assert list(text_blocks(texts[num_done:])) == blocks[done:]


def test_no_more_is_read_than_is_given_out() -> None:
    read = 0

    def counted() -> Iterator[Text]:
        nonlocal read
        for text in texts_of([1] * (BLOCK_TEXTS + 10)):
            read += 1
            yield text

    first = next(text_blocks(counted()))
    assert len(first) == read == BLOCK_TEXTS
