"""How hits are shown: what is marked in them, and what is known of them."""

from __future__ import annotations

import io

from rich.console import Console

from pairloom.records import Hit
from pairloom.search.show import render_hits


def shown(query: str, *hits: Hit, colours: bool = False) -> str:
    console = Console(
        file=io.StringIO(), width=80, force_terminal=colours, color_system="standard" if colours else None
    )
    console.print(render_hits(query, hits))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in lines)


def test_metadata_is_a_line_of_its_own() -> None:
    hit = Hit("d", 0.5, "text", {"tag": ["a", "b"], "year": 2021, "open": True, "author": {"name": "ä"}})
    assert '    tag: a, b · year: 2021 · open: true · author: {"name": "ä"}\n    text' in shown("q", hit)
    assert shown("q", Hit("d", 0.5, "text")).splitlines()[1].strip() == "text"


def test_long_metadata_is_cut_and_obeyed_by_no_terminal() -> None:
    output = shown("q", Hit("d", 0.5, "text", {"a": "\x1b[2J" + "word " * 100, "b\n": 1}))
    assert "\x1b" not in output
    assert "…" in output
    assert len(output) < 400


def test_what_a_hit_highlights_is_marked_and_nothing_else() -> None:
    hit = Hit("d", 0.5, "brewing hot coffee, brewing", highlights=((0, 7), (12, 18)))
    marked = "\x1b[1;33mbrewing\x1b[0m hot \x1b[1;33mcoffee\x1b[0m, brewing"
    assert marked in shown("hot coffee brewing", hit, colours=True)
    assert marked not in shown("hot coffee brewing", Hit("d", 0.5, hit.text), colours=True)


def test_a_long_text_is_shown_around_the_first_highlight() -> None:
    text = "hay " * 500 + "needle" + " hay" * 500
    output = shown("q", Hit("d", 0.5, text, highlights=((2000, 2006),)), colours=True)
    assert "\x1b[1;33mneedle\x1b[0m" in output
    assert output.count("…") == 2
    assert len(output) < 700


def test_control_characters_do_not_move_highlights() -> None:
    output = shown("q", Hit("d", 0.5, "\x1b[31m\ud800 coffee", highlights=((7, 13),)), colours=True)
    assert "\x1b[1;33mcoffee\x1b[0m" in output
    assert "\x1b[31m" not in output
