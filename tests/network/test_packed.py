"""Packed texts against lists of lists."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pairloom.models.tokenizer import Tokens
from pairloom.network.packed import Packed, num_padding, pack
from tests.network.texts import CPU, make_packed, make_tokens

# Lengths of all texts; rows of the micro-batch.
CASES = {
    "uneven": ([3, 9, 1, 17, 9], [1, 4, 3, 0]),
    "full": ([5, 7, 5, 2, 5], [4, 0, 2]),
    "one text": ([4, 13, 2], [1]),
    "one token": ([2, 1], [1]),
    "a row twice": ([3, 2], [1, 0, 1]),
    "of eight and less": ([8, 3, 8], [0, 1, 2]),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Tokens, list[int]]:
    lengths, rows = CASES[request.param]
    return make_tokens(lengths), rows


def texts_of(tokens: Tokens) -> list[npt.NDArray[np.int32]]:
    return np.split(tokens.ids, np.cumsum(tokens.lengths)[:-1])


def pack_case(case: tuple[Tokens, list[int]]) -> tuple[Packed, list[list[int]]]:
    tokens, rows = case
    texts = texts_of(tokens)
    return pack(tokens, np.array(rows), CPU), [texts[row].tolist() for row in rows]


def test_pack_lays_the_rows_end_to_end_in_their_order(case: tuple[Tokens, list[int]]) -> None:
    packed, texts = pack_case(case)
    assert packed.ids.tolist() == [token for text in texts for token in text]
    assert packed.positions.tolist() == [place for text in texts for place in range(len(text))]
    assert packed.texts.tolist() == [number for number, text in enumerate(texts) for _ in text]
    assert packed.lengths.tolist() == [len(text) for text in texts]
    assert packed.ends.tolist() == [sum(map(len, texts[:number])) for number in range(len(texts) + 1)]
    assert packed.longest == max(map(len, texts))
    assert packed.num_texts == len(texts)


def test_kernels_get_the_types_they_take(case: tuple[Tokens, list[int]]) -> None:
    packed, _ = pack_case(case)
    assert packed.ends.dtype == torch.int32, "as flash attention asks"
    assert {packed.ids.dtype, packed.positions.dtype, packed.texts.dtype, packed.lengths.dtype} == {torch.int64}


def test_a_rectangle_is_as_wide_as_the_longest_if_all_are_equal_and_else_a_multiple_of_eight() -> None:
    widths = {(5, 5): 5, (13,): 13, (1,): 1, (5, 3): 8, (8, 1): 8, (9, 8): 16, (16, 16, 1): 16, (17, 16): 24}
    for lengths, width in widths.items():
        packed = make_packed(lengths)
        assert packed.width == width, lengths
        assert packed.full == (len(set(lengths)) == 1), lengths
        assert num_padding(np.array(lengths)) == width * len(lengths) - sum(lengths), lengths


@pytest.mark.parametrize("rest", [(), (3,), (2, 3)])
def test_pad_equals_a_plain_loop_and_unpad_undoes_it(case: tuple[Tokens, list[int]], rest: tuple[int, ...]) -> None:
    packed, texts = pack_case(case)
    values = torch.randn(len(packed.ids), *rest, generator=torch.Generator().manual_seed(1))
    expected = torch.zeros(len(texts), packed.width, *rest)
    inside = torch.zeros(len(texts), packed.width, dtype=torch.bool)
    token = 0
    for number, text in enumerate(texts):
        for place in range(len(text)):
            expected[number, place], inside[number, place] = values[token], True
            token += 1
    assert packed.pad(values).equal(expected)
    assert packed.inside().equal(inside)
    assert packed.unpad(packed.pad(values)).equal(values)


def test_unpad_takes_nothing_from_padding(case: tuple[Tokens, list[int]]) -> None:
    packed, _ = pack_case(case)
    rectangle = torch.full((packed.num_texts, packed.width, 2), torch.nan)
    rectangle[packed.inside()] = 1.0
    assert packed.unpad(rectangle).equal(torch.ones(len(packed.ids), 2))


def test_gradients_of_pad_and_unpad(case: tuple[Tokens, list[int]]) -> None:
    packed, _ = pack_case(case)
    values = torch.randn(len(packed.ids), 2, dtype=torch.float64, requires_grad=True)
    rectangle = torch.randn(packed.num_texts, packed.width, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(packed.pad, values)
    assert torch.autograd.gradcheck(packed.unpad, rectangle)


def test_padding_has_the_same_numbers_as_the_tokens_themselves_say(case: tuple[Tokens, list[int]]) -> None:
    tokens, rows = case
    packed, _ = pack_case(case)
    padded = tokens.padded(np.array(rows), pad_token_id=0)
    rectangle = packed.pad(packed.ids).numpy()
    np.testing.assert_array_equal(rectangle[:, : padded.shape[1]], padded)
    assert not rectangle[:, padded.shape[1] :].any()
