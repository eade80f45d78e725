"""The model card: what the model is and what really happened, for the README of its folder."""

from __future__ import annotations

from typing import Any

from pairloom import __version__
from pairloom.models.model import Model

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
    steps = [record for record in records if "loss" in record]
    pairs = sum(data["pairs_drawn"] for data in facts["data"])
    span = max(1, min(10, len(steps) // 2))
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

| Dataset | Pairs | Weight | Pairs drawn |
| --- | ---: | ---: | ---: |
{_dataset_rows(facts)}

{facts["steps"]:,} steps of {train["batch_size"]:,} pairs ({pairs:,} pairs drawn, each batch from {_datasets_per_batch(recipe)}, no text
twice in a batch). In-batch negatives ({"both ways for pairs" if loss["symmetric"] else "one way"}), scale
{loss["scale"]:g}. AdamW, learning rate {train["learning_rate"]:g} after {train["warmup_steps"]:,} steps of linear warm-up, then
linear decay; betas {train["betas"][0]:g} and {train["betas"][1]:g}, epsilon {train["epsilon"]:g}, weight decay {train["weight_decay"]:g};
gradients clipped to norm {train["max_gradient_norm"]:g}. Anchors were cut to {recipe["data"]["anchor_max_tokens"]} tokens, positives to
{recipe["data"]["positive_max_tokens"]}. Precision {train["precision"]}, seed {train["seed"]}, on {facts["device"]}, torch {facts["torch"]}.

The mean loss was {_mean_loss(steps[:span])} over the first {span} steps and {_mean_loss(steps[-span:])} over the last {span}.

## Evaluation

{_evaluation_table(facts["evaluations"])}

`manifest.json` holds the whole recipe and the checksums, `metrics.jsonl` every step.
"""


def _score_function(model: Model) -> str:
    if model.similarity == "dot":
        return "dot product"
    return "cosine similarity, or dot product, which is equal here" if model.normalized else "cosine similarity"


def _datasets_per_batch(recipe: dict[str, Any]) -> str:
    number = min(recipe["data"]["datasets_per_batch"], len(recipe["data"]["datasets"]))
    return "one dataset" if number == 1 else f"up to {number} datasets"


def _dataset_rows(facts: dict[str, Any]) -> str:
    return "\n".join(
        f"| {data['name']} | {data['pairs']:,} | {data['weight']:g} | {data['pairs_drawn']:,} |"
        for data in facts["data"]
    )


def _mean_loss(steps: list[dict[str, Any]]) -> str:
    return f"{sum(step['loss'] for step in steps) / len(steps):.3f}" if steps else "not recorded"


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
