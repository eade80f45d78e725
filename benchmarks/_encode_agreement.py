"""How far vectors are from those of transformers in float32, and whether it matters on tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import transformers

from benchmarks._encode_bench import CHOICES, Bench
from benchmarks._encode_sides import open_ours
from pairloom import Encoder
from pairloom.evaluate.evaluation import evaluate
from pairloom.evaluate.tasks import Task, read_task

Vectors = npt.NDArray[np.float32]
_BATCH_TEXTS = 32


@dataclass(frozen=True)
class Agreement:
    """Of two sets of vectors [N, D]: the largest difference of a component, the mean and the lowest cosine of a text."""

    largest_difference: float
    mean_cosine: float
    lowest_cosine: float


def agreement(own: Vectors, reference: Vectors) -> Agreement:
    """Cosines are computed in float64, so that what is seen is not theirs."""
    one, other = own.astype(np.float64), reference.astype(np.float64)
    cosines = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    return Agreement(float(np.abs(one - other).max()), float(cosines.mean()), float(cosines.min()))


def transformers_vectors(folder: Path, texts: Sequence[str], max_tokens: int) -> Vectors:
    """By ``AutoModel`` in float32, with mean pooling and normalisation written out, [N, D]."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    order = np.argsort([len(text) for text in texts])
    vectors = np.empty((len(texts), network.config.hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for begin in range(0, len(texts), _BATCH_TEXTS):
            rows = order[begin : begin + _BATCH_TEXTS]
            batch = tokenizer(
                [texts[row] for row in rows], padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
            )
            hidden = network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
            inside = batch["attention_mask"][..., None]
            pooled = (hidden * inside).sum(dim=1) / inside.sum(dim=1)
            vectors[rows] = torch.nn.functional.normalize(pooled, dim=1).numpy()
    return vectors


@dataclass(frozen=True)
class Change:
    """A task's most important metric in another precision than float32, in points (hundredths).

    Args:
        task: Its name.
        metric: Its name.
        precision: The other one.
        value: In it.
        difference: What has been added to float32's.
        interval: 95 %, of the difference.
    """

    task: str
    metric: str
    precision: str
    value: float
    difference: float
    interval: tuple[float, float]


def changes(encoders: dict[str, Encoder], tasks: Sequence[Task]) -> Iterator[Change]:
    """Of each task and each precision beside ``float32``."""
    for task in tasks:
        reference = evaluate(encoders["float32"], task)
        for precision, encoder in encoders.items():
            if precision == "float32":
                continue
            metric, found = next(iter(evaluate(encoder, task, baseline=reference).metrics.items()))
            assert found.comparison is not None
            low, high = found.comparison.interval
            difference = 100 * found.comparison.difference
            yield Change(task.name, metric, precision, 100 * found.value, difference, (100 * low, 100 * high))


def agreement_part(bench: Bench) -> None:
    """Vectors beside those of transformers in float32, and tasks at each precision."""
    options = bench.options
    encoders: dict[str, Encoder] = {
        precision: open_ours(str(bench.path), precision, options.threads, options.engine)[0]
        for precision in CHOICES[options.engine]
        if precision is not None
    }
    for texts in bench.texts():
        print(f"  {texts.describe()}", flush=True)
        reference = transformers_vectors(bench.path, texts.texts, bench.model.max_tokens)
        for precision, encoder in encoders.items():
            found = agreement(encoder.encode(texts.texts), reference)
            print(
                f"  {precision:8}  largest difference {found.largest_difference:.1e}  mean cosine {found.mean_cosine:.6f}  "
                f"lowest {found.lowest_cosine:.6f}",
                flush=True,
            )
    for change in changes(encoders, [read_task(path) for path in bench.options.task]):
        low, high = change.interval
        print(
            f"  {change.task}, {change.metric}, {change.precision}: {change.value:.2f} points, {change.difference:+.2f} beside "
            f"float32 (95 % interval {low:+.2f} to {high:+.2f})",
            flush=True,
        )
