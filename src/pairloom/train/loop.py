"""The training run: batches in, a model folder out, and a way back in after any interruption.

A run leaves two folders: the finished model at ``OUT``, and ``OUT.run`` with ``metrics.jsonl`` (a line a step and
a line an evaluation) and the last checkpoints.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pairloom.artifacts import new_artifact, only_one, refuse_occupied, resolved
from pairloom.encode.encoder import Encoder
from pairloom.encode.torch_engine import TorchEngine, pick_device
from pairloom.errors import TrainingError
from pairloom.evaluate.evaluation import Evaluation, evaluate
from pairloom.evaluate.report import to_json
from pairloom.evaluate.tasks import read_task
from pairloom.models.model import Model
from pairloom.models.read import read_model
from pairloom.models.write import write_model
from pairloom.pairs.batch import Batch
from pairloom.pairs.prefetch import Prefetch
from pairloom.progress import Meter, meter
from pairloom.recipe import Recipe
from pairloom.train.base import start_model
from pairloom.train.card import write_card
from pairloom.train.checkpoint import checkpoints, latest_checkpoint, restore_optimizer, save_checkpoint
from pairloom.train.data import start_mixture
from pairloom.train.interrupt import StopRequest, stop_request
from pairloom.train.learner import Learner, StepResult
from pairloom.train.metrics import MetricsLog
from pairloom.train.step import BatchTokenizer, BatchTokens

logger = logging.getLogger("pairloom")


class TrainingInterruptedError(TrainingError):
    """The run was asked to stop; what it has done so far is saved."""

    exit_code = 130


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run has to tell.

    Args:
        facts: Of the model's manifest: recipe, data, evaluations, fingerprint.
        evaluations: Of the finished model, each compared with the base.
    """

    facts: dict[str, Any]
    evaluations: list[Evaluation]


def train(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    allow_changes: bool = False,
    device: str | None = None,
    show_progress: bool = True,
) -> TrainingResult:
    """Trains a model.

    Args:
        recipe: All settings.
        out: The model folder to make.
        resume: Whether to go on from the newest whole checkpoint of an interrupted run.
        allow_changes: Whether to go on with other shards, another mixture, batch size or seed than before. The result is
            then not that of an unbroken run, and a warning says what is given up.
        device: By default a GPU if there is one.
        show_progress: Whether to show progress on stderr.

    Returns:
        The manifest's facts, and the last evaluation of each task.

    Raises:
        TrainingInterruptedError: After Ctrl-C (SIGINT) or SIGTERM.
        PairloomError: Something of the recipe is missing or wrong, the loss is no longer a number, the disk is full, or
            another process is at this run.
    """
    refuse_occupied(out)
    run = _Run(recipe, resolved(out), device=device)
    with only_one(run.folder), stop_request() as stop:
        try:
            run.resume(allow_changes=allow_changes) if resume else run.begin()
            return run.go(stop, show_progress=show_progress)
        except KeyboardInterrupt:
            raise run.interrupted() from None


def run_folder(out: Path) -> Path:
    """Where the run that makes the model ``out`` keeps its checkpoints and metrics."""
    return out.with_name(out.name + ".run")


def can_resume(out: Path) -> bool:
    """Whether a run that was to make ``out`` left a checkpoint."""
    return bool(checkpoints(run_folder(out) / "checkpoints"))


class _Run:
    """A run's parts and its place; everything heavy is loaded after the cheap checks have passed."""

    def __init__(self, recipe: Recipe, out: Path, *, device: str | None) -> None:
        self.recipe, self.out, self.folder = recipe, out, run_folder(out)
        self.metrics = MetricsLog(self.folder / "metrics.jsonl")
        self.mixture = start_mixture(recipe)
        self.place = self.mixture.place  # of the last checkpoint
        self.tasks = [read_task(path) for path in recipe.evaluate.tasks]
        self.device = pick_device(device)
        self.base = start_model(recipe)
        # What a continuation must have in common with the run.
        self.origin: dict[str, Any] = {
            "recipe": recipe.model_dump(mode="json"),
            "data": [dataset.rows.fingerprint for dataset in self.mixture.datasets],
            "base": self.base.fingerprint,
        }
        self.step = 0

    def begin(self) -> None:
        if can_resume(self.out):
            raise TrainingError(
                f"{self.folder}: holds the checkpoints of a run; continue it with --resume, or remove the folder"
            )
        self.metrics.path.unlink(missing_ok=True)  # of a run that did not come as far as a checkpoint
        self._build(self.base)

    def resume(self, *, allow_changes: bool) -> None:
        checkpoint = latest_checkpoint(self.folder / "checkpoints", origin=self.origin, allow_changes=allow_changes)
        self._build(read_model(checkpoint.path / "model"))
        restore_optimizer(self.learner.optimizer, checkpoint.path)
        self.mixture.restore(checkpoint.mixture, allow_changes=allow_changes)
        self.place = self.mixture.place
        self.step = checkpoint.step
        self.metrics.go_back_to(self.step, steps=self.recipe.train.steps)
        logger.info("resuming after step %d", self.step)

    def _build(self, model: Model) -> None:
        self.learner = Learner(model, self.recipe, similarity=self.base.similarity, device=self.device)

    def go(self, stop: StopRequest, *, show_progress: bool) -> TrainingResult:
        before = self._evaluate_base(show_progress=show_progress)
        steps = self.recipe.train.steps
        tokenize = BatchTokenizer(self.base, self.recipe.data)
        with (
            meter("training", total=steps - self.step, unit="steps", show=show_progress) as progress,
            Prefetch(self.mixture, tokenize, depth=self.recipe.data.prefetch_batches) as batches,
        ):
            while self.step < steps:
                stop.patient = True
                self._one_step(batches, progress)
                if self.step == steps or stop.requested or self.step % self.recipe.train.checkpoint_every_steps == 0:
                    self.place = batches.place
                    self._save()
                stop.patient = False
                if stop.requested:
                    raise KeyboardInterrupt
                every = self.recipe.evaluate.every_steps
                if every and self.step % every == 0 and self.step < steps:
                    self._evaluate(before, show_progress=False)
        evaluations = self._evaluate(before, show_progress=show_progress)
        return TrainingResult(self._finish(), evaluations)

    def interrupted(self) -> TrainingInterruptedError:
        saved = checkpoints(self.folder / "checkpoints")
        if not saved:
            return TrainingInterruptedError("stopped before the first checkpoint; run the same command to start again")
        step = int(saved[-1].name.removeprefix("step-"))
        return TrainingInterruptedError(
            f"stopped; step {step:,} of {self.recipe.train.steps:,} is saved: run the same command with --resume to go on"
        )

    def _one_step(self, batches: Prefetch[BatchTokens], progress: Meter) -> None:
        start = time.monotonic()
        try:
            batch, tokens = next(batches)
        except StopIteration:
            raise TrainingError(
                f"step {self.step + 1:,}: every dataset has reached its max_epochs; start anew with another --out and "
                "lower train.steps, or allow more epochs"
            ) from None
        self.step += 1
        try:
            result = self.learner.step(tokens, self.step)
        except TrainingError as error:
            raise self._diverged(str(error), batch) from None
        seconds = time.monotonic() - start
        self.metrics.append(
            step=self.step,
            loss=round(result.loss, 6),
            learning_rate=result.learning_rate,
            gradient_norm=round(result.gradient_norm, 6),
            dataset=" + ".join(batch.names),
            pairs_per_s=round(result.num_pairs / seconds, 2),
            tokens_per_s=round(result.num_tokens / seconds, 1),
            padding=round(1 - result.num_tokens / result.num_computed_tokens, 4),
        )
        progress.advance(1, _note(result, seconds))

    def _diverged(self, what: str, batch: Batch) -> TrainingError:
        rows = " and ".join(f"{part.dataset.name}, rows {_first(part.rows.tolist())}" for part in batch.parts)
        return TrainingError(
            f"step {self.step:,}: {what}; the batch came from {rows}. Earlier checkpoints are untouched; start anew with "
            'another --out and a lower train.learning_rate, or with train.precision="float32"'
        )

    def _model(self) -> Model:
        try:
            self.learner.check_weights()
        except TrainingError as error:
            raise TrainingError(
                f"step {self.step:,}: {error}, so this step is not saved. Earlier checkpoints are untouched; start anew "
                "with another --out and a lower train.learning_rate"
            ) from None
        return self.learner.network.updated(self.base)

    def _save(self) -> None:
        save_checkpoint(
            self.folder / "checkpoints",
            step=self.step,
            model=self._model(),
            optimizer=self.learner.optimizer,
            mixture=self.place.state(),
            origin=self.origin,
            keep=self.recipe.train.keep_checkpoints,
        )

    def _evaluate_base(self, *, show_progress: bool) -> list[Evaluation]:
        """Measures the model as it was, for later measurements to be compared with."""
        if not self.tasks:
            return []
        encoder = Encoder(self.base, device=str(self.device), precision=self.recipe.train.precision)
        results = []
        for task in self.tasks:
            results.append(evaluate(encoder, task, show_progress=show_progress))
            if self.step == 0:
                self._record_evaluation(results[-1])
        return results

    def _evaluate(self, before: list[Evaluation], *, show_progress: bool) -> list[Evaluation]:
        precision = self.recipe.train.precision
        engine = TorchEngine(self.learner.network, device=str(self.device), precision=precision)
        encoder = Encoder(self.base, engine=engine, precision=precision)
        results = []
        for task, reference in zip(self.tasks, before, strict=True):
            results.append(evaluate(encoder, task, baseline=reference, show_progress=show_progress))
            self._record_evaluation(results[-1])
        return results

    def _record_evaluation(self, result: Evaluation) -> None:
        self.metrics.append(step=self.step, evaluation=to_json(result))
        name, measurement = next(iter(result.metrics.items()))
        change = "" if measurement.comparison is None else f" ({measurement.comparison.difference:+.4f})"
        when = f"after step {self.step:,}" if self.step else "before training"
        logger.info("%s: %s %s %.4f%s", when, result.task, name, measurement.value, change)

    def _finish(self) -> dict[str, Any]:
        records, model = self.metrics.records(), self._model()
        facts: dict[str, Any] = {
            "fingerprint": model.fingerprint,
            "recipe": self.origin["recipe"],
            "base": {"name": self.recipe.model.base, "fingerprint": self.origin["base"]},
            "data": [
                {
                    "name": dataset.name,
                    "shards": str(section.shards),
                    "pairs": len(dataset),
                    "weight": dataset.weight,
                    "pairs_drawn": cursor.num_drawn,
                    "fingerprint": dataset.rows.fingerprint,
                }
                for dataset, section, cursor in zip(
                    self.mixture.datasets, self.recipe.data.datasets, self.place.cursors, strict=True
                )
            ],
            "steps": self.step,
            "pairs_left_out": self.place.num_left_out,
            "device": str(self.device),
            "torch": torch.__version__,
            "evaluations": [
                {"step": record["step"], **record["evaluation"]} for record in records if "evaluation" in record
            ],
        }
        with new_artifact(self.out, "model") as draft:
            write_model(model, draft.path, readme=write_card(self.out.name, model, facts, records))
            if self.metrics.path.is_file():
                (draft.path / "metrics.jsonl").write_bytes(self.metrics.path.read_bytes())
            draft.facts.update(facts)
        return facts


def _first(rows: list[int]) -> str:
    return ", ".join(map(str, rows[:8])) + (", …" if len(rows) > 8 else "")


def _note(result: StepResult, seconds: float) -> str:
    return (
        f"loss {result.loss:.4f}  rate {result.learning_rate:.1e}  {result.num_pairs / seconds:,.1f} pairs/s  "
        f"{result.num_tokens / seconds:,.0f} tokens/s"
    )
