"""Evaluation tasks on disk: BEIR folders, files of sentence pairs, and files of candidate sets.

A BEIR folder (Thakur et al. 2021) holds ``corpus.jsonl`` (``_id``, ``title``, ``text``), ``queries.jsonl`` (``_id``,
``text``) and ``qrels/*.tsv`` (query-id, corpus-id, score). A sentence-pair file is a TSV with the header ``score`` or
``label``, ``sentence1``, ``sentence2``; fields hold no tabs and nothing is quoted. Candidate sets are JSON lines (see
`pairloom.evaluate.selection`). All may be gzipped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pairloom.artifacts import is_artifact, read_manifest
from pairloom.errors import InputError
from pairloom.evaluate.selection import SelectionTask, read_selection
from pairloom.files import read_json_lines, read_lines
from pairloom.pairs.selection import is_selection_file
from pairloom.records import Text

_PAIR_COLUMNS = ("sentence1", "sentence2")
# A file of this name says nothing about the task; the folder it lies in does.
_GENERIC_STEMS = {"pairs", "data", "test", "dev", "validation", "train"}

# trec_eval holds grades as integers and gives each a share of the gain; nobody grades finer.
_MAX_GRADE = 1_000_000


@dataclass(frozen=True)
class RetrievalTask:
    """Queries, the documents to find, and judgements of which document answers which query.

    Args:
        name: The folder's name.
        queries: Those that are judged, in the order of the file.
        documents: In the order of the file. A document's text is its title, a space, and its text, as in BEIR.
        judgements: For each query's id the grades of its judged documents: 0 is not relevant, 1 and more is relevant,
            and more is better. Every query has a relevant document.
        own_documents: Ids of queries that are documents themselves, under the same id and with the same text, without
            being an answer to themselves: of such a document it means nothing that it is found.
        remarks: What a reader of the numbers should know about the data.
    """

    name: str
    queries: tuple[Text, ...]
    documents: tuple[Text, ...]
    judgements: Mapping[str, Mapping[str, int]]
    own_documents: frozenset[str] = frozenset()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class SentencePairTask:
    """Pairs of sentences, and how similar people found them.

    Args:
        name: The file's name, or its folder's.
        kind: ``score``: degrees of similarity; ``label``: 1 for the same meaning, 0 for another.
        sentences1: One side of the pairs.
        sentences2: The other side, of the same length.
        targets: A score or label for each pair; not all are equal.
        remarks: What a reader of the numbers should know about the data.
    """

    name: str
    kind: Literal["score", "label"]
    sentences1: tuple[str, ...]
    sentences2: tuple[str, ...]
    targets: tuple[float, ...]
    remarks: tuple[str, ...] = ()


Task = RetrievalTask | SentencePairTask | SelectionTask


def read_task(path: Path) -> Task:
    """Reads and checks an evaluation task.

    Args:
        path: A BEIR folder, one of its ``qrels/*.tsv`` (to choose a split), a sentence-pair file, a folder with
            ``pairs.tsv``, or a ``.jsonl`` file of candidate sets.

    Raises:
        InputError: It is none of these, or something in it is wrong; the message names file and line.
        ArtifactError: The folder was made by pairloom and is not whole.
    """
    if path.is_dir():
        if is_artifact(path):
            read_manifest(path, "task")
        if pairs := _find(path, "pairs.tsv"):
            return _read_sentence_pairs(pairs)
        if _find(path, "corpus.jsonl"):
            return _read_retrieval(path, _default_qrels(path), path.resolve().name)
        raise InputError("holds no task: neither corpus.jsonl (a BEIR folder) nor pairs.tsv (sentence pairs)", path)
    if path.is_file() and path.resolve().parent.name == "qrels":
        folder = path.resolve().parent.parent
        return _read_retrieval(folder, path, f"{folder.name}/{_stem(path)}")
    if is_selection_file(path):
        return read_selection(path, _name(path))
    return _read_sentence_pairs(path)


def _find(folder: Path, name: str) -> Path | None:
    candidates = (folder / name, folder / f"{name}.gz")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".tsv").removesuffix(".jsonl")


def _name(path: Path) -> str:
    """Of a task that is one file: that of the file, or of its folder if the file's says nothing."""
    stem = _stem(path)
    return path.resolve().parent.name if stem in _GENERIC_STEMS else stem


def _qrels(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("qrels/*") if file.name.endswith((".tsv", ".tsv.gz")))


def _default_qrels(folder: Path) -> Path:
    files = _qrels(folder)
    if not files:
        raise InputError("has no qrels/*.tsv, so nobody knows which document answers which query", folder)
    for file in files:
        if _stem(file) == "test" or len(files) == 1:
            return file
    splits = ", ".join(_stem(file) for file in files)
    raise InputError(f"has the splits {splits} and no test; give one of them as the task, such as {files[0]}", folder)


def task_texts(path: Path) -> Iterator[str]:
    """Yields every text of a task, for comparison with other texts: queries of all splits, titles, bodies, and both.

    Raises:
        InputError: It cannot be read.
        ArtifactError: The folder was made by pairloom and is not whole.
    """
    if path.is_dir() and is_artifact(path):
        read_manifest(path, "task")
    if not path.is_dir() and is_selection_file(path):
        selection = read_selection(path, _name(path))
        yield from selection.queries
        yield from selection.responses
        return
    pairs = _find(path, "pairs.tsv") if path.is_dir() else path
    if pairs is not None:
        task = _read_sentence_pairs(pairs)
        yield from task.sentences1
        yield from task.sentences2
        return
    for name in ("queries.jsonl", "corpus.jsonl"):
        found = _find(path, name)
        if found is None:
            raise InputError(f"has no {name}[.gz]", path)
        for _, _, record in _read_records(found):
            title = record.get("title")
            yield record["text"]
            if isinstance(title, str) and title.strip():
                yield title
                yield f"{title} {record['text']}"


def _read_retrieval(folder: Path, qrels: Path, name: str) -> RetrievalTask:
    queries_path, corpus_path = _find(folder, "queries.jsonl"), _find(folder, "corpus.jsonl")
    if queries_path is None or corpus_path is None:
        missing = "queries.jsonl" if queries_path is None else "corpus.jsonl"
        raise InputError(f"has no {missing}[.gz]", folder)
    lines, queries = _read_queries(queries_path)
    documents, twins, num_empty = _read_documents(corpus_path, queries)
    known = {document.id for document in documents}
    judgements = _read_judgements(qrels, queries, known)
    unjudged = [query for query in queries if query not in judgements]
    # With several splits, the queries of the others are in the same file. With one, somebody forgot something.
    if unjudged and len(_qrels(folder)) == 1:
        raise InputError(
            f"query {unjudged[0]!r} has no judgement in {qrels.name} ({len(unjudged):,} of {len(queries):,} queries"
            " have none); judge it or remove it",
            queries_path,
            lines[unjudged[0]],
        )
    own = frozenset(query for query in twins if query in judgements and judgements[query].get(query, 0) < 1)
    remarks = []
    if num_empty:
        remarks.append(f"empty documents: {num_empty:,}")
    if own:
        remarks.append(f"queries that are documents, too, and are not ranked for themselves: {len(own):,}")
    judged = tuple(Text(query, text) for query, text in queries.items() if query in judgements)
    return RetrievalTask(name, judged, documents, judgements, own, tuple(remarks))


def _read_queries(path: Path) -> tuple[dict[str, int], dict[str, str]]:
    """Line number and text of each query."""
    lines, texts = {}, {}
    for number, query, record in _read_records(path):
        if not record["text"].strip():
            raise InputError(f"query {query!r} has no text", path, number)
        lines[query], texts[query] = number, record["text"]
    if not texts:
        raise InputError("holds no query", path)
    return lines, texts


def _read_documents(path: Path, queries: Mapping[str, str]) -> tuple[tuple[Text, ...], set[str], int]:
    """The documents, the ids of those that are a query as well, and how many are empty.

    BEIR leaves every document out of the ranking of the query with the same id. That is meant for collections whose
    queries are documents (Quora, ArguAna); where both are merely numbered from 1, as in Cranfield, it would hide
    documents for no reason. So the text must be the same, too, with or without the title.

    An empty document is kept, as BEIR and MTEB do: Cranfield has two, one of them judged relevant.
    """
    documents, twins, num_empty = [], set(), 0
    for number, document, record in _read_records(path):
        title = record.get("title") or ""  # null in some collections
        if not isinstance(title, str):
            raise InputError(f"title is {_shown(title)}, not a string", path, number)
        text = f"{title} {record['text']}".strip()
        documents.append(Text(document, text))
        num_empty += not text
        if document in queries and queries[document].split() in (text.split(), record["text"].split()):
            twins.add(document)
    if not documents:
        raise InputError("holds no document", path)
    return tuple(documents), twins, num_empty


def _read_records(path: Path) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yields line number, id and record of each line of a corpus or query file."""
    seen = set()
    for number, record in read_json_lines(path):
        if not isinstance(record, dict):
            raise InputError(f"is {_shown(record)}, not an object with _id and text", path, number)
        for key in ("_id", "text"):
            if key not in record:
                raise InputError(f"{key} is missing", path, number)
        identifier, text = record["_id"], record["text"]
        if isinstance(identifier, int) and not isinstance(identifier, bool):
            identifier = str(identifier)  # the judgements, being a TSV, cannot tell 7 from "7"
        if not isinstance(identifier, str) or not identifier.strip():
            raise InputError(f"_id is {_shown(identifier)}, not a name", path, number)
        if not isinstance(text, str):
            raise InputError(f"text is {_shown(text)}, not a string", path, number)
        if identifier in seen:
            raise InputError(f"_id {identifier!r} occurs for the second time", path, number)
        seen.add(identifier)
        yield number, identifier, record


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"


def _read_judgements(path: Path, queries: Collection[str], documents: Collection[str]) -> dict[str, dict[str, int]]:
    judgements: dict[str, dict[str, int]] = {}
    first_line: dict[str, int] = {}
    for number, line in read_lines(path):
        fields = [field.strip() for field in line.split("\t")]
        is_header = number == 1 and fields[0] not in queries and _number(fields[-1]) is None
        if is_header or not line.strip():
            continue
        if len(fields) != 3:
            raise InputError(
                f"has {len(fields)} tab-separated fields; expected query-id, corpus-id and score", path, number
            )
        query, document, score = fields
        if query not in queries:
            raise InputError(f"judges query {query!r}, which is not among the queries", path, number)
        if document not in documents:
            raise InputError(f"judges document {document!r}, which is not in the corpus", path, number)
        value = _number(score)
        if value is None or not value.is_integer() or abs(value) > _MAX_GRADE:
            raise InputError(f"score {score!r} is not a whole number up to {_MAX_GRADE:,}", path, number)
        grade = max(0, int(value))  # TREC's negative grades (spam, off topic) gain nothing, and cost nothing
        if judgements.setdefault(query, {}).setdefault(document, grade) != grade:
            raise InputError(
                f"judges document {document!r} for query {query!r} a second time, differently", path, number
            )
        first_line.setdefault(query, number)
    if not judgements:
        raise InputError("holds no judgement", path)
    for query, grades in judgements.items():
        if max(grades.values()) < 1:
            raise InputError(
                f"query {query!r} has no relevant document (a score of 1 or more); add one or remove the query's lines",
                path,
                first_line[query],
            )
    return judgements


def _number(text: str) -> float | None:
    """The finite number that a text says, if it says one."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _read_sentence_pairs(path: Path) -> SentencePairTask:
    lines = read_lines(path)
    _, header = next(lines, (1, None))
    if header is None:
        raise InputError("is empty", path)
    columns = [column.strip() for column in header.split("\t")]
    kind: Literal["score", "label"] = "label" if "label" in columns else "score"
    if sorted(columns) != sorted((kind, *_PAIR_COLUMNS)):
        raise InputError(
            f"the header is {_shown(header)}; expected score or label, sentence1, sentence2, separated by tabs", path, 1
        )
    pairs = [_parse_pair(path, number, line, columns, kind) for number, line in lines if line]
    if not pairs:
        raise InputError("holds no pair below the header", path)
    targets, sentences1, sentences2 = zip(*pairs, strict=True)
    if min(targets) == max(targets):
        raise InputError(f"every {kind} is {targets[0]:g}; a metric needs at least two different ones", path)
    num_empty = sum(not (one.strip() and other.strip()) for _, one, other in pairs)
    remarks = (f"pairs with an empty sentence: {num_empty:,}",) if num_empty else ()
    return SentencePairTask(_name(path), kind, sentences1, sentences2, targets, remarks)


def _parse_pair(path: Path, number: int, line: str, columns: list[str], kind: str) -> tuple[float, str, str]:
    """Target and sentences of a line. One empty sentence is kept (Quora's pairs have one), two say nothing."""
    fields = line.split("\t")
    if len(fields) != len(columns):
        raise InputError(f"has {len(fields)} tab-separated fields; expected {', '.join(columns)}", path, number)
    record = dict(zip(columns, fields, strict=True))
    target = _number(record[kind])
    if target is None:
        raise InputError(f"{kind} {record[kind]!r} is not a number", path, number)
    if kind == "label" and target not in (0, 1):
        raise InputError(
            f"label {record[kind]!r} is neither 0 nor 1; call the column score if it has degrees", path, number
        )
    one, other = (record[column] for column in _PAIR_COLUMNS)
    if not one.strip() and not other.strip():
        raise InputError("both sentences are empty", path, number)
    return target, one, other
