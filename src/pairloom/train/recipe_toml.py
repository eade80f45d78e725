"""A recipe as TOML, which can be read again: for the model card."""

from __future__ import annotations

import json
import re
from typing import Any

from pairloom.recipe import Recipe, Section

_CONTROL = re.compile(r"[\x7f-\x9f]")


def recipe_toml(recipe: Recipe) -> str:
    """The whole recipe, defaults included, so that it means the same to a later version with others.

    Of a dataset only what was given is written: hundreds of them would hide it, and a weight that was not given may be
    computed by ``data.weights``.
    """
    parts = {name: getattr(recipe, name) for name in type(recipe).model_fields}
    sections = {name: part for name, part in parts.items() if isinstance(part, Section)}
    lines = [*_assignments({name: part for name, part in parts.items() if name not in sections}), ""]
    for name, section in sections.items():
        values = section.model_dump(mode="json", exclude_none=True)
        datasets = values.pop("datasets", [])
        lines += [f"[{name}]", *_assignments(values), ""]
        if datasets:
            for given in section.model_dump(mode="json", exclude_unset=True, exclude_none=True)["datasets"]:
                lines += [f"[[{name}.datasets]]", *_assignments(given), ""]
    return "\n".join(lines)


def _assignments(values: dict[str, Any]) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in values.items()]


def _value(value: Any) -> str:
    """A JSON value as TOML."""
    if isinstance(value, str):
        # JSON's escapes are TOML's, too, but JSON leaves some control characters as they are.
        quoted = json.dumps(value, ensure_ascii=False)
        return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(_assignments(value))} }}"
    return json.dumps(value)
