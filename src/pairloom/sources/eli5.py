"""ELI5: questions of the subreddit "Explain Like I'm Five", with the answers and their votes.

There is a JSON object on each line, or a list of them in one document:

========  ============================================================================================================
original  ``q_id, title, selftext, answers: {"a_id": […], "text": […], "score": […]}``, the answers in columns; a list of
          ``{"text", "score"}`` is read as well
KILT      ``id, input, output: [{"answer", "meta": {"score"}, "provenance"}]``; the dev set has no scores, and outputs
          without an answer only name a page
========  ============================================================================================================

The best answer has the highest score; of equals, and where there are no scores, it is the first. Links were replaced by
``URL_0`` or ``_URL_0_`` before publication; a person would not write that, so it is taken out, and of a link with a text,
``[here](_URL_0_)``, the text stays.

The cards of the published models count 325,475 pairs of question and answer. The texts belong to their authors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pairloom.errors import RecordError
from pairloom.files import open_binary
from pairloom.recipe import Eli5Section
from pairloom.records import Pair
from pairloom.sources.formats import JSON_LINES, Format, InputFile, field_of, json_items, kind_of, list_of, text_of
from pairloom.sources.source import Intake, Source, View
from pairloom.sources.splits import find_split

_LINK = re.compile(r"\[([^\[\]]*)\]\(\s*_?URL_\d+_?\s*\)")
_URL = re.compile(r"<?(?<!\w)_?URL_\d+_?(?!\w)>?")
_GONE = {"", "[deleted]", "[removed]"}
_LIST = json_items("item")


def read_thread(record: Any, file: InputFile, settings: Eli5Section, intake: Intake) -> Iterator[Pair]:
    """A question's title ↔ its best answer."""
    is_kilt = isinstance(record, dict) and "input" in record
    title = text_of(record, "input" if is_kilt else "title")
    answers = [(score, text) for score, text in _answers(record, is_kilt) if text.strip() not in _GONE]
    if title.strip() in _GONE:
        intake.drop("deleted question")
    elif not answers:
        intake.drop("question without answer")
    else:
        _, best = max(answers, key=lambda answer: answer[0])  # of equals, max takes the first
        yield Pair(_without_links(title), _without_links(best))


def _answers(record: Any, is_kilt: bool) -> Iterator[tuple[float, str]]:
    """Score and text of each answer, in their order."""
    if is_kilt:
        for output in list_of(record, "output"):
            if not isinstance(output, dict) or "answer" in output:
                text = text_of(output, "answer")
                meta = output.get("meta")
                yield _score(meta.get("score") if isinstance(meta, dict) else None), text
        return
    answers = field_of(record, "answers")
    if isinstance(answers, list):
        for answer in answers:
            text = text_of(answer, "text")
            yield _score(answer.get("score")), text
        return
    texts, scores = list_of(answers, "text"), list_of(answers, "score")
    if len(texts) != len(scores):
        raise RecordError(f"has {len(texts)} answers and {len(scores)} scores")
    for text, score in zip(texts, scores, strict=True):
        if not isinstance(text, str):
            raise RecordError(f"an answer is {kind_of(text)}, not a text")
        yield _score(score), text


def _score(score: Any) -> float:
    if score is None:
        return 0
    if not isinstance(score, int | float):
        raise RecordError(f"a score is {kind_of(score)}, not a number")
    return score


def _without_links(text: str) -> str:
    return _URL.sub(" ", _LINK.sub(r"\1", text)) if "URL_" in text else text


def find(inputs: Sequence[str], view: str, settings: Eli5Section) -> list[InputFile]:
    """The files; of a folder those of the split."""
    paths = find_split(inputs, (".jsonl", ".json"), split=settings.split, source="eli5")
    return [InputFile(path, _format(path)) for path in paths]


def _format(path: Path) -> Format:
    with open_binary(path) as stream:
        return _LIST if stream.read(1 << 10).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[") else JSON_LINES


SOURCE = Source(
    name="eli5",
    description="Questions asked to be explained as to a five-year-old",
    inputs="eli5-train-kilt.jsonl, JSON lines or lists with title and answers, or their folder",
    licence="that of the authors",
    citation="Fan et al. 2019, https://arxiv.org/abs/1907.09190; KILT: Petroni et al. 2021, "
    "https://arxiv.org/abs/2009.02252",
    find=find,
    views=(View("title-answer", "title ↔ best answer", read_thread, num_published=325_475),),
)
