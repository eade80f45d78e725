"""GooAQ: questions that Google completes, and what its answer boxes say.

``gooaq.jsonl`` has a question a line: ``id``, ``question``, ``short_answer``, ``answer``, ``answer_type``,
``answer_url``. Either answer may be null. ``answer_type`` is ``feat_snip`` for a passage of a page, ``collection`` for
a list, ``knowledge``, ``unit_conv``, ``time_conv`` or ``curr_conv`` for short answers. The answer of a ``collection``
is what Python prints of a list of texts; it becomes one text in which each item begins with a dash.

The cards of the published models count 3,012,496 pairs. Not for commercial use, says the corpus.

References: Khashabi et al. 2021, GooAQ: Open Question Answering with Diverse Answer Types,
https://arxiv.org/abs/2104.08727; https://github.com/allenai/gooaq
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from pairloom.errors import RecordError
from pairloom.pairs.clean import clean_text
from pairloom.recipe import GooAQSection
from pairloom.records import Pair
from pairloom.sources.folders import find_files
from pairloom.sources.formats import JSON_LINES, InputFile, field_of, text_of
from pairloom.sources.literals import read_literal
from pairloom.sources.source import Intake, Source, View

_COLLECTION = "collection"
_PUBLISHED = re.compile(r"(gooaq|qoogle)\.jsonl")


def read_answer(record: Any, file: InputFile, settings: GooAQSection, intake: Intake) -> Iterator[Pair]:
    """A question ↔ its long answer: a passage or a list."""
    question = text_of(record, "question")
    if field_of(record, "answer") is None:
        intake.drop("question without answer")
        return
    answer = text_of(record, "answer")
    if record.get("answer_type") == _COLLECTION and answer.lstrip().startswith("["):
        items = _items(answer)
        if items is None:
            intake.drop("list of answers that cannot be read")
            return
        answer = "\n".join(f"- {item}" for item in items)
    yield Pair(question, answer)


def read_short_answer(record: Any, file: InputFile, settings: GooAQSection, intake: Intake) -> Iterator[Pair]:
    """A question ↔ its short answer."""
    question = text_of(record, "question")
    if field_of(record, "short_answer") is None:
        intake.drop("question without short answer")
    else:
        yield Pair(question, text_of(record, "short_answer"))


def _items(answer: str) -> list[str] | None:
    """The texts of a list that are not empty; None if it is none, as when it was cut."""
    try:
        items = read_literal(answer)
    except RecordError:
        return None
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        return None
    return list(filter(None, map(clean_text, items)))


def find(inputs: Sequence[str], view: str, settings: GooAQSection) -> list[InputFile]:
    """The file of questions."""
    return [InputFile(path, JSON_LINES) for path in find_files(inputs, _PUBLISHED, "gooaq.jsonl")]


SOURCE = Source(
    name="gooaq",
    description="Questions that Google completes, and its answer boxes",
    inputs="gooaq.jsonl (plain or compressed), or its folder",
    licence="not for commercial use",
    citation="Khashabi et al. 2021, https://arxiv.org/abs/2104.08727",
    find=find,
    views=(
        View("question-answer", "a question ↔ its long answer", read_answer, num_published=3_012_496),
        View("question-short-answer", "a question ↔ its short answer", read_short_answer),
    ),
)
