from __future__ import annotations

import pytest

from pairloom.sources.tokens import untokenize


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("March 30 , 2018", "March 30, 2018"),
        ("( born 1984 ) , he 's 5 % taller .", "(born 1984), he's 5% taller."),
        ("`` Do n't , '' she said ; the players ' union", "\"Don't,\" she said; the players' union"),
        ("costs $ 5 ( or £ 4 )", "costs $5 (or £4)"),
        ("the sign ( ∴ ) : a [ b ] { c }", "the sign (∴): a [b] {c}"),
        ("well - known 1994 -- 95 a.m. , .NET", "well - known 1994 -- 95 a.m., .NET"),
        ("( ( a ) )", "((a))"),
        ("", ""),
        ("word", "word"),
    ],
)
def test_punctuation_finds_its_word(tokens: str, text: str) -> None:
    assert untokenize(tokens.split(" ")) == text


def test_a_long_text_takes_no_longer_than_it_should() -> None:
    assert len(untokenize(["("] * 200_000)) == 200_000
