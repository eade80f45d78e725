"""SQuAD: questions about paragraphs of Wikipedia, versions 1.1 and 2.0.

A file is one JSON document: ``{"version", "data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question",
"answers": [{"text", "answer_start"}], "is_impossible"}]}]}]}``, published as ``train-v2.0.json`` and ``dev-v2.0.json``.
Version 1.1 has no ``is_impossible``; in 2.0 it marks questions that the paragraph does not answer, and they are dropped.
XQuAD and other corpora in this shape are read as well.

The cards of the published models count 87,599 pairs of question and paragraph. The texts are CC BY-SA 4.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pairloom.errors import RecordError
from pairloom.recipe import SquadSection
from pairloom.records import Pair
from pairloom.sources.formats import InputFile, json_items, kind_of, list_of, text_of
from pairloom.sources.source import Intake, Source, View
from pairloom.sources.splits import find_split

_PARAGRAPHS = json_items("data.item.paragraphs.item")


def read_paragraph(record: Any, file: InputFile, settings: SquadSection, intake: Intake) -> Iterator[Pair]:
    """Each question ↔ its paragraph."""
    context = text_of(record, "context")
    for qa in list_of(record, "qas"):
        question = text_of(qa, "question")
        impossible = qa.get("is_impossible", False)
        if not isinstance(impossible, bool):
            raise RecordError(f"is_impossible is {kind_of(impossible)}, not true or false")
        if impossible:
            intake.drop("question that the paragraph does not answer")
        else:
            yield Pair(question, context)


def find(inputs: Sequence[str], view: str, settings: SquadSection) -> list[InputFile]:
    """The files; of a folder those of the split."""
    paths = find_split(inputs, (".json",), split=settings.split, source="squad")
    return [InputFile(path, _PARAGRAPHS) for path in paths]


SOURCE = Source(
    name="squad",
    description="Questions about paragraphs of Wikipedia",
    inputs="train-v1.1.json, train-v2.0.json, or their folder",
    licence="CC BY-SA 4.0",
    citation="Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250, and 2018, https://arxiv.org/abs/1806.03822",
    find=find,
    views=(View("question-paragraph", "question ↔ the paragraph", read_paragraph, num_published=87_599),),
)
