"""What the processes of `test_devices` do: the same training, shared by as many as there are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pairloom.recipe import Recipe, parse_recipe
from pairloom.train.base import start_model
from pairloom.train.data import start_mixture
from pairloom.train.learner import Learner
from pairloom.train.step import BatchTokenizer
from pairloom.train.world import World, start_world
from tests.train.world_jobs import digest

STEPS = 20


def train(world: World, recipe: Recipe) -> tuple[dict[str, Any], dict[str, Any]]:
    """Twenty steps: what is told of each, the gradient of the first as it was applied, and the weights in the end."""
    model = start_model(recipe)
    mixture = start_mixture(recipe, rank=world.rank, world_size=world.size)
    tokenize = BatchTokenizer(model, recipe.data)
    learner = Learner(model, recipe, similarity=model.similarity, device=world.device, world=world)
    parameters = {name: one for tower in learner.towers for name, one in tower.named_parameters().items()}
    if learner._log_scale is not None:
        parameters["log_scale"] = learner._log_scale
    arrays: dict[str, Any] = {}
    shares, told = [], []
    for number in range(1, STEPS + 1):
        batch = next(mixture)
        shares.append([len(batch.columns[0]), batch.num_pairs])
        result = learner.step(tokenize(batch), number)
        cut = [result.num_anchors_truncated, result.num_candidates_truncated]
        rates = [result.loss, result.gradient_norm, result.scale, float(result.correct.mean())]
        told.append([*rates, result.num_tokens, *cut])
        arrays |= {f"rows.{number}": result.rows}
        if number == 1:
            arrays |= {
                f"grad.{name}": one.grad.numpy().copy() for name, one in parameters.items() if one.grad is not None
            }
    arrays |= {f"weight.{name}": one.detach().numpy() for name, one in parameters.items()}
    results = [one for tower in learner.towers for one in tower.result.parameters()]
    everything = [*parameters.values(), *learner.state().values()]
    return arrays, {"told": told, "shares": shares, "bits": digest([*everything, *results])}


def run_as(variables: dict[str, str], recipes: dict[str, dict[str, Any]], folder: Path) -> None:
    """In a forked process, with its own variables, threads and stderr."""
    os.environ.update(variables)
    torch.set_num_threads(1)
    os.dup2(os.open(folder / f"stderr-{variables['RANK']}", os.O_WRONLY | os.O_CREAT), 2)
    facts = {}
    with start_world("cpu", timeout_s=60) as world:
        for name, raw in recipes.items():
            arrays, facts[name] = train(world, parse_recipe(raw, where=name))
            if world.is_first:
                np.savez(folder / f"{name}.npz", **arrays)
    (folder / f"rank-{variables['RANK']}.json").write_text(json.dumps(facts))
