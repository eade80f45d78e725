from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairloom.pairs.clean import clean_text, text_hash

# Every code point, surrogates included.
ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("", ""),
        (" \n\t ", ""),
        ("plain", "plain"),
        ("  two\r\n\r\nlines\there  ", "two lines here"),
        ("non\u00a0breaking\u2003wide\u2028line\x85next", "non breaking wide line next"),
        ("be\x00ll\x07 \x7f end\x9f", "bell end"),
        ("\ufeffmark", "mark"),
        ("e\u0301te\u0301", "été"),
        ("e\x00\u0301", "é"),
        ("\ud83d\ude00", "😀"),
        ("a\ud83db\ude00", "a\ufffdb\ufffd"),
        ("می\u200cخواهم 👩\u200d💻", "می\u200cخواهم 👩\u200d💻"),
        ("ﬁ ² Å", "ﬁ ² Å"),
        ("1\x1c2", "1 2"),
    ],
)
def test_values(raw: str, clean: str) -> None:
    assert clean_text(raw) == clean


@given(ANY_TEXT)
def test_cleaning_is_idempotent_and_leaves_one_well_formed_line(text: str) -> None:
    clean = clean_text(text)
    assert clean_text(clean) == clean
    assert unicodedata.is_normalized("NFC", clean)
    assert clean == " ".join(clean.split())
    assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in clean)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126)))
def test_visible_ascii_is_left_alone(text: str) -> None:
    assert clean_text(text) == text


def test_hash_is_fixed_for_ever() -> None:
    # printf 'hello, world' | b2sum -l 64
    assert text_hash("Hello, World").to_bytes(8, "little").hex() == "11627be1588b7bc3"


def test_hash_ignores_case_and_white_space_only() -> None:
    assert text_hash("Hello, World") == text_hash("  hello,\nworld ") == text_hash("HELLO, WORLD")
    assert text_hash("straße") == text_hash("STRASSE")
    assert text_hash("hello world") != text_hash("helloworld")


@given(ANY_TEXT)
def test_hash_is_a_64_bit_number_of_any_text(text: str) -> None:
    assert 0 <= text_hash(text) < 2**64
    assert text_hash(text) == text_hash(f" {text}\n")
