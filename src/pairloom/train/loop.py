"""The training run: batches in, a model folder out, and a way back in after any interruption.

A run leaves two folders: the finished model at ``OUT``, with a report, and ``OUT.run`` with ``metrics.jsonl`` (a line a
step and a line an evaluation) and the last checkpoints. With several processes the first one writes and evaluates.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pairloom import __version__
from pairloom.artifacts import new_artifact, only_one, refuse_occupied, resolved
from pairloom.errors import TrainingError
from pairloom.evaluate.evaluation import Evaluation
from pairloom.evaluate.tasks import Task, read_task
from pairloom.models.dual import AnyModel, DualModel, read_any
from pairloom.models.weights import read_tensors
from pairloom.models.write import write_model
from pairloom.pairs.batch import Batch
from pairloom.pairs.prefetch import Prefetch
from pairloom.progress import Meter, meter
from pairloom.recipe import Recipe
from pairloom.sources.prepare_recipe import with_shards
from pairloom.train.base import start_model
from pairloom.train.card import write_card
from pairloom.train.checkpoint import STATE_TENSORS, checkpoint_step, checkpoints, latest_checkpoint, save_checkpoint
from pairloom.train.data import start_mixture
from pairloom.train.energy import EnergyMeter
from pairloom.train.facts import run_facts
from pairloom.train.first import on_first
from pairloom.train.interrupt import StopRequest, stop_request
from pairloom.train.journal import Journal
from pairloom.train.learner import Learner, NotFiniteError
from pairloom.train.measuring import Measuring
from pairloom.train.neighbours import find_neighbours
from pairloom.train.report import write_report
from pairloom.train.step import BatchTokenizer, BatchTokens
from pairloom.train.truncation import count_texts, truncation_note
from pairloom.train.world import World, start_world

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
        is_first: Whether this process is the one that made the model; the others have nothing to tell.
    """

    facts: dict[str, Any]
    evaluations: list[Evaluation]
    is_first: bool = True


def train(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    allow_changes: bool = False,
    device: str | None = None,
    show_progress: bool = True,
    command: Sequence[str] = (),
) -> TrainingResult:
    """Trains a model, alone or as one of the processes that `torchrun` started.

    On a GPU, torch's global generators are seeded anew in each step.

    Args:
        recipe: All settings. Of datasets without shards, ``data.missing`` says whether they are left out.
        out: The model folder to make.
        resume: Whether to go on from the newest whole checkpoint of an interrupted run.
        allow_changes: Whether to go on with other shards, another mixture, batch size or seed than before. The result is
            then not that of an unbroken run, and a warning says what is given up.
        device: By default a GPU if there is one.
        show_progress: Whether to show progress on stderr.
        command: The words that were typed, for the model's card.

    Returns:
        The manifest's facts, and the last evaluation of each task.

    Raises:
        TrainingInterruptedError: After Ctrl-C (SIGINT) or SIGTERM.
        PeerError: Another process of the job has ended or hangs.
        PairloomError: Something of the recipe is missing or wrong, the loss is no longer a number, the disk is full, or
            another process is at this run.
    """
    with start_world(device, timeout_s=recipe.train.peer_timeout_s) as world, ExitStack() as stack:
        show_progress = show_progress and world.is_first
        if not world.is_first:
            logger.setLevel(logging.ERROR)  # what all would say, the first says
        on_first(world, lambda: refuse_occupied(out))
        run = _Run(with_shards(recipe), resolved(out), world, command)
        world.agree({"--resume": resume, "--allow-changes": allow_changes}, "options")
        stack.callback(run.close)
        on_first(world, lambda: stack.enter_context(only_one(run.folder)))
        stop = stack.enter_context(stop_request())
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

    def __init__(self, recipe: Recipe, out: Path, world: World, command: Sequence[str]) -> None:
        self.recipe, self.out, self.folder, self.world = recipe, out, run_folder(out), world
        self.command = command
        self.device = world.device
        self.mixture = start_mixture(recipe, rank=world.rank, world_size=world.size)
        self.place = self.mixture.place  # of the last checkpoint
        self.tasks: list[Task] = []
        if world.is_first:
            self.tasks = [read_task(path) for path in recipe.evaluate.tasks]
        self.base = start_model(recipe)
        # What a continuation must have in common with the run, and all processes with each other.
        self.origin: dict[str, Any] = {
            "recipe": recipe.model_dump(mode="json"),
            "data": [dataset.rows.fingerprint for dataset in self.mixture.datasets],
            "base": self.base.fingerprint,
        }
        versions = {"pairloom": __version__, "torch": torch.__version__}
        world.agree({**self.origin["recipe"], **self.origin, **versions}, "recipe")
        self.step = self.num_skipped = 0
        self.journal: Journal | None = None

    def begin(self) -> None:
        def refuse_checkpoints() -> None:
            if can_resume(self.out):
                raise TrainingError(
                    f"{self.folder}: holds the checkpoints of a run; continue it with --resume, or remove the folder"
                )

        on_first(self.world, refuse_checkpoints)
        self._build(self.base)

    def resume(self, *, allow_changes: bool) -> None:
        found = on_first(
            self.world,
            lambda: latest_checkpoint(self.folder / "checkpoints", origin=self.origin, allow_changes=allow_changes),
        )
        self._build(self.base if found is None else read_any(found.path / "model"))
        if found is not None:
            self.learner.load_state(read_tensors(found.path / STATE_TENSORS))
        self.learner.share_state()
        state = self.world.share(found and {"step": found.step, "skipped": found.num_skipped, "mixture": found.mixture})
        self.mixture.restore(state["mixture"], allow_changes=allow_changes)
        self.place = self.mixture.place
        self.step, self.num_skipped = state["step"], state["skipped"]
        logger.info("resuming after step %d", self.step)

    def _build(self, model: AnyModel) -> None:
        self.learner = Learner(
            model, self.recipe, similarity=self.base.similarity, device=self.device, world=self.world
        )

    def go(self, stop: StopRequest, *, show_progress: bool) -> TrainingResult:
        if self.world.is_first:
            # Of GPUs and of other machines nobody tells here what they take.
            here = self.device.type == "cpu" and self.world.local_size == self.world.size
            self.journal = Journal(
                self.folder,
                self.recipe.train,
                self.device,
                num_devices=self.world.size,
                resume_after=self.step,
                energy=EnergyMeter() if here else None,
            )
        self.measuring = Measuring(self.recipe, self.base, self.learner, self.tasks, self.world, self.journal)
        before = self.measuring.base(self.step, show_progress=show_progress)
        steps = self.recipe.train.steps
        tokenize = BatchTokenizer(self.base, self.recipe.data)
        with (
            meter("training", total=steps - self.step, unit="steps", show=show_progress) as progress,
            Prefetch(self.mixture, tokenize, depth=self.recipe.data.prefetch_batches) as batches,
        ):
            while self.step < steps:
                every = self.recipe.evaluate.every_steps
                if every and self.step and self.step % every == 0:
                    self.measuring.now(self.step, before, show_progress=False)
                stop.patient = True
                self._one_step(batches, progress)
                stopping = self.world.any(stop.requested)
                if self.step == steps or stopping or self.step % self.recipe.train.checkpoint_every_steps == 0:
                    self.place = batches.place
                    self._save()
                    stop.patient = False  # from here to the next step, nothing is lost by stopping at once
                    stopping = self.world.any(stop.requested)  # or asked for while it was saved
                if stopping:
                    raise KeyboardInterrupt
        evaluations = self.measuring.now(self.step, before, show_progress=show_progress)
        facts = on_first(self.world, self._finish)
        return TrainingResult(facts or {}, evaluations, is_first=self.world.is_first)

    def interrupted(self) -> TrainingInterruptedError:
        if not self.world.is_first:
            return TrainingInterruptedError(f"rank {self.world.rank} has stopped, too")
        saved = checkpoints(self.folder / "checkpoints")
        if not saved:
            return TrainingInterruptedError("stopped before the first checkpoint; run the same command to start again")
        step = checkpoint_step(saved[-1])
        return TrainingInterruptedError(
            f"stopped; step {step:,} of {self.recipe.train.steps:,} is saved: run the same command with --resume to go on"
        )

    def close(self) -> None:
        if self.journal is not None:
            self.journal.close()

    def _one_step(self, batches: Prefetch[BatchTokens], progress: Meter) -> None:
        if self.journal is not None:
            self.journal.begin_step()
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
        except NotFiniteError as error:
            self._pass_over(str(error), batch)
            progress.advance(1, "passed over")
            return
        note = self.journal and self.journal.step(self.step, batch, result)
        progress.advance(1, note or "")

    def _pass_over(self, what: str, batch: Batch) -> None:
        """Goes on without the batch, whose texts are saved, unless it is one too many."""
        path = self.folder / "not-finite" / f"step-{self.step:08d}.jsonl"
        rows = " and ".join(f"{part.dataset.name}, rows {_first(part.rows.tolist())}" for part in batch.parts)
        came_from = f"the batch came from {rows} (saved in {path})"
        if self.world.is_first:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_batch(path, self.mixture.read(replace(batch, begin=0, end=batch.num_pairs)))
        self.num_skipped += 1
        if self.num_skipped > self.recipe.train.max_skipped_steps:
            raise TrainingError(
                f"step {self.step:,}: {what}; {came_from}. Earlier checkpoints are untouched; start anew with another "
                '--out and a lower train.learning_rate, or with train.precision="float32"; or go on with --resume and a '
                "larger train.max_skipped_steps"
            )
        logger.warning("step %d is passed over: %s; %s", self.step, what, came_from)
        if self.journal is not None:
            self.journal.write(step=self.step, skipped=what, names=list(batch.names))

    def _check_weights(self) -> None:
        try:
            self.learner.check_weights()
        except TrainingError as error:
            raise TrainingError(
                f"step {self.step:,}: {error}, so this step is not saved. Earlier checkpoints are untouched; start anew "
                "with another --out and a lower train.learning_rate"
            ) from None

    def _save(self) -> None:
        def save() -> None:
            self._check_weights()
            save_checkpoint(
                self.folder / "checkpoints",
                step=self.step,
                num_skipped=self.num_skipped,
                model=self.learner.updated(self.base),
                tensors=self.learner.state(),
                mixture=self.place.state(),
                origin=self.origin,
                keep=self.recipe.train.keep_checkpoints,
            )

        on_first(self.world, save)

    def _finish(self) -> dict[str, Any]:
        assert self.journal is not None, "the first process finishes, and keeps the journal"
        self._check_weights()
        model = self.learner.updated(self.base, finished=True)
        records = self.journal.metrics.records()
        facts = self._facts(model, records)
        described, document = (model.query, model.document) if isinstance(model, DualModel) else (model, None)
        encoders = self.measuring.encoder_of_base(), self.measuring.encoder_of_now()
        neighbours = [found for task in self.tasks[:1] for found in find_neighbours(*encoders, task)]
        with new_artifact(self.out, "model") as draft:
            readme = write_card(self.out.name, described, facts, records, self.recipe, document=document)
            write_model(model, draft.path, readme=readme)
            write_report(
                draft.path / "report.html", name=self.out.name, facts=facts, records=records, neighbours=neighbours
            )
            if self.journal.metrics.path.is_file():
                (draft.path / "metrics.jsonl").write_bytes(self.journal.metrics.path.read_bytes())
            draft.facts.update(facts)
        if note := truncation_note(facts):
            logger.warning("in training, %s", note)
        return facts

    def _facts(self, model: AnyModel, records: list[dict[str, Any]]) -> dict[str, Any]:
        """Of the manifest."""
        facts: dict[str, Any] = {
            "fingerprint": model.fingerprint,
            "recipe": self.origin["recipe"],
            "base": {"name": self.recipe.model.base, "fingerprint": self.origin["base"]},
            "data": [
                {
                    "name": dataset.name,
                    "shards": str(section.shards),
                    "pairs": len(dataset),
                    "columns": list(dataset.rows.columns),
                    "weight": dataset.weight,
                    "pairs_drawn": cursor.num_drawn,
                    "fingerprint": dataset.rows.fingerprint,
                }
                for dataset, section, cursor in zip(
                    self.mixture.datasets, self.recipe.data.datasets, self.place.cursors, strict=True
                )
            ],
            "steps": self.step,
            "steps_skipped": self.num_skipped,
            "pairs_left_out": self.place.num_left_out,
            "texts": count_texts(records),
            "device": self.device.type if self.world.size == 1 else f"{self.world.size} × {self.device.type}",
            "torch": torch.__version__,
            "evaluations": [
                {"step": record["step"], **record["evaluation"]} for record in records if "evaluation" in record
            ],
            **run_facts(
                self.recipe.model.base,
                records,
                device=self.device,
                num_devices=self.world.size,
                command=self.command,
            ),
        }
        if isinstance(model, DualModel):
            facts["encoders"] = {"query": model.query.fingerprint, "document": model.document.fingerprint}
        return facts


def _write_batch(path: Path, batch: Batch) -> None:
    """A line for each pair: its dataset, its row and its texts."""
    with path.open("w", encoding="utf-8") as stream:
        for part, where in batch.own_parts():
            for row, *texts in zip(part.rows.tolist(), *(column[where] for column in batch.columns), strict=True):
                line = {"dataset": part.dataset.name, "row": row, "texts": texts}
                stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def _first(rows: list[int]) -> str:
    return ", ".join(map(str, rows[:8])) + (", …" if len(rows) > 8 else "")
