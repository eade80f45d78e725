"""Replies with what was said before: from shards to the step, against a plain transcription."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pairloom.models.model import Model
from pairloom.models.read import read_model
from pairloom.pairs.dataset import open_datasets
from pairloom.pairs.mixture import Mixture
from pairloom.recipe import Recipe
from pairloom.train.learner import Learner
from pairloom.train.loop import train
from pairloom.train.step import BatchTokenizer, BatchTokens
from tests.conftest import make_pairs, make_shards
from tests.network.texts import CPU
from tests.train.test_learner import Transcription, make_batch, make_learner, make_recipe, weights_of, without_dropout


class ThreeLosses(Transcription):
    """The tutorial's training with three losses in the place of one."""

    def step(self, batch: BatchTokens, rate: float) -> tuple[float, float]:
        replies, contexts, past = self.embed(batch.tokens).chunk(3)
        labels = torch.arange(batch.num_pairs)
        losses: list[Tensor] = []
        for candidates in (contexts, past, functional.normalize((contexts + past) / 2, dim=1)):
            scores = 20 * replies @ candidates.T
            losses += [functional.cross_entropy(scores, labels), functional.cross_entropy(scores.T, labels)]
        loss = torch.stack(losses).mean()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.train.max_gradient_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return loss.item(), norm.item()


def contexts_batch(num_pairs: int = 8, *, seed: int = 0) -> BatchTokens:
    return dataclasses.replace(make_batch(num_pairs, columns=3, seed=seed), has_context=True)


@pytest.mark.parametrize("graph_memory_mib", [0, 1000])
def test_steps_equal_those_of_a_plain_transcription(
    graph_memory_mib: int, backbone_folder: Callable[[str], Path]
) -> None:
    folder = backbone_folder("bert")
    recipe = make_recipe({"mask_false_negatives": False}, graph_memory_mib=graph_memory_mib)
    learner = Learner(without_dropout(read_model(folder)), recipe, similarity="cosine", device=CPU)
    transcription = ThreeLosses(folder, recipe)
    for number in (1, 2, 3):
        batch = contexts_batch(seed=number)
        result = learner.step(batch, number)
        loss, norm = transcription.step(batch, result.learning_rate)
        assert result.loss == pytest.approx(loss, rel=1e-5)
        assert result.gradient_norm == pytest.approx(norm, rel=1e-4)
        assert result.rows.mean() == pytest.approx(loss, rel=1e-5)


@pytest.fixture
def model(backbone_folder: Callable[[str], Path]) -> Model:
    return read_model(backbone_folder("bert"))


def test_gradient_caching_changes_no_weight(model: Model) -> None:
    cached, kept = make_learner(model, graph_memory_mib=0), make_learner(model, graph_memory_mib=1000)
    for number in (1, 2, 3):
        batch = contexts_batch(seed=number)
        assert cached.step(batch, number).num_replayed_tokens > kept.step(batch, number).num_replayed_tokens == 0
    theirs = weights_of(kept)
    assert all(weight.equal(theirs[name]) for name, weight in weights_of(cached).items())


def test_a_past_context_is_not_taken_for_a_hard_negative(model: Model) -> None:
    batch = contexts_batch()
    as_negatives = dataclasses.replace(batch, has_context=False)
    plain = without_dropout(model)
    assert make_learner(plain).step(batch, 1).loss != pytest.approx(make_learner(plain).step(as_negatives, 1).loss)


def replies(count: int) -> list[tuple[str, str, str]]:
    return [(anchor, positive, f"before {positive} {anchor}") for anchor, positive in make_pairs(count)]


def test_the_batch_says_what_its_third_column_is(
    model_folder: Path, recipe_for: Callable[..., Recipe], tmp_path: Path
) -> None:
    make_shards(tmp_path / "contexts", replies(20), contexts=True)
    make_shards(tmp_path / "triplets", replies(20))
    model = read_model(model_folder)
    for name, expected in (("contexts", True), ("triplets", False)):
        recipe = with_shards(recipe_for(), tmp_path / name)
        batch = next(Mixture(open_datasets(recipe.data.datasets), batch_size=6, seed=1))
        tokens = BatchTokenizer(model, recipe.data)(batch)
        assert (tokens.has_context, tokens.num_columns, len(tokens.tokens)) == (expected, 3, 18)


def test_a_run_learns_from_past_contexts(recipe_for: Callable[..., Recipe], tmp_path: Path) -> None:
    make_shards(tmp_path / "contexts", replies(40), contexts=True)
    recipe = with_shards(recipe_for(steps=30), tmp_path / "contexts")
    train(recipe, tmp_path / "model", device="cpu", show_progress=False)
    losses = [record["loss"] for record in read_losses(tmp_path / "model" / "metrics.jsonl")]
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def with_shards(recipe: Recipe, shards: Path) -> Recipe:
    section = recipe.data.datasets[0].model_copy(update={"shards": shards})
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"datasets": (section,)})})


def read_losses(path: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [record for record in records if "loss" in record]
