"""What a model finds for a few held-out queries, before training and after it: what the numbers mean, for the eye."""

from __future__ import annotations

from dataclasses import dataclass

from pairloom.encode.dual_encoder import AnyEncoder
from pairloom.encode.similarity import top_k
from pairloom.evaluate.tasks import RetrievalTask, Task
from pairloom.pairs.clean import text_hash
from pairloom.records import Text

NUM_QUERIES, NUM_NEIGHBOURS = 5, 3
# Enough of a choice to go wrong in, and few enough to be encoded twice beside an evaluation.
MAX_DOCUMENTS = 2000


@dataclass(frozen=True)
class Neighbour:
    """A document that was found.

    Args:
        text: The document's.
        score: By the model's own similarity; those of two models are not on one scale.
        relevant: Whether it is judged to answer the query.
    """

    text: str
    score: float
    relevant: bool


@dataclass(frozen=True)
class Neighbours:
    """The documents nearest to a query, best first.

    Args:
        task: The name of the task.
        query: The query's text.
        before: What the model found before training.
        after: And after it.
        relevant: Texts of the documents that are judged to answer the query.
        num_documents: Of how many they are the nearest.
    """

    task: str
    query: str
    before: tuple[Neighbour, ...]
    after: tuple[Neighbour, ...]
    relevant: tuple[str, ...]
    num_documents: int


def find_neighbours(
    before: AnyEncoder,
    after: AnyEncoder,
    task: Task,
    *,
    num_queries: int = NUM_QUERIES,
    k: int = NUM_NEIGHBOURS,
    max_documents: int = MAX_DOCUMENTS,
) -> list[Neighbours]:
    """Finds the nearest documents of a few queries with two models.

    The queries are those whose texts have the smallest hashes: the same in every run, and chosen by nobody. Of a large
    corpus the documents are chosen in the same way, beside all that are relevant to these queries.

    Args:
        before: The model before training.
        after: The model after it.
        task: Where queries and documents are from.
        num_queries: At most so many.
        k: Documents a query.
        max_documents: In which the nearest are looked for; the relevant ones always are among them.

    Returns:
        One for each query, in the order of the hashes; none for a task that is not retrieval.
    """
    if not isinstance(task, RetrievalTask):
        return []
    queries = sorted(task.queries, key=_place)[:num_queries]
    if not queries:
        return []
    documents = _choose_documents(task, queries, max_documents)
    found = [_nearest(encoder, task, queries, documents, k) for encoder in (before, after)]
    return [
        Neighbours(
            task=task.name,
            query=query.text,
            before=first,
            after=second,
            relevant=tuple(document.text for document in documents if _is_relevant(task, query, document)),
            num_documents=sum(not _is_own(task, query, document) for document in documents),
        )
        for query, first, second in zip(queries, *found, strict=True)
    ]


def _place(text: Text) -> tuple[int, str]:
    return text_hash(text.text), text.id


def _is_relevant(task: RetrievalTask, query: Text, document: Text) -> bool:
    return task.judgements[query.id].get(document.id, 0) > 0


def _is_own(task: RetrievalTask, query: Text, document: Text) -> bool:
    return document.id == query.id and query.id in task.own_documents


def _choose_documents(task: RetrievalTask, queries: list[Text], max_documents: int) -> list[Text]:
    """Documents in the order of the corpus: the relevant ones, and others up to the limit."""
    wanted = {name for query in queries for name, grade in task.judgements[query.id].items() if grade > 0}
    others = sorted((document for document in task.documents if document.id not in wanted), key=_place)
    chosen = wanted | {document.id for document in others[: max(0, max_documents - len(wanted))]}
    return [document for document in task.documents if document.id in chosen]


def _nearest(
    encoder: AnyEncoder, task: RetrievalTask, queries: list[Text], documents: list[Text], k: int
) -> list[tuple[Neighbour, ...]]:
    vectors = encoder.encode_document([document.text for document in documents])
    asked = encoder.encode_query([query.text for query in queries])
    # One more, because a query that is a document, too, may find itself.
    rows, scores = top_k(asked, vectors, k + 1, encoder.similarity_name)
    results = []
    for query, its_rows, its_scores in zip(queries, rows.tolist(), scores.tolist(), strict=True):
        hits = [(documents[row], score) for row, score in zip(its_rows, its_scores, strict=True)]
        results.append(
            tuple(
                Neighbour(document.text, score, _is_relevant(task, query, document))
                for document, score in hits
                if not _is_own(task, query, document)
            )[:k]
        )
    return results
