"""``pairloom collection``: what is done to a collection that is there."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated

from pairloom.choices import IndexKind
from pairloom.cli.arguments import Argument, Group, Option
from pairloom.cli.documents import check_vectors, open_sources, report_written
from pairloom.cli.options import (
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
    Where,
)
from pairloom.cli.output import report
from pairloom.errors import InputError, UsageError
from pairloom.search.opening import build_if_due, declared_fields, open_any, open_folder

_STDIN = "-"
AnyLocation = Annotated[
    str, Argument(metavar="COLLECTION", help="A folder made by pairloom index, or qdrant://host:port/name.")
]
Folder = Annotated[str, Argument(metavar="COLLECTION", help="A folder made by pairloom index.")]


def add(
    collection: AnyLocation,
    sources: DocumentSources,
    field: TextField = None,
    id_field: IdField = None,
    metadata: MetadataNames = None,
    format: FileFormat = None,
    errors: OnErrors = "strict",
    duplicates: Duplicates = None,
    model: Annotated[str | None, Option(help="Where the model lies now, if not where it was.")] = None,
    precision: FastPrecision = None,
    device: Device = None,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Add documents, or replace those whose ids are there; what has not changed is not encoded again.

    Example: `pairloom collection add questions new.jsonl`

    From a program: `export-posts | pairloom collection add posts - --format jsonl`
    """
    from pairloom.search.ingest.ingest import ingest
    from pairloom.search.ingest.metadata import read_metadata_fields

    wanted = read_metadata_fields(metadata)
    with open_any(collection, model, precision=precision, device=device, threads=threads) as opened:
        read = open_sources(
            sources,
            wanted.with_types(declared_fields(opened)),
            field=field,
            id_field=id_field,
            errors=errors,
            format=format,
        )
        check_vectors(read, opened.model)
        written = ingest(opened, read, duplicates=duplicates, show_progress=not quiet)
        build_if_due(opened, show_progress=not quiet)
        count = opened.count()
    headline = f"{collection}: {written.added + written.replaced:,} documents written; it has {count:,}"
    report_written(written, {"count": count}, as_json, headline, with_duplicates=duplicates is not None)


def delete(
    collection: AnyLocation,
    ids: Annotated[
        list[str] | None, Argument(metavar="ID...", help="Which documents; - reads ids from stdin, one a line.")
    ] = None,
    where: Where = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Delete nothing, only say how many it would be.")] = False,
    as_json: Json = False,
) -> None:
    """Delete documents by their ids, or all whose metadata is so.

    Example: `pairloom collection delete questions q17 q18`

    By metadata: `pairloom collection delete posts --where "year<2015" --dry-run`
    """
    if bool(ids) == bool(where):
        raise UsageError("say which documents: by their ids, or by --where, one of the two")
    from pairloom.search.filters.language import read_filter

    filter_ = read_filter(where) if where else None
    wanted = list(dict.fromkeys(_ids(ids or [])))
    with open_any(collection) as opened:
        if filter_ is None:
            num_found = sum(found is not None for found in opened.get(wanted)) if dry_run else opened.delete(wanted)
        else:
            num_found = opened.count(filter_) if dry_run else opened.delete(filter=filter_)
        count = opened.count()
    asked = {} if filter_ is not None else {"asked_for": len(wanted)}
    said = f"{'would delete' if dry_run else 'deleted'} {num_found:,} documents"
    report(
        {"deleted": 0 if dry_run else num_found, "found": num_found, **asked, "count": count, "dry_run": dry_run},
        as_json,
        f"{collection}: {said}",
    )


def info(collection: Folder, as_json: Json = False) -> None:
    """Say what a collection is and how it is searched, without reading all of it.

    Example: `pairloom collection info questions`
    """
    with open_folder(collection) as opened:
        facts = opened.info()
    report(facts, as_json, f"{collection}: a collection of {facts['count']:,} documents")


def verify(collection: Folder, as_json: Json = False) -> None:
    """Read every byte of a collection and compare it with what was written.

    Example: `pairloom collection verify questions`
    """
    with open_folder(collection) as opened:
        facts = opened.verify()
    report(facts, as_json, f"{collection}: whole")


def rebuild(
    collection: Folder,
    kind: Annotated[
        IndexKind | None,
        Option(help="How vectors are searched from now on, as in pairloom index; by default as before."),
    ] = None,
    recall: Annotated[
        float | None,
        Option(min=0, max=1, help="Of the true ten nearest so many must be found from now on; by default as before."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make anew all that is derived from the documents and their vectors; nothing is encoded.

    Example: `pairloom collection rebuild questions`

    For many who ask at once: `pairloom collection rebuild questions --kind graph`
    """
    with open_folder(collection) as opened:
        facts = opened.rebuild(kind=kind, target_recall=recall, show_progress=not quiet)
    report(facts, as_json, f"{collection}: rebuilt")


def export(
    collection: Folder,
    to: Annotated[
        str, Option("--to", metavar="TARGET", help="qdrant://host:port/name, or a file to make (.jsonl, .jsonl.gz).")
    ],
    vectors: Annotated[bool, Option("--vectors", help="Into a file: with the vectors, too.")] = False,
    fields: Annotated[
        str | None,
        Option(
            metavar="FIELDS",
            help="Onto a server: the fields that may be filtered by there, such as tag:keyword,year:number, or none; by "
            "default those that were declared to pairloom index.",
        ),
    ] = None,
    shards: Annotated[
        int | None,
        Option(min=1, help="Onto a server: into how many parts it cuts the collection; by default its choice."),
    ] = None,
    replicas: Annotated[int, Option(min=1, help="Onto a server: on how many machines each part lies.")] = 1,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Copy a collection to a Qdrant server, with its vectors as they are, or write its documents to a file.

    Ended before it is done, the same command goes on where it was on the server; a file is written whole or not at all.

    Example: `pairloom collection export questions --to qdrant://localhost:6333/questions`

    To a file: `pairloom collection export questions --to questions.jsonl.gz`
    """
    from pairloom.search.export import export as stage
    from pairloom.search.ingest.metadata import read_field_types

    types = read_field_types(fields)
    with open_folder(collection) as opened:
        exported = stage(
            opened,
            to,
            fields=types,
            shards=shards,
            replicas=replicas,
            with_vectors=vectors,
            show_progress=not quiet,
        )
    report(asdict(exported), as_json, f"{collection}: exported to {exported.target}")


def _ids(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if word == _STDIN:
            yield from _stdin_ids()
        else:
            yield word


def _stdin_ids() -> Iterator[str]:
    from pairloom.files import decoded_lines

    if sys.stdin is None:
        raise InputError("is closed; pipe the ids into it", "stdin")
    for _, line in decoded_lines(sys.stdin.buffer, "stdin"):
        if id_ := line.rstrip("\r\n"):
            yield id_


COLLECTION = Group(
    "collection",
    "Add to a collection, delete from it, check it, or copy it.\n\n"
    "Example: `pairloom collection add questions new.jsonl`",
    (add, delete, info, verify, rebuild, export),
)
