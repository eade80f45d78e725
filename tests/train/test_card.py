from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pairloom.models.model import Model
from pairloom.models.read import read_model
from pairloom.recipe import Recipe, parse_recipe
from pairloom.train.card import write_card
from pairloom.train.loop import train

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def model(model_folder: Path) -> Model:
    return read_model(model_folder)


def facts() -> dict[str, Any]:
    recipe = parse_recipe(
        {
            "model": {"base": "base"},
            "data": {"datasets": [{"shards": Path("a")}, {"shards": Path("b"), "name": "b|c"}]},
            "train": {"steps": 4, "batch_size": 8, "warmup_steps": 0},
        },
        where="test",
    )
    data = [
        {"name": name, "pairs": 40, "weight": 1.0, "pairs_drawn": 16, "fingerprint": "f" * 32} for name in ("a", "b|c")
    ]
    return {
        "recipe": recipe.model_dump(mode="json"),
        "data": data,
        "steps": 4,
        "device": "cpu",
        "torch": "2",
        "evaluations": [],
    }


OLD: list[dict[str, Any]] = [
    {"step": 1, "loss": 4.0, "dataset": "a"},
    {"step": 2, "loss": 3.0, "dataset": "a + b|c"},
    {"step": 3, "loss": 2.0, "dataset": "a"},
    {"step": 3, "evaluation": {"task": "t"}},
    {"step": 4, "loss": 1.0, "dataset": "b|c"},
]
NEW: list[dict[str, Any]] = [
    {"step": 1, "loss": 4.0, "datasets": {"a": {"pairs": 8, "loss": 4.0}}},
    {"step": 2, "loss": 3.0, "datasets": {"a": {"pairs": 4, "loss": 2.0}, "b|c": {"pairs": 4, "loss": 1.0}}},
    {"step": 3, "loss": 2.0, "datasets": {"a": {"pairs": 8, "loss": 2.0}}},
    {"step": 4, "loss": 1.0, "datasets": {"b|c": {"pairs": 8, "loss": 1.0}}},
]


@pytest.mark.parametrize("records", [OLD, NEW], ids=["old", "new"])
def test_the_card_tells_the_losses(model: Model, records: list[dict[str, Any]]) -> None:
    card = write_card("tiny", model, facts(), records)
    assert "| a | 40 | 1 | 16 | 4.000 | 2.000 |" in card
    assert "| b\\|c | 40 | 1 | 16 | 1.000 | 1.000 |" in card
    assert "The mean loss was 3.500 over the first 2 steps and 1.500 over the last 2;" in card


def test_a_run_without_records_says_so(model: Model) -> None:
    card = write_card("tiny", model, facts(), [])
    assert "| a | 40 | 1 | 16 | – | – |" in card
    assert "The loss was not recorded." in card


def test_the_card_tells_the_options_of_the_run(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    recipe = recipe_for(schedule="cosine", freeze_layers=1, average_decay=0.9)
    loss = recipe.loss.model_copy(update={"learn_scale": True, "query_query": True, "matryoshka_dimensions": (8, 32)})
    train(recipe.model_copy(update={"loss": loss}), tmp_path / "model", show_progress=False, device="cpu")
    card = " ".join((tmp_path / "model" / "README.md").read_text().split())
    for words in (
        "anchors among themselves too, in one denominator",
        "scale 20 at first, then learnt: ",
        "left out; mean over the first 8, 32 components.",
        "then cosine decay",
        "Frozen: the first 1 layers.",
        "moving average with decay 0.9.",
    ):
        assert words in card
