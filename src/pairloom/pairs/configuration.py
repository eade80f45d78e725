"""Which datasets a mixture draws from, and by what weights: read from a recipe or a published ``data_config.json``.

The data itself need not be there. Where the shards are, their numbers of rows count, whatever the recipe says.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pairloom.artifacts import read_manifest
from pairloom.errors import ArtifactError, RecipeError
from pairloom.listing import find_listing, read_listing, some
from pairloom.pairs import weights as rules
from pairloom.recipe import DataSection, DatasetSection, TrainSection, load_data_recipe
from pairloom.terminal import one_line

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConfiguredDataset:
    """A dataset as a configuration describes it.

    Args:
        name: Different from all others'.
        weight: How often it is drawn, relative to the others; finite and above 0.
        num_rows: None where nobody knows.
        columns: Of the shards; None where they are not at hand.
        batch_size: Pairs of a batch; by default the mixture's.
        max_epochs: After so many it is passed over; by default never.
    """

    name: str
    weight: float
    num_rows: int | None = None
    columns: tuple[str, ...] | None = None
    batch_size: int | None = None
    max_epochs: int | None = None


@dataclass(frozen=True)
class FoundShards:
    """What the shards of a dataset say of themselves.

    Args:
        num_rows: At least one.
        columns: Their names.
    """

    num_rows: int
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Configuration:
    """A mixture as a file describes it.

    Args:
        datasets: At least one, in the order of the file.
        datasets_per_batch: How many share a batch.
        steps: Of the training, where the file says it.
        batch_size: Pairs a step, where the file says it.
        steps_per_group: Steps that are drawn together.
        datasets_per_group: Draws of a dataset in a group.
    """

    datasets: tuple[ConfiguredDataset, ...]
    datasets_per_batch: int = 1
    steps: int | None = None
    batch_size: int | None = None
    steps_per_group: int = 1
    datasets_per_group: int = 1


def read_configuration(path: Path, overrides: Sequence[str] = ()) -> Configuration:
    """Reads a configuration; a name that ends in ``.json`` (also compressed) stands for a list of datasets.

    Args:
        path: A ``data_config.json``, a recipe of which only ``[data]`` must be there, or the name of a recipe or of a list
            that comes with pairloom.
        overrides: For recipes, ``section.key=value``.

    Raises:
        RecipeError: It is not well formed; names the entry and what is wrong with it.
        InputError: A JSON file cannot be read.
        ArtifactError: Shards that the recipe names are there, but damaged or of another kind.
    """
    listing = find_listing(str(path))
    if listing is not None and (listing == path or not path.exists()):
        if overrides:
            raise RecipeError(f"--set {overrides[0][:200]}: is for recipes, and {path} is none; edit the file")
        listed = read_listing(listing)
        return Configuration(tuple(ConfiguredDataset(one.name, one.weight, one.num_rows) for one in listed))
    recipe = load_data_recipe(path, list(overrides))
    data, train = recipe.data, recipe.train
    there = left(data) if data.missing == "leave-out" else data
    if there is None:
        raise RecipeError(f'{path}: data.missing = "leave-out" leaves nothing, for no shards are there; prepare them')
    found = [_shards(section) for section in there.datasets]
    _warn_of_other_numbers(path, there, found)
    try:
        return configure(there, train, found)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None


def configure(data: DataSection, train: TrainSection | None, found: Sequence[FoundShards | None]) -> Configuration:
    """The mixture that a recipe describes.

    Args:
        data: The recipe's section.
        train: The recipe's section, if it has one.
        found: Of each dataset's shards; None where they are not here, and the recipe's number of rows counts.

    Raises:
        RecipeError: Weights need a number of rows that nobody knows.
    """
    num_rows = [
        section.num_rows if shards is None else shards.num_rows
        for section, shards in zip(data.datasets, found, strict=True)
    ]
    return Configuration(
        tuple(
            ConfiguredDataset(
                section.dataset_name,
                weight,
                rows,
                None if shards is None else shards.columns,
                section.batch_size,
                section.max_epochs,
            )
            for section, weight, rows, shards in zip(
                data.datasets, dataset_weights(data, num_rows), num_rows, found, strict=True
            )
        ),
        data.datasets_per_batch,
        steps=None if train is None else train.steps,
        batch_size=None if train is None else train.batch_size,
        steps_per_group=data.steps_per_group,
        datasets_per_group=data.datasets_per_group,
    )


def left(data: DataSection) -> DataSection | None:
    """The section without the datasets whose shards are not there; None if none are."""
    there = tuple(dataset for dataset in data.datasets if has_shards(dataset))
    return data.model_copy(update={"datasets": there}) if there else None


def has_shards(dataset: DatasetSection) -> bool:
    """Whether something stands where the shards of a dataset belong; an empty folder is nothing."""
    return dataset.shards.exists() and not (dataset.shards.is_dir() and not any(dataset.shards.iterdir()))


def dataset_weights(data: DataSection, num_rows: Sequence[int | None]) -> list[float]:
    """The weight of each dataset of a recipe: its own, or what the recipe's rule makes of the numbers of rows.

    Args:
        data: The section.
        num_rows: Of each dataset; None where unknown.

    Raises:
        RecipeError: The rule needs a number of rows that is unknown.
    """
    if data.weights == "given":
        return [dataset.weight for dataset in data.datasets]
    computed = _computed(data, num_rows)
    return [
        dataset.weight if "weight" in dataset.model_fields_set else weight
        for dataset, weight in zip(data.datasets, computed, strict=True)
    ]


def _computed(data: DataSection, num_rows: Sequence[int | None]) -> list[float]:
    if data.weights == "equal":
        return rules.equal([0] * len(num_rows))
    known = []
    for number, (dataset, rows) in enumerate(zip(data.datasets, num_rows, strict=True)):
        if rows is None:
            raise RecipeError(
                f'weights = "{data.weights}" needs the rows of {one_line(dataset.dataset_name)}, which are unknown: '
                f"there are no shards {dataset.shards}; prepare them, or give data.datasets.{number}.num_rows"
            )
        known.append(rows)
    match data.weights:
        case "proportional":
            return rules.proportional(known)
        case "power":
            return rules.power(known, 0.5 if data.weights_alpha is None else data.weights_alpha)
        case _:
            divisors = [dataset.divisor or 1.0 for dataset in data.datasets]
            return rules.capped(known, divisors, total=data.weights_total or 10_000, cap=data.weights_cap or 1_000_000)


def _warn_of_other_numbers(path: Path, data: DataSection, found: Sequence[FoundShards | None]) -> None:
    differing = [
        f"{section.dataset_name} ({shards.num_rows:,} instead of {section.num_rows:,})"
        for section, shards in zip(data.datasets, found, strict=True)
        if shards is not None and section.num_rows is not None and section.num_rows != shards.num_rows
    ]
    if differing:
        log.warning("%s: shards have other numbers of rows than it says, and theirs count: %s", path, some(differing))


def _shards(section: DatasetSection) -> FoundShards | None:
    """What the manifest of a dataset's shards says; None where there is no such folder."""
    if not has_shards(section):
        return None
    facts = read_manifest(section.shards, "shards").facts
    num_rows, columns = facts.get("num_rows"), facts.get("columns")
    if isinstance(num_rows, bool) or not isinstance(num_rows, int) or num_rows < 1 or not isinstance(columns, list):
        raise ArtifactError(f"{section.shards}: its manifest is damaged; make the folder again")
    return FoundShards(num_rows, tuple(map(str, columns)))
