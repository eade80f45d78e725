"""The mixture that a recipe describes."""

from __future__ import annotations

from dataclasses import replace

from pairloom.errors import RecipeError
from pairloom.pairs.configuration import dataset_weights
from pairloom.pairs.dataset import open_datasets
from pairloom.pairs.mixture import Mixture
from pairloom.pairs.order import BlockShuffle
from pairloom.recipe import Recipe


def start_mixture(recipe: Recipe, *, rank: int = 0, world_size: int = 1) -> Mixture:
    """Opens the shards of the recipe, and sees to it that they suffice.

    Args:
        recipe: Its sections ``data`` and ``train`` are used.
        rank: Whose share of each batch will be read.
        world_size: How many processes share them.

    Raises:
        ArtifactError: Shards are missing or not whole.
        InputError: A dataset is too small for its part of a batch.
        RecipeError: The datasets run out before the run ends.
    """
    section, steps = recipe.data, recipe.train.steps
    blocks = None if section.block_shuffle is None else BlockShuffle(**section.block_shuffle.model_dump())
    datasets = open_datasets(section.datasets, reads_ahead=blocks is not None)
    weights = dataset_weights(section, [len(dataset) for dataset in datasets])
    mixture = Mixture(
        [replace(dataset, weight=weight) for dataset, weight in zip(datasets, weights, strict=True)],
        batch_size=recipe.train.batch_size,
        seed=recipe.train.seed,
        datasets_per_batch=section.datasets_per_batch,
        steps_per_group=section.steps_per_group,
        datasets_per_group=section.datasets_per_group,
        block_shuffle=blocks,
        rank=rank,
        world_size=world_size,
    )
    if all(dataset.max_epochs for dataset in section.datasets) and (most := mixture.count(steps).steps) < steps:
        raise RecipeError(
            f"train.steps = {steps}: there are pairs for only {most:,} steps, because every dataset has max_epochs; lower "
            "train.steps or allow more epochs"
        )
    return mixture
