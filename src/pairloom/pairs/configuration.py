"""Which datasets a mixture draws from, and by what weights: read from a recipe or a published ``data_config.json``.

The data itself need not be there. Where the shards are, their numbers of rows count, whatever the recipe says.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairloom.artifacts import read_manifest
from pairloom.errors import ArtifactError, RecipeError
from pairloom.files import read_json, uncompressed_name
from pairloom.pairs import weights as rules
from pairloom.recipe import DataSection, DatasetSection, load_data_recipe
from pairloom.terminal import one_line

log = logging.getLogger(__name__)

_MAX_WEIGHT, _MAX_ROWS = 1e12, 2**63 - 1
_JSON_KEYS = {"name", "lines", "weight"}
_SHOWN = 4
_SHOWN_CHARACTERS = 120


@dataclass(frozen=True)
class ConfiguredDataset:
    """A dataset as a configuration describes it.

    Args:
        name: Different from all others'.
        weight: How often it is drawn, relative to the others; finite and above 0.
        num_rows: None where nobody knows.
        num_columns: 2 for pairs, 3 for triplets; None where the shards are not at hand.
        batch_size: Pairs of a batch; by default the mixture's.
        max_epochs: After so many it is passed over; by default never.
    """

    name: str
    weight: float
    num_rows: int | None = None
    num_columns: int | None = None
    batch_size: int | None = None
    max_epochs: int | None = None


@dataclass(frozen=True)
class Configuration:
    """A mixture as a file describes it.

    Args:
        datasets: At least one, in the order of the file.
        datasets_per_batch: How many share a batch.
        steps: Of the training, where the file says it.
        batch_size: Pairs a step, where the file says it.
    """

    datasets: tuple[ConfiguredDataset, ...]
    datasets_per_batch: int = 1
    steps: int | None = None
    batch_size: int | None = None


def read_configuration(path: Path, overrides: Sequence[str] = ()) -> Configuration:
    """Reads a configuration; a name that ends in ``.json`` (also compressed) stands for a list of datasets.

    Args:
        path: A ``data_config.json``, a recipe of which only ``[data]`` must be there, or the name of a recipe that comes
            with pairloom.
        overrides: For recipes, ``section.key=value``.

    Raises:
        RecipeError: It is not well formed; names the entry and what is wrong with it.
        InputError: A JSON file cannot be read.
        ArtifactError: Shards that the recipe names are there, but damaged or of another kind.
    """
    if uncompressed_name(path).lower().endswith(".json"):
        if overrides:
            raise RecipeError(f"--set {overrides[0][:200]}: is for recipes, and {path} is none; edit the file")
        return Configuration(_listed(path, read_json(path)))
    recipe = load_data_recipe(path, list(overrides))
    datasets, most = _from_sections(path, recipe.data), recipe.data.datasets_per_batch
    if recipe.train is None:
        return Configuration(datasets, most)
    return Configuration(datasets, most, recipe.train.steps, recipe.train.batch_size)


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


def _from_sections(path: Path, data: DataSection) -> tuple[ConfiguredDataset, ...]:
    shards = [_shards(section) for section in data.datasets]
    differing = [
        f"{section.dataset_name} ({rows:,} instead of {section.num_rows:,})"
        for section, (rows, _) in zip(data.datasets, shards, strict=True)
        if rows is not None and section.num_rows not in (None, rows)
    ]
    if differing:
        log.warning("%s: shards have other numbers of rows than it says, and theirs count: %s", path, _some(differing))
    num_rows = [
        section.num_rows if rows is None else rows for section, (rows, _) in zip(data.datasets, shards, strict=True)
    ]
    try:
        weights = dataset_weights(data, num_rows)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None
    return tuple(
        ConfiguredDataset(section.dataset_name, weight, rows, num_columns, section.batch_size, section.max_epochs)
        for section, weight, rows, (_, num_columns) in zip(data.datasets, weights, num_rows, shards, strict=True)
    )


def _shards(section: DatasetSection) -> tuple[int | None, int | None]:
    """Rows and columns of a dataset's shards, from their manifest; unknown where there is no such folder."""
    if not section.shards.exists():
        return None, None
    facts = read_manifest(section.shards, "shards").facts
    num_rows, columns = facts.get("num_rows"), facts.get("columns")
    if isinstance(num_rows, bool) or not isinstance(num_rows, int) or num_rows < 1 or not isinstance(columns, list):
        raise ArtifactError(f"{section.shards}: its manifest is damaged; make the folder again")
    return num_rows, len(columns)


def _listed(path: Path, raw: Any) -> tuple[ConfiguredDataset, ...]:
    if not isinstance(raw, list):
        raise RecipeError(f'{path}: must be a list of {{"name": …, "lines": …, "weight": …}}, not {_kind(raw)}')
    if not raw:
        raise RecipeError(f"{path}: lists no dataset")
    datasets = [_entry(f"{path}, entry {number}", entry) for number, entry in enumerate(raw, start=1)]
    first: dict[str, int] = {}
    for number, dataset in enumerate(datasets, start=1):
        if (before := first.setdefault(dataset.name, number)) != number:
            name = one_line(dataset.name, _SHOWN_CHARACTERS)
            raise RecipeError(f"{path}, entry {number} ({name}): has the name of entry {before}; remove or rename one")
    # Others may have written more than we read; whoever hoped for it shall know.
    if unread := Counter(key for entry in raw for key in entry if key not in _JSON_KEYS):
        keys = [f"{one_line(key)} (in {count:,})" for key, count in unread.items()]
        log.warning("%s: its entries have keys that nobody reads: %s; options belong in a recipe", path, _some(keys))
    return tuple(datasets)


def _entry(where: str, entry: Any) -> ConfiguredDataset:
    if not isinstance(entry, dict):
        raise RecipeError(f'{where}: must be {{"name": …, "lines": …, "weight": …}}, not {_kind(entry)}')
    name = entry.get("name")
    if not isinstance(name, str) or not name.strip():
        fault = f"is {_shown(name)}; it must be a text" if "name" in entry else "is missing"
        raise RecipeError(f"{where}: its name {fault}")
    where = f"{where} ({one_line(name, _SHOWN_CHARACTERS)})"
    if "weight" not in entry:
        raise RecipeError(f"{where}: its weight is missing")
    weight, lines = entry["weight"], entry.get("lines")
    if not _is_number(weight) or not 0 < weight <= _MAX_WEIGHT:
        raise RecipeError(f"{where}: its weight is {_shown(weight)}; it must be a number above 0, at most 1e12")
    if lines is not None and (not _is_number(lines) or lines != lines // 1 or not 1 <= lines <= _MAX_ROWS):
        raise RecipeError(f"{where}: its lines are {_shown(lines)}; they must be a whole number above 0, or left out")
    return ConfiguredDataset(name, float(weight), None if lines is None else int(lines))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return one_line(repr(value) if isinstance(value, str) else str(value), 60)


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - _SHOWN:,} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
