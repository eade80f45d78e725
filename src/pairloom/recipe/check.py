"""A dictionary becomes a section, or a sentence that says which key is wrong."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import ValidationError

from pairloom.errors import RecipeError
from pairloom.recipe.section import Section

_MAX_FAULTS = 5

_SectionType = TypeVar("_SectionType", bound=Section)


def checked(section: type[_SectionType], raw: dict[str, Any], where: str) -> _SectionType:
    """The section that a dictionary describes.

    Args:
        section: What it shall be.
        raw: Its keys and values, of the types that TOML and JSON have.
        where: What it came from, for errors.

    Raises:
        RecipeError: A key is unknown or missing, or its value of the wrong type or out of bounds.
    """
    # Strict types as JSON has them: a path may be a string and a tuple a list, but no number a string.
    try:
        return section.model_validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        faults = [_sentence(fault, raw) for fault in error.errors()]
        more = f"; and {len(faults) - _MAX_FAULTS} more" if len(faults) > _MAX_FAULTS else ""
        raise RecipeError(f"{where}: " + "; ".join(faults[:_MAX_FAULTS]) + more) from None


def _sentence(fault: Any, raw: dict[str, Any]) -> str:
    key = _path(fault["loc"], raw) or "recipe"
    match fault["type"]:
        case "extra_forbidden":
            return f"{key} is not a setting"
        case "missing":
            return f"{key} is missing"
        case "value_error":
            return f"{key}: {fault['ctx']['error']}"
        case _:
            return f"{key} = {json.dumps(fault['input'], default=str)[:60]}: {fault['msg']}"


def _path(place: tuple[str | int, ...], raw: dict[str, Any]) -> str:
    """Where a value stands, as ``--set`` takes it: a dataset with a name by its name, as its number may be that in a list."""
    parts = list(map(str, place))
    if place[:2] == ("data", "datasets") and len(place) > 2 and isinstance(place[2], int):
        dataset = raw["data"]["datasets"][place[2]]
        name = dataset.get("name") if isinstance(dataset, dict) else None
        if isinstance(name, str) and name:
            parts[2] = f'"{name}"' if "." in name else name
    return ".".join(parts)
