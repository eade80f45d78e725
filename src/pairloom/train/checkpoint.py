"""Checkpoints: all that a run needs to go on, written whole, the last few kept."""

from __future__ import annotations

import json
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pairloom.artifacts import new_artifact, verify
from pairloom.errors import ArtifactError, TrainingError
from pairloom.models.model import Model
from pairloom.models.weights import read_tensors, write_tensors
from pairloom.models.write import write_model

logger = logging.getLogger("pairloom")

# What may differ between a run and its continuation: it changes what is written and shown, not what is learnt.
_FREE_SETTINGS = ("train.checkpoint_every_steps", "train.keep_checkpoints", "data.prefetch_batches")
# What, besides the section ``data``, decides about the batches.
_MIXTURE_SETTINGS = ("train.batch_size", "train.seed")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read back.

    Args:
        path: Its folder, in which ``model`` is a model folder like any other.
        step: Optimizer steps done.
        mixture: The state of the mixture.
    """

    path: Path
    step: int
    mixture: dict[str, Any]


def save_checkpoint(
    folder: Path,
    *,
    step: int,
    model: Model,
    optimizer: torch.optim.Optimizer,
    mixture: dict[str, Any],
    origin: dict[str, Any],
    keep: int,
) -> Path:
    """Writes ``folder/step-N`` and then removes the oldest checkpoints beyond ``keep``.

    Args:
        folder: Where the run's checkpoints lie.
        step: Optimizer steps done.
        model: With the weights of this step.
        optimizer: AdamW.
        mixture: Its state after the batch of this step.
        origin: What a continuation must have in common: ``recipe`` (resolved), ``data`` and ``base`` (fingerprints).
        keep: How many checkpoints to keep, this one included.

    Raises:
        ArtifactError: The disk is full; earlier checkpoints are untouched.
    """
    path = folder / f"step-{step:08d}"
    with new_artifact(path, "checkpoint") as draft:
        (draft.path / "model").mkdir()
        write_model(model, draft.path / "model", readme=f"A checkpoint of a training run, after step {step:,}.\n")
        write_tensors(draft.path / "optimizer.safetensors", _optimizer_tensors(optimizer))
        state = {"step": step, "mixture": mixture}
        (draft.path / "state.json").write_text(json.dumps(state), encoding="utf-8")
        draft.facts.update(step=step, **origin)
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(
        path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdecimal() and path.is_dir()
    )


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
            manifest = verify(path)
        except ArtifactError as error:
            # Out of the way, because the run will come to this step again.
            path.rename(path.with_name(f"damaged-{path.name}-{time.time_ns()}"))
            logger.warning("checkpoint %s is damaged, so the one before it is used: %s", path.name, error)
            continue
        _refuse_other_run(path, manifest.facts, origin, allow_changes=allow_changes)
        state = json.loads((path / "state.json").read_bytes())
        return Checkpoint(path, state["step"], state["mixture"])
    raise TrainingError(f"{folder}: holds no whole checkpoint, so there is nothing to resume; start without --resume")


def restore_optimizer(optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Reads AdamW's moments and step counts back."""
    tensors = read_tensors(path / "optimizer.safetensors")
    for number, parameter in enumerate(_parameters(optimizer)):
        optimizer.state[parameter] = {
            "step": torch.tensor(float(tensors[f"{number}.step"][0])),
            **{
                name: torch.from_numpy(tensors[f"{number}.{name}"]).to(parameter.device)
                for name in ("exp_avg", "exp_avg_sq")
            },
        }


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    tensors = {}
    for number, parameter in enumerate(_parameters(optimizer)):
        state = optimizer.state[parameter]
        tensors[f"{number}.step"] = np.array([float(state["step"])], dtype=np.float32)
        for name in ("exp_avg", "exp_avg_sq"):
            tensors[f"{number}.{name}"] = state[name].detach().cpu().numpy()
    return tensors


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _refuse_other_run(path: Path, facts: dict[str, Any], origin: dict[str, Any], *, allow_changes: bool) -> None:
    recipe = origin["recipe"]
    if facts["data"] != origin["data"] and not allow_changes:
        raise TrainingError(
            f"{path}: was made with other shards than the recipe names now; start anew with another --out, or go on "
            "with --allow-changes"
        )
    if facts["base"] != origin["base"]:
        raise TrainingError(
            f"{path}: was made from another base than {recipe['model']['base']} is now; start anew with another --out"
        )
    for section in ("model", "data", "loss", "train"):
        for key, value in recipe[section].items():
            before = facts["recipe"][section].get(key)
            of_the_mixture = section == "data" or f"{section}.{key}" in _MIXTURE_SETTINGS
            if before == value or f"{section}.{key}" in _FREE_SETTINGS or (of_the_mixture and allow_changes):
                continue
            advice = ", or go on with --allow-changes" if of_the_mixture else ""
            raise TrainingError(
                f"{path}: was made with {section}.{key} = {json.dumps(before)}, the recipe says "
                f"{json.dumps(value)}; resume with the same recipe, or start anew with another --out{advice}"
            )
