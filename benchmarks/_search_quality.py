"""The part ``quality``: whether what people look for is found, by meaning, by words and by both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks._search_bench import LANCE_GRAPH, PAIRLOOM, SEMANTIC_SEARCH, Bench, Contestant
from benchmarks._search_data import FACTS, Data, Labelled, Question, encode
from pairloom import Encoder
from pairloom.evaluate import bootstrap
from pairloom.evaluate.metrics import RETRIEVAL_DEPTH, retrieval_metrics

METRICS = ("nDCG@10", "MRR@10", "Recall@10")
MODES = ("vector", "words", "hybrid")
Grades = Mapping[str, Mapping[str, int]]
# Of each question, by metric.
Values = dict[str, npt.NDArray[np.float64]]
_REFERENCE = "pairloom, vector"


@dataclass(frozen=True)
class Trial:
    """Documents, questions, and which document answers which question, by their numbers."""

    title: str
    data: Data
    judgements: Grades


def quality(bench: Bench) -> None:
    """What people look for: a task, and the bodies of titles that are in no document."""
    ours = Contestant("pairloom", PAIRLOOM["graph"].side, "pairloom-texts", {"kind": "auto", "model": bench.model})
    theirs = Contestant(
        "LanceDB",
        LANCE_GRAPH.side,
        "lancedb-texts",
        {"kind": "graph", "words": True, "model": bench.model},
        library="lancedb",
    )
    for trial in trials(bench):
        questions = len(trial.judgements)
        print(f"  {trial.title}: {questions:,} questions, {trial.data.size:,} documents", flush=True)
        found: dict[str, Values] = {}
        contestants = bench.present(ours, SEMANTIC_SEARCH, theirs)
        with bench.opened(contestants, trial.data) as aparts:
            for one in contestants:
                for mode in MODES if one is not SEMANTIC_SEARCH else MODES[:1]:
                    if one.name in aparts:
                        # LanceDB exactly, so that only words and their fusion differ.
                        how: dict[str, Any] = {"mode": mode, "by": "text"} if one is not SEMANTIC_SEARCH else {}
                        how |= {"exact": True} if one is theirs else {}
                        numbers = [int(question) for question in trial.judgements]
                        answer = aparts[one.name].call("found", numbers=numbers, k=RETRIEVAL_DEPTH, **how)
                        name = one.name if one is SEMANTIC_SEARCH else f"{one.name}, {mode}"
                        if "failed" in answer:
                            print(f"  {name}: {answer['failed']}", flush=True)
                        else:
                            rankings = dict(zip(trial.judgements, answer["found"], strict=True))
                            found[name] = values(trial.judgements, rankings)
        show_quality(found)


def trials(bench: Bench) -> list[Trial]:
    """The task, if one is given, and titles that are to find their bodies among all real texts."""
    asked, _ = bench.data.questions()
    bodies = {str(number): {str(question.row): 1} for number, question in enumerate(asked) if question.row >= 0}
    found = [Trial("titles and their bodies", bench.at(bench.data.num_real), bodies)]
    if bench.task is None:
        print("  no --task: left out", flush=True)
        return found
    data, judgements = task_data(bench)
    return [Trial(bench.task.name, data, judgements), *found]


def task_data(bench: Bench) -> tuple[Data, Grades]:
    """A data folder of the task's own. Documents without a text are left out: nobody can find them."""
    task = bench.task
    assert task is not None
    folder = bench.cache / "task"
    documents = [document for document in task.documents if document.text.strip()]
    if not (folder / FACTS).exists():
        texts: list[Labelled] = [(document.text, task.name) for document in documents]
        questions = [Question(query.text, -1, task.name) for query in task.queries]
        encode(folder, texts, questions, Encoder(bench.model, device="cpu", threads=bench.options.threads))
    data = Data(folder)
    row = {document.id: str(number) for number, document in enumerate(documents)}
    judgements = {
        str(number): {
            row.get(document, f"without text: {document}"): grade
            for document, grade in task.judgements[query.id].items()
        }
        for number, query in enumerate(task.queries)
    }
    return data, judgements


def values(judgements: Grades, rankings: Mapping[str, list[int]]) -> Values:
    """Of each question, by metric."""
    found = {question: [str(row) for row in rows] for question, rows in rankings.items()}
    of_all = retrieval_metrics(judgements, found)
    return {metric: of_all[metric] for metric in METRICS}


def show_quality(found: Mapping[str, Values]) -> None:
    """A line a contestant: each metric with its 95 % interval, and the first beside the reference's on the same resamples."""
    if not found:
        return
    width, count = max(map(len, found)), len(next(iter(found.values()))[METRICS[0]])
    statistics = {
        (name, metric): bootstrap.mean_statistic(of_questions)
        for name, by_metric in found.items()
        for metric, of_questions in by_metric.items()
    }
    drawn = bootstrap.resample(statistics, count)
    for name, by_metric in found.items():
        parts = []
        for metric, of_questions in by_metric.items():
            low, high = bootstrap.interval(drawn[name, metric])
            parts.append(f"{metric} {of_questions.mean():.4f} ({low:.4f} to {high:.4f})")
        if name != _REFERENCE and _REFERENCE in found:
            low, high = bootstrap.interval(drawn[name, METRICS[0]] - drawn[_REFERENCE, METRICS[0]])
            more = by_metric[METRICS[0]].mean() - found[_REFERENCE][METRICS[0]].mean()
            parts.append(f"{METRICS[0]} {more:+.4f} ({low:+.4f} to {high:+.4f}) beside {_REFERENCE}")
        print(f"  {name:{width}}  {'  '.join(parts)}", flush=True)
