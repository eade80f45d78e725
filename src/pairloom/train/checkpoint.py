"""Checkpoints: all that a run needs to go on, written whole, the last few kept."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pairloom.artifacts import new_artifact, verify
from pairloom.errors import ArtifactError, TrainingError
from pairloom.models.dual import AnyModel
from pairloom.models.weights import write_tensors
from pairloom.models.write import write_model
from pairloom.recipe import Recipe

logger = logging.getLogger("pairloom")

# What may differ between a run and its continuation: it changes how it is computed and shown, not what is learnt.
_FREE_SETTINGS = (
    "data.prefetch_batches",
    "train.checkpoint_every_steps",
    "train.checkpoint_layers",
    "train.graph_memory_mib",
    "train.keep_checkpoints",
    "train.max_skipped_steps",
    "train.micro_batch_tokens",  # changes the last digits, and on GPUs what is dropped; too little memory may ask for it
    "train.peer_timeout_s",
    "train.tensorboard",
)
# What a learner has besides its network: moments, step counts, averages.
STATE_TENSORS = "optimizer.safetensors"
# What, besides the section ``data``, decides about the batches.
_MIXTURE_SETTINGS = ("train.batch_size", "train.seed")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read back.

    Args:
        path: Its folder, in which ``model`` is a model folder like any other.
        step: Optimizer steps done.
        num_skipped: Of these, batches that were passed over.
        mixture: The state of the mixture.
    """

    path: Path
    step: int
    num_skipped: int
    mixture: dict[str, Any]


def save_checkpoint(
    folder: Path,
    *,
    step: int,
    num_skipped: int,
    model: AnyModel,
    tensors: Mapping[str, torch.Tensor],
    mixture: dict[str, Any],
    origin: dict[str, Any],
    keep: int,
) -> Path:
    """Writes ``folder/step-N`` and then removes the oldest checkpoints beyond ``keep``.

    Args:
        folder: Where the run's checkpoints lie.
        step: Optimizer steps done.
        num_skipped: Of these, batches that were passed over.
        model: With the weights of this step.
        tensors: Whatever else a learner needs to go on.
        mixture: Its state after the batch of this step.
        origin: What a continuation must have in common: ``recipe`` (resolved), ``data`` and ``base`` (fingerprints).
        keep: How many checkpoints to keep, this one included.

    Raises:
        ArtifactError: The disk is full; earlier checkpoints are untouched.
    """
    path = folder / f"step-{step:08d}"
    _remove_unfinished(folder)
    with new_artifact(path, "checkpoint") as draft:
        (draft.path / "model").mkdir()
        write_model(model, draft.path / "model", readme=f"A checkpoint of a training run, after step {step:,}.\n")
        arrays = {name: np.atleast_1d(tensor.detach().cpu().numpy()) for name, tensor in tensors.items()}
        write_tensors(draft.path / STATE_TENSORS, arrays)
        # The origin is in the manifest, too, for people; but the manifest has no checksum of itself.
        state = {"step": step, "skipped": num_skipped, "mixture": mixture, "origin": origin}
        (draft.path / "state.json").write_text(json.dumps(state), encoding="utf-8")
        draft.facts.update(step=step, **origin)
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    found = (path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdecimal() and path.is_dir())
    return sorted(found, key=checkpoint_step)


def checkpoint_step(path: Path) -> int:
    """After which step a checkpoint was made, as its name says."""
    return int(path.name.removeprefix("step-"))


def latest_checkpoint(folder: Path, *, origin: dict[str, Any], allow_changes: bool = False) -> Checkpoint:
    """Reads the newest whole checkpoint; one that is damaged is named and renamed, and the one before it is used.

    Args:
        folder: Where they lie.
        origin: What the continuation is made of, as in `save_checkpoint`.
        allow_changes: Whether shards, mixture, batch size and seed may be others than they were.

    Raises:
        TrainingError: There is none, or it belongs to another recipe, other data or another base.
    """
    for path in reversed(checkpoints(folder)):
        try:
            verify(path, "checkpoint")
            checkpoint, before = _read_state(path)
        except ArtifactError as error:
            # Out of the way, because the run will come to this step again.
            path.rename(path.with_name(f"damaged-{path.name}-{time.time_ns()}"))
            logger.warning("checkpoint %s is damaged, so the one before it is used: %s", path.name, error)
            continue
        _refuse_other_run(path, before, origin, allow_changes=allow_changes)
        return checkpoint
    raise TrainingError(f"{folder}: holds no whole checkpoint, so there is nothing to resume; start without --resume")


def _read_state(path: Path) -> tuple[Checkpoint, dict[str, Any]]:
    """A checkpoint, and the origin of the run that made it."""
    file = path / "state.json"
    try:
        state = json.loads(file.read_bytes())
        return Checkpoint(path, state["step"], state["skipped"], state["mixture"]), state["origin"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{file}: cannot be read ({type(error).__name__}: {error})") from None


def _remove_unfinished(folder: Path) -> None:
    """Clears what killed processes left, on whichever host: only one process at a time works in a run's folder."""
    for path in folder.glob(".step-*.partial-*"):
        shutil.rmtree(path, ignore_errors=True)


def _refuse_other_run(path: Path, before: dict[str, Any], origin: dict[str, Any], *, allow_changes: bool) -> None:
    recipe = origin["recipe"]
    if before["data"] != origin["data"] and not allow_changes:
        raise TrainingError(
            f"{path}: was made with other shards than the recipe names now; start anew with another --out, or go on "
            "with --allow-changes"
        )
    same_kind = before["recipe"]["model"].get("encoders") == recipe["model"].get("encoders")
    if before["base"] != origin["base"] and same_kind:  # else it is another setting that makes it another base
        bases = " and ".join(recipe["model"][key] for key in ("base", "document_base") if recipe["model"].get(key))
        raise TrainingError(f"{path}: was made from another base than {bases} is now; start anew with another --out")
    for section in ("model", "data", "loss", "train"):
        settings = getattr(Recipe.model_fields[section].annotation, "model_fields", {})
        for key, value in recipe[section].items():
            # A run of an earlier version lacks settings that came later: it was made as their defaults say.
            earlier = before["recipe"][section].get(key, settings[key].default if key in settings else None)
            of_the_mixture = section == "data" or f"{section}.{key}" in _MIXTURE_SETTINGS
            if earlier == value or f"{section}.{key}" in _FREE_SETTINGS or (of_the_mixture and allow_changes):
                continue
            advice = ", or go on with --allow-changes" if of_the_mixture else ""
            raise TrainingError(
                f"{path}: was made with {section}.{key} = {json.dumps(earlier)}, the recipe says "
                f"{json.dumps(value)}; resume with the same recipe, or start anew with another --out{advice}"
            )
