"""What a mixture will draw, computed from its configuration before anything is drawn.

These are expected numbers. Where no dataset runs out they are exact; where one does, the course of the run is taken to
be the mean one: at each moment every dataset has given what it gives on average.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairloom.errors import UsageError
from pairloom.pairs.configuration import Configuration, ConfiguredDataset
from pairloom.pairs.draws import format_numbers
from pairloom.pairs.layout import PAIR_COLUMNS

# Of a dataset's rows: where fewer are drawn, it hardly matters that the dataset is there.
HARDLY_SEEN = 0.01
# For the integral over the time at which a dataset rings; a time is in draws of the whole mixture.
_EARLIEST, _LATEST, _LOG_STEP = 1e-15, 40.0, 0.25
_LEAST_SHARE = 2.0**-62

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class DatasetForecast:
    """What is expected of a dataset.

    Args:
        dataset: As it was configured.
        share: Of all draws of a dataset in the run.
        batches: In which it takes part.
        rows_drawn: In all of them.
        runs_out_at: The step from which on it is passed over, if there is one in the run.
        fits: Whether it has the rows of one batch, or of a group of steps; training refuses a dataset that has not.
    """

    dataset: ConfiguredDataset
    share: float
    batches: float
    rows_drawn: float
    runs_out_at: float | None
    fits: bool

    @property
    def epochs(self) -> float | None:
        """How often each row is drawn; None where the number of rows is unknown."""
        return None if self.dataset.num_rows is None else self.rows_drawn / self.dataset.num_rows

    @property
    def is_hardly_seen(self) -> bool:
        """Whether less than one batch or less than a hundredth of the rows are drawn."""
        return self.batches < 1 or (self.epochs is not None and self.epochs < HARDLY_SEEN)


@dataclass(frozen=True)
class Forecast:
    """What is expected of a mixture.

    Args:
        datasets: In the order of the configuration.
        steps: As many as were asked for.
        ends_at: The step at which every dataset has run out, if there is one in the run.
        batch_size: Pairs a step, of datasets that do not say otherwise.
        repeat_limit: Epochs beyond which a dataset counts as repeated too often.
        steps_per_group: Steps that are drawn together. They change no expected number, only how far from it a run may be.
        datasets_per_group: Draws of a dataset in a group.
    """

    datasets: tuple[DatasetForecast, ...]
    steps: int
    ends_at: float | None
    batch_size: int
    repeat_limit: float
    steps_per_group: int = 1
    datasets_per_group: int = 1

    @property
    def repeated(self) -> list[DatasetForecast]:
        """Datasets with more epochs than the limit, most epochs first."""
        known = [(dataset.epochs, dataset) for dataset in self.datasets if dataset.epochs is not None]
        over = [(epochs, dataset) for epochs, dataset in known if epochs > self.repeat_limit]
        return [dataset for _, dataset in sorted(over, key=lambda pair: -pair[0])]

    @property
    def hardly_seen(self) -> list[DatasetForecast]:
        """Datasets that are `DatasetForecast.is_hardly_seen`, the rarest first."""
        return sorted((dataset for dataset in self.datasets if dataset.is_hardly_seen), key=lambda one: one.batches)


def forecast(configuration: Configuration, *, steps: int, batch_size: int, repeat_limit: float = 10.0) -> Forecast:
    """Computes what some steps will draw.

    Args:
        configuration: The datasets. A limit of epochs is not applied where the number of rows is unknown. Where several
            datasets share a batch, those of unknown format are taken to be pairs, and parts to be as large as at the
            start, even if too few of a format are left later.
        steps: Of the training.
        batch_size: Pairs a step.
        repeat_limit: Epochs beyond which a dataset counts as repeated too often.

    Raises:
        UsageError: A number is not above 0.
    """
    if steps < 1 or batch_size < 1 or not repeat_limit > 0:
        raise UsageError("steps, batch size and the limit of epochs must be above 0")
    datasets = configuration.datasets
    weights = np.array([dataset.weight for dataset in datasets], dtype=np.float64)
    formats = format_numbers([dataset.columns or PAIR_COLUMNS for dataset in datasets])
    most = configuration.datasets_per_batch

    def rates(available: NDArray[np.bool_]) -> Numbers:
        return draws_per_step(np.where(available, weights, 0.0), formats, most)

    sharing = np.array([min(most, int(np.sum(formats == one))) for one in formats])
    rows_per_batch = np.array([dataset.batch_size or batch_size for dataset in datasets]) / sharing
    limits = np.array(
        [
            math.inf if one.max_epochs is None or one.num_rows is None else one.max_epochs * one.num_rows // rows
            for one, rows in zip(datasets, rows_per_batch.tolist(), strict=True)
        ]
    )
    batches, ends = expected_batches(rates, limits, steps)
    in_all = math.fsum(batches)
    return Forecast(
        tuple(
            DatasetForecast(
                dataset,
                share=count / in_all if in_all else 0.0,
                batches=count,
                rows_drawn=count * rows,
                runs_out_at=end if end <= steps - 1 else None,
                fits=dataset.num_rows is None or dataset.num_rows >= rows * configuration.steps_per_group,
            )
            for dataset, count, rows, end in zip(
                datasets, batches.tolist(), rows_per_batch.tolist(), ends.tolist(), strict=True
            )
        ),
        steps,
        ends_at=float(ends.max()) if ends.max() <= steps - 1 else None,
        batch_size=batch_size,
        repeat_limit=repeat_limit,
        steps_per_group=configuration.steps_per_group,
        datasets_per_group=min(configuration.datasets_per_group, configuration.steps_per_group),
    )


def expected_batches(
    rates: Callable[[NDArray[np.bool_]], Numbers], limits: Numbers, steps: int
) -> tuple[Numbers, Numbers]:
    """How often each dataset is drawn, piece by piece: whenever one has run out, the others share what was its.

    Args:
        rates: From which datasets are left, bool ``[num_datasets]``, to how often each is drawn in a step.
        limits: Batches after which a dataset has run out, ``[num_datasets]``; infinity for never.
        steps: In all.

    Returns:
        Batches of each dataset, and the step at which it ran out; infinity where it did not.
    """
    batches, ends = np.zeros(len(limits)), np.full(len(limits), np.inf)
    ends[limits <= 0] = 0.0
    step = 0.0
    while step < steps and np.isinf(ends).any():
        rate = rates(np.isinf(ends))
        with np.errstate(divide="ignore", invalid="ignore"):
            until = np.where(rate > 0, (limits - batches) / rate, np.inf)
        piece = min(steps - step, float(until.min()))
        over = until <= piece
        batches = np.where(over, limits, batches + rate * piece)
        step += piece
        ends[over] = step
    return batches, ends


def draws_per_step(weights: Numbers, formats: NDArray[np.int64], datasets_per_batch: int) -> Numbers:
    """The probability that a dataset takes part in a step: ``[num_datasets]``.

    The first dataset is drawn by weight from all; others by weight from those of its format, none twice. To draw without
    replacement is to let every dataset ring after an exponential time of its weight and to take the first to ring
    (Efraimidis and Spirakis 2006); given its time, the others ring before it independently of each other.

    Args:
        weights: Above 0; 0 for datasets that are not there.
        formats: Of each dataset, as a number.
        datasets_per_batch: How many share a batch, if there are so many of the format.
    """
    if datasets_per_batch == 1:
        return weights / math.fsum(weights)
    result = np.zeros_like(weights)
    for one in np.unique(formats):
        here = np.flatnonzero((formats == one) & (weights > 0))
        if len(here):
            part = weights[here] / math.fsum(weights[here])
            result[here] = math.fsum(weights[here]) / math.fsum(weights) * _inclusion(part, datasets_per_batch)
    return result


def _inclusion(shares: Numbers, count: int) -> Numbers:
    """The probability of each to be among the first ``count`` of a draw without replacement; shares add up to 1."""
    if count >= len(shares):
        return np.ones_like(shares)
    shares = np.maximum(shares, _LEAST_SHARE)
    # Over the logarithm of the time the integrand falls off so fast that the trapezoid rule is exact to rounding.
    times = np.exp(np.arange(math.log(_EARLIEST), math.log(_LATEST / shares.min()), _LOG_STEP))
    not_yet = np.exp(-np.outer(shares, times))  # [datasets, times]
    fewer = np.zeros((count, *not_yet.shape))  # for each, the probabilities that 0, 1, … others have rung
    fewer[0] = 1.0
    for other, waits in enumerate(not_yet):
        chance = np.tile(1.0 - waits, (len(shares), 1))
        chance[other] = 0.0
        for number in range(count - 1, 0, -1):
            fewer[number] += chance * (fewer[number - 1] - fewer[number])
        fewer[0] *= 1.0 - chance
    density = np.outer(shares, times) * not_yet
    result: Numbers = np.sum(density * fewer.sum(axis=0), axis=1) * _LOG_STEP
    return result
