from __future__ import annotations

from pairloom.terminal import one_line, printable, short


def test_what_a_terminal_would_obey_is_gone() -> None:
    assert printable("a\x1b[31mred\x07\x9b\tb\nc") == "a [31mred  \tb\nc"
    assert printable("half \ud800 of a pair") == "half ? of a pair"


def test_one_line_folds_and_cuts() -> None:
    assert one_line(" a\n\n b\t\x1bc ") == "a b c"
    assert one_line("abcdef", 6) == "abcdef"
    assert one_line("abcdefg", 6) == "abcdef …"
    assert one_line("abcde fgh", 6) == "abcde …"


def test_values_as_words() -> None:
    assert short({"a": 1234, "b": None, "c": True}) == "a 1,234, b None, c True"
    assert short({}) == "none"
    assert short([1, 2, 3, 4]) == "1; 2; 3; 4"
    assert short([1, 2, 3, 4, 5]) == "1; 2; 3; 4; … (5)"
    assert short([{"name": "x", "bytes": 1000}]) == "name x, bytes 1,000"
