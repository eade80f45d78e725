"""Where a stream of batches is, as a few kilobytes of JSON, and the way back to it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pairloom.errors import ArtifactError, UsageError
from pairloom.pairs.order import Positions

logger = logging.getLogger("pairloom")

# Of the state. It also changes when the same state would lead to other batches.
VERSION = 1
_NOTHING: Positions = np.empty(0, dtype=np.int64)
_MAX_COUNT = 2**62
_MAX_NAMED = 3
_CURSOR_KEYS = frozenset({"name", "position", "waiting", "left_out", "run_out", "before_group"})


@dataclass(frozen=True)
class Cursor:
    """How far a dataset has been read.

    Args:
        position: In its stream of rows: what comes next.
        waiting: int64, ascending: earlier positions whose rows wait for the dataset's next batch.
        num_left_out: Rows so far that no batch had room for.
        run_out: Whether it has reached its limit of epochs.
    """

    position: int = 0
    waiting: Positions = field(default_factory=lambda: _NOTHING)
    num_left_out: int = 0
    run_out: bool = False

    @property
    def num_drawn(self) -> int:
        """Rows that went into batches."""
        return self.position - len(self.waiting) - self.num_left_out


@dataclass(frozen=True)
class Identity:
    """What must be the same for a saved state to lead to the same batches.

    Args:
        settings: Of the whole mixture, as JSON values.
        datasets: Of each dataset by its name: fingerprint, weight, and options that are not as usual.
    """

    settings: Mapping[str, Any]
    datasets: Mapping[str, Mapping[str, Any]]

    @property
    def steps_per_group(self) -> int:
        """Steps in which no text comes twice."""
        return int(self.settings.get("steps_per_group", 1))


class Place:
    """A place in a stream of batches: after so many steps, with a cursor for each dataset.

    Within a group of steps it also knows where the group began, because the texts of its batches must not come again:
    drawing from there on finds them.

    Args:
        identity: Of the mixture.
        step: How many steps have been made.
        cursors: One for each dataset, in the mixture's order.
        group_start: The step from which on the present group's texts are remembered; by default nothing is.
        before_group: The cursors that its datasets had then, by their number in the mixture.
    """

    def __init__(
        self,
        identity: Identity,
        step: int,
        cursors: Sequence[Cursor],
        *,
        group_start: int | None = None,
        before_group: Mapping[int, Cursor] | None = None,
    ) -> None:
        self.identity, self.step, self.cursors = identity, step, list(cursors)
        self.group_start = step if group_start is None else group_start
        self.before_group = dict(before_group or {})

    def copy(self) -> Place:
        """The same place, to go on from by itself."""
        return Place(
            self.identity, self.step, self.cursors, group_start=self.group_start, before_group=self.before_group
        )

    def advance(self, step: int, cursors: Mapping[int, Cursor]) -> None:
        """Goes on to after a step; only the cursors of its datasets are touched."""
        self.step = step + 1
        for number, cursor in cursors.items():
            self.before_group.setdefault(number, self.cursors[number])
            self.cursors[number] = cursor
        if self.step % self.identity.steps_per_group == 0:
            self.group_start, self.before_group = self.step, {}

    def start_of_group(self) -> Place:
        """Where the present group began, as far as it is remembered."""
        cursors = [self.before_group.get(number, cursor) for number, cursor in enumerate(self.cursors)]
        return Place(self.identity, self.group_start, cursors)

    @property
    def num_left_out(self) -> int:
        """Rows so far that no batch had room for, because too many rows share a text with them."""
        return sum(cursor.num_left_out for cursor in self.cursors)

    def state(self) -> dict[str, Any]:
        """The place as JSON values, for `restored`; what is as usual is left out."""
        datasets = [
            {"name": name, **facts, **_cursor_state(cursor)}
            for (name, facts), cursor in zip(self.identity.datasets.items(), self.cursors, strict=True)
        ]
        for number, cursor in self.before_group.items():
            datasets[number]["before_group"] = _cursor_state(cursor)
        group = {} if self.group_start == self.step else {"group_start": self.group_start}
        settings = dict(self.identity.settings)
        return {"version": VERSION, "step": self.step, **group, "settings": settings, "datasets": datasets}


def restored(state: Any, identity: Identity, *, allow_changes: bool) -> Place:
    """The place that a state was taken at.

    Args:
        state: From `Place.state`.
        identity: Of the mixture that goes on.
        allow_changes: Whether to go on where the mixture is another than that of the state: datasets keep their
            cursors by name, new ones begin at their beginning, and what is given up is logged as a warning.

    Raises:
        ArtifactError: The state is damaged or of another version.
        UsageError: The mixture is another one, and ``allow_changes`` is false.
    """
    version = state.get("version") if isinstance(state, dict) else None
    if version != VERSION:
        raise ArtifactError(
            f"the state of the mixture is of version {version}, and this pairloom reads version {VERSION}; "
            "go on with the pairloom that wrote it, or start anew"
        )
    try:
        step, settings = _count(state["step"]), dict(state["settings"])
        datasets = {dataset["name"]: dict(dataset) for dataset in state["datasets"]}
        if len(datasets) < len(state["datasets"]):
            raise ValueError("a dataset comes twice")
        cursors = {name: _cursor(dataset) for name, dataset in datasets.items()}
        group_start, before = _count(state.get("group_start", step)), _before_group(datasets, cursors)
        if not 0 <= step - group_start < max(1, int(settings.get("steps_per_group", 1))):
            raise ValueError(f"a group began at step {group_start}")
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ArtifactError(
            f"the state of the mixture is damaged ({type(error).__name__}: {error}); take an earlier one"
        ) from None
    saved = Identity(settings, {name: _without(dataset, _CURSOR_KEYS) for name, dataset in datasets.items()})
    changes = _changes(saved, identity)
    if changes and not allow_changes:
        raise UsageError(
            f"the state belongs to another mixture: {_listed(changes)}. Restore what was, or allow changes: batches from "
            "here on are then not those of the unbroken run, and rows of the present epoch may come twice or not at all"
        )
    if changes:
        logger.warning(
            "going on with another mixture: %s. Batches from here on are not those of the unbroken run, and rows of the "
            "present epoch may come twice or not at all",
            "; ".join(changes),
        )
        # Whether a dataset has run out is found out anew: its limit may have been raised.
        cursors = {name: replace(cursor, run_out=False) for name, cursor in cursors.items()}
        # Another mixture would not find the texts of the group again.
        group_start, before = step, {}
    return Place(
        identity,
        step,
        [cursors.get(name, Cursor()) for name in identity.datasets],
        group_start=group_start,
        before_group={number: before[name] for number, name in enumerate(identity.datasets) if name in before},
    )


def _cursor_state(cursor: Cursor) -> dict[str, Any]:
    # Waiting rows as the first position and the steps from one to the next: small numbers.
    state = {
        "position": cursor.position,
        "waiting": np.diff(cursor.waiting, prepend=0).tolist(),
        "left_out": cursor.num_left_out,
        "run_out": cursor.run_out,
    }
    return {key: value for key, value in state.items() if value}


def _cursor(dataset: Mapping[str, Any]) -> Cursor:
    position = _count(dataset.get("position", 0))
    steps = [_count(step) for step in dataset.get("waiting", [])]
    if steps and (sum(steps) >= position or 0 in steps[1:]):
        raise ValueError(f"rows of {dataset['name']} wait that have not been drawn")
    waiting = np.cumsum(np.array(steps, dtype=np.int64))
    return Cursor(position, waiting, _count(dataset.get("left_out", 0)), bool(dataset.get("run_out")))


def _before_group(datasets: Mapping[str, Mapping[str, Any]], cursors: Mapping[str, Cursor]) -> dict[str, Cursor]:
    """The cursors at the beginning of the group, by name, of the datasets that have been read since."""
    before = {
        name: _cursor({"name": name, **dataset["before_group"]})
        for name, dataset in datasets.items()
        if "before_group" in dataset
    }
    if wrong := [name for name, cursor in before.items() if cursor.position > cursors[name].position]:
        raise ValueError(f"{wrong[0]} had been read further before its group than after it")
    return before


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MAX_COUNT:
        raise ValueError(f"{value!r} is no count")
    return value


def _without(dataset: Mapping[str, Any], keys: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in dataset.items() if key not in keys}


def _changes(saved: Identity, now: Identity) -> list[str]:
    """What differs between two mixtures, in words."""
    changes = [
        f"{key} was {saved.settings.get(key)} and is {now.settings.get(key)}"
        for key in sorted({*saved.settings, *now.settings})
        if saved.settings.get(key) != now.settings.get(key)
    ]
    for name in {**saved.datasets, **now.datasets}:
        before, after = saved.datasets.get(name), now.datasets.get(name)
        if before is None or after is None:
            changes.append(f"the dataset {name} is {'new' if before is None else 'gone'}")
            continue
        for key in sorted({*before, *after}):
            if before.get(key) == after.get(key):
                continue
            if key == "rows":
                changes.append(f"the rows of {name} have changed")
            else:
                changes.append(f"{key} of {name} was {before.get(key)} and is {after.get(key)}")
    if not changes and list(saved.datasets) != list(now.datasets):
        changes.append("the datasets come in another order")
    return changes


def _listed(changes: list[str]) -> str:
    more = f"; and {len(changes) - _MAX_NAMED} more" if len(changes) > _MAX_NAMED else ""
    return "; ".join(changes[:_MAX_NAMED]) + more
