from __future__ import annotations

import ast

import pytest
from markdown_it import MarkdownIt

from pairloom.train.card_text import code, fenced, plain, quoted, slug, table

from .test_report import HOSTILE

MARKED_UP = [
    "*a* _b_ **c**",
    "[x](http://example.org)",
    "# no heading",
    "`` ` ``",
    "a | b",
    "$x$",
    "&amp; &#60;",
    "\\",
    "~~a~~",
]
NAMES = [*HOSTILE, *MARKED_UP, "```", "`a", "", "'", '"""']


def text_of(markdown: str) -> list[str]:
    """What a reader sees of each paragraph or cell, provided that nothing in it is mark-up."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(markdown)
    seen = []
    for token in tokens:
        assert token.type != "html_block"
        if token.type == "inline":
            assert {child.type for child in token.children or []} <= {"text", "code_inline", "text_special"}, (
                token.content
            )
            seen.append("".join(child.content for child in token.children or []))
    return seen


def one_line(text: str) -> str:
    from pairloom.terminal import one_line

    return one_line(text, 120)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shown_as_they_are(name: str) -> None:
    assert text_of(f"A {plain(name)}.") == [f"A {one_line(name)}."]
    # Markdown folds nothing inside code but a space at both ends.
    assert text_of(f"A {code(name)}.")[0].replace(" ", "") == f"A{one_line(name)}.".replace(" ", "")
    shown = table(["a", ">b"], [[plain(name), "1"], [code(name, in_table=True), "2"]])
    cells = text_of(shown)
    assert len(cells) == 6
    assert cells[2] == one_line(name)
    assert cells[4].strip() == one_line(name)
    assert (cells[3], cells[5]) == ("1", "2")


@pytest.mark.parametrize("name", NAMES)
def test_code_holds_names_as_they_are(name: str) -> None:
    assert ast.literal_eval(quoted(name)) == name
    assert len(quoted(name).splitlines()) == 1
    (token,) = MarkdownIt().parse(fenced(f"x = {quoted(name)}\ny = 1", "python"))
    assert (token.type, token.info) == ("fence", "python")
    assert token.content == f"x = {quoted(name)}\ny = 1\n"


def test_numbers_stand_on_the_right() -> None:
    assert table(["a", ">b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_identifiers() -> None:
    assert slug("nDCG_at_10") == "ndcg_at_10"
    assert slug("My task: ☕ (new)") == "my_task_new"
    assert slug("☕") == "unknown"
