"""A collection and a task become numbers: whatever searches is measured as models are, by what it finds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol, get_args

from pairloom.errors import InputError
from pairloom.evaluate import bootstrap
from pairloom.evaluate.evaluation import RANKED_DOCUMENTS, Evaluation, ranking_outcome, with_intervals
from pairloom.evaluate.tasks import RetrievalTask
from pairloom.progress import meter
from pairloom.records import Document, Hit

Mode = Literal["vector", "words", "hybrid"]
"""By what is searched: by meaning, by words, or by both."""

MODES: tuple[Mode, ...] = get_args(Mode)

# Queries a call: enough to encode them together, few enough for progress to be seen.
_BLOCK_QUERIES = 64
# Of ids that are looked for; their texts come with them.
_BLOCK_IDS = 1_000


class Searcher(Protocol):
    """What is measured: a collection, wherever it lies."""

    @property
    def similarity_name(self) -> str:
        """``cosine`` or ``dot``."""
        ...

    def search_many(self, queries: Sequence[str], k: int = 10, *, mode: Mode = "hybrid") -> list[list[Hit]]:
        """For each query the ``k`` best documents, best first."""
        ...

    def get(self, ids: Iterable[str]) -> list[Document | None]:
        """Documents by id, None where there is none."""
        ...

    def count(self) -> int:
        """How many documents there are."""
        ...


def evaluate_search(
    searcher: Searcher,
    task: RetrievalTask,
    *,
    modes: Sequence[Mode] = MODES,
    show_progress: bool = False,
    num_resamples: int = bootstrap.NUM_RESAMPLES,
    seed: int = 0,
) -> list[Evaluation]:
    """Measures what a collection finds.

    Args:
        searcher: The collection; it holds the task's documents under the task's ids.
        task: What is searched for.
        modes: By what; if one is ``vector``, the others are compared with it, on the same resamples.
        show_progress: Whether to show on stderr how far it is.
        num_resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        One evaluation a mode, in their order.

    Raises:
        InputError: The collection has none of the task's documents.
        MissingExtraError: A library of the extra ``evaluate`` is not installed.
    """
    remarks = (*task.remarks, *check_documents(searcher, task))
    outcomes = {
        mode: ranking_outcome(task, search_rankings(searcher, task, mode, show_progress=show_progress))
        for mode in modes
    }
    counts = {"queries": len(task.queries), "documents": len(task.documents)}
    return [
        Evaluation(
            task.name,
            "retrieval",
            searcher.similarity_name,
            counts,
            with_intervals(outcome, None if mode == "vector" else outcomes.get("vector"), num_resamples, seed),
            remarks,
            num_resamples,
            seed,
            outcome,
            mode=mode,
        )
        for mode, outcome in outcomes.items()
    ]


def check_documents(searcher: Searcher, task: RetrievalTask) -> tuple[str, ...]:
    """Remarks on how the documents of a collection differ from the task's.

    Raises:
        InputError: The collection has none of them.
    """
    num_documents = len(task.documents)
    num_missing = 0
    for begin in range(0, num_documents, _BLOCK_IDS):
        ids = [document.id for document in task.documents[begin : begin + _BLOCK_IDS]]
        num_missing += sum(found is None for found in searcher.get(ids))
    if num_missing == num_documents:
        raise InputError(
            f"the collection has none of the {num_documents:,} documents of {task.name}: they must be in it under the ids "
            f"that they have in the task, such as {task.documents[0].id!r}"
        )
    remarks = []
    if num_missing:
        remarks.append(f"documents that the collection does not have, and so cannot find: {num_missing:,}")
    if num_others := searcher.count() - (num_documents - num_missing):
        remarks.append(f"documents that only the collection has, and that count as wrong: {num_others:,}")
    return tuple(remarks)


def search_rankings(
    searcher: Searcher, task: RetrievalTask, mode: Mode, *, show_progress: bool = False
) -> list[list[str]]:
    """For each query of a task the ids of the best `RANKED_DOCUMENTS` documents, best first."""
    rankings = []
    title = f"{task.name}: search by {mode}"
    with meter(title, total=len(task.queries), unit="queries", show=show_progress) as progress:
        for begin in range(0, len(task.queries), _BLOCK_QUERIES):
            block = task.queries[begin : begin + _BLOCK_QUERIES]
            found = searcher.search_many([query.text for query in block], RANKED_DOCUMENTS, mode=mode)
            rankings += [[hit.id for hit in hits] for hits in found]
            progress.advance(len(block))
    return rankings
