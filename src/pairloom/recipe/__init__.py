"""Every knob of a run: a TOML file becomes frozen sections with bounds.

A recipe has up to five sections, ``[model] [data] [loss] [train] [evaluate]``; what is left out takes its default, or, with
``faithful = true`` above them, what the published models were trained with.
Paths are relative to the folder in which the command is run. The filters of `pairloom prepare` are sections, too, one for
each source.
"""

from __future__ import annotations

try:
    import pydantic as _pydantic  # noqa: F401
except ImportError:
    from pairloom.errors import MissingExtraError

    raise MissingExtraError("reading recipes", "pydantic", "data") from None

from pairloom.choices import PoolingMode, Precision, Schedule, Similarity, WeightRule
from pairloom.recipe.data import BlockShuffleSection, DataSection, DatasetSection, ListingSection
from pairloom.recipe.load import load_data_recipe, load_recipe, load_sources, parse_recipe
from pairloom.recipe.model import ModelSection
from pairloom.recipe.recipe import DataRecipe, Recipe
from pairloom.recipe.section import Section
from pairloom.recipe.sources import (
    AmazonQASection,
    Eli5Section,
    GooAQSection,
    MSMarcoSection,
    NaturalQuestionsSection,
    PairFilesSection,
    PaqSection,
    PythonDocsSection,
    QuoraSection,
    RedditSection,
    SearchQASection,
    SourceSection,
    SourcesSection,
    SplitSection,
    SquadSection,
    StackExchangeSection,
    TriviaQASection,
    WikiAnswersSection,
    YahooAnswersSection,
)
from pairloom.recipe.train import EvaluateSection, LossSection, TrainSection

__all__ = [
    "AmazonQASection",
    "BlockShuffleSection",
    "DataRecipe",
    "DataSection",
    "DatasetSection",
    "Eli5Section",
    "EvaluateSection",
    "GooAQSection",
    "ListingSection",
    "LossSection",
    "MSMarcoSection",
    "ModelSection",
    "NaturalQuestionsSection",
    "PairFilesSection",
    "PaqSection",
    "PoolingMode",
    "Precision",
    "PythonDocsSection",
    "QuoraSection",
    "Recipe",
    "RedditSection",
    "Schedule",
    "SearchQASection",
    "Section",
    "Similarity",
    "SourceSection",
    "SourcesSection",
    "SplitSection",
    "SquadSection",
    "StackExchangeSection",
    "TrainSection",
    "TriviaQASection",
    "WeightRule",
    "WikiAnswersSection",
    "YahooAnswersSection",
    "load_data_recipe",
    "load_recipe",
    "load_sources",
    "parse_recipe",
]
