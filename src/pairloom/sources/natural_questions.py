"""Natural Questions: questions that people typed into Google, answered by people from a page of Wikipedia.

There is a JSON object on each line, in one of three layouts:

===========  =========================================================================================================
original     ``question_text, document_tokens: [{"token", "html_token", …}], annotations: […]``, in files
             ``nq-train-00.jsonl.gz`` and so on
simplified   ``question_text, document_text, annotations: […]``: the same tokens with spaces between them
KILT         ``input, output: [{"answer", "provenance": […]}]``: only the short answers, and where on a page they stand
===========  =========================================================================================================

An annotation has ``long_answer: {"start_token", "end_token", "candidate_index"}``, with -1 where the page has no answer,
and ``short_answers: [{"start_token", "end_token"}]``. The long answer is a paragraph, a table or a list; its tokens that
are HTML tags are left out, and the others are put together as text. As the pages are not in KILT, its files have only
the view question-answer.

The cards of the published models count 100,231 pairs of question and paragraph. The texts are CC BY-SA 3.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pairloom.errors import InputError, RecordError
from pairloom.recipe import NaturalQuestionsSection
from pairloom.records import Pair
from pairloom.sources.formats import JSON_LINES, InputFile, field_of, kind_of, list_of, text_of
from pairloom.sources.source import Intake, Source, View
from pairloom.sources.splits import find_split
from pairloom.sources.tokens import untokenize

_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_PARAGRAPH = "<p>"


def read_paragraphs(record: Any, file: InputFile, settings: NaturalQuestionsSection, intake: Intake) -> Iterator[Pair]:
    """A question ↔ each of its long answers."""
    if _is_kilt(record):
        raise InputError(
            "is in the layout of KILT, which has no paragraphs; use the view question-answer, or the original",
            file.path,
        )
    question = text_of(record, "question_text")
    spans = _distinct(field_of(annotation, "long_answer") for annotation in list_of(record, "annotations"))
    if not spans:
        intake.drop("question without long answer")
    for tokens in [_tokens(record, *span) for span in spans]:
        if settings.paragraphs_only and tokens[0][0].lower() != _PARAGRAPH:
            intake.drop("long answer that is a table or a list")
        else:
            yield Pair(question, _text(tokens))


def read_answers(record: Any, file: InputFile, settings: NaturalQuestionsSection, intake: Intake) -> Iterator[Pair]:
    """A question ↔ each of its short answers."""
    if _is_kilt(record):
        question = text_of(record, "input")
        answers = [untokenize(answer.split(" ")) for answer in _kilt_answers(record)]
    else:
        question = text_of(record, "question_text")
        annotations = list_of(record, "annotations")
        spans = _distinct(answer for annotation in annotations for answer in list_of(annotation, "short_answers"))
        answers = [_text(_tokens(record, *span)) for span in spans]
    if not answers:
        intake.drop("question without short answer")
    for answer in dict.fromkeys(answers):
        yield Pair(question, answer)


def _is_kilt(record: Any) -> bool:
    return isinstance(record, dict) and "input" in record and "output" in record


def _kilt_answers(record: Any) -> list[str]:
    """Those outputs that have an answer; the others only say where on a page one stands."""
    outputs = list_of(record, "output")
    return [text_of(output, "answer") for output in outputs if not isinstance(output, dict) or "answer" in output]


def _distinct(places: Iterable[Any]) -> list[tuple[int, int]]:
    """First token, and the one after the last, of each answer; several annotators may have found the same."""
    spans = []
    for place in places:
        start, end = field_of(place, "start_token"), field_of(place, "end_token")
        for bound in (start, end):
            if not isinstance(bound, int) or isinstance(bound, bool):
                raise RecordError(f"a token's place is {kind_of(bound)}, not a number")
        if start >= 0 and end >= 0:
            spans.append((start, end))
    return list(dict.fromkeys(spans))


def _tokens(record: Any, start: int, end: int) -> list[tuple[str, bool]]:
    """Tokens of the page, and whether they are HTML."""
    if "document_tokens" in record:
        found = list_of(record, "document_tokens")[start:end]
        tokens = [(text_of(token, "token"), token.get("html_token") is True) for token in found]
    else:
        tokens = [
            (token, _TAG.fullmatch(token) is not None)
            for token in text_of(record, "document_text").split(" ")[start:end]
        ]
    if not start < end or len(tokens) < end - start:
        raise RecordError(f"an answer goes from token {start:,} to {end:,}, which the page does not have")
    return tokens


def _text(tokens: list[tuple[str, bool]]) -> str:
    return untokenize(token for token, is_html in tokens if not is_html)


def find(inputs: Sequence[str], view: str, settings: NaturalQuestionsSection) -> list[InputFile]:
    """The files; of a folder those of the split."""
    paths = find_split(inputs, (".jsonl", ".json"), split=settings.split, source="natural-questions")
    return [InputFile(path, JSON_LINES) for path in paths]


SOURCE = Source(
    name="natural-questions",
    description="What people asked Google, answered from Wikipedia",
    inputs="nq-train-*.jsonl.gz (original or simplified), nq-train-kilt.jsonl, or their folder",
    licence="CC BY-SA 3.0",
    citation="Kwiatkowski et al. 2019, https://aclanthology.org/Q19-1026; KILT: Petroni et al. 2021, "
    "https://arxiv.org/abs/2009.02252",
    find=find,
    views=(
        View("question-paragraph", "question ↔ long answer; not in KILT", read_paragraphs, num_published=100_231),
        View("question-answer", "question ↔ each short answer", read_answers),
    ),
)
