"""All sections of a run together."""

from __future__ import annotations

from pairloom.recipe.data import DataSection
from pairloom.recipe.model import ModelSection
from pairloom.recipe.section import Section
from pairloom.recipe.train import EvaluateSection, LossSection, TrainSection


class Recipe(Section):
    """A whole run."""

    faithful: bool = False
    """What the recipe does not say is as the published models were trained, not as is best; see ``docs/faithful.md``."""
    model: ModelSection
    data: DataSection
    train: TrainSection
    loss: LossSection = LossSection()
    evaluate: EvaluateSection = EvaluateSection()


class DataRecipe(Section):
    """A recipe of which only the data matters: other sections are checked, but may be missing."""

    faithful: bool = False
    """As in `Recipe`."""
    data: DataSection
    train: TrainSection | None = None
    model: ModelSection | None = None
    loss: LossSection | None = None
    evaluate: EvaluateSection | None = None
