"""What a run needs, draws and costs, said before it is started; nothing is written, and no network is asked."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pairloom.artifacts import refuse_occupied
from pairloom.encode.torch_engine import pick_device
from pairloom.errors import ArtifactError, PairloomError, RecipeError
from pairloom.models.dual import AnyModel
from pairloom.pairs.configuration import FoundShards, configure, has_shards, left
from pairloom.pairs.dataset import Dataset, open_datasets
from pairloom.pairs.forecast import Forecast, forecast
from pairloom.recipe import DatasetSection, Recipe
from pairloom.sources import prepare_recipe
from pairloom.sources.prepare_recipe import describe
from pairloom.train.data import start_mixture
from pairloom.train.facts import device_name
from pairloom.train.flops import TRAINING_FORWARDS, model_flops
from pairloom.train.learner import Learner
from pairloom.train.plan_base import PlannedBase, find_base, longest_limit, stand_in
from pairloom.train.plan_lengths import RowLengths, draw_batch, longest_lengths, rows_each, sample_lengths
from pairloom.train.plan_rate import MOST_PAIRS, Rate, measure_rate
from pairloom.train.plan_space import Space, planned_space

logger = logging.getLogger("pairloom")


@dataclass(frozen=True)
class Volume:
    """What goes through the model in the whole run.

    Args:
        num_pairs: Or triplets.
        anchor_tokens: Of all anchors.
        candidate_tokens: Of all positives and negatives.
        num_flops: Of matrix products that the model asks for; None if its sizes are unknown.
        num_sampled_rows: Of which the lengths were taken.
        is_upper_bound: Whether some datasets count with their limits instead, because shards or tokenizer are not here.
    """

    num_pairs: float
    anchor_tokens: float
    candidate_tokens: float
    num_flops: float | None
    num_sampled_rows: int
    is_upper_bound: bool

    @property
    def num_tokens(self) -> float:
        """Of all texts."""
        return self.anchor_tokens + self.candidate_tokens


@dataclass(frozen=True)
class Plan:
    """All that can be said of a run before it.

    Args:
        steps: Optimizer steps.
        base: What was found of it.
        missing: What is not here, in sentences.
        problems: What training would refuse, in sentences.
        mixture: What will be drawn; None if the weights cannot be known yet.
        volume: None if the mixture is.
        space: None if the base's sizes are unknown.
        rate: None if it was not measured.
        device: A name for people.
        num_devices: Of this kind here, of which one was measured.
        precision: Of the passes.
    """

    steps: int
    base: PlannedBase
    missing: tuple[str, ...]
    problems: tuple[str, ...]
    mixture: Forecast | None
    volume: Volume | None
    space: Space | None
    rate: Rate | None
    device: str
    num_devices: int
    precision: str

    @property
    def is_ready(self) -> bool:
        """Whether the run could be started now, without the network."""
        return not self.missing and not self.problems

    @property
    def step_s(self) -> float | None:
        """Seconds of a mean step on one device; None if the rate or the volume is unknown."""
        if self.rate is None or self.volume is None:
            return None
        return self.rate.step_s(self.volume.num_tokens / self.steps)

    @property
    def hours(self) -> float | None:
        """Of training steps, on one device; None if unknown."""
        return None if self.step_s is None else self.step_s * self.steps / 3600


def make_plan(recipe: Recipe, *, out: Path | None = None, device: str | None = None, measure: bool = True) -> Plan:
    """Looks for all that a run needs, and works out what it takes.

    Args:
        recipe: Of the run.
        out: The model folder that it would make, if that is known.
        device: By default a GPU if there is one.
        measure: Whether to measure the rate, which takes some seconds.

    Raises:
        UsageError: There is no such device.
    """
    chosen = pick_device(device)
    if recipe.data.missing == "leave-out" and (there := left(recipe.data)) is not None:
        recipe = recipe.model_copy(update={"data": there})
    base = find_base(recipe)
    missing, problems = [*base.missing], [*base.problems]
    datasets = _open(recipe.data.datasets, missing, problems)
    missing += [f"the task {path}: no such file or folder" for path in recipe.evaluate.tasks if not path.exists()]
    if out is not None:
        _note(problems, lambda: refuse_occupied(out))
    if all(dataset is not None for dataset in datasets):
        _note(problems, lambda: start_mixture(recipe))
    mixture = _forecast(recipe, datasets, problems)
    lengths = _lengths(recipe, datasets, base.model, problems)
    volume = None if mixture is None else _volume(recipe, mixture, lengths, base)
    space = (
        None
        if base.architecture is None
        else planned_space(
            recipe, base, base.architecture, out, num_networks=2 if recipe.model.encoders == "two" else 1
        )
    )
    if space is not None and space.free_bytes < space.needed_bytes:
        problems.append(
            f"the disk of {space.free_at} has {space.free_bytes / 1e9:,.1f} GB free, and the run will write "
            f"{space.needed_bytes / 1e9:,.1f} GB; free some, or keep fewer checkpoints with train.keep_checkpoints"
        )
    rate = None
    architecture = base.architecture
    if measure and mixture and volume and architecture and longest_limit(recipe) <= architecture.max_tokens:
        logger.info("measuring how fast this machine trains, for some seconds")
        try:
            rate = _rate(recipe, base, mixture, lengths, volume, chosen)
        except PairloomError as error:
            problems.append(str(error))
    return Plan(
        steps=recipe.train.steps,
        base=base,
        missing=tuple(missing),
        problems=tuple(problems),
        mixture=mixture,
        volume=volume,
        space=space,
        rate=rate,
        device=device_name(chosen),
        num_devices=torch.cuda.device_count() if chosen.type == "cuda" else 1,
        precision=recipe.train.precision,
    )


def _open(sections: Sequence[DatasetSection], missing: list[str], problems: list[str]) -> list[Dataset | None]:
    """The datasets whose shards are here and whole."""
    found: list[Dataset | None] = []
    absent = []
    for section in sections:
        dataset = None
        if not has_shards(section):
            absent.append(section)
        else:
            try:
                (dataset,) = open_datasets([section])
            except ArtifactError as error:
                problems.append(str(error))
        found.append(dataset)
    missing += _absent_shards(absent)
    return found


def _absent_shards(absent: Sequence[DatasetSection]) -> list[str]:
    """A sentence for each corpus of which shards are missing: which, where it is published, its licence, what of it is needed."""
    sentences: list[str] = []
    for line in describe(prepare_recipe.plan(absent, ()).planned) if absent else ():
        if line.startswith(" "):
            sentences[-1] += f"; {line.strip()}"
        else:
            sentences.append(f"shards of {line}")
    return sentences


def _note(problems: list[str], check: Callable[[], object]) -> None:
    try:
        check()
    except PairloomError as error:
        problems.append(str(error))


def _forecast(recipe: Recipe, datasets: Sequence[Dataset | None], problems: list[str]) -> Forecast | None:
    found = [None if dataset is None else FoundShards(len(dataset), dataset.rows.columns) for dataset in datasets]
    try:
        configuration = configure(recipe.data, recipe.train, found)
    except RecipeError as error:
        problems.append(str(error))
        return None
    return forecast(configuration, steps=recipe.train.steps, batch_size=recipe.train.batch_size)


def _lengths(
    recipe: Recipe, datasets: Sequence[Dataset | None], model: AnyModel | None, problems: list[str]
) -> list[RowLengths]:
    here = sum(dataset is not None for dataset in datasets)
    lengths = []
    for section, dataset in zip(recipe.data.datasets, datasets, strict=True):
        found = longest_lengths(section, recipe.data, num_columns=2 if dataset is None else len(dataset.rows.columns))
        if dataset is not None and model is not None:
            try:
                found = sample_lengths(dataset, model, recipe.data, num_rows=rows_each(here))
            except ArtifactError as error:
                problems.append(str(error))
        lengths.append(found)
    return lengths


def _volume(recipe: Recipe, mixture: Forecast, lengths: Sequence[RowLengths], base: PlannedBase) -> Volume:
    rows = [one.rows_drawn for one in mixture.datasets]
    flops = None
    if (architecture := base.architecture) is not None:
        a_row = [model_flops(architecture, one.tokens.ravel(), base.heads) / len(one.tokens) for one in lengths]
        flops = TRAINING_FORWARDS * math.fsum(number * one for number, one in zip(rows, a_row, strict=True))
    columns = [one.tokens.mean(axis=0) for one in lengths]
    return Volume(
        num_pairs=math.fsum(rows),
        anchor_tokens=math.fsum(number * float(means[0]) for number, means in zip(rows, columns, strict=True)),
        candidate_tokens=math.fsum(
            number * float(means[1:].sum()) for number, means in zip(rows, columns, strict=True)
        ),
        num_flops=flops,
        num_sampled_rows=sum(one.num_sampled for one in lengths),
        is_upper_bound=not all(one.is_sample for one in lengths),
    )


def _rate(
    recipe: Recipe,
    base: PlannedBase,
    mixture: Forecast,
    lengths: Sequence[RowLengths],
    volume: Volume,
    device: torch.device,
) -> Rate:
    assert base.architecture is not None
    model = base.model or stand_in(base.architecture)
    learner = Learner(model, recipe, similarity=model.similarity, device=device)
    shares = np.array([one.rows_drawn for one in mixture.datasets])
    return measure_rate(
        learner,
        base.architecture,
        recipe.train,
        draw_batch(lengths, shares, num_pairs=min(recipe.train.batch_size, MOST_PAIRS)),
        num_tokens=volume.num_tokens / recipe.train.steps,
        device=device,
    )
