from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from pairloom.pairs.configuration import dataset_weights
from pairloom.recipe import Recipe, load_recipe, parse_recipe
from pairloom.train.recipe_toml import recipe_toml

from .test_report import HOSTILE

FULL: dict[str, Any] = {
    "model": {"base": "some/base", "pooling": "cls", "normalize": False, "similarity": "dot", "max_tokens": 64},
    "data": {
        "weights": "capped",
        "datasets_per_batch": 2,
        "block_shuffle": {"rows_per_block": 8, "blocks_per_window": 3},
        "datasets": [
            {"shards": "a", "num_rows": 40},
            {"shards": "b", "num_rows": 4_000_000, "weight": 3, "anchor_prompt": 'query: "é" \\ \t', "swap": True},
            {"shards": "c/c", "name": "third", "num_rows": 90, "divisor": 2.5, "max_epochs": 3, "batch_size": 16},
        ],
    },
    "loss": {"scale": 1, "matryoshka_dimensions": [8, 32]},
    "train": {"steps": 2**39, "epsilon": 1e-12, "learning_rate": 1e-5, "graph_memory_mib": 512, "average_decay": 0.99},
    "evaluate": {"tasks": ["task", "other task"], "every_steps": 50},
}


def read_again(recipe: Recipe) -> Recipe:
    return parse_recipe(tomllib.loads(recipe_toml(recipe)), where="again")


def test_a_recipe_is_read_again_as_it_was() -> None:
    recipe = parse_recipe(FULL, where="test")
    again = read_again(recipe)
    assert again == recipe
    num_rows = [dataset.num_rows for dataset in recipe.data.datasets]
    assert dataset_weights(again.data, num_rows) == dataset_weights(recipe.data, num_rows)


@pytest.mark.parametrize("name", ["adapt", "demo"])
def test_recipes_of_the_package_are_read_again(name: str) -> None:
    recipe = load_recipe(Path(name))
    assert read_again(recipe) == recipe


def test_defaults_are_written_out_but_for_datasets() -> None:
    raw = {"model": {"base": "b"}, "data": {"datasets": [{"shards": "a"}]}, "train": {"steps": 900}}
    written = tomllib.loads(recipe_toml(parse_recipe(raw, where="test")))
    assert written["data"]["datasets"] == [{"shards": "a"}]
    assert written["train"]["betas"] == [0.9, 0.999]
    assert written["loss"]["symmetric"] is True


@pytest.mark.parametrize("text", [*HOSTILE, "\x7f\x80\x9f\u2028", "```toml", "'''", '"""'])
def test_whatever_a_text_holds(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()  # no recipe holds half a surrogate pair
    dataset = {"shards": "a", "anchor_prompt": text}
    raw = {"model": {"base": text}, "data": {"datasets": [dataset]}, "train": {"steps": 900}}
    again = tomllib.loads(recipe_toml(parse_recipe(raw, where="test")))
    assert again["model"]["base"] == again["data"]["datasets"][0]["anchor_prompt"] == text
