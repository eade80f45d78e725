"""The model that training starts from: the base, with what the recipe says of pooling, similarity and limits."""

from __future__ import annotations

import dataclasses

from pairloom.errors import RecipeError
from pairloom.models.dual import AnyModel, DualModel, load_any
from pairloom.models.heads import Dense, Normalize, Pooling
from pairloom.models.model import Model
from pairloom.recipe import Recipe


def start_model(recipe: Recipe) -> AnyModel:
    """Loads the base and lays the recipe's ``[model]`` section over it; two encoders each get all of it.

    Raises:
        ModelError: The base is not found or cannot be read.
        RecipeError: The recipe asks for longer texts than a base has positions for, or two bases do not go together.
    """
    section = recipe.model
    if section.encoders == "shared":
        model = _one(section.base, "model.base")
        return _start_encoder(model, recipe, section.base, sides=("anchor", "positive"))
    base = load_any(section.base)
    if section.document_base is None:
        query, document = (base.query, base.document) if isinstance(base, DualModel) else (base, base)
    elif isinstance(base, DualModel):
        raise RecipeError(
            f"model.base = {section.base}: is two encoders, so leave model.document_base out, or name one of them"
        )
    else:
        query, document = base, _one(section.document_base, "model.document_base")
    document_name = section.document_base or section.base
    query = _start_encoder(query, recipe, section.base, sides=("anchor",))
    document = _start_encoder(document, recipe, document_name, sides=("positive",))
    if query.dimensions != document.dimensions:
        raise RecipeError(
            f"model.document_base = {document_name}: makes vectors of {document.dimensions} numbers, and {section.base} of "
            f"{query.dimensions}; take two bases of one size"
        )
    if query.similarity != document.similarity:
        raise RecipeError(
            f"model.document_base = {document_name}: is made for {document.similarity}, and {section.base} for "
            f"{query.similarity}; set model.similarity"
        )
    return DualModel(section.base, query, document)


def _one(name: str, key: str) -> Model:
    model = load_any(name)
    if isinstance(model, DualModel):
        raise RecipeError(
            f'{key} = {name}: is two encoders; set model.encoders = "two" and model.base to it, or name one'
        )
    return model


def _start_encoder(model: Model, recipe: Recipe, name: str, *, sides: tuple[str, ...]) -> Model:
    """One encoder, which gets the texts of these sides of the pairs."""
    section = recipe.model
    limit = model.architecture.max_tokens
    limits = [("model.max_tokens", section.max_tokens)]
    for field in (f"{side}_max_tokens" for side in sides):
        limits.append((f"data.{field}", getattr(recipe.data, field)))
        for number, dataset in enumerate(recipe.data.datasets):
            limits.append((f"data.datasets.{number}.{field}", getattr(dataset, field)))
    for field, value in limits:
        if value is not None and value > limit:
            raise RecipeError(f"{field} = {value}: {name} has only {limit} positions")
    if not model.pooling.include_prompt and any(
        getattr(dataset, f"{side}_prompt") for dataset in recipe.data.datasets for side in sides
    ):
        raise RecipeError(
            f"data.datasets has prompts, but {name} leaves prompts out of its pooling, which is not supported in training"
        )
    pooling = model.pooling
    if section.pooling is not None:
        pooling = Pooling((section.pooling,), model.pooling.include_prompt)
        if len(model.pooling.modes) != 1 and any(isinstance(head, Dense) for head in model.heads):
            raise RecipeError(f"model.pooling = {section.pooling}: the Dense module of {name} expects another")
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
