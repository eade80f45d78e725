"""Ready pairs: JSON lines in the shapes of the published collections, and tables with named columns.

=====================================  ===========================================================================
JSON on a line                         gives
=====================================  ===========================================================================
``["a", "p"]``, ``["a", "p", "n"]``    a pair, a triplet
``{"texts": […]}``                     the same
``{"context": …, "response": …}``      the pair (response, context): Reddit's published models took the reply as the
                                       anchor, and that is how their files are read; further contexts stay unread
``{"set": […]}``                       texts that all belong together: each is paired with the next
``{"query": …, "pos": […], "neg": …}`` as a pair, the query with each positive; as a triplet, positives and negatives in
                                       step, the shorter list from its start again, until each has been used
``{"anchor": …, "positive": …, …}``    the columns named in the settings; so do CSV, TSV and Parquet
=====================================  ===========================================================================

CSV is quoted as usual; TSV is not: a quotation mark in it is text. Names may end in ``.gz``, save Parquet's.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import chain, cycle, islice, pairwise
from pathlib import Path
from typing import Any

from pairloom.errors import InputError, MissingExtraError
from pairloom.files import read_json_lines, read_lines
from pairloom.pairs.clean import clean_text
from pairloom.recipe import PairFilesSection
from pairloom.records import Pair
from pairloom.sources.source import Intake, Source, View

# A record of a file, in whatever shape, and its line or row number from 1.
_Records = Iterator[tuple[int, Any]]

_MAX_CSV_FIELD_BYTES = 1 << 30
_PARQUET_ROWS = 1024


def pairs(inputs: Sequence[str], settings: PairFilesSection, intake: Intake) -> Generator[Pair, None, None]:
    """Every pair of the files. Of the shape with negatives, the query with each positive."""
    return _read_all(inputs, settings, intake, num_texts=2)


def triplets(inputs: Sequence[str], settings: PairFilesSection, intake: Intake) -> Generator[Pair, None, None]:
    """Every triplet of the files."""
    return _read_all(inputs, settings, intake, num_texts=3)


def _read_all(
    inputs: Sequence[str], settings: PairFilesSection, intake: Intake, *, num_texts: int
) -> Generator[Pair, None, None]:
    names = (settings.anchor, settings.positive, settings.negative)[:num_texts]
    for path in map(Path, inputs):
        reader = _reader(path)
        if path.is_file():
            intake.add_file(path)
        number = 0
        for number, record in reader(path, names):
            try:
                for anchor, positive, *negatives in _texts(record, names):
                    yield Pair(anchor, positive, tuple(negatives))
            except ValueError as error:
                raise InputError(str(error), path, number) from None
        if number == 0:
            raise InputError("is empty", path)


def _reader(path: Path) -> Callable[[Path, tuple[str, ...]], _Records]:
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    match suffix:
        case ".jsonl" | ".json" | ".ndjson":
            return lambda path, names: read_json_lines(path)
        case ".csv" | ".tsv":
            return _read_table
        case ".parquet" if path.suffix != ".gz":
            return _read_parquet
    raise InputError("pairs are read from .jsonl, .csv and .tsv (plain or .gz) and .parquet", path)


def _read_table(path: Path, names: tuple[str, ...]) -> _Records:
    tabs = Path(path.name.removesuffix(".gz")).suffix == ".tsv"
    lines = (line + "\n" for _, line in read_lines(path))
    rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(lines, strict=True)
    limit = csv.field_size_limit(_MAX_CSV_FIELD_BYTES)  # 128 kB otherwise, for the whole process
    try:
        header = next(rows, None)
        if header is None:
            return
        places = [_place(header, name, path) for name in names]
        for row in rows:
            if len(row) != len(header):
                what = f"{len(row)} columns where the header has {len(header)}"
                raise InputError(what, path, rows.line_num)
            yield rows.line_num, [row[place] for place in places]
    except csv.Error as error:
        raise InputError(f"not sound CSV ({error})", path, rows.line_num) from None
    finally:
        csv.field_size_limit(limit)


def _read_parquet(path: Path, names: tuple[str, ...]) -> _Records:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("reading Parquet", "pyarrow", "data") from None

    if not path.is_file():
        raise InputError("no such file", path)
    try:
        with parquet.ParquetFile(path) as file:
            for name in names:
                _place(file.schema_arrow.names, name, path)
            batches = file.iter_batches(_PARQUET_ROWS, columns=list(names))
            texts = (zip(*(batch.column(name).to_pylist() for name in names), strict=True) for batch in batches)
            yield from enumerate(map(list, chain.from_iterable(texts)), start=1)
    except (pa.ArrowException, OSError, UnicodeDecodeError, KeyError) as error:
        raise InputError(f"not a sound Parquet file ({str(error).splitlines()[0]})", path) from None


def _place(columns: Sequence[str], name: str, path: Path) -> int:
    if name not in columns:
        have = ", ".join(columns[:10]) + (", …" if len(columns) > 10 else "")
        raise InputError(
            f"has no column {name!r}, only {have}; name the columns with --set pair-files.anchor=…", path, 1
        )
    return columns.index(name)


def _texts(record: Any, names: tuple[str, ...]) -> Iterator[list[str]]:
    """Brings a record of any shape into rows of as many texts as there are names.

    Raises:
        ValueError: It is not of one of the shapes, or a text is missing, empty or something else.
    """
    match record:
        case list() | {"texts": list()}:
            texts = _checked(record if isinstance(record, list) else record["texts"])
            if len(texts) != len(names):
                raise ValueError(_wrong_number(len(texts), len(names)))
            yield texts
        case {"context": context, "response": response}:
            if len(names) != 2:
                raise ValueError(_wrong_number(2, len(names)))
            yield _checked([response, context])
        case {"set": list() as together}:
            texts = _checked(together)
            if len(names) != 2:
                raise ValueError(_wrong_number(2, len(names)))
            if len(texts) < 2:
                raise ValueError(_wrong_number(len(texts), 2))
            yield from map(list, pairwise(texts))
        case {"query": query, "pos": _}:
            yield from _query_rows(query, record, len(names))
        case dict() if all(name in record for name in names):
            yield _checked([record[name] for name in names])
        case dict():
            raise ValueError(f"has none of the known shapes; its keys are {', '.join(map(repr, record)) or 'none'}")
        case _:
            raise ValueError(f"holds {_kind(record)}, not a list or an object with texts")


def _query_rows(query: Any, record: Mapping[str, Any], num_texts: int) -> Iterator[list[str]]:
    lists = [record[key] if isinstance(record.get(key), list) else [] for key in ("pos", "neg")[: num_texts - 1]]
    if not all(lists):
        raise ValueError(_wrong_number(sum(map(bool, lists)) + 1, num_texts))
    for row in islice(zip(*map(cycle, lists), strict=True), max(map(len, lists))):
        yield _checked([query, *row])


def _checked(texts: list[Any]) -> list[str]:
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise ValueError(f"text {number} is {_kind(text)}, not a text")
        if not clean_text(text):
            raise ValueError(f"text {number} is empty")
    return texts


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a single text"
        case list():
            return "a list"
    return "an object" if isinstance(value, dict) else f"a {type(value).__name__}"


def _wrong_number(found: int, wanted: int) -> str:
    texts = "no text" if found == 0 else "one text" if found == 1 else f"{found} texts"
    hint = {(2, 3): "; use the view pairs", (3, 2): "; use the view triplets"}.get((found, wanted), "")
    return f"has {texts} where the view wants {wanted}{hint}"


SOURCE = Source(
    name="pair-files",
    description="Files of ready pairs or triplets",
    inputs=".jsonl[.gz], .csv[.gz], .tsv[.gz] or .parquet files",
    licence="that of the files",
    citation="the shapes of https://huggingface.co/datasets/sentence-transformers/embedding-training-data",
    views=(
        View("pairs", "two texts that belong together", pairs),
        View("triplets", "the same, and one that does not", triplets, num_negatives=1),
    ),
)
