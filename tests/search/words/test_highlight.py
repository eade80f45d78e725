"""Where the words of a query stand, and which part of a text to show."""

from __future__ import annotations

from unicodedata import category

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.search.words.highlight import excerpt, highlights
from pairloom.search.words.segment import CLOSE, OPEN, SEPARATOR

TEXTS = st.text(
    st.one_of(
        st.characters(categories=["L", "M", "N", "Z", "Cc", "Co", "Cs"]),
        st.sampled_from("ab .,-「🤣東京ｶﾞ\x1d\x1e\x1f\0\ud800Ａé"),
    ),
    max_size=40,
)


def marked(query: str, text: str) -> list[str]:
    return [text[begin:end] for begin, end in highlights(query, [text])[0]]


@pytest.mark.parametrize(
    ("query", "text", "expected"),
    [
        (
            "brew the coffee",
            "Brewing COFFEE, the slow way: brewed coffees",
            ["Brewing", "COFFEE", "the", "brewed", "coffees"],
        ),
        ("cafe", "Café, cafe\u0301 and cafeteria", ["Café", "cafe\u0301"]),
        ("東京都", "私は東京都に住む。京都にも東京にも。", ["東京都", "京都", "東京"]),
        ("猫", "黒猫と白猫", ["猫", "猫"]),
        ("กินน้ำ", "ฉันกินน้ำ", ["กินน้ำ"]),
        ("हिन्दी", "हिन्दी में", ["हिन्दी"]),
        ("api", "the ＡＰＩ is", ["ＡＰＩ"]),
        ("end", f"a\0b {OPEN}c{CLOSE} 🙂 \ud800{SEPARATOR} end", ["end"]),
        ("a 東", "a東x", ["a東"]),
        ('"end" NEAR(*', "near the end", ["near", "end"]),
        ("nothing", "something", []),
        ("", "something", []),
        ("something", "", []),
    ],
)
def test_words_are_marked(query: str, text: str, expected: list[str]) -> None:
    assert marked(query, text) == expected


def test_several_texts_and_chosen_words() -> None:
    texts = ["how to brew", "nothing", "brew how brew"]
    assert highlights("how brew", texts) == [((0, 3), (7, 11)), (), ((0, 4), (5, 8), (9, 13))]
    assert highlights(["brew"], texts) == [((7, 11),), (), ((0, 4), (9, 13))]
    assert highlights([], texts) == [(), (), ()]
    assert highlights("how", []) == []


@settings(deadline=None)
@given(query=TEXTS, text=TEXTS)
def test_ranges_are_in_order_apart_and_of_whole_words(query: str, text: str) -> None:
    (ranges,) = highlights(query, [text])
    ends = [place for of_one in ranges for place in of_one]
    assert ends == sorted(set(ends))
    assert not ends or (ends[0] >= 0 and ends[-1] <= len(text))
    for begin, end in ranges:
        assert highlights(query, [text[begin:end]]) == [((0, end - begin),)]


@settings(deadline=None)
@given(TEXTS)
def test_a_text_is_marked_by_all_its_own_words(text: str) -> None:
    (ranges,) = highlights(text, [text])
    shown = {place for begin, end in ranges for place in range(begin, end)}
    letters = {place for place, character in enumerate(text) if category(character)[0] in "LN"}
    assert letters <= shown


def test_an_excerpt_shows_the_most_different_words() -> None:
    text = "red red red " + "grey " * 40 + "red fox " + "grey " * 40
    (ranges,) = highlights("red fox", [text])
    begin, end = excerpt(text, ranges, 60)
    assert "red fox" in text[begin:end]
    assert end - begin <= 60
    # In the middle, and from word to word.
    assert abs((begin + end) / 2 - (text.index("fox"))) < 10
    assert text[begin:end].split() == [word for word in text[begin:end].split() if word in ("red", "fox", "grey")]
    (ranges,) = highlights("red", [text])
    assert excerpt(text, ranges, 60)[0] == 0


def test_an_excerpt_without_marks_is_the_beginning() -> None:
    assert excerpt("word " * 20, (), 23) == (0, 19)
    assert excerpt("short", (), 23) == (0, 5)
    assert excerpt("", (), 5) == (0, 0)
    assert excerpt("x" * 50, (), 23) == (0, 23)
    assert excerpt(" " * 50, (), 23)[1] <= 23


def test_a_word_longer_than_an_excerpt_is_cut() -> None:
    text = "a " + "x" * 50 + " b"
    assert excerpt(text, ((2, 52),), 10) == (2, 12)


@given(TEXTS, TEXTS, st.integers(1, 50))
@settings(deadline=None)
def test_an_excerpt_is_a_part_with_a_mark_in_it(query: str, text: str, length: int) -> None:
    (ranges,) = highlights(query, [text])
    begin, end = excerpt(text, ranges, length)
    assert 0 <= begin <= end <= len(text)
    assert end - begin <= length
    assert not ranges or any(begin <= first < end for first, _ in ranges)
