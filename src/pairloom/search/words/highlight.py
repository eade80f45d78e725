"""Where the words of a query stand in a text, and which part of the text to show."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from pairloom.search.words.scratch import tokenized
from pairloom.search.words.search import MAX_WORDS, matching
from pairloom.search.words.segment import CLOSE, OPEN, SEPARATOR, query_words

Range = tuple[int, int]

_MARKED = "SELECT rowid, highlight(texts, 0, ?, ?) FROM texts WHERE texts MATCH ?"

_SIGNS = re.compile(f"([{OPEN}{CLOSE}{SEPARATOR}])")
# How far the ends of an excerpt are moved so that it begins and ends with a whole word.
_WORD_CHARACTERS = 20


def highlights(query: str | Sequence[str], texts: Sequence[str]) -> list[tuple[Range, ...]]:
    """Finds the words of a query in texts as the index of words does: without case, accents and endings.

    Args:
        query: A text; or some of its words, as `WordSearch.telling_words` gives them.
        texts: Any number of them; each is read once.

    Returns:
        For each text the ranges of characters in it, the end not included, in order; none overlap or touch.
    """
    words = query_words(query, MAX_WORDS) if isinstance(query, str) else query
    if not words or not texts:
        return [()] * len(texts)
    with tokenized(texts) as connection:
        marked = dict(connection.execute(_MARKED, (OPEN, CLOSE, matching(words))).fetchall())
    return [_ranges(marked[number]) if number in marked else () for number in range(len(texts))]


def excerpt(text: str, ranges: Sequence[Range], length: int) -> Range:
    """The part of a text to show: where the most different words are marked, then the most, then the first such part.

    Args:
        text: The text.
        ranges: What is marked in it, in order.
        length: Of the part, in characters; the text's own if it is shorter.

    Returns:
        Its beginning and end. The marked words stand in its middle, and it begins and ends with a whole word if it can.
    """
    if len(text) <= length:
        return 0, len(text)
    if not ranges:
        return 0, _end(text, 0, length)
    first, last = _densest(text, ranges, length)
    marked_begin, marked_end = ranges[first][0], min(ranges[last][1], ranges[first][0] + length)
    begin = min(max(0, marked_begin - (length - (marked_end - marked_begin)) // 2), len(text) - length)
    end = begin + length
    if begin > 0 and not text[begin - 1].isspace():
        gap = re.compile(r"\s+").search(text, begin, min(marked_begin, begin + _WORD_CHARACTERS))
        begin = begin if gap is None else gap.end()
    return begin, _end(text, marked_end, end)


def _densest(text: str, ranges: Sequence[Range], length: int) -> tuple[int, int]:
    """The first and the last of the ranges that a part of this length had best show."""
    best, best_value = (0, 0), (0, 0)
    inside: Counter[str] = Counter()
    first = 0
    for last, (begin, end) in enumerate(ranges):
        inside[text[begin:end].lower()] += 1
        while end - ranges[first][0] > length and first < last:
            word = text[slice(*ranges[first])].lower()
            inside[word] -= 1
            if not inside[word]:
                del inside[word]
            first += 1
        value = (len(inside), last - first + 1)
        if value > best_value:
            best, best_value = (first, last), value
    return best


def _end(text: str, least: int, end: int) -> int:
    """An end at most there that does not cut a word, if there is one near it and not before ``least``."""
    if end >= len(text) or text[end].isspace():
        return end
    least = max(least, end - _WORD_CHARACTERS)
    place = next((place for place in range(end - 1, least - 1, -1) if text[place].isspace()), end)
    return max(least, len(text[:place].rstrip())) if place > least else end


def _ranges(marked: str) -> tuple[Range, ...]:
    """Takes marks and separators out, and says where in what is left the marks were."""
    ranges: list[Range] = []
    place = begin = 0
    for piece in _SIGNS.split(marked):
        if piece == OPEN:
            begin = place
        elif piece == CLOSE:
            if ranges and ranges[-1][1] == begin:
                begin, _ = ranges.pop()
            ranges.append((begin, place))
        elif piece != SEPARATOR:
            place += len(piece)
    return tuple(ranges)
