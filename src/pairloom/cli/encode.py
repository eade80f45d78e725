"""``pairloom encode`` and ``merge``: texts to vectors."""

from __future__ import annotations

import json
import logging
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pairloom.artifacts import refuse_occupied
from pairloom.cli.arguments import Argument, Option
from pairloom.cli.options import (
    Device,
    FastPrecision,
    FileFormat,
    IdField,
    Json,
    ModelName,
    OnErrors,
    Quiet,
    TextField,
    Threads,
)
from pairloom.cli.output import report
from pairloom.errors import InputError, ModelError, UsageError

if TYPE_CHECKING:
    from pairloom.encode.encoder import Encoder
    from pairloom.records import Text


def encode(
    model: ModelName,
    sources: Annotated[
        list[Path],
        Argument(
            metavar="INPUT...",
            help="Files (.txt, .jsonl, .csv, .tsv, .parquet, .arrow), a task, shards, or - for stdin.",
        ),
    ],
    out: Annotated[
        Path | None, Option(help="The vectors folder to make; by default vectors are printed, a line a text.")
    ] = None,
    field: TextField = None,
    id_field: IdField = None,
    format: FileFormat = None,
    errors: OnErrors = "strict",
    store: Annotated[Literal["float32", "float16", "int8"], Option(help="The type of the stored numbers.")] = "float32",
    shard: Annotated[
        str | None, Option(metavar="I/N", help="Do the part I of N (1/4 to 4/4), for `pairloom merge`.")
    ] = None,
    ray: Annotated[
        int | None, Option(min=1, metavar="N", help="By N workers of a Ray cluster, or of Ray on this machine.")
    ] = None,
    restart: Annotated[bool, Option("--restart", help="Begin anew, and do not go on where it was ended.")] = False,
    precision: FastPrecision = None,
    device: Device = None,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Encode texts into a folder of vectors, or print the vectors of a few as JSON lines.

    Ended before it is done, the same command goes on where it was.

    Example: `pairloom encode model task --out vectors`

    One sentence: `echo "How do I read a file?" | pairloom encode model -`
    """
    from pairloom.encode.dual_encoder import halves, load_encoder
    from pairloom.encode.job_input import parse_shard
    from pairloom.encode.sources import Sources

    reading: dict[str, Any] = {"field": field, "id_field": id_field, "errors": errors, "format": format}
    encoding: dict[str, Any] = {"precision": precision, "device": device, "threads": threads}
    if out is None:
        if as_json or shard or ray or restart or store != "float32":
            raise UsageError(
                "--json, --store, --shard, --ray and --restart are for a folder of vectors; say where with --out (without it, "
                "vectors are printed as JSON lines)"
            )
        texts = Sources(sources, **reading)
        if not _print_vectors(halves(load_encoder(model, **encoding))[1], texts):
            raise InputError("holds no text", texts.name)
        return
    refuse_occupied(out)
    part = None if shard is None else parse_shard(shard)
    if ray is not None:
        if part is not None:
            raise UsageError("--shard and --ray both divide the work; give one of them")
        from pairloom.encode.ray_job import RayJob, encode_on_ray

        job = RayJob([model], sources, reading, encoding, store)
        num_gpus = 1.0 if (device or "").startswith("cuda") else 0.0
        facts = encode_on_ray(job, out, num_workers=ray, num_gpus=num_gpus, restart=restart, show_progress=not quiet)
    else:
        from pairloom.encode.bulk import encode_texts

        texts = Sources(sources, **reading)  # what is wrong with them is better known before the model is loaded
        facts = encode_texts(
            load_encoder(model, **encoding),
            texts,
            out,
            origin=texts.name,
            store=store,
            shard=part,
            job=texts.state,
            restart=restart,
            share_read=texts.share_read,
            show_progress=not quiet,
        )
    _report(facts, as_json, out)


def merge(
    parts: Annotated[list[Path], Argument(metavar="PART...", help="What pairloom encode --shard has made.")],
    out: Annotated[Path, Option(help="The vectors folder to make.")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Join the parts of a job to the folder of vectors that one process would have made.

    Example: `pairloom merge part-1 part-2 part-3 --out vectors`
    """
    from pairloom.encode.merge import merge_parts

    _report(merge_parts(parts, out, show_progress=not quiet), as_json, out)


def _report(facts: dict[str, Any], as_json: bool, out: Path) -> None:
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
