"""All shards of a recipe from the raw dumps at hand, and what is missing where they are not all at hand.

Each dataset is made on its own and appears whole or not at all, so an interrupted run goes on with the next one.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pairloom.artifacts import read_manifest
from pairloom.errors import ArtifactError, InputError
from pairloom.listing import some
from pairloom.pairs.configuration import has_shards, left
from pairloom.recipe import DataSection, DatasetSection, Recipe, SourcesSection, load_sources
from pairloom.sources import SOURCES
from pairloom.sources.corpora import Corpus, published
from pairloom.sources.dumps import Dumps
from pairloom.sources.prepare import prepare

log = logging.getLogger(__name__)

_SHOWN_INPUTS = 3


@dataclass(frozen=True)
class Planned:
    """A dataset of a recipe whose shards are not there, and how they will be made.

    Args:
        name: Of the dataset.
        shards: The folder to make.
        corpus: What it was made from, if it is in one of the published lists.
        source: Which source will read it, and
        view: which view; None if it cannot be made.
        settings: Of the source.
        inputs: What will be read.
        missing: Why it cannot be made; empty if it can.
    """

    name: str
    shards: Path
    corpus: Corpus | None
    source: str | None = None
    view: str | None = None
    settings: tuple[str, ...] = ()
    inputs: tuple[Path, ...] = ()
    missing: str = ""

    def __str__(self) -> str:
        if self.missing:
            return f"{self.name}: {self.missing}"
        inputs = ", ".join(map(str, self.inputs[:_SHOWN_INPUTS]))
        more = f" and {len(self.inputs) - _SHOWN_INPUTS:,} more" if len(self.inputs) > _SHOWN_INPUTS else ""
        return f"{self.name}: {self.source}, view {self.view}, from {inputs}{more}"


@dataclass(frozen=True)
class Preparation:
    """What `plan` found.

    Args:
        whole: Names of the datasets whose shards are there.
        planned: The others, in the order of the recipe.
    """

    whole: tuple[str, ...]
    planned: tuple[Planned, ...]

    @property
    def to_make(self) -> list[Planned]:
        """Those that can be made."""
        return [one for one in self.planned if not one.missing]

    @property
    def missing(self) -> list[Planned]:
        """Those that cannot."""
        return [one for one in self.planned if one.missing]


def plan(datasets: Sequence[DatasetSection], places: Sequence[Path], overrides: Sequence[str] = ()) -> Preparation:
    """Looks for the dumps of all datasets whose shards are not there.

    The ready file of a published list is taken before a dump: it is what the published models were trained on.

    Args:
        datasets: Of the recipe.
        places: Folders in which the dumps lie, and dumps.
        overrides: Settings of the sources.

    Raises:
        InputError: A place is not there.
        ArtifactError: Shards are there, but not whole.
        RecipeError: A setting is none, or out of bounds.
    """
    load_sources([*overrides])  # so that a wrong setting is named even if nobody needs it
    dumps = Dumps(places)
    whole, planned = [], []
    for dataset in datasets:
        if has_shards(dataset):
            read_manifest(dataset.shards, "shards")
            whole.append(dataset.dataset_name)
        else:
            planned.append(_plan(dataset, dumps, overrides))
    return Preparation(tuple(whole), tuple(planned))


def make(
    one: Planned,
    *,
    overrides: Sequence[str] = (),
    exclude: Mapping[str, Iterable[str]] | None = None,
    num_processes: int | None = 1,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Makes the shards of one dataset, as `pairloom.sources.prepare.prepare` does, whose errors it raises."""
    assert one.source is not None, "what is missing cannot be made"
    return prepare(
        one.source,
        one.inputs,
        one.view,
        one.shards,
        settings=load_sources([*one.settings, *overrides]),
        exclude=exclude,
        num_processes=num_processes,
        show_progress=show_progress,
    )


def describe(missing: Sequence[Planned], *, all_names: bool = False) -> list[str]:
    """Lines that say what is missing, corpus by corpus: where it is published, what of it is needed, and its licence.

    Args:
        missing: At least one.
        all_names: Whether to name every dataset, with the reason, and not only the first few.
    """
    lines = []
    for corpus in dict.fromkeys(one.corpus for one in missing):
        of_it = [one for one in missing if one.corpus == corpus]
        count = _count(of_it)
        names = "" if all_names else f" ({some([one.name for one in of_it])})"
        if corpus is None:
            lines.append(f"your own: {count}{names}: pairloom prepare SOURCE INPUT… --out {of_it[0].shards}")
        else:
            lines.append(f"{corpus.title}: {count}{names}")
            lines.append(f"  published at {corpus.address}; licence: {corpus.licence}")
            lines.append(f"  needed: {corpus.dump}")
        if all_names:
            lines += [f"  - {one}" for one in of_it]
    return lines


def to_json(missing: Planned) -> dict[str, Any]:
    """What is missing, as facts."""
    corpus = missing.corpus
    return {
        "name": missing.name,
        "shards": str(missing.shards),
        "reason": missing.missing,
        "corpus": None if corpus is None else asdict(corpus),
    }


def with_shards(recipe: Recipe, *, name: str | None = None, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe with the datasets that it can be trained on now, as ``data.missing`` says.

    Args:
        recipe: Any.
        name: What the person who is to read the error called it, if it was read from a file.
        overrides: Those given with it.

    Raises:
        ArtifactError: Shards are missing and are not to be left out, or none are there. Names each corpus that is
            missing, where it is published, its licence, and the command that makes the shards.
    """
    data = recipe.data
    missing = [dataset for dataset in data.datasets if not has_shards(dataset)]
    if not missing:
        return recipe
    there = left(data)
    if there is not None and data.missing == "leave-out":
        names = [dataset.dataset_name for dataset in missing]
        log.warning("left out for want of shards: %s%s", some(names), _share(missing, data))
        return recipe.model_copy(update={"data": there})
    planned = plan(missing, ()).planned
    if len(data.datasets) == 1 and planned[0].corpus is None:
        raise ArtifactError(f"{missing[0].shards}: no such folder; make it with pairloom prepare")
    settings = [f"--set {shlex.quote(override)} " for override in overrides if override.startswith("data.")]
    lines = [
        f"{len(missing):,} of the {len(data.datasets):,} datasets of {name or 'the recipe'} have no shards yet:",
        *(f"  {line}" for line in describe(planned)),
        f"With the dumps at hand: pairloom prepare --recipe {shlex.quote(name) if name else 'RECIPE'} {''.join(settings)}DUMPS…",
    ]
    if there is not None:
        share = _share(there.datasets, data)
        lines.append(f"Or train on what is there, {_count(there.datasets)}{share}: --set data.missing=leave-out")
    raise ArtifactError("\n".join(lines))


def _count(datasets: Sequence[Any]) -> str:
    return f"{len(datasets):,} dataset{'' if len(datasets) == 1 else 's'}"


def _share(datasets: Sequence[DatasetSection], data: DataSection) -> str:
    """What part of the weight some datasets have, where the recipe gives it."""
    if data.weights != "given":
        return ""
    of_all = sum(dataset.weight for dataset in data.datasets)
    return f" ({sum(dataset.weight for dataset in datasets) / of_all:.1%} of the weight)"


def _plan(dataset: DatasetSection, dumps: Dumps, overrides: Sequence[str]) -> Planned:
    name, shards = dataset.dataset_name, dataset.shards
    known = published(name)
    if known is None:
        return Planned(name, shards, None, missing="is in none of the published lists")
    one, match = known
    if ready := dumps.ready(name):
        return Planned(name, shards, one.corpus, "pair-files", one.ready_view, inputs=tuple(ready))
    inputs = one.find(dumps, match)
    if one.source is None or one.view is None or not inputs:
        return Planned(name, shards, one.corpus, missing="not found")
    try:
        settings = load_sources([*one.settings, *overrides])
        section = getattr(settings, one.source.replace("-", "_"))
        SOURCES[one.source].find(list(map(str, inputs)), one.view, section)
    except InputError as error:
        return Planned(name, shards, one.corpus, missing=str(error))
    return Planned(name, shards, one.corpus, one.source, one.view, one.settings, tuple(inputs))


def sources_settings(settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divides settings into those of the sources and those of the recipe, by their first word."""
    names = {field.alias or name for name, field in SourcesSection.model_fields.items()}
    of_sources = [setting for setting in settings if setting.partition("=")[0].partition(".")[0].strip() in names]
    return of_sources, [setting for setting in settings if setting not in of_sources]
