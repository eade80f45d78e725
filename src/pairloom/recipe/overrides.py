"""``--set section.key=value``: a value laid over a dictionary."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from pairloom.errors import RecipeError
from pairloom.recipe.listed import name_of

# A part of a key may be quoted, as in TOML, for the sake of the dots in it.
_KEY_PART = re.compile(r'"([^"]+)"|([^".]+)')
_KEY = re.compile(rf"(?:{_KEY_PART.pattern})(?:\.(?:{_KEY_PART.pattern}))*")


def lay_over(raw: dict[str, Any], override: str) -> None:
    """Lays one ``section.key=value`` over the dictionary of a recipe, as `load_recipe` says.

    Raises:
        RecipeError: It is not written so, or the recipe has no such place.
    """
    key, equals, value = override.partition("=")
    if not equals or not _KEY.fullmatch(key.strip()):
        raise RecipeError(f"--set {override[:200]}: write section.key=value")
    parts = [quoted or plain for quoted, plain in _KEY_PART.findall(key.strip())]
    here: Any = raw
    try:
        for part in parts[:-1]:
            here = here[_item(here, part)] if isinstance(here, list) else here.setdefault(part, {})
        here[_item(here, parts[-1]) if isinstance(here, list) else parts[-1]] = _toml_value(value.strip())
    except (IndexError, ValueError, TypeError, AttributeError):
        raise RecipeError(f"--set {override[:200]}: the recipe has no place {key[:200]}") from None


def _item(items: list[Any], part: str) -> int:
    """The number of an item, given as such or by the name of the dataset that it is; raises ValueError."""
    names = [name_of(item) if isinstance(item, dict) else "" for item in items]
    return names.index(part) if part in names else int(part)


def _toml_value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text
