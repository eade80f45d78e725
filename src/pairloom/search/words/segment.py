r"""Text as the index of words shall see it, and the words of a query.

FTS5 takes a run of letters for one word. Chinese, Japanese, Thai, Lao, Khmer and Burmese are written without spaces, and Korean
with few, so that a whole sentence would be one word. Their runs are therefore cut into single characters, each with the marks
that belong to it, by a separator that stands for no letter. In a query such a run becomes phrases of two neighbouring characters,
by which it is found wherever it stands, with no dictionary of any language (overlapping bigrams: Nie et al. 2000, *On the Use of
Words and N-grams for Chinese Information Retrieval*, https://doi.org/10.1145/355214.355235).

Before that, characters that would be in the way are replaced one by one, so that places in the text stay what they are:
separators, NUL, emoji and halves of surrogate pairs by a space, fullwidth letters and digits by the plain ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from unicodedata import category

VERSION = 1
"""Of what `segment` makes of a text; words that were indexed by another one cannot be deleted any more."""

# Marks are part of words: without them a Hindi or Thai word would end at each vowel. Accents, which are marks, too, are taken off.
TOKENIZER = "porter unicode61 remove_diacritics 2 categories ''L* N* M* Co''"
"""What a word is, as FTS5 reads it in a statement: letters, digits and marks, without case, accents and English endings."""

SEPARATOR = "\x1f"
OPEN, CLOSE = "\x1d", "\x1e"
"""What never stands in a segmented text, and may mark places in it."""

# Characters of a query that are looked at: a hundred pages of nothing but spaces end here.
_QUERY_CHARACTERS = 20_000

_MARKS = (
    "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"  # Thai
    "\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece"  # Lao
    "\u102b-\u103e\u1056-\u1059\u105e-\u1060\u1062-\u1064\u1067-\u106d\u1071-\u1074\u1082-\u108d\u108f\u109a-\u109d"  # Burmese
    "\ua9e5\uaa7b-\uaa7d"  # other letters of Burma
    "\u17b4-\u17d3\u17dd"  # Khmer
    "\u302a-\u302f\u3099\u309a\uff9e\uff9f"  # tones, and the voicing of kana
)
_LETTERS = (
    "\u3005-\u3007\u3021-\u3029\u3038-\u303c\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3100-\u312f\u31a0-\u31bf\u31f0-\u31ff\uff66-\uff9d"  # kana, bopomofo
    "\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7fb\uffa0-\uffdc"  # Hangul
    "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e50-\u0e59"  # Thai
    "\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd\u0ec0-\u0ec6\u0ed0-\u0edf"  # Lao
    "\u1000-\u102a\u103f-\u1049\u1050-\u1055\u105a-\u105d\u1061\u1065\u1066\u106e-\u1070\u1075-\u1081\u108e\u1090-\u1099"
    "\ua9e0-\ua9e4\ua9e6-\ua9fe\uaa60-\uaa76\uaa7a\uaa7e\uaa7f"  # Burmese
    "\u1780-\u17b3\u17d7\u17dc\u17e0-\u17e9"  # Khmer
)
# A letter with its marks; or marks that have none.
_CHARACTER = re.compile(f"[{_LETTERS}][{_MARKS}]*|[{_MARKS}]+")
_RUN = re.compile(f"[{_LETTERS}{_MARKS}]+")

# What would count as a letter and is none: what chooses how a letter or an emoji is drawn; and currencies, arrows and emoji, since
# to FTS5 whatever Unicode has assigned after 2012 is a letter. The ranges do not depend on the version of Python.
_GAPS = (
    "\0\x1d-\x1f\ud800-\udfff\ufe00-\ufe0f\U000e0000-\U000e0fff"
    "\u061c\u2066-\u2069\u20a0-\u20cf\u218a\u218b\u23f4-\u23ff\u2700\u2b00-\u2bff\u2e3c-\u2e5d\u32ff\ufdfe\ufdff\U0001f000-\U0001fbef"
)
_GAP = re.compile(f"[{_GAPS}]")
_FULLWIDTH = re.compile("[\uff01-\uff5e]")
_FULLWIDTH_OFFSET = 0xFEE0
_SPECIAL = re.compile(f"[{_GAPS}\uff01-\uff5e{_LETTERS}{_MARKS}]")

_ASCII_WORD = re.compile("[0-9A-Za-z]+")


def segment(text: str) -> str:
    """The text with separators around each character of scripts without spaces.

    What is not a separator stands for one character of the text, in order.
    """
    text = _replaced(text)
    if text.isascii() or _SPECIAL.search(text) is None:
        return text
    return _CHARACTER.sub(rf"{SEPARATOR}\g<0>{SEPARATOR}", text)


def query_words(query: str, limit: int) -> tuple[str, ...]:
    """The different words of a query, in their order.

    Args:
        query: Any text.
        limit: How many at most; what comes after them is not looked at.

    Returns:
        Words of letters, digits and marks; of a run of a script without spaces two neighbouring characters with a space between
        them, or the one that there is.
    """
    found: dict[str, None] = {}
    for word in _words(_replaced(query[:_QUERY_CHARACTERS])):
        found[word.lower() if word.isascii() else word] = None
        if len(found) == limit:
            break
    return tuple(found)


def _replaced(text: str) -> str:
    if text.isascii():
        for gap in ("\0", OPEN, CLOSE, SEPARATOR):
            text = text.replace(gap, " ")  # which takes no time where there is none
        return text
    if _SPECIAL.search(text) is None:
        return text
    return _FULLWIDTH.sub(lambda found: chr(ord(found[0]) - _FULLWIDTH_OFFSET), _GAP.sub(" ", text))


def _words(text: str) -> Iterator[str]:
    if text.isascii():
        yield from _ASCII_WORD.findall(text)
        return
    for word in "".join(character if _is_part_of_word(character) else " " for character in text).split(" "):
        place = 0
        for run in _RUN.finditer(word):
            if place < run.start():
                yield word[place : run.start()]
            characters = _CHARACTER.findall(run[0])
            if len(characters) == 1:
                yield characters[0]
            yield from map(" ".join, pairwise(characters))
            place = run.end()
        if place < len(word):
            yield word[place:]


def _is_part_of_word(character: str) -> bool:
    """As the tokenizer of the index has it."""
    kind = category(character)
    return kind[0] in "LNM" or kind == "Co"
