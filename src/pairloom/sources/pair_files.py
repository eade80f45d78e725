"""Ready pairs: JSON lines in the shapes of the published collections, and tables with named columns.

=====================================  ===========================================================================
JSON on a line                         gives
=====================================  ===========================================================================
``["a", "p"]``, ``["a", "p", "n"]``    a pair, a triplet
``{"texts": […]}``                     the same
``{"context": …, "response": …}``      the pair (response, context): Reddit's published models took the reply as the
                                       anchor, and that is how their files are read. The further ones, ``context/0``
                                       and so on, are read by the view contexts only, and joined as they stand
                                       there: the latest first
``{"set": […]}``                       texts that all belong together: each is paired with the next
``{"query": …, "pos": […], "neg": …}`` as a pair, the query with each positive; as a triplet, positives and negatives in
                                       step, the shorter list from its start again, until each has been used
``{"anchor": …, "positive": …, …}``    the columns named in the settings; so do CSV, TSV and Parquet
=====================================  ===========================================================================

CSV is quoted as usual; TSV is not: a quotation mark in it is text. All but Parquet may be compressed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, count, cycle, islice, pairwise, takewhile
from pathlib import Path
from typing import Any

from pairloom.errors import InputError, MissingExtraError, RecordError
from pairloom.files import uncompressed_name
from pairloom.pairs.clean import clean_text
from pairloom.recipe import PairFilesSection
from pairloom.records import Pair
from pairloom.sources.formats import (
    JSON_LINES,
    Format,
    InputFile,
    Numbered,
    Piece,
    csv_rows,
    kind_of,
    places,
    tab_table,
)
from pairloom.sources.source import Intake, Source, View

_PARQUET_ROWS = 1024
_DELETED = {"[deleted]", "[removed]"}  # on Reddit; the comments around them are whole
_HINT = "name the columns with --set pair-files.anchor=…"


def read_pairs(record: Any, file: InputFile, settings: PairFilesSection, intake: Intake) -> Iterator[Pair]:
    """Two texts that belong together. Of the shape with negatives, the query with each positive."""
    for anchor, positive in _texts(record, (settings.anchor, settings.positive)):
        yield Pair(anchor, positive)


def read_triplets(record: Any, file: InputFile, settings: PairFilesSection, intake: Intake) -> Iterator[Pair]:
    """The same, and one that does not belong to them."""
    for anchor, positive, negative in _texts(record, (settings.anchor, settings.positive, settings.negative)):
        yield Pair(anchor, positive, (negative,))


def read_contexts(record: Any, file: InputFile, settings: PairFilesSection, intake: Intake) -> Iterator[Pair]:
    """A response ↔ its context, and the contexts before that, the latest first; without those it is left out."""
    if not (isinstance(record, dict) and "context" in record and "response" in record):
        raise RecordError("has no context and response; the view contexts reads nothing else")
    response, context = _checked([record["response"], record["context"]])
    said = []
    for key in takewhile(record.__contains__, (f"context/{number}" for number in count())):
        text = record[key]
        if not isinstance(text, str):
            raise RecordError(f"{key} is {kind_of(text)}, not a text")
        if clean_text(text) and text not in _DELETED:
            said.append(text)
    if said:
        yield Pair(response, context, context="\n".join(said))
    else:
        intake.drop("response without past contexts")


def find(inputs: Sequence[str], view: str, settings: PairFilesSection) -> list[InputFile]:
    """The files, each read by the suffix of its name."""
    names = (settings.anchor, settings.positive, settings.negative)[: 3 if view == "triplets" else 2]
    return [InputFile(path, _format(path, names)) for path in map(Path, inputs)]


def _format(path: Path, names: tuple[str, ...]) -> Format:
    match Path(uncompressed_name(path)).suffix:
        case ".jsonl" | ".json" | ".ndjson":
            return JSON_LINES
        case ".csv":
            return csv_rows(names, hint=_HINT)
        case ".tsv":
            return tab_table(names, hint=_HINT)
        case ".parquet" if uncompressed_name(path) == path.name:
            return Format(partial(_read_parquet, names=names))
    raise InputError("pairs are read from .jsonl, .csv and .tsv (plain or compressed) and .parquet", path)


def _read_parquet(piece: Piece, *, names: tuple[str, ...]) -> Numbered:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("reading Parquet", "pyarrow", "data") from None

    path = piece.file.path
    try:
        with parquet.ParquetFile(path) as file:
            places(file.schema_arrow.names, names, path, _HINT)
            batches = file.iter_batches(_PARQUET_ROWS, columns=list(names))
            texts = (zip(*(batch.column(name).to_pylist() for name in names), strict=True) for batch in batches)
            yield from enumerate(map(list, chain.from_iterable(texts)), start=1)
    except (pa.ArrowException, OSError, UnicodeDecodeError, KeyError) as error:
        raise InputError(f"not a sound Parquet file ({str(error).splitlines()[0]})", path) from None


def _texts(record: Any, names: tuple[str, ...]) -> Iterator[list[str]]:
    """Brings a record of any shape into rows of as many texts as there are names.

    Raises:
        RecordError: It is not of one of the shapes, or a text is missing, empty or something else.
    """
    match record:
        case list() | {"texts": list()}:
            texts = _checked(record if isinstance(record, list) else record["texts"])
            if len(texts) != len(names):
                raise RecordError(_wrong_number(len(texts), len(names)))
            yield texts
        case {"context": context, "response": response}:
            if len(names) != 2:
                raise RecordError(_wrong_number(2, len(names)))
            yield _checked([response, context])
        case {"set": list() as together}:
            texts = _checked(together)
            if len(names) != 2:
                raise RecordError(_wrong_number(2, len(names)))
            if len(texts) < 2:
                raise RecordError(_wrong_number(len(texts), 2))
            yield from map(list, pairwise(texts))
        case {"query": query, "pos": _}:
            yield from _query_rows(query, record, len(names))
        case dict() if all(name in record for name in names):
            yield _checked([record[name] for name in names])
        case dict():
            raise RecordError(f"has none of the known shapes; its keys are {', '.join(map(repr, record)) or 'none'}")
        case _:
            raise RecordError(f"holds {kind_of(record)}, not a list or an object with texts")


def _query_rows(query: Any, record: Mapping[str, Any], num_texts: int) -> Iterator[list[str]]:
    lists = [record[key] if isinstance(record.get(key), list) else [] for key in ("pos", "neg")[: num_texts - 1]]
    if not all(lists):
        raise RecordError(_wrong_number(sum(map(bool, lists)) + 1, num_texts))
    for row in islice(zip(*map(cycle, lists), strict=True), max(map(len, lists))):
        yield _checked([query, *row])


def _checked(texts: list[Any]) -> list[str]:
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise RecordError(f"text {number} is {kind_of(text)}, not a text")
        if not clean_text(text):
            raise RecordError(f"text {number} is empty")
    return texts


def _wrong_number(found: int, wanted: int) -> str:
    texts = "no text" if found == 0 else "one text" if found == 1 else f"{found} texts"
    hint = {(2, 3): "; use the view pairs", (3, 2): "; use the view triplets"}.get((found, wanted), "")
    return f"has {texts} where the view wants {wanted}{hint}"


SOURCE = Source(
    name="pair-files",
    description="Files of ready pairs or triplets",
    inputs=".jsonl, .csv or .tsv files (also .gz, .bz2, .xz, .zst), or .parquet",
    licence="that of the files",
    citation="the shapes of https://huggingface.co/datasets/sentence-transformers/embedding-training-data",
    find=find,
    views=(
        View("pairs", "two texts that belong together", read_pairs),
        View("triplets", "the same, and one that does not", read_triplets, num_negatives=1),
        View(
            "contexts",
            "a response ↔ its context, and the contexts before it",
            read_contexts,
            has_context=True,
            anchor_answers=True,
        ),
    ),
)
