"""The model that training starts from: the base, with what the recipe says of pooling, similarity and limits."""

from __future__ import annotations

import dataclasses

from pairloom.errors import RecipeError
from pairloom.models.heads import Dense, Normalize, Pooling
from pairloom.models.model import Model
from pairloom.models.names import load_model
from pairloom.recipe import Recipe


def start_model(recipe: Recipe) -> Model:
    """Loads the base and lays the recipe's ``[model]`` section over it.

    Raises:
        ModelError: The base is not found or cannot be read.
        RecipeError: The recipe asks for longer texts than the base has positions for.
    """
    section = recipe.model
    model = load_model(section.base)
    limit = model.architecture.max_tokens
    limits = [("model.max_tokens", section.max_tokens)]
    for key in ("anchor_max_tokens", "positive_max_tokens"):
        limits.append((f"data.{key}", getattr(recipe.data, key)))
        for number, dataset in enumerate(recipe.data.datasets):
            limits.append((f"data.datasets.{number}.{key}", getattr(dataset, key)))
    for key, value in limits:
        if value is not None and value > limit:
            raise RecipeError(f"{key} = {value}: {section.base} has only {limit} positions")
    if not model.pooling.include_prompt and any(
        one.anchor_prompt or one.positive_prompt for one in recipe.data.datasets
    ):
        raise RecipeError(
            f"data.datasets has prompts, but {section.base} leaves prompts out of its pooling, which is not supported in training"
        )
    pooling = model.pooling
    if section.pooling is not None:
        pooling = Pooling((section.pooling,), model.pooling.include_prompt)
        if len(model.pooling.modes) != 1 and any(isinstance(head, Dense) for head in model.heads):
            raise RecipeError(f"model.pooling = {section.pooling}: the Dense module of {section.base} expects another")
    similarity = section.similarity or model.similarity
    heads = model.heads
    ends_normalized = bool(heads) and isinstance(heads[-1], Normalize)
    if section.normalize is True and not ends_normalized:
        heads = (*heads, Normalize())
    elif section.normalize is False and ends_normalized:
        heads = heads[:-1]
    elif section.normalize is None and not model.has_modules and similarity == "cosine":
        heads = (Normalize(),)
    return dataclasses.replace(
        model,
        pooling=pooling,
        heads=heads,
        similarity=similarity,
        max_tokens=section.max_tokens or model.max_tokens,
    )
