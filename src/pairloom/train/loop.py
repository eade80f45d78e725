"""The training run: batches in, a model folder out, and a way back in after any interruption.

A run leaves two folders: the finished model at ``OUT``, and ``OUT.run`` with ``metrics.jsonl`` (a line a step and
a line an evaluation) and the last checkpoints.
"""

from __future__ import annotations

import json
import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from pairloom.artifacts import new_artifact, refuse_occupied
from pairloom.encode.encoder import Encoder
from pairloom.encode.torch_engine import TorchEngine, pick_device
from pairloom.errors import TrainingError
from pairloom.evaluate.evaluation import Evaluation, evaluate
from pairloom.evaluate.report import to_json
from pairloom.evaluate.tasks import Task, read_task
from pairloom.models.model import Model
from pairloom.models.read import read_model
from pairloom.models.write import write_model
from pairloom.network.encoder import EncoderNetwork
from pairloom.pairs.mixture import Batch, Mixture
from pairloom.pairs.shards import Shards
from pairloom.progress import Meter, meter
from pairloom.recipe import Recipe
from pairloom.train.base import start_model
from pairloom.train.card import write_card
from pairloom.train.checkpoint import checkpoints, latest_checkpoint, restore_optimizer, save_checkpoint
from pairloom.train.schedule import linear_warmup_then_decay
from pairloom.train.step import BatchTokenizer, batch_loss, embed

logger = logging.getLogger("pairloom")


class TrainingInterruptedError(TrainingError):
    """The run was asked to stop, saved itself, and can be resumed."""

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
    recipe: Recipe, out: Path, *, resume: bool = False, device: str | None = None, show_progress: bool = True
) -> TrainingResult:
    """Trains a model.

    Args:
        recipe: All settings.
        out: The model folder to make.
        resume: Whether to go on from the newest whole checkpoint of an interrupted run.
        device: By default a GPU if there is one.
        show_progress: Whether to show progress on stderr.

    Returns:
        The manifest's facts, and the last evaluation of each task.

    Raises:
        TrainingInterruptedError: After Ctrl-C (SIGINT) or SIGTERM, with a checkpoint written.
        PairloomError: Something of the recipe is missing or wrong, the loss is no longer a number, or the disk is full.
    """
    refuse_occupied(out)
    run = _Run(recipe, out, resume=resume, device=device)
    return run.go(show_progress=show_progress)


@dataclass
class _Totals:
    """What has been done since this process started."""

    pairs: int = 0
    tokens: int = 0
    places: int = 0
    seconds: float = 0.0


class _Run:
    def __init__(self, recipe: Recipe, out: Path, *, resume: bool, device: str | None) -> None:
        self.recipe, self.out = recipe, out
        self.folder = out.with_name(out.name + ".run")
        self.metrics = self.folder / "metrics.jsonl"
        self.settings = recipe.model_dump(mode="json")
        self.datasets = [Shards(dataset.shards) for dataset in recipe.data.datasets]
        self.data = [dataset.fingerprint for dataset in self.datasets]
        self.tasks: list[Task] = [read_task(path) for path in recipe.evaluate.tasks]
        self.mixture = Mixture(
            self.datasets,
            [dataset.weight for dataset in recipe.data.datasets],
            batch_size=recipe.train.batch_size,
            seed=recipe.train.seed,
        )
        self.base = start_model(recipe)
        self.device = pick_device(device)
        self.totals = _Totals()
        self.before: list[Evaluation] = []
        self.step = 0
        if resume:
            self._resume()
        else:
            self._begin()

    def _begin(self) -> None:
        if checkpoints(self.folder) or self.metrics.exists():
            raise TrainingError(
                f"{self.folder}: an unfinished run lies here; continue it with --resume, or remove the folder"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self._build(self.base)

    def _resume(self) -> None:
        checkpoint = latest_checkpoint(self.folder / "checkpoints", recipe=self.settings, data=self.data)
        self._build(read_model(checkpoint.path / "model"))
        restore_optimizer(self.optimizer, checkpoint.path)
        self.mixture.restore(checkpoint.mixture)
        self.step = checkpoint.step
        _drop_metrics_after(self.metrics, self.step)
        logger.info("resuming after step %d", self.step)

    def _build(self, model: Model) -> None:
        section = self.recipe.train
        torch.manual_seed(section.seed)
        self.network = EncoderNetwork(model).to(self.device).train()
        self.tokenize = BatchTokenizer(model, self.recipe.data)
        decayed = [weight for weight in self.network.parameters() if weight.ndim > 1]
        free = [weight for weight in self.network.parameters() if weight.ndim <= 1]  # biases and layer norms
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": section.weight_decay}, {"params": free, "weight_decay": 0.0}],
            lr=section.learning_rate,
            betas=section.betas,
            eps=section.epsilon,
        )

    def go(self, *, show_progress: bool) -> TrainingResult:
        section, every = self.recipe.train, self.recipe.evaluate.every_steps
        self._evaluate_base(show_progress=show_progress)
        with (
            meter("training", total=section.steps - self.step, unit="steps", show=show_progress) as progress,
            _stop_signal() as stop,
        ):
            while self.step < section.steps:
                self._one_step(progress)
                last = self.step == section.steps
                if not last and every and self.step % every == 0:
                    self._evaluate(show_progress=False)
                if last or stop.requested or self.step % section.checkpoint_every_steps == 0:
                    self._save()
                if stop.requested and not last:
                    raise TrainingInterruptedError(
                        f"stopped after step {self.step:,} of {section.steps:,}; everything is saved: "
                        "run the same command with --resume to go on"
                    )
        evaluations = self._evaluate(show_progress=show_progress)
        return TrainingResult(self._finish(), evaluations)

    def _one_step(self, progress: Meter) -> None:
        section = self.recipe.train
        start = time.monotonic()
        batch = self.mixture.next_batch()
        tokens = self.tokenize(batch)
        self.step += 1
        # Dropout is a function of seed and step, so a resumed run draws what the unbroken one would have drawn.
        torch.manual_seed(section.seed * 1_000_003 + self.step)
        rate = section.learning_rate * linear_warmup_then_decay(
            self.step, warmup_steps=section.warmup_steps, steps=section.steps
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        vectors, places = embed(
            self.network,
            tokens.tokens,
            device=self.device,
            precision=section.precision,
            micro_batch_tokens=section.micro_batch_tokens,
        )
        loss = batch_loss(
            vectors, num_pairs=tokens.num_pairs, similarity=self.base.similarity, section=self.recipe.loss
        )
        self._refuse_nonsense("loss", loss, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), section.max_gradient_norm)
        self._refuse_nonsense("gradient", norm, batch)
        self.optimizer.step()
        seconds = time.monotonic() - start
        num_tokens = int(tokens.tokens.lengths.sum())
        self.totals.pairs += tokens.num_pairs
        self.totals.tokens += num_tokens
        self.totals.places += places
        self.totals.seconds += seconds
        self._record(
            step=self.step,
            loss=round(loss.item(), 6),
            learning_rate=rate,
            gradient_norm=round(norm.item(), 6),
            dataset=str(self.datasets[batch.dataset].path),
            pairs_per_s=round(tokens.num_pairs / seconds, 2),
            tokens_per_s=round(num_tokens / seconds, 1),
            padding=round(1 - num_tokens / places, 4),
        )
        progress.advance(
            1,
            f"loss {loss.item():.4f}  rate {rate:.1e}  {self.totals.pairs / self.totals.seconds:,.1f} pairs/s  "
            f"{self.totals.tokens / self.totals.seconds:,.0f} tokens/s",
        )

    def _refuse_nonsense(self, what: str, value: torch.Tensor, batch: Batch) -> None:
        if torch.isfinite(value):
            return
        rows = ", ".join(str(row) for row in batch.rows[:8].tolist()) + (", …" if len(batch.rows) > 8 else "")
        raise TrainingError(
            f"step {self.step:,}: the {what} is {value.item()}; the batch came from "
            f"{self.datasets[batch.dataset].path}, rows {rows}. Earlier checkpoints are untouched; "
            'lower train.learning_rate, or use train.precision="float32"'
        )

    def _model(self) -> Model:
        return self.network.updated(self.base)

    def _save(self) -> None:
        save_checkpoint(
            self.folder / "checkpoints",
            step=self.step,
            model=self._model(),
            optimizer=self.optimizer,
            mixture=self.mixture.state(),
            recipe=self.settings,
            data=self.data,
            keep=self.recipe.train.keep_checkpoints,
        )

    def _evaluate_base(self, *, show_progress: bool) -> None:
        """Measures the model as it was, for later measurements to be compared with."""
        encoder = Encoder(self.base, device=str(self.device), precision=self.recipe.train.precision)
        for task in self.tasks:
            result = evaluate(encoder, task, show_progress=show_progress)
            self.before.append(result)
            if self.step == 0:
                self._record_evaluation(result)

    def _evaluate(self, *, show_progress: bool) -> list[Evaluation]:
        precision = self.recipe.train.precision
        engine = TorchEngine(self.network, device=str(self.device), precision=precision)
        encoder = Encoder(self.base, engine=engine, precision=precision)
        results = []
        for task, before in zip(self.tasks, self.before, strict=True):
            results.append(evaluate(encoder, task, baseline=before, show_progress=show_progress))
            self._record_evaluation(results[-1])
        return results

    def _record_evaluation(self, result: Evaluation) -> None:
        self._record(step=self.step, evaluation=to_json(result))
        name, measurement = next(iter(result.metrics.items()))
        change = "" if measurement.comparison is None else f" ({measurement.comparison.difference:+.4f})"
        when = f"after step {self.step:,}" if self.step else "before training"
        logger.info("%s: %s %s %.4f%s", when, result.task, name, measurement.value, change)

    def _record(self, **values: Any) -> None:
        with self.metrics.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values) + "\n")

    def _finish(self) -> dict[str, Any]:
        records = [json.loads(line) for line in self.metrics.read_text(encoding="utf-8").splitlines()]
        facts: dict[str, Any] = {
            "recipe": self.settings,
            "base": {"name": self.recipe.model.base, "fingerprint": self.base.fingerprint},
            "data": [
                {"shards": str(dataset.path), "pairs": len(dataset), "fingerprint": dataset.fingerprint}
                for dataset in self.datasets
            ],
            "steps": self.step,
            "device": str(self.device),
            "torch": torch.__version__,
            "evaluations": [
                {"step": record["step"], **record["evaluation"]} for record in records if "evaluation" in record
            ],
        }
        model = self._model()
        with new_artifact(self.out, "model") as draft:
            facts["fingerprint"] = model.fingerprint
            write_model(model, draft.path, readme=write_card(self.out.name, model, facts, records))
            (draft.path / "metrics.jsonl").write_bytes(self.metrics.read_bytes())
            draft.facts.update(facts)
        return facts


class _StopRequest:
    requested = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        logger.warning("stopping after this step (again to stop at once, which loses what follows the last checkpoint)")
        signal.signal(number, signal.default_int_handler)  # a second time, stop at once


@contextmanager
def _stop_signal() -> Iterator[_StopRequest]:
    """Turns Ctrl-C and SIGTERM into a request that the loop honours between two steps."""
    request = _StopRequest()
    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, request)
    except ValueError:
        pass  # not in the main thread: whoever runs it there decides how to stop it
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _drop_metrics_after(path: Path, step: int) -> None:
    """Removes what was recorded after the checkpoint: those steps are done again."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        path.write_text("".join(kept), encoding="utf-8")
