"""A model and a task become numbers with intervals, alone or against a baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from pairloom.encode.similarity import normalize, top_k
from pairloom.errors import ModelError
from pairloom.evaluate import bootstrap, metrics
from pairloom.evaluate.bootstrap import Statistic
from pairloom.evaluate.tasks import RetrievalTask, SentencePairTask, Task
from pairloom.progress import meter

Vectors = npt.NDArray[np.float32]

# Texts a call of the model: enough to sort them by length, few enough for progress to be seen.
_BLOCK_TEXTS = 2_048


class TextEncoder(Protocol):
    """What is evaluated: anything that turns texts into vectors and says how they are compared."""

    @property
    def similarity_name(self) -> str:
        """``cosine`` or ``dot``."""
        ...

    def encode(self, texts: list[str], /) -> Vectors:
        """Vectors [N, D] for texts that are on an equal footing."""
        ...

    def encode_query(self, texts: list[str], /) -> Vectors:
        """Vectors [N, D] for what is asked."""
        ...

    def encode_document(self, texts: list[str], /) -> Vectors:
        """Vectors [N, D] for what is to be found."""
        ...


@dataclass(frozen=True)
class Comparison:
    """A metric beside the baseline's.

    Args:
        baseline: The baseline's value.
        difference: The model's value less the baseline's.
        interval: The 95 % interval of the difference, both models being measured on the same resamples.
    """

    baseline: float
    difference: float
    interval: tuple[float, float]

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves 0 out: then the difference is probably not the luck of the draw."""
        low, high = self.interval
        return low > 0 or high < 0


@dataclass(frozen=True)
class Measurement:
    """A metric's value, its 95 % bootstrap interval, and how it compares with a baseline, if there is one."""

    value: float
    interval: tuple[float, float]
    comparison: Comparison | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a model did on a task, ready to be resampled.

    Args:
        values: Each metric's value.
        statistics: The same metrics, as functions of how often each item was drawn.
        num_items: How many queries or pairs there are.
    """

    values: Mapping[str, float]
    statistics: Mapping[str, Statistic]
    num_items: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The numbers of a model on a task.

    Args:
        task: The task's name.
        kind: ``retrieval``, or what sentence pairs carry: ``score`` or ``label``.
        similarity: How vectors were compared: ``cosine`` or ``dot``.
        counts: How many ``queries`` and ``documents``, or ``pairs``.
        metrics: By name, the most important one first.
        remarks: What a reader of the numbers should know about the data.
        num_resamples: Of the bootstrap.
        seed: Of the bootstrap.
        outcome: From which the numbers came; a later evaluation can be compared with it.
    """

    task: str
    kind: Literal["retrieval", "score", "label"]
    similarity: str
    counts: Mapping[str, int]
    metrics: Mapping[str, Measurement]
    remarks: tuple[str, ...]
    num_resamples: int
    seed: int
    outcome: Outcome = field(repr=False)


def evaluate(
    model: TextEncoder,
    task: Task,
    *,
    baseline: TextEncoder | Evaluation | None = None,
    show_progress: bool = False,
    num_resamples: int = bootstrap.NUM_RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Measures a model on a task.

    Sentence pairs are compared by the model's own similarity. (Tables of published models use cosine throughout; for
    a ``dot`` model whose vectors do not have length 1 the numbers differ.)

    Args:
        model: What is measured.
        task: What it is measured on.
        baseline: Another model to compare with; or its evaluation on this task, which saves encoding all again.
        show_progress: Whether to show on stderr how far encoding is.
        num_resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        ModelError: A model gives vectors that are not finite.
        MissingExtraError: A library of the extra ``evaluate`` is not installed.
        ValueError: The baseline is an evaluation on another task.
    """
    kind, counts = _describe(task)
    reference = None
    if isinstance(baseline, Evaluation):
        if (baseline.task, baseline.kind, baseline.counts) != (task.name, kind, counts):
            raise ValueError(
                f"the baseline was evaluated on {baseline.task} {dict(baseline.counts)}, not on {task.name}"
            )
        reference = baseline.outcome
    elif baseline is not None:
        reference = _outcome(baseline, task, f"baseline, {task.name}", show_progress)
    outcome = _outcome(model, task, task.name, show_progress)
    measurements = _with_intervals(outcome, reference, num_resamples, seed)
    return Evaluation(
        task.name, kind, model.similarity_name, counts, measurements, task.remarks, num_resamples, seed, outcome
    )


def _describe(task: Task) -> tuple[Literal["retrieval", "score", "label"], dict[str, int]]:
    if isinstance(task, RetrievalTask):
        return "retrieval", {"queries": len(task.queries), "documents": len(task.documents)}
    return task.kind, {"pairs": len(task.targets)}


def _outcome(model: TextEncoder, task: Task, title: str, show_progress: bool) -> Outcome:
    if isinstance(task, RetrievalTask):
        return _retrieval_outcome(model, task, title, show_progress)
    return _pairs_outcome(model, task, title, show_progress)


def _retrieval_outcome(model: TextEncoder, task: RetrievalTask, title: str, show_progress: bool) -> Outcome:
    queries = _encode(model.encode_query, [query.text for query in task.queries], f"{title}: queries", show_progress)
    documents = _encode(
        model.encode_document, [document.text for document in task.documents], f"{title}: documents", show_progress
    )
    # One more than the metrics look at, for a query whose own document is left out.
    rows, _ = top_k(queries, documents, metrics.RETRIEVAL_DEPTH + 1, model.similarity_name)
    rankings = {}
    for query, found in zip(task.queries, rows, strict=True):
        left_out = query.id if query.id in task.own_documents else None
        identifiers = (task.documents[row].id for row in found)
        rankings[query.id] = [identifier for identifier in identifiers if identifier != left_out]
    values = metrics.retrieval_metrics(task.judgements, rankings)
    return Outcome(
        {name: float(of_queries.mean()) for name, of_queries in values.items()},
        {name: bootstrap.mean_statistic(of_queries) for name, of_queries in values.items()},
        len(task.queries),
    )


def _pairs_outcome(model: TextEncoder, task: SentencePairTask, title: str, show_progress: bool) -> Outcome:
    both = _encode(model.encode, [*task.sentences1, *task.sentences2], f"{title}: sentences", show_progress)
    if model.similarity_name == "cosine":
        both = normalize(both)
    one, other = np.split(both, 2)
    found = np.einsum("nd,nd->n", one, other)
    targets = np.asarray(task.targets)
    if task.kind == "score":
        return Outcome(
            {"Spearman": metrics.spearman(targets, found), "Pearson": metrics.pearson(targets, found)},
            {
                "Spearman": bootstrap.spearman_statistic(targets, found),
                "Pearson": bootstrap.pearson_statistic(targets, found),
            },
            len(targets),
        )
    return Outcome(
        {"AP": metrics.average_precision(targets, found), "best F1": metrics.best_f1(targets, found)},
        {
            "AP": bootstrap.average_precision_statistic(targets, found),
            "best F1": bootstrap.best_f1_statistic(targets, found),
        },
        len(targets),
    )


def _encode(encode: Callable[[list[str]], Vectors], texts: Sequence[str], title: str, show_progress: bool) -> Vectors:
    """Vectors [N, D] of ``texts``, encoding each different one once."""
    row = {text: index for index, text in enumerate(dict.fromkeys(texts))}
    different = list(row)
    blocks = []
    with meter(title, total=len(different), unit="texts", show=show_progress) as progress:
        for begin in range(0, len(different), _BLOCK_TEXTS):
            block = different[begin : begin + _BLOCK_TEXTS]
            vectors = np.asarray(encode(block), dtype=np.float32)
            finite = np.isfinite(vectors).all(axis=1)
            if not finite.all():
                text = block[int(np.argmin(finite))]
                raise ModelError(f"the model's vector of {text[:60]!r} is not finite; its weights are damaged")
            blocks.append(vectors)
            progress.advance(len(block))
    vectors = np.concatenate(blocks)
    return vectors if len(different) == len(texts) else vectors[[row[text] for text in texts]]


def _with_intervals(
    outcome: Outcome, reference: Outcome | None, num_resamples: int, seed: int
) -> dict[str, Measurement]:
    statistics = {("model", name): statistic for name, statistic in outcome.statistics.items()}
    if reference is not None:
        statistics |= {("baseline", name): statistic for name, statistic in reference.statistics.items()}
    drawn = bootstrap.resample(statistics, outcome.num_items, num_resamples=num_resamples, seed=seed)
    measurements = {}
    for name, value in outcome.values.items():
        comparison = None
        if reference is not None:
            differences = drawn["model", name] - drawn["baseline", name]
            beside = reference.values[name]
            comparison = Comparison(beside, value - beside, bootstrap.interval(differences))
        measurements[name] = Measurement(value, bootstrap.interval(drawn["model", name]), comparison)
    return measurements
