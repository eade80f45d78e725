"""What can be said of a run's base before it is fetched: whether it is here, its sizes, and what training would refuse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pairloom.errors import ModelError, PairloomError
from pairloom.models.architecture import Architecture
from pairloom.models.dual import AnyModel, DualModel
from pairloom.models.families import read_architecture
from pairloom.models.heads import Dense, Head, Pooling
from pairloom.models.model import Model
from pairloom.models.names import Whereabouts, find_here
from pairloom.models.published import published_architecture
from pairloom.models.settings import read_object
from pairloom.models.weights import Weights
from pairloom.recipe import Recipe, TrainSection
from pairloom.train.base import start_model


@dataclass(frozen=True)
class PlannedBase:
    """A base, as far as it is known.

    Args:
        name: As the recipe has it.
        where: It was found, or would come from; None if nobody could have it.
        model: That training would start from, one encoder or two; None if it is not here or cannot be read.
        architecture: Its own, or that of a published base that is not here; None if it is neither. Of two encoders it is
            that of the queries', which stands for both.
        missing: What is not here, in sentences.
        problems: What training would refuse, in sentences.
    """

    name: str
    where: Whereabouts | None
    model: AnyModel | None
    architecture: Architecture | None
    missing: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def heads(self) -> tuple[Head, ...]:
        """What follows the backbone; nothing where that is unknown, as in all published bases."""
        return () if self.model is None else of_queries(self.model).heads


def find_base(recipe: Recipe) -> PlannedBase:
    """Looks for the base on this machine, and reads it if it is there."""
    name = recipe.model.base
    try:
        where = find_here(name)
    except ModelError as error:
        return PlannedBase(name, None, None, None, missing=(f"the base {error}",))
    if where.folder is None:
        missing = f"the base {name}: not here; training would look for it on the Hugging Face hub"
        architecture = published_architecture(name)
        return PlannedBase(name, where, None, architecture, (missing,), _too_long(recipe, architecture))
    update = {"base": str(where.folder)}
    if (other := recipe.model.document_base) is not None:
        try:
            found = find_here(other).folder
        except ModelError as error:
            return PlannedBase(name, where, None, _configured(where.folder), (f"the documents' base {error}",))
        if found is None:
            missing = f"the documents' base {other}: not here; training would look for it on the Hugging Face hub"
            return PlannedBase(name, where, None, _configured(where.folder), (missing,))
        update["document_base"] = str(found)
    section = recipe.model.model_copy(update=update)
    try:
        model = start_model(recipe.model_copy(update={"model": section}))
    except PairloomError as error:
        architecture = _configured(where.folder) or published_architecture(name)
        if where.place == "cache" and isinstance(error, ModelError):
            missing = f"the base {name}: not whole in the hub's cache, so training would look for the rest on the hub ({error})"
            return PlannedBase(name, where, None, architecture, (missing,), _too_long(recipe, architecture))
        return PlannedBase(name, where, None, architecture, problems=(str(error),))
    return PlannedBase(name, where, model, of_queries(model).architecture)


def of_queries(model: AnyModel) -> Model:
    """The one encoder, or that of the queries."""
    return model.query if isinstance(model, DualModel) else model


def longest_limit(recipe: Recipe) -> int:
    """Tokens of the longest text that the recipe lets through."""
    data = recipe.data
    limits = [one.anchor_max_tokens or data.anchor_max_tokens for one in data.datasets]
    limits += [one.positive_max_tokens or data.positive_max_tokens for one in data.datasets]
    return max(limits)


def num_weights(architecture: Architecture, heads: tuple[Head, ...], section: TrainSection) -> tuple[int, int]:
    """How many numbers the weights are: all of them, and those that are trained."""
    shapes = dict(architecture.weight_shapes())
    frozen = tuple(f"layers.{number}." for number in range(section.freeze_layers))
    frozen += ("embeddings.",) if section.freeze_embeddings else ()
    in_heads = sum(
        head.weight.size + (0 if head.bias is None else head.bias.size) for head in heads if isinstance(head, Dense)
    )
    everything = sum(math.prod(shape) for shape in shapes.values()) + in_heads
    return everything, everything - sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(frozen))


def stand_in(architecture: Architecture) -> Model:
    """A model of random weights, which computes as fast as a real one and has no tokenizer.

    Weights are small and norms scale by one, so that no number grows out of bounds.
    """
    dice = np.random.default_rng(0)
    weights: Weights = {
        name: np.ones(shape, dtype=np.float32)
        if name.endswith("norm.weight")
        else 0.02 * dice.standard_normal(shape, dtype=np.float32)
        for name, shape in architecture.weight_shapes()
    }
    return Model(
        name="a stand-in",
        architecture=architecture,
        config={},
        weights=weights,
        unread_weights={},
        tokenizer_files={},
        max_tokens=architecture.max_tokens,
        lower_case=False,
        pooling=Pooling(("mean",)),
        heads=(),
        similarity="cosine",
        prompts={},
        default_prompt=None,
        output_size=None,
        has_modules=False,
    )


def _too_long(recipe: Recipe, architecture: Architecture | None) -> tuple[str, ...]:
    longest = longest_limit(recipe)
    if architecture is None or longest <= architecture.max_tokens:
        return ()
    limits = "lower data.anchor_max_tokens and data.positive_max_tokens"
    return (
        f"texts of {longest:,} tokens: {recipe.model.base} has only {architecture.max_tokens:,} positions; {limits}",
    )


def _configured(folder: Path) -> Architecture | None:
    """The shape of a base whose weights or other files cannot be read."""
    try:
        return read_architecture(read_object(folder / "config.json"), folder / "config.json")
    except ModelError:
        return None
