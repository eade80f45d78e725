"""A training run of one side, timed step by step: `python -m benchmarks._train_trial TRIAL-AS-JSON` prints figures as JSON.

A step is what a user waits for: drawing, tokenizing, computing, and the optimizer; ours draws and tokenizes two batches
ahead in a thread, as it does by default, and sentence-transformers' trainer uses its loader as it does by default. In a
process of its own, so that memory and threads are nobody else's.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks._train_table import Figures
from pairloom.models.names import find_model, load_model
from pairloom.models.write import write_model
from pairloom.pairs.prefetch import Prefetch
from pairloom.pairs.shards import Shards
from pairloom.recipe import Precision, Recipe, parse_recipe
from pairloom.train.data import start_mixture
from pairloom.train.learner import Learner
from pairloom.train.schedule import rate_share
from pairloom.train.step import BatchTokenizer

Side = Literal["pairloom", "sentence-transformers"]
DIRECTIONS = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}


@dataclass(frozen=True)
class Trial:
    """What is trained, and how.

    Args:
        side: Whose trainer.
        model: A name or a folder.
        shards: The pairs.
        batch_size: Pairs a step.
        steps: Timed steps.
        warm_up: Steps before them, which are not timed.
        max_tokens: Longest text.
        precision: Of the forward and backward pass.
        learning_rate: Falls in a straight line; the same schedule on both sides.
        seed: Of order and dropout.
        train: Of pairloom, further keys of the recipe's ``[train]``.
        mini_batch: Of sentence-transformers, texts a pass of the cached loss; by default the loss that is not cached.
        arguments: Of sentence-transformers, further training arguments.
        same_batches: Whether sentence-transformers is given the very batches that pairloom draws, instead of drawing its
            own without duplicates.
        save: Where the finished model goes.
    """

    side: Side
    model: str
    shards: str
    batch_size: int
    steps: int
    warm_up: int = 1
    max_tokens: int = 128
    precision: Precision = "float32"
    learning_rate: float = 2e-5
    seed: int = 0
    train: dict[str, Any] = field(default_factory=dict)
    mini_batch: int | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    same_batches: bool = False
    save: str | None = None

    @property
    def all_steps(self) -> int:
        return self.warm_up + self.steps

    def recipe(self) -> Recipe:
        """The run as pairloom describes it."""
        raw = {
            "model": {"base": self.model},
            "data": {
                "datasets": [{"shards": self.shards, "name": "pairs"}],
                "anchor_max_tokens": self.max_tokens,
                "positive_max_tokens": self.max_tokens,
            },
            "train": {
                "steps": self.all_steps,
                "batch_size": self.batch_size,
                "learning_rate": self.learning_rate,
                "warmup_steps": 0,
                "precision": self.precision,
                "seed": self.seed,
                **self.train,
            },
        }
        return parse_recipe(raw, where="benchmark")


def run_apart(trial: Trial) -> Figures:
    """Runs a trial in a process of its own; one that fails, for want of memory perhaps, says so in ``failed``."""
    command = [sys.executable, "-m", "benchmarks._train_trial", json.dumps(dataclasses.asdict(trial))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
        return {"batch_size": trial.batch_size, "failed": f"failed ({done.returncode}): {last[:300]}"}
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def run(trial: Trial) -> Figures:
    """Runs a trial in this process.

    Returns:
        ``batch_size``; ``step_s``: seconds of each timed step; ``losses`` of all steps where they are known;
        ``start_bytes`` and ``peak_bytes``: resident memory of the process before the first step, and at its highest.
    """
    torch.manual_seed(trial.seed)
    figures = _ours(trial) if trial.side == "pairloom" else _theirs(trial)
    ends = figures.pop("ends")
    steps = [end - begin for begin, end in itertools.pairwise(ends)][trial.warm_up :]
    # Not getrusage's ru_maxrss, which begins with the peak of the process that started this one.
    return {"batch_size": trial.batch_size, "step_s": steps, "peak_bytes": memory_bytes("VmHWM"), **figures}


def _ours(trial: Trial) -> Figures:
    recipe = trial.recipe()
    model = load_model(trial.model)
    learner = Learner(model, recipe, similarity="cosine", device=torch.device("cpu"))
    start_bytes, losses, ends = memory_bytes("VmRSS"), [], [time.perf_counter()]
    tokenize = BatchTokenizer(model, recipe.data)
    with Prefetch(start_mixture(recipe), tokenize, depth=recipe.data.prefetch_batches) as batches:
        for number in range(1, trial.all_steps + 1):
            _, tokens = next(batches)
            losses.append(learner.step(tokens, number).loss)
            ends.append(time.perf_counter())
    if trial.save is not None:
        Path(trial.save).mkdir(parents=True)
        write_model(learner.network.updated(model), Path(trial.save), readme="a benchmark's\n")
    return {"ends": ends, "losses": losses, "start_bytes": start_bytes}


def _theirs(trial: Trial) -> Figures:
    """As its documentation trains, with AdamW's numbers and the schedule as ours."""
    from datasets import Dataset, disable_progress_bars
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.sampler import BatchSamplers
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import PrinterCallback
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bars()
    disable_progress_bar()
    model = SentenceTransformer(str(find_model(trial.model)), device="cpu")
    model_max_tokens, model.max_seq_length = model.max_seq_length, trial.max_tokens
    optimizer = trial.recipe().train
    settings = {
        "max_steps": trial.all_steps,
        "per_device_train_batch_size": trial.batch_size,
        "learning_rate": optimizer.learning_rate,
        "adam_beta1": optimizer.betas[0],
        "adam_beta2": optimizer.betas[1],
        "adam_epsilon": optimizer.epsilon,
        "weight_decay": optimizer.weight_decay,
        "max_grad_norm": optimizer.max_gradient_norm,
        "bf16": trial.precision == "bfloat16",
        "seed": trial.seed,
        "use_cpu": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    train_dataset: Any
    if trial.same_batches:
        from pairloom.sentence_transformers_data import TrainerBatches

        batches = TrainerBatches(start_mixture(trial.recipe()), steps=trial.all_steps)
        settings["multi_dataset_batch_sampler"] = batches
        train_dataset = batches.train_dataset()
    else:
        rows = [(row.anchor, row.positive) for row in Shards(Path(trial.shards))]
        anchors, positives = zip(*rows, strict=True)
        train_dataset = Dataset.from_dict({"anchor": list(anchors), "positive": list(positives)})
        settings |= {"batch_sampler": BatchSamplers.NO_DUPLICATES, "dataloader_drop_last": True}
    clock = _clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(folder, **settings, **trial.arguments),
            train_dataset=train_dataset,
            loss=their_loss(model, trial.mini_batch),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(clock)  # the last one, after what the others do at the beginning
        trainer.create_optimizer()
        trainer.lr_scheduler = LambdaLR(
            trainer.optimizer,
            lambda done: rate_share("linear", done + 1, warmup_steps=0, steps=trial.all_steps),
        )
        start_bytes = memory_bytes("VmRSS")
        trainer.train()
        if trial.save is not None:
            model.max_seq_length = model_max_tokens  # as pairloom keeps it: a limit in training is not the model's
            model.save(trial.save)
    return {"ends": clock.ends, "start_bytes": start_bytes}


def their_loss(model: Any, mini_batch: int | None) -> Any:
    """Sentence-transformers' loss in both directions, which is pairloom's for pairs; cached if it has a mini-batch."""
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MultipleNegativesRankingLoss,
    )

    if mini_batch is None:
        return MultipleNegativesRankingLoss(model, scale=20.0, **DIRECTIONS)
    return CachedMultipleNegativesRankingLoss(model, scale=20.0, mini_batch_size=mini_batch, **DIRECTIONS)


def _clock() -> Any:
    """A callback that notes when training begins and when each step ends."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.ends.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ends.append(time.perf_counter())

    return Clock()


def memory_bytes(what: Literal["VmRSS", "VmHWM"]) -> int:
    """Resident memory of this process: now, or at its highest."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


if __name__ == "__main__":
    print(json.dumps(run(Trial(**json.loads(sys.argv[1])))))
