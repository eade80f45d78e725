"""``pairloom index``: texts to a new collection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pairloom.choices import IndexKind
from pairloom.cli.arguments import Option
from pairloom.cli.documents import check_vectors, open_sources, report_written, vector_models
from pairloom.cli.options import (
    DEFAULT_MODEL,
    Device,
    DocumentSources,
    Duplicates,
    FastPrecision,
    FileFormat,
    IdField,
    Json,
    MetadataNames,
    OnErrors,
    Quiet,
    TextField,
    Threads,
)
from pairloom.errors import CollectionError, InputError, UsageError

if TYPE_CHECKING:
    from pairloom.encode.dual_encoder import AnyEncoder
    from pairloom.search.collection import Collection
    from pairloom.search.ingest.making import Making
    from pairloom.search.settings import Settings


def index(
    sources: DocumentSources,
    out: Annotated[Path, Option(metavar="COLLECTION", help="The collection to make.")],
    model: Annotated[
        str | None,
        Option(help=f"The model; by default {DEFAULT_MODEL}, or the one that made the vectors that are given."),
    ] = None,
    field: TextField = None,
    id_field: IdField = None,
    metadata: MetadataNames = None,
    format: FileFormat = None,
    errors: OnErrors = "strict",
    fields: Annotated[
        str | None,
        Option(
            metavar="FIELDS",
            help="The only fields that may be filtered by, and what they hold, such as tag:keyword,year:number; a Qdrant "
            "cluster must know them.",
        ),
    ] = None,
    store: Annotated[Literal["float16", "float32"], Option(help="The type of the stored vectors.")] = "float16",
    kind: Annotated[
        IndexKind,
        Option(
            help="How vectors are searched: all of them, by a graph, or in little memory; auto chooses by their number."
        ),
    ] = "auto",
    recall: Annotated[
        float,
        Option(min=0, max=1, help="Of the true ten nearest so many must be found; measured when the index is built."),
    ] = 0.99,
    duplicates: Duplicates = None,
    restart: Annotated[bool, Option("--restart", help="Begin anew, and do not go on where it was ended.")] = False,
    precision: FastPrecision = None,
    device: Device = None,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make a collection of texts, to be searched by meaning and by words.

    Ended before it is done, the same command goes on where it was. To a collection that is there, `pairloom collection add`
    adds.

    Example: `pairloom index questions.jsonl --out questions`

    A table: `pairloom index posts.csv --field body --id-field key --metadata tag,year:number --out posts`
    """
    from pairloom.encode.dual_encoder import load_encoder
    from pairloom.search.identity import ModelIdentity
    from pairloom.search.ingest.ingest import ingest
    from pairloom.search.ingest.making import making, refuse_collection
    from pairloom.search.ingest.metadata import read_field_types, read_metadata_fields
    from pairloom.search.settings import Settings

    if out.parts[:1] in (("qdrant:",), ("qdrants:",)):
        raise UsageError("--out is a folder; from there pairloom collection export copies to a Qdrant server")
    refuse_collection(out)
    types = read_field_types(fields)
    settings = Settings(store, kind, recall, types)
    read = open_sources(
        sources,
        read_metadata_fields(metadata).with_types(types or {}),
        field=field,
        id_field=id_field,
        errors=errors,
        format=format,
    )
    names = (model,) if model is not None else vector_models(read) or (DEFAULT_MODEL,)
    encoder = load_encoder(*names, precision=precision, device=device, threads=threads)
    check_vectors(read, ModelIdentity.of(encoder))
    reading = {"field": field, "id_field": id_field, "metadata": metadata, "format": format, "fields": fields}
    identity = _identity(sources, {**reading, "errors": None if errors == "strict" else errors}, encoder, settings)
    with making(out, identity, restart=restart) as job, _open(job, encoder, settings) as collection:
        try:
            written = ingest(collection, read, duplicates=duplicates, show_progress=not quiet)
        finally:
            job.num_documents = collection.count()
        if not job.num_documents:
            raise InputError("holds no text", ", ".join(source.name for source in read))
        collection.build(show_progress=not quiet)
        facts = collection.info()
    report_written(
        written,
        facts,
        as_json,
        f"wrote {out}: {facts['count']:,} documents",
        with_duplicates=duplicates is not None,
    )


def _identity(sources: list[Path], reading: dict[str, Any], encoder: AnyEncoder, settings: Settings) -> dict[str, Any]:
    """What must be the same when a process goes on with what another one has begun."""
    from pairloom.encode.dual_encoder import halves
    from pairloom.encode.job_input import source_state

    query, document = halves(encoder)
    return {
        **source_state(sources, **reading),
        "model": document.fingerprint,
        "queries'_model": None if query is document else query.fingerprint,
        "precision": document.precision,
        "storage": settings.storage,
        "kind": settings.kind,
        "recall": settings.target_recall,
    }


def _open(job: Making, encoder: AnyEncoder, settings: Settings) -> Collection:
    from pairloom.search.collection import Collection

    try:
        return Collection(job.path, encoder, create=True, settings=settings, background=False)
    except CollectionError:
        if not job.goes_on:
            raise
        return Collection(job.path, encoder, create=False, background=False)
