from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from pairloom.pairs.shards import Shards
from pairloom.pairs.show import panels, render
from pairloom.pairs.statistics import Statistics, TokenCounter, describe
from pairloom.plot import save_picture
from tests.conftest import make_pairs, make_shards

WORDS = TokenCounter("words", 64, lambda texts: np.array([len(text.split()) for text in texts]))


@pytest.fixture
def found(tmp_path: Path) -> Statistics:
    return describe(Shards(make_shards(tmp_path / "pairs", make_pairs(12))), tokenizer=WORDS)


def shown(facts: dict[str, Any], statistics: Statistics, *, width: int = 80) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(render(facts, statistics))
    assert all(len(line) <= width for line in stream.getvalue().splitlines())
    return " ".join(stream.getvalue().split())


def test_drops_have_their_share_of_what_was_read(found: Statistics) -> None:
    text = shown({"num_records": 40, "dropped": {"too [short]": 8, "empty": 20}}, found)
    assert "empty 20 50.0 % too [short] 8 20.0 % in all 28 70.0 %" in text
    assert "empty 88 88.0 %" in shown({"dropped": {"empty": 88}}, found)
    assert "empty 1 < 0.1 %" in shown({"num_records": 10_000, "dropped": {"empty": 1}}, found)
    assert "dropped none" in shown({"num_records": 12, "dropped": {}}, found)


def test_many_origins_are_summed_up(found: Statistics) -> None:
    origins = [{"name": f"file {number}.xml", "bytes": 1000, "sha256": "0"} for number in range(25)]
    text = shown({"origins": origins}, found)
    assert "file 9.xml 1,000 … and 15 more (--json shows all) 15,000" in text
    assert "file 10.xml" not in text


def test_broken_records_have_places(found: Statistics) -> None:
    places = [f"dump.xml, line {number}" for number in range(14)]
    text = shown({"broken": {"count": 1400, "places": places}}, found)
    assert "broken records: 1,400 dump.xml, line 0" in text
    assert "line 9 … and 4 more" in text
    assert "broken records: 0" in shown({"broken": {"count": 0}}, found)


@pytest.mark.parametrize("value", [None, 3, "words", [], ["x"], {}, {"count": "many"}, {"a": {"b": 1}}, [{"name": 1}]])
def test_facts_of_another_shape_are_shown_all_the_same(found: Statistics, value: Any) -> None:
    for name in ("dropped", "origins", "broken", "num_records", "filters", "holdout", "something_new"):
        shown({name: value}, found)
    assert "something new x" in shown({"something_new": "x"}, found)


def test_lengths_and_rows(found: Statistics) -> None:
    text = shown({}, found)
    facts = found.to_json()
    medians = [facts["characters"][column]["p50"] for column in ("anchor", "positive")]
    medians += [facts["tokens"]["columns"][column]["p50"] for column in ("anchor", "positive")]
    assert f"median {' '.join(map(str, medians))}" in text
    assert "over 64 0.0 % 0.0 % over 128 0.0 % 0.0 %" in text
    assert "tokens of words in all rows" in text
    assert "10 rows drawn by chance (seed 0)" in text
    for sample in found.samples:
        assert f"row {sample['row']} anchor {sample['anchor']} positive {sample['positive']}" in text


def test_texts_are_cut_and_cannot_steer_the_terminal(tmp_path: Path) -> None:
    rows = [("[bold]a[/] :smile: \x1b[2J\nb", "c " * 400)]
    text = shown({}, describe(Shards(make_shards(tmp_path / "pairs", rows))), width=500)
    assert "[bold]a[/] :smile: [2J b" in text
    assert "c " * 150 + "… " not in text
    assert ("c " * 150).strip() + " …" in text
    assert "\x1b" not in text
    assert "no lengths in tokens" in text


def test_the_panels_can_be_drawn(found: Statistics, tmp_path: Path) -> None:
    characters, tokens = panels(found)
    assert list(characters.series) == ["anchor", "positive"]
    assert tokens.x_label == "tokens of words, all rows"
    assert tokens.marks == (64, 128)
    save_picture(tmp_path / "a.png", "x", [characters, tokens])
