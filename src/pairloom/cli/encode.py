"""``pairloom encode``: texts to vectors."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from pairloom.cli.options import Device, Json, ModelName, Precision, Quiet
from pairloom.cli.output import report


def encode(
    model: ModelName,
    source: Annotated[Path, typer.Argument(metavar="INPUT", help=".txt, .jsonl (also .gz), a task, or shards.")],
    out: Annotated[Path, typer.Option(help="The vectors folder to make.")],
    field: Annotated[str | None, typer.Option(help="The field or column that holds the text.")] = None,
    precision: Precision = "float32",
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Encode texts into a folder of vectors.

    Example: `pairloom encode model task --out vectors`
    """
    from pairloom.artifacts import refuse_occupied
    from pairloom.encode.dual_encoder import load_encoder
    from pairloom.encode.inputs import read_texts
    from pairloom.encode.vectors import encode_texts

    refuse_occupied(out)
    encoder = load_encoder(model, precision=precision, device=device)
    facts = encode_texts(encoder, read_texts(source, field), out, origin=str(source), show_progress=not quiet)
    report(facts, as_json, f"wrote {out}")
    if facts["truncated"]:
        logging.getLogger("pairloom").warning(
            "%s of %s texts were longer than %s tokens and were cut",
            f"{facts['truncated']:,}",
            f"{facts['count']:,}",
            facts["max_tokens"],
        )
