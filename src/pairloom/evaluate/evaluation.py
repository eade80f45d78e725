"""A model and a task become numbers with intervals, alone or against a baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from pairloom.choices import Similarity
from pairloom.encode import similarity as similarities
from pairloom.errors import ModelError
from pairloom.evaluate import bootstrap, metrics
from pairloom.evaluate.bootstrap import Statistic
from pairloom.evaluate.selection import SelectionTask
from pairloom.evaluate.tasks import RetrievalTask, SentencePairTask, Task
from pairloom.progress import meter
from pairloom.records import Text

Vectors = npt.NDArray[np.float32]
Kind = Literal["retrieval", "selection", "score", "label"]

# Texts a call of the model: enough to sort them by length, few enough for progress to be seen.
_BLOCK_TEXTS = 2_048
# Of a bootstrap over sets: with fewer of them their spread is not known well enough.
MIN_SETS = 20
RANKED_DOCUMENTS = metrics.RETRIEVAL_DEPTH + 1
"""What a ranking must hold: one more than the metrics look at, for a query whose own document is left out."""

# From a length of 1 that rounding in bfloat16 explains.
_LENGTH_TOLERANCE = 1e-2


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
        num_items: How many queries, pairs or candidate sets there are.
        has_unit_length: Whether all vectors had length 1; then cosine and dot product are the same.
    """

    values: Mapping[str, float]
    statistics: Mapping[str, Statistic]
    num_items: int
    has_unit_length: bool = True


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The numbers of a model on a task.

    Args:
        task: The task's name.
        kind: ``retrieval``, ``selection``, or what sentence pairs carry: ``score`` or ``label``.
        similarity: How vectors were compared: ``cosine`` or ``dot``.
        counts: How many ``queries`` and ``documents``, or ``pairs``, or ``queries`` and ``sets`` of ``candidates``.
        metrics: By name, the most important one first.
        remarks: What a reader of the numbers should know about the data.
        num_resamples: Of the bootstrap.
        seed: Of the bootstrap.
        outcome: From which the numbers came; a later evaluation can be compared with it.
        warnings: Sentences about a similarity that a model was not made for.
        mode: By what a collection was searched: ``vector``, ``words`` or ``hybrid``; None if a model was measured.
    """

    task: str
    kind: Kind
    similarity: str
    counts: Mapping[str, int]
    metrics: Mapping[str, Measurement]
    remarks: tuple[str, ...]
    num_resamples: int
    seed: int
    outcome: Outcome = field(repr=False)
    warnings: tuple[str, ...] = ()
    mode: str | None = None


def evaluate(
    model: TextEncoder,
    task: Task,
    *,
    baseline: TextEncoder | Evaluation | None = None,
    similarity: Similarity | None = None,
    show_progress: bool = False,
    num_resamples: int = bootstrap.NUM_RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Measures a model on a task.

    Texts are compared by each model's own similarity, unless another is asked for. (Tables of published models compare
    sentence pairs by cosine throughout; for a ``dot`` model whose vectors do not have length 1 the numbers differ.)

    Args:
        model: What is measured.
        task: What it is measured on.
        baseline: Another model to compare with; or its evaluation on this task, which saves encoding all again.
        similarity: How vectors of both models are compared; by default as each was made for. If it makes a difference,
            the evaluation has a warning.
        show_progress: Whether to show on stderr how far encoding is.
        num_resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        ModelError: A model gives vectors that are not finite.
        MissingExtraError: A library of the extra ``evaluate`` is not installed.
        ValueError: The baseline is an evaluation on another task, or by another similarity than is asked for.
    """
    kind, counts = _describe(task)
    reference = None
    warnings = []
    if isinstance(baseline, Evaluation):
        if (baseline.task, baseline.kind, baseline.counts) != (task.name, kind, counts):
            raise ValueError(
                f"the baseline was evaluated on {baseline.task} {dict(baseline.counts)}, not on {task.name}"
            )
        if similarity not in (None, baseline.similarity):
            raise ValueError(f"the baseline was evaluated by {baseline.similarity}, not by {similarity}")
        reference = baseline.outcome
    elif baseline is not None:
        asked = similarity or baseline.similarity_name
        reference = _outcome(baseline, task, asked, f"baseline, {task.name}", show_progress)
        warnings += _similarity_warnings("the baseline", baseline.similarity_name, asked, reference)
    asked = similarity or model.similarity_name
    outcome = _outcome(model, task, asked, task.name, show_progress)
    warnings = _similarity_warnings("the model", model.similarity_name, asked, outcome) + warnings
    measurements = with_intervals(outcome, reference, num_resamples, seed)
    remarks = (*task.remarks, *_interval_remarks(task))
    return Evaluation(
        task.name, kind, asked, counts, measurements, remarks, num_resamples, seed, outcome, tuple(warnings)
    )


def _similarity_warnings(who: str, own: str, asked: str, outcome: Outcome) -> list[str]:
    """What it means that a model is compared by a similarity that it was not made for, if that makes a difference."""
    if own == asked or outcome.has_unit_length:
        return []
    if asked == "cosine":
        what = (
            "dot product and is compared by cosine, which ignores the lengths of its vectors; in training they counted"
        )
    else:
        what = (
            "cosine and is compared by dot product, in which the lengths of its vectors count; in training they did not"
        )
    return [f"{who} was made for {what}"]


def _interval_remarks(task: Task) -> tuple[str, ...]:
    if isinstance(task, SelectionTask) and task.num_sets < MIN_SETS:
        return (f"fewer than {MIN_SETS} sets, so intervals take queries for independent",)
    return ()


def _describe(task: Task) -> tuple[Kind, dict[str, int]]:
    match task:
        case RetrievalTask():
            return "retrieval", {"queries": len(task.queries), "documents": len(task.documents)}
        case SelectionTask():
            counts = {"queries": len(task.queries), "sets": task.num_sets, "candidates": task.set_size}
            return "selection", counts
    return task.kind, {"pairs": len(task.targets)}


def _outcome(model: TextEncoder, task: Task, similarity: str, title: str, show_progress: bool) -> Outcome:
    match task:
        case RetrievalTask():
            return _retrieval_outcome(model, task, similarity, title, show_progress)
        case SelectionTask():
            return _selection_outcome(model, task, similarity, title, show_progress)
    return _pairs_outcome(model, task, similarity, title, show_progress)


def ranking_outcome(task: RetrievalTask, rankings: Iterable[Sequence[str]], *, has_unit_length: bool = True) -> Outcome:
    """What rankings are worth, however they came about.

    Args:
        task: What was searched for.
        rankings: For each of its queries the ids of documents, best first, `RANKED_DOCUMENTS` of them.
        has_unit_length: Of the vectors, if there were any.

    Raises:
        MissingExtraError: A library of the extra ``evaluate`` is not installed.
    """
    values = metrics.retrieval_metrics(
        task.judgements,
        {query.id: without_own(task, query, found) for query, found in zip(task.queries, rankings, strict=True)},
    )
    return Outcome(
        {name: float(of_queries.mean()) for name, of_queries in values.items()},
        {name: bootstrap.mean_statistic(of_queries) for name, of_queries in values.items()},
        len(task.queries),
        has_unit_length,
    )


def without_own(task: RetrievalTask, query: Text, found: Iterable[str]) -> list[str]:
    """A ranking without the query itself, if it is one of the documents."""
    left_out = query.id if query.id in task.own_documents else None
    return [identifier for identifier in found if identifier != left_out]


def _retrieval_outcome(
    model: TextEncoder, task: RetrievalTask, similarity: str, title: str, show_progress: bool
) -> Outcome:
    queries = _encode(model.encode_query, [query.text for query in task.queries], f"{title}: queries", show_progress)
    documents = _encode(
        model.encode_document, [document.text for document in task.documents], f"{title}: documents", show_progress
    )
    rows, _ = similarities.top_k(queries, documents, RANKED_DOCUMENTS, similarity)
    rankings = [[task.documents[row].id for row in found] for found in rows]
    return ranking_outcome(task, rankings, has_unit_length=_have_unit_length(queries, documents))


def _selection_outcome(
    model: TextEncoder, task: SelectionTask, similarity: str, title: str, show_progress: bool
) -> Outcome:
    """Queries of a set have the same candidates before them, and one that is near to all of them misleads many.

    So whole sets are resampled, which are drawn independently (Field and Welsh 2007), if there are enough of them.
    """
    queries = _encode(model.encode_query, task.queries, f"{title}: queries", show_progress)
    responses = _encode(model.encode_document, task.responses, f"{title}: responses", show_progress)
    ranks = np.stack(
        [
            metrics.own_ranks(similarities.similarity(*vectors, similarity))
            for vectors in zip(np.split(queries, task.num_sets), np.split(responses, task.num_sets), strict=True)
        ]
    )
    values: dict[str, metrics.FloatArray] = {"accuracy@1": (ranks == 1).astype(np.float64), "MRR": 1 / ranks}
    items = {
        name: of_sets.mean(axis=1) if task.num_sets >= MIN_SETS else of_sets.ravel() for name, of_sets in values.items()
    }
    return Outcome(
        {name: float(of_sets.mean()) for name, of_sets in values.items()},
        {name: bootstrap.mean_statistic(of_items) for name, of_items in items.items()},
        len(items["MRR"]),
        _have_unit_length(queries, responses),
    )


def _pairs_outcome(
    model: TextEncoder, task: SentencePairTask, similarity: str, title: str, show_progress: bool
) -> Outcome:
    both = _encode(model.encode, [*task.sentences1, *task.sentences2], f"{title}: sentences", show_progress)
    has_unit_length = _have_unit_length(both)
    if similarity == "cosine":
        both = similarities.normalize(both)
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
            has_unit_length,
        )
    return Outcome(
        {"AP": metrics.average_precision(targets, found), "best F1": metrics.best_f1(targets, found)},
        {
            "AP": bootstrap.average_precision_statistic(targets, found),
            "best F1": bootstrap.best_f1_statistic(targets, found),
        },
        len(targets),
        has_unit_length,
    )


def _have_unit_length(*vectors: Vectors) -> bool:
    lengths = np.concatenate([np.linalg.norm(part, axis=1) for part in vectors])
    return bool((np.abs(lengths - 1) < _LENGTH_TOLERANCE).all())


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


def with_intervals(
    outcome: Outcome, reference: Outcome | None, num_resamples: int, seed: int
) -> dict[str, Measurement]:
    """Each metric with its interval, and beside that of a reference on the same items, if there is one."""
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
