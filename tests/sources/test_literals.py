from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.errors import RecordError
from pairloom.sources import literals
from pairloom.sources.literals import read_literal

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(VALUES)
def test_what_python_prints_is_read(value: Any) -> None:
    assert read_literal(f" {value!r}\n") == value


def test_brackets_and_odd_escapes_in_texts_are_text() -> None:
    text = "[" * 500 + r"{(' \" \' \\"
    assert read_literal(repr([text, {"a": text}])) == [text, {"a": text}]
    assert read_literal(r"'\d'") == "\\d"
    assert read_literal("u'é'") == "é"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"not a Python literal \(invalid syntax\)"),
        ("{'a': 1", r"not a Python literal \('\{' was never closed\)"),
        ("['cut of", r"not a Python literal \(unterminated string literal"),
        ("{'a': true}", "not a Python literal"),
        ("__import__('os').system('true')", "not a Python literal"),
        ("{[]: 1}", "not a Python literal"),
        ("f'{1}'", "not a Python literal"),
        ("'a\0b'", "not a Python literal"),
        ("9" * 5000, "not a Python literal"),
        ("[" * 21 + "]" * 21, "a Python literal nested deeper than 20 levels"),
        ("{'a':" * 100_000, "a Python literal nested deeper than 20 levels"),
        ("-" * 100_000 + "1", "not a Python literal"),
        ("not " * 60_000 + "1", "not a Python literal"),
        ("1" + "-1" * 60_000, "not a Python literal"),
        ("[" + "0," * 200_000 + "]", "a Python literal with too many values to be read"),
        ('"' + '\\"' * 1_000_000, "not a Python literal"),
    ],
)
def test_hostile_literals_are_broken_records(text: str, message: str) -> None:
    with pytest.raises(RecordError, match=f"^{message}"):
        read_literal(text)


def test_long_literals_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(literals, "_MAX_CHARS", 10)
    assert read_literal("'12345678'") == "12345678"
    with pytest.raises(RecordError, match="a Python literal of 11 characters, more than the 10 that are read"):
        read_literal("'123456789'")
