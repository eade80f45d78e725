"""PAQ: questions that were generated from the passages of Wikipedia.

The file of metadata, ``PAQ.metadata.jsonl.gz``, has a question a line: ``question``, ``answer``, ``subsets``,
``passage_score`` and ``answers``, a list of ``{passage_id, offset, text, extractor}``. The one of the unfiltered
questions has ``canonical_answer`` instead of ``answer``, and ``consistent``, which is false for those that were
filtered out. The passages, of 100 words each, are those of the file ``psgs_w100.tsv.gz``: id, text and title with tabs
between them; a field that has quotation marks around it has them doubled within. ``PAQ.jsonl`` does not say from which
passage a question comes, and is of no use here.

A question may come from several passages. Those whose answer is the one that the question was given in the end come
first, and by default only the first of all is taken.

The cards of the published models count 64,371,441 pairs. The texts are CC BY-SA 3.0.

References: Lewis et al. 2021, PAQ: 65 Million Probably-Asked Questions and What You Can Do With Them,
https://arxiv.org/abs/2102.07033; https://github.com/facebookresearch/PAQ
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pairloom.errors import InputError, RecordError
from pairloom.files import uncompressed_name
from pairloom.pairs.clean import clean_text
from pairloom.recipe import PaqSection
from pairloom.records import Pair
from pairloom.sources.folders import find_files
from pairloom.sources.formats import (
    JSON_LINES,
    TEXT_LINES,
    Format,
    InputFile,
    Numbered,
    Piece,
    field_of,
    kind_of,
    list_of,
    text_of,
)
from pairloom.sources.source import Intake, Keyed, Source, View

_PUBLISHED = re.compile(r"PAQ.*metadata.*\.jsonl|psgs.*\.tsv", re.IGNORECASE)
_HEADER = "id\ttext\ttitle"
_MAX_DIGITS = 18  # a larger number might be no key


def _passages(piece: Piece) -> Numbered:
    for number, line in TEXT_LINES.read(piece):
        if piece.is_first and number == 1 and line == _HEADER:
            continue
        yield number, line


_PASSAGES = Format(_passages, TEXT_LINES.mark, TEXT_LINES.cut)


def read_paq(record: Any, file: InputFile, settings: PaqSection, intake: Intake) -> Iterator[Keyed]:
    """Passages, and questions that were generated from them, to be joined by the passage."""
    if file.role == "passages":
        columns = _columns(record)
        if len(columns) != 3:
            raise RecordError(f"{len(columns)} columns instead of 3: id, text and title")
        passage, text, title = columns
        yield Keyed(_number(passage), "passage", (f"{title} {text}" if settings.with_title else text,))
        return
    question = text_of(record, "question")
    if record.get("consistent") is False:
        intake.drop("question that PAQ has filtered out")
        return
    passages = _passages_of(record)
    if not passages:
        intake.drop("question without passage")
    for number in passages[: settings.passages_per_question]:
        yield Keyed(number, "question", (question,))


def join_passages(group: list[Keyed], settings: PaqSection, intake: Intake) -> Iterator[Pair]:
    """A question ↔ the passage from which it was generated."""
    passage = next((part.fields[0] for part in group if part.kind == "passage"), None)
    questions = [part.fields[0] for part in group if part.kind == "question"]
    if not questions:
        intake.drop("passage without question")
    for question in questions:
        if passage is None:
            intake.drop("question whose passage is missing")
        else:
            yield Pair(question, passage)


def _passages_of(record: Any) -> list[int]:
    """The passages of a question, each once, those with the right answer first, otherwise as they come."""
    given = record.get("answer", record.get("canonical_answer"))
    right = _folded(given) if isinstance(given, str) else None
    answers = [(_number(field_of(answer, "passage_id")), answer.get("text")) for answer in list_of(record, "answers")]
    answers.sort(key=lambda answer: not (isinstance(answer[1], str) and _folded(answer[1]) == right))
    return list(dict.fromkeys(number for number, _ in answers))


def _folded(text: str) -> str:
    return clean_text(text).casefold()


def _columns(line: str) -> list[str]:
    if '"' not in line:
        return line.split("\t")
    try:
        return next(csv.reader([line], delimiter="\t", strict=True))
    except csv.Error:  # quotation marks that are text
        return line.split("\t")


def _number(value: Any) -> int:
    digits = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else kind_of(value)
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > _MAX_DIGITS:
        raise RecordError(f"the id of a passage is {digits[:40]!r}, not a number")
    return int(digits)


def find(inputs: Sequence[str], view: str, settings: PaqSection) -> list[InputFile]:
    """Questions and passages, by the suffix."""
    wanted = "PAQ.metadata.jsonl.gz and no psgs_w100.tsv.gz"
    files = [_file(path) for path in find_files(inputs, _PUBLISHED, wanted)]
    for role, name in (("questions", "PAQ.metadata.jsonl.gz"), ("passages", "psgs_w100.tsv.gz")):
        if not any(file.role == role for file in files):
            raise InputError(f"the {role} are missing; give {name}, too", ", ".join(inputs))
    return files


def _file(path: Path) -> InputFile:
    match Path(uncompressed_name(path)).suffix:
        case ".jsonl" | ".json":
            return InputFile(path, JSON_LINES, "questions")
        case ".tsv":
            return InputFile(path, _PASSAGES, "passages")
    raise InputError("is neither PAQ's questions (.jsonl) nor its passages (.tsv), plain or compressed", path)


SOURCE = Source(
    name="paq",
    description="Questions generated from passages of Wikipedia",
    inputs="PAQ.metadata.jsonl.gz and psgs_w100.tsv.gz, or a folder with both",
    licence="CC BY-SA 3.0",
    citation="Lewis et al. 2021, https://arxiv.org/abs/2102.07033",
    find=find,
    views=(
        View(
            "question-passage",
            "a question ↔ the passage that it was generated from",
            read_paq,
            (join_passages,),
            num_published=64_371_441,
        ),
    ),
)
