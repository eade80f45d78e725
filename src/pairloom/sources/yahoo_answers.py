r"""Yahoo Answers: questions of people with a title and often a text, and the answer that was voted best.

Two corpora were made of it. ``yahoo_answers_csv/train.csv`` and ``test.csv`` have no header and the columns class (1 to
10), title, content and best answer, quoted; a line break is a backslash and an ``n``, or ``<br />``, and content or
answer may be empty. ``nfL6.json`` is a list of ``{"id", "main_category", "question", "answer", "nbestanswers": […]}``
with questions that ask for more than a fact; the best answer is the first of ``nbestanswers``.

The cards of the published models count 1,198,260 pairs of title and answer, 659,896 of title and question, and 681,164 of
question and answer, where the question is the content. The texts belong to their authors and may be used for research.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import unescape
from typing import Any

from pairloom.errors import InputError, RecordError
from pairloom.files import uncompressed_name
from pairloom.recipe import YahooAnswersSection
from pairloom.records import Pair
from pairloom.sources.formats import InputFile, csv_rows, json_items, kind_of, list_of, text_of
from pairloom.sources.source import Intake, Source, View
from pairloom.sources.splits import find_split

_ROWS = csv_rows(("class", "title", "content", "best answer"), header=False)
_NFL6 = json_items("item")
_BREAK = re.compile(r"\\n|<br ?/?>", re.IGNORECASE)


def read_title_answer(row: list[str], file: InputFile, settings: YahooAnswersSection, intake: Intake) -> Iterator[Pair]:
    """Title ↔ best answer."""
    yield from _pair(row, "title", "best answer", intake)


def read_title_question(
    row: list[str], file: InputFile, settings: YahooAnswersSection, intake: Intake
) -> Iterator[Pair]:
    """Title ↔ content."""
    yield from _pair(row, "title", "content", intake)


def read_question_answer(
    row: list[str], file: InputFile, settings: YahooAnswersSection, intake: Intake
) -> Iterator[Pair]:
    """Content ↔ best answer."""
    yield from _pair(row, "content", "best answer", intake)


def read_best(record: Any, file: InputFile, settings: YahooAnswersSection, intake: Intake) -> Iterator[Pair]:
    """A question of nfL6 ↔ its best answer."""
    yield Pair(_text(text_of(record, "question")), _text(text_of(record, "answer")))


def read_all(record: Any, file: InputFile, settings: YahooAnswersSection, intake: Intake) -> Iterator[Pair]:
    """A question of nfL6 ↔ each of its answers."""
    question = _text(text_of(record, "question"))
    answers = list_of(record, "nbestanswers")
    for answer in answers:
        if not isinstance(answer, str):
            raise RecordError(f"one of nbestanswers is {kind_of(answer)}, not a text")
    if not answers:
        intake.drop("question without answer")
    for answer in answers:
        yield Pair(question, _text(answer))


def _pair(row: list[str], anchor: str, positive: str, intake: Intake) -> Iterator[Pair]:
    texts = dict(zip(("title", "content", "best answer"), map(_text, row[1:]), strict=True))
    missing = next((name for name in (anchor, positive) if not texts[name].strip()), None)
    if missing is not None:
        intake.drop(f"question without {missing}")
    else:
        yield Pair(texts[anchor], texts[positive])


def _text(raw: str) -> str:
    # No parser of HTML: there is no other markup, and what people wrote may have "<" in it.
    return unescape(_BREAK.sub("\n", raw))


def find(inputs: Sequence[str], view: str, settings: YahooAnswersSection) -> list[InputFile]:
    """The files; of a folder, the tables of the split, or nfL6."""
    ending, file_format = (".json", _NFL6) if view.startswith("nfl6") else (".csv", _ROWS)
    paths = find_split(inputs, (ending,), split=settings.split, source="yahoo-answers")
    for path in paths:
        if not uncompressed_name(path).endswith(ending):
            raise InputError(f"is no {ending} file, from which the view {view} is made", path)
    return [InputFile(path, file_format) for path in paths]


SOURCE = Source(
    name="yahoo-answers",
    description="Questions of people, and the answer voted best",
    inputs="the folder yahoo_answers_csv, train.csv, or nfL6.json",
    licence="that of the authors; for research",
    citation="Zhang et al. 2015, https://arxiv.org/abs/1509.01626; nfL6: Cohen and Croft 2016, "
    "https://doi.org/10.1145/2970398.2970438",
    find=find,
    views=(
        View("title-answer", "title ↔ best answer", read_title_answer, num_published=1_198_260),
        View("title-question", "title ↔ the question's text", read_title_question, num_published=659_896),
        View("question-answer", "the question's text ↔ best answer", read_question_answer, num_published=681_164),
        View("nfl6-best-answer", "question of nfL6 ↔ best answer", read_best),
        View("nfl6-answers", "question of nfL6 ↔ each answer", read_all),
    ),
)
