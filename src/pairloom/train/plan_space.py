"""What a run takes of memory and disk."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from pairloom.artifacts import read_manifest
from pairloom.errors import ArtifactError
from pairloom.models.architecture import Architecture
from pairloom.recipe import Recipe
from pairloom.train.plan_base import PlannedBase, num_weights, of_queries

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Space:
    """What is taken of memory and disk.

    Args:
        state_bytes: Weights, gradients, moments and an average, on each device.
        checkpoint_bytes: Of a checkpoint: weights and two moments.
        num_checkpoints: That lie there at once: those that are kept, and one that is being written.
        model_bytes: Of the finished model.
        shards_bytes: Of those that are here.
        num_shards_unknown: Datasets whose shards are not here.
        free_bytes: On the disk that the model will lie on.
        free_at: Where that was asked.
    """

    state_bytes: int
    checkpoint_bytes: int
    num_checkpoints: int
    model_bytes: int
    shards_bytes: int
    num_shards_unknown: int
    free_bytes: int
    free_at: Path

    @property
    def needed_bytes(self) -> int:
        """That the run will write and keep at most."""
        return self.num_checkpoints * self.checkpoint_bytes + self.model_bytes


def planned_space(
    recipe: Recipe, base: PlannedBase, architecture: Architecture, out: Path | None, *, num_networks: int
) -> Space:
    """Works out what a run takes.

    Args:
        recipe: Of the run.
        base: What is known of it.
        architecture: Its own.
        out: The model folder; by default one in the present folder.
        num_networks: Encoders that are trained.
    """
    train, data = recipe.train, recipe.data
    everything, trained = num_weights(architecture, base.heads, train)
    average = 0 if train.average_decay is None else everything
    beside = 0
    if base.model is not None:
        model = of_queries(base.model)
        beside = sum(len(content) for content in model.tokenizer_files.values())
        beside += _FLOAT_BYTES * sum(array.size for array in model.unread_weights.values())
    model_bytes = _FLOAT_BYTES * everything + beside
    shards = [section.shards for section in data.datasets if section.shards.exists()]
    folder = _existing(out or Path())
    return Space(
        state_bytes=num_networks * _FLOAT_BYTES * (everything + 3 * trained + average),
        checkpoint_bytes=num_networks * (model_bytes + _FLOAT_BYTES * (2 * trained + average)),
        num_checkpoints=min(train.keep_checkpoints + 1, -(-train.steps // train.checkpoint_every_steps)),
        model_bytes=num_networks * model_bytes,
        shards_bytes=sum(_bytes_of(path) for path in shards),
        num_shards_unknown=len(data.datasets) - len(shards),
        free_bytes=shutil.disk_usage(folder).free,
        free_at=folder,
    )


def _bytes_of(shards: Path) -> int:
    try:
        return sum(entry.bytes for entry in read_manifest(shards).files.values())
    except ArtifactError:
        return 0  # its fault is told elsewhere


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    path = path.absolute()
    while not path.is_dir():
        path = path.parent
    return path
