"""Search over a vectors artifact, and how hits are shown."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pairloom import Encoder
from pairloom.encode.vectors import encode_texts
from pairloom.errors import ArtifactError, ModelError, UsageError
from pairloom.models.read import read_model
from pairloom.records import Hit, Text
from pairloom.search.exact import ExactSearch
from pairloom.search.show import mark, render_hits
from tests.conftest import make_pairs


@pytest.fixture(scope="module")
def vectors(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("search") / "vectors"
    texts = [Text(str(number), positive) for number, (_, positive) in enumerate(make_pairs(30))]
    encode_texts(Encoder(model_folder), texts, path, origin="test", show_progress=False)
    return path


def test_a_text_finds_itself_and_scores_fall(vectors: Path) -> None:
    search = ExactSearch(vectors)
    text = search.vectors.texts([11])[0].text
    hits = search.search(text, 5)
    assert (hits[0].id, hits[0].text) == ("11", text)
    assert hits[0].score == pytest.approx(1.0, abs=1e-5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len(search.search("coffee", 1000)) == 30


def test_k_below_one(vectors: Path) -> None:
    with pytest.raises(UsageError, match="k is 0"):
        ExactSearch(vectors).search("coffee", 0)


def test_another_model_is_refused(vectors: Path, model_folder: Path) -> None:
    model = read_model(model_folder)
    model.weights["embeddings.norm.bias"] = model.weights["embeddings.norm.bias"] + np.float32(0.5)
    with pytest.raises(ArtifactError, match="made by"):
        ExactSearch(vectors, Encoder(model))


def test_words_of_the_query_are_marked() -> None:
    shown = mark("How to BREW the coffee?", "Brewing coffee the slow way. [bold]not markup[/bold]")
    marked = [shown.plain[span.start : span.end] for span in shown.spans]
    assert marked == ["Brewing", "coffee"]
    assert "[bold]not markup" in shown.plain


def test_a_long_text_is_shown_around_the_first_marked_word() -> None:
    shown = mark("needle", "hay " * 500 + "needle" + " hay" * 500).plain
    assert "needle" in shown
    assert shown.startswith("… ")
    assert shown.endswith(" …")
    assert len(shown) < 410
    assert mark("nothing", "hay " * 500).plain.startswith("hay")
    assert mark("", "text").plain == "text"


def test_hits_are_wrapped() -> None:
    console = Console(file=io.StringIO(), width=40)
    console.print(render_hits("coffee", [Hit("d1", 0.5, "coffee " * 30)]))
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0.500" in output
    assert "d1" in output
    assert max(map(len, output.splitlines())) <= 40


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    console = Console(file=io.StringIO(), width=60, force_terminal=False)
    console.print(render_hits("red", [Hit("a\x1b[2J", 0.5, "\x1b[31mred\x1b]0;title\x07 [bold]x[/bold] \ud800")]))
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in output
    assert "\x07" not in output
    assert "[bold]x[/bold] ?" in output


@pytest.mark.parametrize("name", ["vectors.npy", "texts.jsonl", "offsets.npy"])
def test_a_changed_file_is_named_before_anything_is_answered(vectors: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(vectors, tmp_path / "copy"))
    content = bytearray((copy / name).read_bytes())
    content[-5] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name}: its content has changed"):
        ExactSearch(copy)


def test_a_model_that_has_gone_is_asked_for(model_folder: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(model_folder, tmp_path / "model"))
    encode_texts(Encoder(model), [Text("a", "coffee")], tmp_path / "vectors", origin="test", show_progress=False)
    model.rename(tmp_path / "moved")
    with pytest.raises(ModelError, match="say where it is with --model"):
        ExactSearch(tmp_path / "vectors")
    assert ExactSearch(tmp_path / "vectors", Encoder(tmp_path / "moved")).search("coffee")[0].id == "a"


def test_an_empty_query(vectors: Path) -> None:
    with pytest.raises(UsageError, match="the query is empty"):
        ExactSearch(vectors).search("  ")
