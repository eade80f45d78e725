"""Amazon QA: questions about products, and answers of other customers.

Files of single answers, ``qa_Appliances.json.gz`` and so on, have a question a line: ``questionType``, ``asin``,
``question``, ``answer``, ``answerTime`` and more. Those of several answers, ``QA_Baby.json.gz`` and so on, have a
product a line: ``{asin, category, questions: [{questionText, answers: [{answerText, …}]}]}``. In spite of the files'
names a line is no JSON but what Python prints of a dict. Texts have entities, but no markup.

A question is paired with each of its answers. The cards of the published models count 2,448,839 pairs. No licence is
stated.

References: Wan and McAuley 2016, Modeling ambiguity, subjectivity, and diverging viewpoints in opinion question
answering systems; McAuley and Yang 2016, Addressing complex and subjective product-related queries with customer
reviews; http://jmcauley.ucsd.edu/data/amazon/qa/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pairloom.recipe import AmazonQASection
from pairloom.records import Pair
from pairloom.sources.entities import replace_entities
from pairloom.sources.folders import find_files
from pairloom.sources.formats import TEXT_LINES, InputFile, list_of, text_of
from pairloom.sources.literals import read_literal
from pairloom.sources.source import Intake, Source, View

_PUBLISHED = re.compile(r"qa_.+\.json", re.IGNORECASE)


def read_product(line: str, file: InputFile, settings: AmazonQASection, intake: Intake) -> Iterator[Pair]:
    """A question ↔ each answer."""
    record = read_literal(line)
    if not isinstance(record, dict) or "questions" not in record:
        yield _pair(text_of(record, "question"), text_of(record, "answer"))
        return
    for question in list_of(record, "questions"):
        answers = list_of(question, "answers")
        if not answers:
            intake.drop("question without answer")
        for answer in answers:
            yield _pair(text_of(question, "questionText"), text_of(answer, "answerText"))


def _pair(question: str, answer: str) -> Pair:
    return Pair(replace_entities(question), replace_entities(answer))


def find(inputs: Sequence[str], view: str, settings: AmazonQASection) -> list[InputFile]:
    """The files of each category."""
    return [InputFile(path, TEXT_LINES) for path in find_files(inputs, _PUBLISHED, "qa_*.json.gz")]


SOURCE = Source(
    name="amazon-qa",
    description="Questions about products at Amazon, and answers",
    inputs="qa_*.json.gz, with one answer or several, or a folder of them",
    licence="not stated",
    citation="McAuley and Yang 2016; Wan and McAuley 2016, http://jmcauley.ucsd.edu/data/amazon/qa/",
    find=find,
    views=(View("question-answer", "a question ↔ each answer", read_product, num_published=2_448_839),),
)
