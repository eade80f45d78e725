"""Quora Question Pairs: pairs of questions, marked as duplicates or not.

``quora_duplicate_questions.tsv`` has the columns ``id qid1 qid2 question1 question2 is_duplicate``, tabs between them,
and quotation marks as in CSV: a question may have several lines. The same table in ``train.csv`` has commas. Copies
that came from benchmarks have no quoting; ``--set quora.quoted=false`` reads these.

A triplet needs a question that was marked as no duplicate of the anchor. Either question of a duplicate pair is an
anchor if there is one for it; its negatives are given to its duplicates in turn. Who is marked both as a duplicate of
the anchor and as none is no negative.

The cards of the published models count 103,663 pairs, and as many triplets, whose negatives may have been found in
another way. The texts are Quora's, for non-commercial use by its terms of service.

References: Iyer, Dandekar and Csernai 2017, First Quora Dataset Release: Question Pairs,
https://quoradata.quora.com/First-Quora-Dataset-Release-Question-Pairs
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

from pairloom.errors import RecordError
from pairloom.files import uncompressed_name
from pairloom.recipe import QuoraSection
from pairloom.records import Pair
from pairloom.sources.folders import find_files
from pairloom.sources.formats import InputFile, csv_rows, tab_table
from pairloom.sources.source import Intake, Keyed, Source, View

_COLUMNS = ("qid1", "qid2", "question1", "question2", "is_duplicate")
_PUBLISHED = re.compile(r"quora_duplicate_questions\.tsv|train\.csv")
_MAX_DIGITS = 18  # a larger number might be no key


def read_duplicates(row: list[str], file: InputFile, settings: QuoraSection, intake: Intake) -> Iterator[Pair]:
    """Two questions that are duplicates."""
    _, _, first, second, _ = row
    if _is_duplicate(row):
        yield Pair(first, second)
    else:
        intake.drop("pair marked as no duplicate")


def read_marked(row: list[str], file: InputFile, settings: QuoraSection, intake: Intake) -> Iterator[Keyed]:
    """All pairs, each to be joined by either question."""
    first, second, first_text, second_text, _ = row
    kind = "duplicate" if _is_duplicate(row) else "different"
    if not first_text.strip() or not second_text.strip():
        intake.drop("pair with an empty question")
        return
    yield Keyed(_number(first), kind, (first_text, _number(second), second_text))
    yield Keyed(_number(second), kind, (second_text, _number(first), first_text))


def join_triplets(group: list[Keyed], settings: QuoraSection, intake: Intake) -> Iterator[Pair]:
    """A question ↔ each of its duplicates, and one that is no duplicate of it."""
    duplicates = [part.fields for part in group if part.kind == "duplicate"]
    different = [part.fields for part in group if part.kind == "different"]
    if not duplicates:
        intake.drop("question without a duplicate")
        return
    known = {other for _, other, _ in duplicates}
    negatives = [text for _, other, text in different if other not in known]
    for _ in range(len(different) - len(negatives)):
        intake.drop("question marked both as a duplicate and as none")
    if not negatives:
        for _ in duplicates:
            intake.drop("duplicate of a question without a negative")
        return
    for (anchor, _, positive), negative in zip(duplicates, cycle(negatives), strict=False):
        yield Pair(anchor, positive, (negative,))


def _is_duplicate(row: list[str]) -> bool:
    mark = row[-1].strip()
    if mark not in ("0", "1"):
        raise RecordError(f"is_duplicate is {mark[:40]!r}, neither 0 nor 1")
    return mark == "1"


def _number(value: str) -> int:
    if not (value.isascii() and value.isdecimal()) or len(value) > _MAX_DIGITS:
        raise RecordError(f"the id of a question is {value[:40]!r}, not a number")
    return int(value)


def find(inputs: Sequence[str], view: str, settings: QuoraSection) -> list[InputFile]:
    """The tables."""
    return [_file(path, settings) for path in find_files(inputs, _PUBLISHED, "quora_duplicate_questions.tsv")]


def _file(path: Path, settings: QuoraSection) -> InputFile:
    if not settings.quoted:
        return InputFile(path, tab_table(_COLUMNS))
    delimiter = "," if Path(uncompressed_name(path)).suffix == ".csv" else "\t"
    return InputFile(path, csv_rows(_COLUMNS, delimiter=delimiter))


SOURCE = Source(
    name="quora",
    description="Questions marked as duplicates of each other, or not",
    inputs="quora_duplicate_questions.tsv, or train.csv",
    licence="Quora's terms of service, non-commercial",
    citation="Iyer et al. 2017, https://quoradata.quora.com/First-Quora-Dataset-Release-Question-Pairs",
    find=find,
    views=(
        View("duplicates", "two questions that are duplicates", read_duplicates, num_published=103_663),
        View(
            "triplets",
            "a question ↔ its duplicate, and a question that is none",
            read_marked,
            (join_triplets,),
            num_negatives=1,
            num_published=103_663,
        ),
    ),
)
