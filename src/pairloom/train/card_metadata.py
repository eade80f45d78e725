"""The head of a model card, which the hub reads: tags, the base, what was measured.

References: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import re
from typing import Any

from pairloom.terminal import one_line
from pairloom.train.card_text import slug

# How the hub calls what was measured.
_TASK_TYPES = {
    "retrieval": ("information-retrieval", "Information Retrieval"),
    "score": ("semantic-similarity", "Semantic Similarity"),
    "label": ("binary-classification", "Binary Classification"),
}
_OTHER_TASK = ("sentence-similarity", "Sentence Similarity")
# The hub takes names of its own data sets only: an owner and a name.
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_TAGS = ["sentence-transformers", "sentence-similarity", "feature-extraction", "pairloom"]


def front_matter(name: str, facts: dict[str, Any]) -> str:
    """The metadata, as YAML that the hub's own library writes.

    Args:
        name: What to call the model.
        facts: The manifest's facts.
    """
    from huggingface_hub import EvalResult, ModelCardData  # here, for it takes a while

    results = []
    taken: set[str] = set()
    for evaluation in last_of_each_task(facts["evaluations"]):
        task_type, task_name = _TASK_TYPES.get(evaluation.get("kind", ""), _OTHER_TASK)
        task = one_line(evaluation["task"])
        identifier = slug(task)
        while identifier in taken:  # the hub would take two for one
            identifier += "_"
        taken.add(identifier)
        for metric, measured in evaluation["metrics"].items():
            results.append(
                EvalResult(
                    task_type=task_type,
                    task_name=task_name,
                    dataset_type=identifier,
                    dataset_name=task,
                    metric_type=slug(metric.replace("@", "_at_")),
                    metric_name=metric,
                    metric_value=round(measured["value"], 6),
                )
            )
    evaluated: dict[str, Any] = {"model_name": one_line(name), "eval_results": results} if results else {}
    datasets = [data["name"] for data in facts["data"] if _HUB_NAME.fullmatch(data["name"])]
    card = ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=list(_TAGS),
        base_model=facts["base_on_hub"],
        datasets=datasets or None,
        **evaluated,
    )
    return str(card.to_yaml())


def last_of_each_task(evaluations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each task the last evaluation, in the order of the first ones."""
    return list({evaluation["task"]: evaluation for evaluation in evaluations}.values())
