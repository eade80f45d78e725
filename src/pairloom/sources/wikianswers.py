"""WikiAnswers: clusters of questions that people have marked as asking the same.

A cluster is a line of fields with tabs between them: questions that begin with ``q:`` and, for some clusters, answers
that begin with ``a:``. The corpus's own description counts 30,370,994 clusters of 25 questions on average, in 40 files
with gzip.

Which questions are paired, and why. All pairs of a cluster would be a quadratic number: the largest clusters would
drown the rest, and a batch would often hold two pairs of a cluster, each of which has the other's texts as negatives
that are none. So the different questions of a cluster are put into a ring, in the order of their hashes, and each is
paired with the next: every question is an anchor once and a positive once. A cluster may give so many pairs and no
more, because a further wording of one question teaches less than another question. The limit of three is near what the
published models saw: it allows 91 million pairs of all clusters, and their cards count 77,427,422. Hashes make the
choice independent of the order in which the questions stand.

References: Fader et al. 2014, Open Question Answering Over Curated and Extracted Knowledge Bases,
https://doi.org/10.1145/2623330.2623677; https://github.com/afader/oqa#wikianswers-corpus
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from pairloom.errors import RecordError
from pairloom.pairs.clean import clean_text, text_hash
from pairloom.recipe import WikiAnswersSection
from pairloom.records import Pair
from pairloom.sources.folders import find_files
from pairloom.sources.formats import TEXT_LINES, InputFile
from pairloom.sources.source import Intake, Source, View

_QUESTION, _ANSWER = "q:", "a:"
_MANY = 1000  # only the smallest hashes are wanted: of a huge cluster the others are let go from time to time
_PUBLISHED = re.compile(r"part-\d+(\.(txt|tsv))?|.*(clusters|wikianswers).*", re.IGNORECASE)


def read_cluster(line: str, file: InputFile, settings: WikiAnswersSection, intake: Intake) -> Iterator[Pair]:
    """Questions of a cluster."""
    fields = line.split("\t")
    if not any(field.startswith((_QUESTION, _ANSWER)) for field in fields):
        raise RecordError(f"has no field that begins with q: or a:, but {line[:40]!r}")
    limit = settings.pairs_per_cluster
    questions: dict[int, str] = {}
    for field in fields:
        if len(questions) > 2 * limit + _MANY:
            questions = {number: questions[number] for number in heapq.nsmallest(limit + 1, questions)}
        if field.startswith(_QUESTION):
            question = clean_text(field.removeprefix(_QUESTION))
            if question:
                number = text_hash(question)
                # Of spellings that differ in case the smallest, as everywhere.
                questions[number] = min(question, questions.get(number, question))
        elif field.strip() and not field.startswith(_ANSWER):
            intake.drop("field that is neither question nor answer")
    if len(questions) < 2:
        intake.drop("cluster without two different questions")
        return
    ring = [questions[number] for number in heapq.nsmallest(limit + 1, questions)]
    if 2 < len(ring) <= limit:  # of two, the last and the first are a pair already
        ring.append(ring[0])
    yield from (Pair(anchor, positive) for anchor, positive in pairwise(ring))


def find(inputs: Sequence[str], view: str, settings: WikiAnswersSection) -> list[InputFile]:
    """The files of clusters."""
    wanted = "files of clusters such as part-00000.gz"
    return [InputFile(path, TEXT_LINES) for path in find_files(inputs, _PUBLISHED, wanted)]


SOURCE = Source(
    name="wikianswers",
    description="Questions that people have marked as asking the same",
    inputs="files of clusters (plain or compressed), or a folder of part-*.gz",
    licence="not stated",
    citation="Fader et al. 2014, https://doi.org/10.1145/2623330.2623677",
    find=find,
    views=(View("questions", "two questions of a cluster", read_cluster, num_published=77_427_422),),
)
