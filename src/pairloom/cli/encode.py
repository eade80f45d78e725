"""``pairloom encode``: texts to vectors."""

from __future__ import annotations

import json
import logging
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pairloom.cli.options import Device, Json, ModelName, Precision, Quiet
from pairloom.cli.output import report
from pairloom.errors import InputError, ModelError, UsageError

if TYPE_CHECKING:
    from pairloom.encode.encoder import Encoder
    from pairloom.records import Text


def encode(
    model: ModelName,
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help=".txt, .jsonl (also .gz), a task, shards, or - for stdin.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The vectors folder to make; by default vectors are printed, a line a text.")
    ] = None,
    field: Annotated[str | None, typer.Option(help="The field or column that holds the text.")] = None,
    precision: Precision = "float32",
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Encode texts into a folder of vectors, or print the vectors of a few as JSON lines.

    Example: `pairloom encode model task --out vectors`

    One sentence: `echo "How do I read a file?" | pairloom encode model -`
    """
    from pairloom.artifacts import refuse_occupied
    from pairloom.encode.dual_encoder import halves, load_encoder
    from pairloom.encode.inputs import read_texts

    if out is None:
        if as_json:
            raise UsageError(
                "--json is for the facts about a folder of vectors; without --out, vectors are JSON lines anyway"
            )
        texts = read_texts(source, field)
        if not _print_vectors(halves(load_encoder(model, precision=precision, device=device))[1], texts):
            raise InputError("holds no text", source)
        return
    from pairloom.encode.vectors import encode_texts

    refuse_occupied(out)
    encoder = load_encoder(model, precision=precision, device=device)
    facts = encode_texts(encoder, read_texts(source, field), out, origin=str(source), show_progress=not quiet)
    report(facts, as_json, f"wrote {out}")
    _warn_of_cut_texts(facts["truncated"], facts["count"], facts["max_tokens"])


def _print_vectors(encoder: Encoder, texts: Iterable[Text]) -> int:
    """Prints each text and its vector as a line of JSON on stdout, block by block; returns how many there were."""
    import numpy as np

    from pairloom.encode.blocks import text_blocks

    read: deque[list[Text]] = deque()
    num_texts = num_truncated = 0

    def blocks() -> Iterator[list[str]]:
        for block in text_blocks(texts):
            read.append(block)
            yield [text.text for text in block]

    for encoded in encoder.encode_blocks(blocks(), prompt_name=encoder.document_prompt):
        num_texts += len(encoded.vectors)
        num_truncated += encoded.num_truncated
        for text, vector in zip(read.popleft(), encoded.vectors, strict=True):
            if not np.isfinite(vector).all():
                raise ModelError(f"{encoder.model.name}: its vector of text {text.id} is no number; do not use it")
            # The shortest decimals that are these float32 numbers.
            numbers = [float(number) for number in vector.astype(str)]
            sys.stdout.write(json.dumps({"id": text.id, "text": text.text, "vector": numbers}) + "\n")
        sys.stdout.flush()
    _warn_of_cut_texts(num_truncated, num_texts, encoder.max_tokens)
    return num_texts


def _warn_of_cut_texts(num_truncated: int, num_texts: int, max_tokens: int) -> None:
    if num_truncated:
        logging.getLogger("pairloom").warning(
            "%s of %s texts were longer than %s tokens and were cut", f"{num_truncated:,}", f"{num_texts:,}", max_tokens
        )
