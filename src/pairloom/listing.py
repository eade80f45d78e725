"""Lists of datasets with their weights, as the published models have them in their ``data_config.json``.

A list is JSON: ``[{"name": "gooaq_pairs.jsonl.gz", "lines": 3012496, "weight": 451}, …]``; ``lines`` may be missing. Those of
the published models come with pairloom, by the names that they were published under.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairloom.errors import RecipeError
from pairloom.files import read_json, uncompressed_name
from pairloom.terminal import one_line

log = logging.getLogger(__name__)

_PACKAGED = Path(__file__).parent / "recipes" / "data"
_MAX_WEIGHT, _MAX_ROWS = 1e12, 2**63 - 1
_KEYS = {"name", "lines", "weight"}
_SHOWN = 4
_SHOWN_CHARACTERS = 120


@dataclass(frozen=True)
class ListedDataset:
    """An entry of a list.

    Args:
        name: As it stands there: the name of a file, perhaps with its folder.
        weight: How often it is drawn, relative to the others; finite and above 0.
        num_rows: None where the list does not say.
    """

    name: str
    weight: float
    num_rows: int | None = None


def packaged_listings() -> list[str]:
    """The names of the lists that come with pairloom."""
    return sorted(path.stem for path in _PACKAGED.glob("*.json"))


def find_listing(name: str) -> Path | None:
    """The file of a list: itself if the name ends in ``.json`` (also compressed), or the one of this name that comes with us.

    Returns:
        None if there is no list of this name. A path need not exist.
    """
    if uncompressed_name(Path(name)).lower().endswith(".json"):
        return Path(name)
    return _PACKAGED / f"{name}.json" if name in packaged_listings() else None


def read_listing(path: Path) -> tuple[ListedDataset, ...]:
    """Reads a list, in its order.

    Raises:
        RecipeError: It is not well formed; names the entry and what is wrong with it.
        InputError: The file cannot be read.
    """
    raw = read_json(path)
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
    if unread := Counter(key for entry in raw for key in entry if key not in _KEYS):
        keys = [f"{one_line(key)} (in {count:,})" for key, count in unread.items()]
        log.warning("%s: its entries have keys that nobody reads: %s; options belong in a recipe", path, some(keys))
    return tuple(datasets)


def bare_name(name: str) -> str:
    """What a dataset is called: the name of its file without what tells the format."""
    return re.sub(r"\.jsonl(\.gz)?$", "", name)


def some(items: Sequence[str]) -> str:
    """The first few of some texts, and how many more there are."""
    more = f" and {len(items) - _SHOWN:,} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more


def _entry(where: str, entry: Any) -> ListedDataset:
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
    return ListedDataset(name, float(weight), None if lines is None else int(lines))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return one_line(repr(value) if isinstance(value, str) else str(value), 60)


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
