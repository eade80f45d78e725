"""Texts that are cut are counted, on each side, and said."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pairloom.artifacts import read_manifest
from pairloom.models.model import Model
from pairloom.models.read import read_model
from pairloom.recipe import Recipe
from pairloom.train.loop import train
from pairloom.train.truncation import count_texts, truncation_note
from tests.conftest import make_pairs

MakeRecipe = Callable[..., Recipe]


def facts(
    anchors: tuple[int, int], candidates: tuple[int, int], *datasets: dict[str, int], **data: int
) -> dict[str, Any]:
    limits = {"anchor_max_tokens": 128, "positive_max_tokens": 128, **data}
    texts = {
        side: {"count": count, "truncated": truncated}
        for side, (count, truncated) in {"anchors": anchors, "candidates": candidates}.items()
    }
    return {"recipe": {"data": {"datasets": datasets or ({},), **limits}}, "texts": texts}


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (facts((1000, 3), (2000, 120)), "4.1 % of the texts (123 of 3,000) were longer than 128 tokens; they were cut"),
        (facts((50_000, 1), (50_000, 0)), "less than 0.01 % of the texts (1 of 100,000) were longer than 128 tokens; they were cut"),
        (facts((8, 8), (8, 8)), "100 % of the texts (16 of 16) were longer than 128 tokens; they were cut"),
        (facts((1000, 0), (1000, 0)), ""),
        (facts((0, 0), (0, 0)), ""),
        (
            facts((1000, 3), (2000, 500), anchor_max_tokens=16),
            "0.3 % of the anchors (3 of 1,000) were longer than 16 tokens and 25 % of the candidates (500 of 2,000) were longer than 128 tokens; they were cut",
        ),
        (
            facts((1000, 0), (2000, 500), {"positive_max_tokens": 2048}, {}),
            "25 % of the candidates (500 of 2,000) were longer than their limit of 128 to 2,048 tokens; they were cut",
        ),
        (facts((10, 1), (10, 1), {"anchor_max_tokens": 9}, anchor_max_tokens=7, positive_max_tokens=9),
         "10 % of the texts (2 of 20) were longer than 9 tokens; they were cut"),
    ],
)  # fmt: skip
def test_the_sentence(told: dict[str, Any], sentence: str) -> None:
    assert truncation_note(told) == sentence


def test_a_run_of_an_earlier_version_says_nothing() -> None:
    told = facts((1, 1), (1, 1))
    del told["texts"]
    assert truncation_note(told) == ""
    assert truncation_note({**told, "texts": count_texts([{"step": 1, "loss": 2.0}])}) == ""


def test_counts_are_added_up_over_the_steps_that_tell() -> None:
    records: list[dict[str, Any]] = [
        {"step": 0, "evaluation": {}},
        {"step": 1, "loss": 1.0},
        {"step": 2, "texts": {"anchors": {"count": 8, "truncated": 3}, "candidates": {"count": 16, "truncated": 0}}},
        {"step": 3, "skipped": "the loss is nan"},
        {"step": 4, "texts": {"anchors": {"count": 8, "truncated": 1}, "candidates": {"count": 8, "truncated": 5}}},
    ]
    assert count_texts(records) == {
        "anchors": {"count": 16, "truncated": 4},
        "candidates": {"count": 24, "truncated": 5},
    }


def longer(model: Model, texts: Sequence[str], limit: int) -> int:
    return int((model.tokenizer(cut=False)(texts).lengths > limit).sum())


@pytest.mark.parametrize("encoders", ["shared", "two"])
def test_a_run_counts_what_it_cut_and_says_it_everywhere(
    encoders: str, recipe_for: MakeRecipe, model_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = recipe_for(steps=5)  # 5 batches of 8: each of the 40 pairs once
    recipe = recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"anchor_max_tokens": 7, "positive_max_tokens": 6}),
            "model": recipe.model.model_copy(update={"encoders": encoders}),
        }
    )
    with caplog.at_level(logging.WARNING, logger="pairloom"):
        told = train(recipe, tmp_path / "model", show_progress=False, device="cpu").facts
    model = read_model(model_folder)
    anchors, positives = zip(*make_pairs(40), strict=True)
    first, second = longer(model, anchors, 7), longer(model, positives, 6)
    assert 0 < first < second
    assert told["texts"] == {
        "anchors": {"count": 40, "truncated": first},
        "candidates": {"count": 40, "truncated": second},
    }
    assert read_manifest(tmp_path / "model").facts["texts"] == told["texts"]
    note = truncation_note(told)
    assert f"of the anchors ({first} of 40) were longer than 7 tokens" in note
    assert [record.getMessage() for record in caplog.records] == [f"in training, {note}"]
    assert f"{note}." in (tmp_path / "model" / "README.md").read_text()
    records = [json.loads(line) for line in (tmp_path / "model" / "metrics.jsonl").read_text().splitlines()]
    assert [record["texts"]["anchors"]["count"] for record in records if "loss" in record] == [8] * 5
    assert sum(record["texts"]["candidates"]["truncated"] for record in records if "loss" in record) == second


def test_a_run_that_cut_nothing_says_so_in_its_card_alone(
    recipe_for: MakeRecipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="pairloom"):
        train(recipe_for(steps=3), tmp_path / "model", show_progress=False, device="cpu")
    assert caplog.records == []
    assert "No text was longer than its limit." in (tmp_path / "model" / "README.md").read_text()
