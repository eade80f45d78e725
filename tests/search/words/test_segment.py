"""Texts as the index of words sees them, and the words of queries."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.search.words.segment import CLOSE, OPEN, SEPARATOR, query_words, segment

TEXTS = st.text(st.one_of(st.characters(), st.sampled_from("ab 東京カ゛ｶﾞがไทยก์가한\ufe0fＡ\x1d\x1e\x1f\0\ud800မြန်")))


def pieces(text: str) -> list[str]:
    return [piece for piece in segment(text).split(SEPARATOR) if piece]


@pytest.mark.parametrize(
    "text", ["", "plain text, with signs; and\nlines", "Crème brûlée – à la carte…", "हिन्दी में खोज", "שלום мир ☀"]
)
def test_scripts_with_spaces_stay_as_they_are(text: str) -> None:
    assert segment(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("東京都", ["東", "京", "都"]),
        ("カタカナとひらがな", list("カタカナとひらがな")),
        ("Tower東京!", ["Tower", "東", "京", "!"]),
        ("\U00020000\U0002a6d6", ["\U00020000", "\U0002a6d6"]),
        ("한국어", ["한", "국", "어"]),
        ("กินน้ำ", ["กิ", "น", "น้", "ำ"]),
        ("ລາວ", ["ລ", "າ", "ວ"]),
        ("ភាសា", ["ភា", "សា"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("ｶﾞが", ["ｶﾞ", "が"]),
    ],
)
def test_scripts_without_spaces_are_cut_into_characters(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected


def test_what_would_be_in_the_way_is_replaced_one_by_one() -> None:
    assert segment(f"a\0b{OPEN}c{CLOSE}d{SEPARATOR}e") == "a b c d e"
    assert segment("é\0\ud800\udfff\x1f.") == "é    ."
    assert segment("ＡＢＣ１２３！ ❤\ufe0f") == "ABC123! ❤ "
    assert segment("so cool🤣🥲 ₿5") == "so cool    5"
    assert pieces("葛\U000e0100城") == ["葛", " ", "城"]


@given(TEXTS)
def test_what_is_no_separator_stands_for_one_character(text: str) -> None:
    segmented = segment(text)
    kept = segmented.replace(SEPARATOR, "")
    assert len(kept) == len(text)
    assert not {OPEN, CLOSE, "\0"} & set(segmented)
    segmented.encode()
    assert all(old == new or new == " " or ord(old) - ord(new) == 0xFEE0 for old, new in zip(text, kept, strict=True))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("How do I read-a file? HOW", ("how", "do", "i", "read", "a", "file")),
        ('NEAR("a b", 2) AND col:x* NOT -y', ("near", "a", "b", "2", "and", "col", "x", "not", "y")),
        ("snake_case don't", ("snake", "case", "don", "t")),
        ("东京 tower東京都", ("东 京", "tower", "東 京", "京 都")),
        ("猫", ("猫",)),
        ("กินน้ำ", ("กิ น", "น น้", "น้ ำ")),
        ("हिन्दी में", ("हिन्दी", "में")),
        ("Über über", ("Über", "über")),
        ("ＡＰＩ", ("api",)),
        ("a\0b\ud800c", ("a", "b", "c")),
        ("  \n …!? 🙂 ❤\ufe0f", ()),
        ("lol🤣lol2", ("lol", "lol2")),
        ("", ()),
    ],
)
def test_words_of_queries(query: str, expected: tuple[str, ...]) -> None:
    assert query_words(query, 100) == expected


def test_a_query_has_so_many_different_words() -> None:
    assert query_words("a b a c d", 3) == ("a", "b", "c")
    assert query_words("é b a c d", 3) == ("é", "b", "a")


@settings(deadline=None)
@given(TEXTS)
def test_words_are_nothing_but_letters(text: str) -> None:
    words = query_words(text, 1_000)
    assert len(set(words)) == len(words)
    for word in words:
        assert word
        word.encode()
        assert not set(word) & set(f'"*:()^+-_{OPEN}{CLOSE}{SEPARATOR}\0')
