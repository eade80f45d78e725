from __future__ import annotations

import pytest

from pairloom.pairs.clean import clean_text
from pairloom.sources.entities import replace_entities


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("a &amp; b &lt; c&#39;s &#x27;d&#X27; 30&deg;", "a & b < c's 'd' 30°"),
        ("&amp;gt;", "&gt;"),
        ("?a=1&copy=2 AT&T; &nosuchname; &;", "?a=1&copy=2 AT&T; &nosuchname; &;"),
        ("&#55357;&#56842;", "\ud83d\ude0a"),
        ("&#xD83D;", "\ud83d"),
        ("&#9999999; &#0;", "\ufffd \ufffd"),
        ("&#99999999;", "&#99999999;"),
    ],
)
def test_entities(text: str, expected: str) -> None:
    assert replace_entities(text) == expected


def test_halves_are_joined_by_cleaning() -> None:
    assert clean_text(replace_entities("&#55357;&#56842;")) == "😊"
