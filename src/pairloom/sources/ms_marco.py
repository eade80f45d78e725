"""MS MARCO: queries to Bing, and passages of web pages that answer them.

=====================================  =================================================================================
file (tabs between the columns)        columns
=====================================  =================================================================================
``collection.tsv``                     number and text of a passage
``queries.train.tsv``                  number and text of a query
``qrels.train.tsv``                    number of a query, 0, number of a passage that answers it, 1
``triples.train.small.tsv``            texts: query, a passage that answers it, one that does not
``qidpidtriples.train.full.2.tsv``     the same in numbers
=====================================  =================================================================================

The question-answering data has the passages with the query: ``query, passages: [{"is_selected", "passage_text",
"url"}], query_id, query_type, answers``. Version 1.1 has such an object on each line. Version 2.1 is one JSON document
of several gigabytes, column by column: ``{"passages": {"0": […], "1": […]}, "query": {"0": …, "1": …}, …}``; it is read
in one go without being held, and its columns are joined by the number of the row.

The cards of the published models count 17,579,773 triplets. The data may be used for research that is not commercial.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pairloom.errors import InputError, RecordError
from pairloom.files import open_binary
from pairloom.recipe import MSMarcoSection
from pairloom.records import Pair
from pairloom.sources.formats import (
    JSON_LINES,
    TEXT_LINES,
    Format,
    InputFile,
    Numbered,
    Piece,
    field_of,
    json_document,
    kind_of,
    list_of,
    tab_lines,
    text_of,
)
from pairloom.sources.source import Intake, Keyed, Source, View
from pairloom.sources.splits import find_split, refuse_archive, splits_in

_ROLE = re.compile(r"(collection|queries|qrels|qidpidtriples|triples)\.(?:[\w-]+\.)*?(?:tsv|txt)\b")
_FORMATS = {
    "collection": tab_lines(2),
    "queries": tab_lines(2),
    "qrels": TEXT_LINES,  # some copies have spaces for tabs
    "qidpidtriples": TEXT_LINES,
    "triples": tab_lines(3),
}
_NEEDED = {"pairs": ("collection", "queries", "qrels"), "triplets": ("collection", "queries", "qidpidtriples")}
_EXPANSION = {"qidpidtriples": 40}  # three numbers of some 20 bytes, for three texts of some 800
_PLACES = ("query", "positive", "negative")
_COLUMNS = ("query", "passages")
_BY_COLUMNS = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"[^"]*"\s*:\s*\{')
_HEAD_BYTES = 1 << 16
_MAX_DIGITS = 12
_ROW_BITS = 40  # twelve digits
_BLOCK_BYTES = 1 << 20


def read_ranking(record: Any, file: InputFile, settings: MSMarcoSection, intake: Intake) -> Iterator[Pair | Keyed]:
    """Texts by their number, and what is said of the numbers: which texts make a pair or a triplet.

    Each of these sends a wish to the texts that it needs; they meet by the number, and the texts that come back meet
    again by the pair.
    """
    match file.role:
        case "triples":
            yield Pair(record[0], record[1], (record[2],))
        case "queries" | "collection":
            yield Keyed(_text_key(file.role, record[0]), "text", (record[1],))
        case "qrels":
            query, _, passage, relevance = _columns(record, 4)
            if _number(relevance, "relevance") == 0:
                intake.drop("passage that does not answer the query")
            else:
                yield from _wishes(query, passage)
        case _:
            yield from _wishes(*_columns(record, 3))


def join_texts(group: list[Keyed], settings: MSMarcoSection, intake: Intake) -> Iterator[Keyed]:
    """Gives a text to all who wished for it."""
    texts = [part.fields[0] for part in group if part.kind == "text"]
    wishes = [part for part in group if part.kind != "text"]
    if not texts:
        for part in wishes:
            missing = "query not among the queries" if part.kind == _PLACES[0] else "passage not in the collection"
            intake.drop(missing)
    elif not wishes:
        intake.drop("query without a passage" if group[0].key % 2 else "passage without a query")
    else:
        for part in wishes:
            names, place = part.fields[0], part.kind
            yield Keyed(_key_of(names), place, (names, texts[0]))


def join_pairs(group: list[Keyed], settings: MSMarcoSection, intake: Intake) -> Iterator[Pair]:
    """Puts the texts of a pair or a triplet together."""
    found: dict[str, dict[str, str]] = {}
    for part in group:
        names, text = part.fields
        found.setdefault(names, {})[part.kind] = text
    for names, texts in found.items():
        if len(texts) == len(names.split()):  # otherwise one was missing, and was counted
            query, positive, *negatives = (texts[place] for place in _PLACES[: len(texts)])
            yield Pair(query, positive, tuple(negatives))


def read_question(record: Any, file: InputFile, settings: MSMarcoSection, intake: Intake) -> Iterator[Pair | Keyed]:
    """A query ↔ each passage that was selected for its answer; of data in columns, their cells."""
    if file.role != "columns":
        yield from _selected_pairs(text_of(record, "query"), _selected(list_of(record, "passages")), intake)
        return
    column, row, cell = record
    key = file.group << _ROW_BITS | _number(row, f"number of a row, in the column {column}")
    if column == "passages":
        if not isinstance(cell, list):
            raise RecordError(f"passages of row {row} are {kind_of(cell)}, not a list")
        yield Keyed(key, column, tuple(_selected(cell)))
    elif isinstance(cell, str):
        yield Keyed(key, column, (cell,))
    else:
        raise RecordError(f"query of row {row} is {kind_of(cell)}, not a text")


def join_columns(group: list[Keyed], settings: MSMarcoSection, intake: Intake) -> Iterator[Pair]:
    """A query ↔ each of its passages."""
    cells = {part.kind: part.fields for part in group}
    if "query" not in cells:
        intake.drop("passages without a query")
    elif "passages" not in cells:
        intake.drop("query without passages")
    else:
        yield from _selected_pairs(cells["query"][0], list(cells["passages"]), intake)


def _selected_pairs(query: str, passages: list[str], intake: Intake) -> Iterator[Pair]:
    if not passages:
        intake.drop("query without a selected passage")
    for passage in passages:
        yield Pair(query, passage)


def _selected(passages: list[Any]) -> list[str]:
    return [text_of(passage, "passage_text") for passage in passages if field_of(passage, "is_selected") == 1]


def _wishes(*numbers: str) -> Iterator[Keyed]:
    names = " ".join(numbers)
    for place, number in zip(_PLACES, numbers, strict=False):
        yield Keyed(_text_key("queries" if place == "query" else "collection", number), place, (names,))


def _columns(line: str, count: int) -> list[str]:
    columns = line.split()
    if len(columns) != count:
        raise RecordError(f"{len(columns)} columns instead of {count}")
    return columns


def _text_key(role: str, number: str) -> int:
    """Even for passages, odd for queries."""
    what = f"number of a {'query' if role == 'queries' else 'passage'}"
    return _number(number, what) << 1 | (role == "queries")


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > _MAX_DIGITS:
        raise RecordError(f"{text[:50]!r} is no {what}")
    return int(text)


def _key_of(names: str) -> int:
    # Three numbers do not fit into one; the names are compared, too.
    return int.from_bytes(hashlib.blake2b(names.encode(), digest_size=8).digest(), "little") >> 1


def _read_columns(piece: Piece) -> Numbered:
    """Cells of a JSON document that is an object of columns: column, row, value."""
    with json_document(piece) as (ijson, stream):
        cells = {column: ijson.sendable_list() for column in _COLUMNS}
        parsers = {column: ijson.kvitems_coro(cells[column], column, use_float=True) for column in _COLUMNS}
        count = Counter[str]()
        block = b" "
        while block:
            block = stream.read(_BLOCK_BYTES)
            for column, parser in list(parsers.items()):
                try:
                    parser.send(block)
                except StopIteration:
                    del parsers[column]
                for row, value in cells[column]:
                    count[column] += 1
                    yield count.total(), (column, row, value)
                cells[column].clear()
    for column in _COLUMNS:
        if not count[column]:
            raise InputError(f"has no column {column!r} with a value for each row", piece.file.path)


def find(inputs: Sequence[str], view: str, settings: MSMarcoSection) -> list[InputFile]:
    """The files that a view needs, of those given and those beside them; the split counts for these and in folders."""
    if view == "qa":
        paths = find_split(inputs, (".json", ".jsonl"), split=settings.split, source="ms-marco")
        return [_question_file(path, number) for number, path in enumerate(paths)]
    paths = [Path(name) for name in inputs]
    # What stands beside a file that was named must be of its split.
    named = {split for path in paths if not path.is_dir() for split in splits_in(path.name)}
    splits = named or {settings.split}
    found: dict[str, list[Path]] = {}
    for path in paths:
        for role, files in (_known(path, splits) if path.is_dir() else _named(path)).items():
            found.setdefault(role, []).extend(files)
    needed = ("triples",) if view == "triplets" and "triples" in found else _NEEDED[view]
    for role in needed:
        if role not in found:
            found[role] = _beside(paths, role, splits)
    return [
        InputFile(path, _FORMATS[role], role, expansion=_EXPANSION.get(role, 1))
        for role in needed
        for path in dict.fromkeys(found[role])
    ]


def _question_file(path: Path, number: int) -> InputFile:
    with open_binary(path) as stream:
        by_columns = _BY_COLUMNS.match(stream.read(_HEAD_BYTES)) is not None
    return InputFile(path, Format(_read_columns) if by_columns else JSON_LINES, "columns" if by_columns else "", number)


def _named(path: Path) -> dict[str, list[Path]]:
    if not path.exists():
        raise InputError("no such file or folder", path)
    role = _ROLE.match(path.name)
    if role is None:
        refuse_archive(path)
        raise InputError(
            "is not called like a file of MS MARCO: collection.tsv, queries.train.tsv, qrels.train.tsv, "
            "triples.train.small.tsv or qidpidtriples.train.full.2.tsv",
            path,
        )
    return {role[1]: [path]}


def _known(folder: Path, splits: set[str]) -> dict[str, list[Path]]:
    """The files of a folder and of the folders in it, by their role, without those of other splits."""
    found: dict[str, list[Path]] = {}
    for path in [*sorted(folder.glob("*")), *sorted(folder.glob("*/*"))]:
        role = _ROLE.match(path.name)
        if role is not None and path.is_file() and splits_in(path.name) <= splits:
            found.setdefault(role[1], []).append(path)
    return found


def _beside(inputs: Sequence[Path], role: str, splits: set[str]) -> list[Path]:
    folders = dict.fromkeys(path if path.is_dir() else path.parent for path in inputs)
    paths = [path for folder in folders for path in _known(folder, splits).get(role, [])]
    if not paths:
        name = "collection.tsv" if role == "collection" else f"{role}.{'/'.join(sorted(splits))}….tsv"
        raise InputError(f"has no {name} in it or beside it, which this view needs", inputs[0])
    return paths


SOURCE = Source(
    name="ms-marco",
    description="Queries to Bing, and passages that answer them",
    inputs="the folder with collection.tsv, queries.train.tsv, qrels.train.tsv; triples.train.small.tsv; train_v2.1.json",
    licence="for research that is not commercial",
    citation="Bajaj et al. 2016, https://arxiv.org/abs/1611.09268",
    find=find,
    views=(
        View("pairs", "query ↔ passage, by the judgements", read_ranking, (join_texts, join_pairs)),
        View(
            "triplets",
            "query ↔ passage, and one that does not answer it",
            read_ranking,
            (join_texts, join_pairs),
            num_negatives=1,
            num_published=17_579_773,
        ),
        View("qa", "query ↔ each selected passage of the question-answering data", read_question, (join_columns,)),
    ),
)
