"""What `pairloom index` and `collection add` have in common: sources are opened, and it is told what became of documents."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pairloom.cli.output import report

if TYPE_CHECKING:
    from pairloom.encode.inputs import Format
    from pairloom.search.identity import ModelIdentity
    from pairloom.search.ingest.documents import Source
    from pairloom.search.ingest.metadata import MetadataFields
    from pairloom.search.protocol import Written


def open_sources(
    sources: Sequence[Path],
    metadata: MetadataFields,
    *,
    field: str | None,
    id_field: str | None,
    errors: Literal["strict", "replace"],
    format: Format | None,
) -> list[Source]:
    """Opens files and vectors artifacts; what can be seen without reading is wrong with them is said now."""
    from pairloom.search.ingest.documents import DocumentSource, VectorSource, is_vectors, refuse_repeated

    refuse_repeated(sources)
    return [
        VectorSource(source)
        if is_vectors(source)
        else DocumentSource(source, field=field, id_field=id_field, metadata=metadata, errors=errors, format=format)
        for source in sources
    ]


def vector_models(sources: Sequence[Source]) -> tuple[str, ...] | None:
    """The names of the model that made the vectors among the sources; None if there are none."""
    from pairloom.search.ingest.documents import VectorSource

    return next((source.vectors.models for source in sources if isinstance(source, VectorSource)), None)


def check_vectors(sources: Sequence[Source], model: ModelIdentity | None) -> None:
    """Makes sure that the vectors among the sources were made by the collection's model."""
    from pairloom.search.ingest.documents import VectorSource

    for source in sources:
        if isinstance(source, VectorSource) and model is not None:
            source.vectors.check_model(model.fingerprint, model.name, query_fingerprint=model.query_fingerprint)


def report_written(
    written: Written, facts: dict[str, Any], as_json: bool, headline: str, *, with_duplicates: bool
) -> None:
    """Prints what became of documents, and other facts."""
    counts = {**asdict(written), "duplicates": [asdict(one) for one in written.duplicates]}
    if not with_duplicates:
        del counts["duplicates"]
    report({**counts, **facts}, as_json, headline)
    if written.truncated:
        logging.getLogger("pairloom").warning(
            "%s of %s texts were longer than the model takes and were cut for their vectors",
            f"{written.truncated:,}",
            f"{written.encoded:,}",
        )
