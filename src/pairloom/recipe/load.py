"""From a TOML file, a dictionary or ``--set`` to sections."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pairloom.errors import RecipeError
from pairloom.recipe.check import checked
from pairloom.recipe.listed import with_listed
from pairloom.recipe.overrides import lay_over
from pairloom.recipe.recipe import DataRecipe, Recipe
from pairloom.recipe.sources import SourcesSection

# How the published models were trained, in settings; docs/faithful.md says of each where it is known from.
_ORIGINALS: dict[str, dict[str, Any]] = {
    "data": {"datasets_per_batch": 1, "steps_per_group": 8, "datasets_per_group": 2},
    "loss": {"symmetric": True, "mask_false_negatives": False},
    "train": {
        "learning_rate": 2e-5,
        "warmup_steps": 500,
        "schedule": "linear",
        "betas": [0.9, 0.999],
        "epsilon": 1e-6,
        "weight_decay": 0.0,
        "max_gradient_norm": 1.0,
    },
}
_PACKAGED = Path(__file__).parents[1] / "recipes"


def load_recipe(path: Path, overrides: tuple[str, ...] | list[str] = ()) -> Recipe:
    """Reads a recipe and lays ``section.key=value`` overrides over it.

    Args:
        path: The TOML file, or the name of a recipe that comes with pairloom, such as ``adapt``.
        overrides: Values are TOML (``train.steps=100``, ``evaluate.tasks=["a","b"]``); what is not TOML is a string.
            A number in the path counts into a list, and a dataset may stand there by its name:
            ``data.datasets.0.shards=pairs``, ``data.datasets.gooaq_pairs.weight=200``.

    Raises:
        RecipeError: The file is missing or not TOML, or a key is unknown, of the wrong type or out of bounds;
            the message has its path.
    """
    return checked(Recipe, _read(path, overrides), str(path))


def load_data_recipe(path: Path, overrides: tuple[str, ...] | list[str] = ()) -> DataRecipe:
    """Reads a recipe of which only the data matters, as `load_recipe` does."""
    return checked(DataRecipe, _read(path, overrides), str(path))


def parse_recipe(raw: dict[str, Any], *, where: str) -> Recipe:
    """Checks a recipe that is already a dictionary; ``where`` says in errors what it came from."""
    return checked(Recipe, _with_originals(with_listed(raw, where)), where)


def load_sources(overrides: tuple[str, ...] | list[str] = ()) -> SourcesSection:
    """Lays ``source.key=value`` overrides over the default filters of the sources.

    Args:
        overrides: ``stackexchange.min_score=1``; values as in `load_recipe`.

    Raises:
        RecipeError: A key is unknown, or its value of the wrong type or out of bounds.
    """
    raw: dict[str, Any] = {}
    for override in overrides:
        lay_over(raw, override)
    return checked(SourcesSection, raw, "--set")


def _read(path: Path, overrides: tuple[str, ...] | list[str]) -> dict[str, Any]:
    """The recipe as a dictionary with all datasets and what ``faithful`` fills in; overrides of single datasets find those of a list, too."""
    raw = _read_toml(path)
    of_one = [override for override in overrides if override.lstrip().startswith("data.datasets.")]
    for override in overrides:
        if override not in of_one:
            lay_over(raw, override)
    raw = with_listed(raw, str(path))
    for override in of_one:
        lay_over(raw, override)
    return _with_originals(raw)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        if path.name == str(path) and not path.exists() and (packaged := _PACKAGED / f"{path}.toml").is_file():
            path = packaged
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in _PACKAGED.glob("*.toml")))
        raise RecipeError(f"{path}: no such recipe; those that come with pairloom are: {known}") from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: is a directory; give a TOML file") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 ({error.reason} at byte {error.start + 1})") from None
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{path}: not TOML: {str(error)[:200]}") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})") from None


def _with_originals(raw: dict[str, Any]) -> dict[str, Any]:
    """A faithful recipe with the settings of the published models wherever it has none of its own."""
    if raw.get("faithful") is not True:
        return raw
    filled = dict(raw)
    for section, settings in _ORIGINALS.items():
        # A missing section is left for the check to miss; without [loss] there is still a loss.
        given = raw.get(section, {} if section == "loss" else None)
        if isinstance(given, dict):
            filled[section] = {**settings, **given}
    return filled
