"""Keys of ``[data]`` that stand for datasets become the datasets."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pairloom.errors import InputError, RecipeError
from pairloom.listing import bare_name, find_listing, packaged_listings, read_listing
from pairloom.recipe.check import checked
from pairloom.recipe.data import ListingSection
from pairloom.recipe.section import Section


class _ListingRecipe(Section):
    """For checking these keys alone, and naming them with their path."""

    data: ListingSection
    """The other keys of the section are left out."""


def with_listed(raw: dict[str, Any], where: str) -> dict[str, Any]:
    """Replaces the keys of `ListingSection` by the datasets that they stand for.

    Args:
        raw: The dictionary of a whole recipe.
        where: What it came from, for errors.

    Raises:
        RecipeError: There is no such list, or no dataset of a name in ``only`` or ``without``.
    """
    data = raw.get("data")
    if not isinstance(data, dict) or not data.keys() & ListingSection.model_fields.keys():
        return raw
    rest = {key: value for key, value in data.items() if key not in ListingSection.model_fields}
    keys = {key: value for key, value in data.items() if key not in rest}
    listing = checked(_ListingRecipe, {"data": keys}, where).data
    if listing.configuration is None and "shards_folder" in keys:
        raise RecipeError(f"{where}: data.shards_folder is for the datasets of data.configuration, which is not given")
    given = rest.get("datasets", [])
    if not isinstance(given, list) or not all(isinstance(dataset, dict) for dataset in given):
        return {**raw, "data": rest}  # which will be refused
    listed = _listed(listing, rest, where)
    added = []
    for dataset in given:
        if (name := name_of(dataset)) in listed:
            listed[name] |= {**dataset, "name": name}
        else:
            added.append(dataset)
    datasets = [*listed.values(), *added]
    names = [name_of(dataset) for dataset in datasets]
    taken = _matching(names, listing.only, f"{where}: data.only") if listing.only else set(names)
    taken -= _matching(names, listing.without, f"{where}: data.without")
    chosen = [dataset for name, dataset in zip(names, datasets, strict=True) if name in taken]
    return {**raw, "data": {**rest, "datasets": chosen}}


def _matching(names: list[str], patterns: tuple[str, ...], where: str) -> set[str]:
    """The names that match any of some patterns, each of which must match one."""
    matching: set[str] = set()
    for number, pattern in enumerate(patterns):
        found = {name for name in names if fnmatchcase(name, bare_name(pattern))}
        if not found:
            raise RecipeError(f"{where}.{number} = {json.dumps(pattern)}: no dataset is called so")
        matching |= found
    return matching


def _listed(listing: ListingSection, data: dict[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """The datasets of the list by name, as a recipe has them."""
    if listing.configuration is None:
        return {}
    path = find_listing(listing.configuration)
    where = f"{where}: data.configuration = {json.dumps(listing.configuration)}"
    if path is None:
        known = ", ".join(packaged_listings())
        raise RecipeError(f"{where}: no such list; those that come with pairloom are: {known}; or give a JSON file")
    try:
        listed = read_listing(path)
    except (RecipeError, InputError) as error:
        raise RecipeError(f"{where}: {error}") from None
    datasets: dict[str, dict[str, Any]] = {}
    for one in listed:
        name = bare_name(one.name)
        if name in datasets:
            raise RecipeError(f"{where}: {path} has two files of the name {name}; remove or rename one")
        dataset: dict[str, Any] = {"shards": f"{listing.shards_folder}/{name}", "name": name, "weight": one.weight}
        if one.num_rows is not None:
            dataset["num_rows"] = one.num_rows
        if data.get("weights", "given") != "given":
            del dataset["weight"]  # it would be an exception to the rule
        datasets[name] = dataset
    return datasets


def name_of(dataset: dict[str, Any]) -> str:
    """What a dataset is called that is still a dictionary; an empty text if nothing tells it."""
    name = dataset.get("name")
    if isinstance(name, str) and name:
        return name
    shards = dataset.get("shards")
    return Path(shards).name if isinstance(shards, str | Path) else ""
