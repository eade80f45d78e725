"""The model card: what the model is, how it is used, and what really happened, for the README of its folder."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom import __version__
from pairloom.models.model import Model
from pairloom.recipe import Recipe
from pairloom.train.card_metadata import front_matter, last_of_each_task
from pairloom.train.card_text import code, fenced, plain, table
from pairloom.train.card_usage import usage
from pairloom.train.metrics import first_and_last, losses_by_dataset
from pairloom.train.recipe_toml import recipe_toml
from pairloom.train.report import duration
from pairloom.train.truncation import truncation_note

_POOLING = {
    "mean": "mean of the token vectors",
    "cls": "vector of the first token",
    "max": "largest value of each component",
    "mean_sqrt_len_tokens": "sum of the token vectors over the square root of their number",
    "weightedmean": "mean of the token vectors, weighted by place",
    "lasttoken": "vector of the last token",
}
_WHAT = "A sentence encoder: it maps"
_WHAT_TWO = "Two sentence encoders, `Q` for queries and `A` for documents: each maps"


def write_card(
    name: str,
    model: Model,
    facts: dict[str, Any],
    records: list[dict[str, Any]],
    recipe: Recipe,
    *,
    document: Model | None = None,
) -> str:
    """The README of a trained model, as Markdown.

    Args:
        name: What to call the model; the snippets load it by this name.
        model: What was trained; of two encoders that of the queries, which lies in ``Q``.
        facts: The manifest's facts.
        records: The lines of ``metrics.jsonl``.
        recipe: Of the run.
        document: Of two encoders that of the documents, which lies in ``A``.
    """
    base = facts["recipe"]["model"]["base"]
    return f"""---
{front_matter(name, facts)}
---

# {plain(name)}

{_WHAT if document is None else _WHAT_TWO} a text to a vector of {model.dimensions} numbers, so that texts that belong together lie
close to each other. It was trained from {code(base)} on pairs of texts, with pairloom {__version__}.

## Usage

{usage(name, model, document)}

## Technical details

{_details(model, base)}

## Intended uses and limits

{_limits(model, facts["recipe"])}

## Training

### Data

{_dataset_table(facts, records)}

{_draws(facts)}

### Objective

{_objective(facts, model.similarity, records)}

### Hyperparameters

{_hyperparameters(facts)}

{_mean_losses(np.array([record["loss"] for record in records if "loss" in record]))}

### Machine and versions

{_machine(facts)}

## Evaluation

{_evaluation_table(facts["evaluations"])}

## How to make it again

{_again(facts, recipe)}

`manifest.json` holds the checksums of all files, `metrics.jsonl` every step, `report.html` the curves.
"""


def _details(model: Model, base: str) -> str:
    rows = [
        ["Base model", code(base, in_table=True)],
        ["Dimensions", f"{model.dimensions}"],
        ["Pooling", " and ".join(_POOLING[mode] for mode in model.pooling.modes)],
        ["Produces normalized embeddings", "Yes" if model.normalized else "No"],
        ["Suitable score function", _score_function(model)],
        ["Longest text", f"{model.max_tokens} tokens; what is beyond them is cut"],
    ]
    rows += [
        [f"Prompt {code(name, in_table=True)}", code(text, in_table=True)]
        for name, text in model.prompts.items()
        if text
    ]
    return table(["Setting", "Value"], rows)


def _score_function(model: Model) -> str:
    if model.similarity == "dot":
        return "dot product"
    return "cosine similarity, or dot product, which is equal here" if model.normalized else "cosine similarity"


def _limits(model: Model, recipe: dict[str, Any]) -> str:
    data = recipe["data"]
    anchors, positives = (
        max(one.get(key) or data[key] for one in data["datasets"])
        for key in ("anchor_max_tokens", "positive_max_tokens")
    )
    text = f"""It is made for semantic search: to find, for a text like the anchors of its training data, the texts that belong to
it as the positives did. Clustering and the comparison of texts are near to that, and not what it was trained for.

A text is cut after {model.max_tokens:,} tokens, special ones included. In training anchors were cut after {anchors:,} tokens and
positives after {positives:,}"""
    if model.max_tokens > max(anchors, positives):
        text += ", so it may do worse on longer text"
    return f"{text}. It knows the languages and subjects of the data below; what is\nwrong or one-sided in them is in it, too."


def _dataset_table(facts: dict[str, Any], records: list[dict[str, Any]]) -> str:
    found = losses_by_dataset(records, [data["name"] for data in facts["data"]])
    rows = []
    for data in facts["data"]:
        _, losses = found[data["name"]]
        first, last, _ = first_and_last(losses) if len(losses) else (None, None, 0)
        row = [plain(data["name"]), f"{data['pairs']:,}", f"{data['weight']:g}", f"{data['pairs_drawn']:,}"]
        row.append(_epochs(data["pairs_drawn"], data["pairs"]))
        rows.append([*row, *("–" if mean is None else f"{mean:.3f}" for mean in (first, last))])
    if len(rows) > 1:
        pairs, drawn = (sum(data[key] for data in facts["data"]) for key in ("pairs", "pairs_drawn"))
        rows.append(["**in all**", f"{pairs:,}", "", f"{drawn:,}", _epochs(drawn, pairs), "", ""])
    return table(["Dataset", ">Pairs", ">Weight", ">Pairs drawn", ">Epochs", ">Loss at first", ">at last"], rows)


def _epochs(drawn: int, rows: int) -> str:
    return f"{drawn / rows:.3g}" if drawn < 100 * rows else f"{drawn / rows:,.0f}"


def _draws(facts: dict[str, Any]) -> str:
    recipe, drawn = facts["recipe"], sum(data["pairs_drawn"] for data in facts["data"])
    number = min(recipe["data"]["datasets_per_batch"], len(recipe["data"]["datasets"]))
    source = "one dataset" if number == 1 else f"up to {number} datasets"
    text = f"{facts['steps']:,} steps of {recipe['train']['batch_size']:,} pairs ({drawn:,} pairs drawn, each batch from {source}, "
    text += "no text\ntwice in a batch). Epochs say how often each row was drawn on average."
    if (steps := recipe["data"].get("steps_per_group", 1)) > 1:
        text += (
            f" Steps came in groups of {steps:,}, from {recipe['data']['datasets_per_group']:,} draws of a dataset, no text twice in "
            "a group."
        )
    if note := truncation_note(facts):
        text += f"\n\n{note[0].upper()}{note[1:]}."
    elif any(one["count"] for one in facts.get("texts", {}).values()):
        text += "\n\nNo text was longer than its limit."
    return text


def _objective(facts: dict[str, Any], similarity: str, records: list[dict[str, Any]]) -> str:
    """What was minimised, in words; keys that runs of earlier versions lack mean that the option was not there."""
    loss = facts["recipe"]["loss"]
    text = (
        f"Each anchor must find its own positive among the positives of the whole batch, and among its hard negatives if there "
        f"are any: the cross-entropy over all these candidates of their {'dot products' if similarity == 'dot' else 'cosines'} "
        f"with the anchor, times a scale of {loss['scale']:g}"
    )
    if loss.get("learn_scale"):
        last = next((record["scale"] for record in reversed(records) if "scale" in record), loss["scale"])
        text += f" at first, which was learnt and came to {last:g}"
    text += ". " + (
        "For pairs also the other way, from positives to anchors." if loss["symmetric"] else "One way only."
    )
    extra = [name for key, name in (("query_query", "anchors"), ("document_document", "candidates")) if loss.get(key)]
    if extra:
        text += f" {' and '.join(extra).capitalize()} also compete among themselves, in one denominator."
    if loss.get("mask_false_negatives"):
        text += " Candidates that are equal to the anchor or to its positive are left out."
    if loss.get("matryoshka_dimensions"):
        dimensions = ", ".join(map(str, loss["matryoshka_dimensions"]))
        text += f" The mean is taken over the losses of the first {dimensions} components."
    if any("context" in data.get("columns", ()) for data in facts["data"]):
        text += (
            " Replies with past contexts have the mean of three such losses: with what they answer, with what was said before, "
            "and with the mean of both vectors."
        )
    return text


def _hyperparameters(facts: dict[str, Any]) -> str:
    train, data = facts["recipe"]["train"], facts["recipe"]["data"]
    each = ", of each encoder by itself" if facts["recipe"]["model"].get("encoders") == "two" else ""
    rows = [
        ["Steps", f"{facts['steps']:,}"],
        ["Batch size", f"{train['batch_size']:,} pairs"],
        ["Optimizer", f"AdamW, betas {train['betas'][0]:g} and {train['betas'][1]:g}, epsilon {train['epsilon']:g}"],
        ["Weight decay", f"{train['weight_decay']:g}"],
        ["Learning rate", f"{train['learning_rate']:g} after {train['warmup_steps']:,} steps of linear warm-up"],
        ["Schedule", _schedule(train)],
        ["Gradient norm", f"clipped to {train['max_gradient_norm']:g}{each}"],
        ["Tokens", f"anchors cut to {data['anchor_max_tokens']}, positives to {data['positive_max_tokens']}"],
        ["Precision", f"{train['precision']}; weights and optimizer in float32"],
        ["Seed", f"{train['seed']}"],
    ]
    frozen = ["the embeddings"] if train.get("freeze_embeddings") else []
    frozen += [f"the first {train['freeze_layers']} layers"] if train.get("freeze_layers") else []
    if frozen:
        rows.append(["Frozen", " and ".join(frozen)])
    if train.get("average_decay"):
        rows.append(["Weights", f"a moving average with decay {train['average_decay']:g}"])
    if facts.get("steps_skipped"):
        rows.append(["Steps passed over", f"{facts['steps_skipped']:,}, because they were not finite"])
    return table(["Setting", "Value"], rows)


def _schedule(train: dict[str, Any]) -> str:
    return {
        "linear": "linear decay",
        "cosine": "cosine decay",
        "warmup-stable-decay": "constant, with linear decay at the end",
    }[train.get("schedule", "linear")]


def _mean_losses(losses: npt.NDArray[np.float64]) -> str:
    if not len(losses):
        return "The loss was not recorded."
    first, last, span = first_and_last(losses)
    return (
        f"The mean loss was {first:.3f} over the first {span} steps and {last:.3f} over the last {span}; a dataset's is the "
        "mean over up to ten batches that had pairs of it."
    )


def _machine(facts: dict[str, Any]) -> str:
    hardware = facts["hardware"]
    times = (
        f"{hardware['num_devices']} processes on "
        if facts["device"].endswith("cpu")
        else f"{hardware['num_devices']} × "
    )
    rows = [["Device", ("" if hardware["num_devices"] == 1 else times) + plain(hardware["device"])]]
    if hardware["memory_bytes"]:
        peak = hardware["peak_memory_bytes"]
        used = f", of which a process held {_gigabytes(peak)} at most" if peak else ""
        rows.append(["Memory", f"{_gigabytes(hardware['memory_bytes'])}{used}"])
    if facts["training_s"]:
        hours = f"{facts['training_s'] / 3600:.2f} hours in training steps"
        rows.append(["Time", f"{hours} ({duration(facts['training_s'])}), over all resumptions"])
    if "energy_wh" in facts:
        wh = facts["energy_wh"]
        amount = f"{wh / 1000:,.2f} kWh" if wh >= 100 else f"{wh:.3g} Wh"
        rows.append(["Energy", f"{amount} in training steps, of processors and memory with all that ran there (RAPL)"])
    rows += [[plain(name), plain(version)] for name, version in facts["versions"].items()]
    return table(["", "Value"], rows)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"


def _evaluation_table(evaluations: list[dict[str, Any]]) -> str:
    """The last measurement of each task, beside the one before training."""
    if not evaluations:
        return "No task was given to the run, so nothing was measured."
    rows = []
    for evaluation in last_of_each_task(evaluations):
        for metric, measured in evaluation["metrics"].items():
            cells = [plain(evaluation["task"]), plain(metric), f"{measured['value']:.4f}"]
            cells.append(_interval(measured["interval"], ".4f"))
            change = ["", ""]
            if "baseline" in measured:
                ends = _interval(measured["difference_interval"], "+.4f")
                change = [f"{measured['baseline']:.4f}", f"{measured['difference']:+.4f} ({ends})"]
            rows.append([*cells, *change])
    return table(["Task", "Metric", ">Value", "95 % interval", ">Before training", "Change (95 % interval)"], rows)


def _interval(ends: list[float], form: str) -> str:
    return " … ".join(format(end, form) for end in ends)


def _again(facts: dict[str, Any], recipe: Recipe) -> str:
    parts = []
    if "command" in facts:
        again = " --resume" in facts["command"]
        parts.append("The command that finished the run, which was interrupted:" if again else "The command:")
        parts.append(fenced(facts["command"], ""))
    parts.append(f"<details><summary>The whole recipe</summary>\n\n{fenced(recipe_toml(recipe), 'toml')}\n\n</details>")
    return "\n\n".join(parts)
