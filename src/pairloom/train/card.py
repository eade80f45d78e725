"""The model card: what the model is and what really happened, for the README of its folder."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom import __version__
from pairloom.models.model import Model
from pairloom.terminal import one_line
from pairloom.train.metrics import first_and_last, losses_by_dataset

_POOLING = {
    "mean": "mean of the token vectors",
    "cls": "vector of the first token",
    "max": "largest value of each component",
    "mean_sqrt_len_tokens": "sum of the token vectors over the square root of their number",
    "weightedmean": "mean of the token vectors, weighted by place",
    "lasttoken": "vector of the last token",
}


def write_card(name: str, model: Model, facts: dict[str, Any], records: list[dict[str, Any]]) -> str:
    """The README of a trained model, as Markdown.

    Args:
        name: What to call the model.
        model: What was trained.
        facts: The manifest's facts.
        records: The lines of ``metrics.jsonl``.
    """
    recipe = facts["recipe"]
    train, loss = recipe["train"], recipe["loss"]
    losses = np.array([record["loss"] for record in records if "loss" in record])
    pairs = sum(data["pairs_drawn"] for data in facts["data"])
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags:
- sentence-transformers
- sentence-similarity
- feature-extraction
---

# {name}

A sentence encoder: it maps a text to a vector of {model.dimensions} numbers, so that texts that belong together lie
close to each other. It was adapted from `{recipe["model"]["base"]}` with pairloom {__version__}.

## Usage

```python
from pairloom import Encoder

encoder = Encoder("{name}")
vectors = encoder.encode(["a text", "another text"])
print(encoder.similarity(vectors, vectors))
```

or with sentence-transformers:

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{name}")
vectors = model.encode(["a text", "another text"])
```

## Technical details

| Setting | Value |
| --- | --- |
| Dimensions | {model.dimensions} |
| Pooling | {" and ".join(_POOLING[mode] for mode in model.pooling.modes)} |
| Produces normalized embeddings | {"Yes" if model.normalized else "No"} |
| Suitable score function | {_score_function(model)} |
| Longest text | {model.max_tokens} tokens; what is beyond them is cut |

## Training

| Dataset | Pairs | Weight | Pairs drawn | Loss at first | at last |
| --- | ---: | ---: | ---: | ---: | ---: |
{_dataset_rows(facts, records)}

{facts["steps"]:,} steps of {train["batch_size"]:,} pairs ({pairs:,} pairs drawn, each batch from {_datasets_per_batch(recipe)}, no text
twice in a batch). {_objective(loss, records)} AdamW, learning rate {train["learning_rate"]:g} after {train["warmup_steps"]:,}
steps of linear warm-up, then {_schedule(train)}; betas {train["betas"][0]:g} and {train["betas"][1]:g}, epsilon {train["epsilon"]:g}, weight decay {train["weight_decay"]:g};
gradients clipped to norm {train["max_gradient_norm"]:g}.{_changes(train, facts)} Anchors were cut to {recipe["data"]["anchor_max_tokens"]} tokens, positives to
{recipe["data"]["positive_max_tokens"]}. Precision {train["precision"]}, seed {train["seed"]}, on {facts["device"]}, torch {facts["torch"]}.

{_mean_losses(losses)}

## Evaluation

{_evaluation_table(facts["evaluations"])}

`manifest.json` holds the whole recipe and the checksums, `metrics.jsonl` every step.
"""


def _score_function(model: Model) -> str:
    if model.similarity == "dot":
        return "dot product"
    return "cosine similarity, or dot product, which is equal here" if model.normalized else "cosine similarity"


def _objective(loss: dict[str, Any], records: list[dict[str, Any]]) -> str:
    """What was minimised; keys that runs of earlier versions lack mean that the option was not there."""
    text = f"In-batch negatives ({'both ways for pairs' if loss['symmetric'] else 'one way'}"
    extra = [name for key, name in (("query_query", "anchors"), ("document_document", "candidates")) if loss.get(key)]
    if extra:
        text += f", {' and '.join(extra)} among themselves too, in one denominator"
    text += f"), scale {loss['scale']:g}"
    if loss.get("learn_scale"):
        last = next((record["scale"] for record in reversed(records) if "scale" in record), loss["scale"])
        text += f" at first, then learnt: {last:g} at last"
    if loss.get("mask_false_negatives"):
        text += "; candidates equal to the anchor or its positive left out"
    if loss.get("matryoshka_dimensions"):
        text += f"; mean over the first {', '.join(map(str, loss['matryoshka_dimensions']))} components"
    return text + "."


def _schedule(train: dict[str, Any]) -> str:
    return {
        "linear": "linear decay",
        "cosine": "cosine decay",
        "warmup-stable-decay": "constant, with linear decay at the end",
    }[train.get("schedule", "linear")]


def _changes(train: dict[str, Any], facts: dict[str, Any]) -> str:
    """What else of the run made the weights what they are, as sentences."""
    text = ""
    if train.get("freeze_embeddings") or train.get("freeze_layers"):
        parts = ["the embeddings"] if train.get("freeze_embeddings") else []
        parts += [f"the first {train['freeze_layers']} layers"] if train.get("freeze_layers") else []
        text += f" Frozen: {' and '.join(parts)}."
    if train.get("average_decay"):
        text += f" The weights are a moving average with decay {train['average_decay']:g}."
    if facts.get("steps_skipped"):
        text += f" {facts['steps_skipped']:,} steps were passed over, because they were not finite."
    return text


def _datasets_per_batch(recipe: dict[str, Any]) -> str:
    number = min(recipe["data"]["datasets_per_batch"], len(recipe["data"]["datasets"]))
    return "one dataset" if number == 1 else f"up to {number} datasets"


def _dataset_rows(facts: dict[str, Any], records: list[dict[str, Any]]) -> str:
    found = losses_by_dataset(records, [data["name"] for data in facts["data"]])
    rows = []
    for data in facts["data"]:
        _, losses = found[data["name"]]
        first, last, _ = first_and_last(losses) if len(losses) else (None, None, 0)
        cells = [one_line(data["name"]).replace("|", "\\|"), f"{data['pairs']:,}", f"{data['weight']:g}"]
        cells += [f"{data['pairs_drawn']:,}", *("–" if mean is None else f"{mean:.3f}" for mean in (first, last))]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _mean_losses(losses: npt.NDArray[np.float64]) -> str:
    if not len(losses):
        return "The loss was not recorded."
    first, last, span = first_and_last(losses)
    return (
        f"The mean loss was {first:.3f} over the first {span} steps and {last:.3f} over the last {span}; a dataset's is the "
        "mean over up to ten batches that had pairs of it."
    )


def _evaluation_table(evaluations: list[dict[str, Any]]) -> str:
    """The last measurement of each task, beside the one before training."""
    if not evaluations:
        return "No task was given to the run, so nothing was measured."
    last = {evaluation["task"]: evaluation for evaluation in evaluations}
    rows = []
    for task, evaluation in last.items():
        for metric, measured in evaluation["metrics"].items():
            cells = [task, metric, f"{measured['value']:.4f}", _interval(measured["interval"], ".4f")]
            if "baseline" in measured:
                change = f"{measured['difference']:+.4f} ({_interval(measured['difference_interval'], '+.4f')})"
                cells += [f"{measured['baseline']:.4f}", change]
            rows.append("| " + " | ".join(cells) + " |")
    head = (
        "| Task | Metric | Value | 95 % interval | Before training | Change |\n| --- | --- | ---: | --- | ---: | --- |"
    )
    return "\n".join([head, *rows])


def _interval(ends: list[float], form: str) -> str:
    return " … ".join(format(end, form) for end in ends)
