"""TriviaQA: trivia questions with documents in which the answer was found.

A file is one JSON document: ``{"Data": [{"Question", "QuestionId", "Answer": {"Value", "Aliases", …}, "EntityPages":
[{"Filename", "Title", …}], "SearchResults": [{"Filename", "Description", "Url", …}]}], "Domain", "Split", …}``. The
documents are text files beside it: an entity page in ``evidence/wikipedia``, a search result in ``evidence/web``. As
published, ``triviaqa-rc`` has the questions in ``qa/`` (``web-train.json``, ``wikipedia-train.json`` and so on) beside
``evidence/``; ``triviaqa-unfiltered`` has more questions, and shares the evidence of ``triviaqa-rc``.

Each document that is there makes a pair. The cards of the published models count 73,346 pairs of question and evidence,
and do not say which. Questions and documents belong to their authors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from pairloom.errors import InputError, RecordError
from pairloom.pairs.clean import clean_text
from pairloom.recipe import TriviaQASection
from pairloom.records import Pair
from pairloom.sources.formats import InputFile, json_items, list_of, text_of
from pairloom.sources.source import Intake, Source, View
from pairloom.sources.splits import find_split

_QUESTIONS = json_items("Data.item")
_KINDS = (("EntityPages", "wikipedia"), ("SearchResults", "web"))
_NUM_PARENTS = 3  # the evidence of triviaqa-rc may stand so many folders above the questions of triviaqa-unfiltered


def read_question(record: Any, file: InputFile, settings: TriviaQASection, intake: Intake) -> Iterator[Pair]:
    """A question ↔ each document."""
    question = text_of(record, "Question")
    folder = find_evidence(file.path, settings.evidence)
    paths = [_inside(folder / kind, name) for key, kind in _KINDS for name in _names(record, key)]
    if not paths:
        intake.drop("question without evidence")
    num_pairs = 0
    for path in paths:
        if path is None:
            intake.drop("evidence whose file is missing")
            continue
        if num_pairs == settings.max_evidence:
            intake.drop(f"evidence beyond the first {num_pairs}")
            continue
        try:
            text = _beginning(path, settings.evidence_max_chars)
        except UnicodeDecodeError:
            intake.drop("evidence that is not UTF-8")
        else:
            num_pairs += 1
            yield Pair(question, text)


def _names(record: Any, key: str) -> list[str]:
    """The file names of a list of pages, which the record need not have; nor need a page have a file."""
    pages = list_of(record, key) if key in record else []
    return [text_of(page, "Filename") for page in pages if not isinstance(page, dict) or "Filename" in page]


def _inside(folder: Path, name: str) -> Path | None:
    """The file of this name in a folder; None if there is none.

    Raises:
        RecordError: The name, or a link on the way, leads out of the folder.
    """
    path = PurePosixPath(name)
    folder = folder.resolve()
    try:
        found = (folder / path).resolve()
        if path.is_absolute() or ".." in path.parts or "\\" in name or not found.is_relative_to(folder):
            raise RecordError(f"the file name {name[:100]!r} leads out of the evidence")
        return found if found.is_file() else None
    except (OSError, ValueError):  # too long a name, or a zero in it
        return None


def _beginning(path: Path, max_chars: int) -> str:
    """The first words of a document that fit into so many characters."""
    length = 2 * max_chars  # as read; white space will be folded
    with path.open(encoding="utf-8-sig") as stream:
        raw = stream.read(length)
    text = clean_text(raw)
    if len(text) <= max_chars and len(raw) < length:
        return text
    return text[: max_chars + 1].rpartition(" ")[0] or text[:max_chars]


@lru_cache(maxsize=1024)
def find_evidence(questions: Path, named: str | None) -> Path:
    """The folder of the documents of a file of questions.

    Raises:
        InputError: There is none.
    """
    parents = questions.absolute().parents[:_NUM_PARENTS]
    beside = [parent / name for parent in parents for name in ("evidence", "triviaqa-rc/evidence")]
    for folder in [Path(named)] if named is not None else beside:
        if any((folder / kind).is_dir() for _, kind in _KINDS):
            return folder
    if named is not None:
        raise InputError("has neither wikipedia nor web in it; give the folder evidence of triviaqa-rc", named)
    raise InputError(
        "has no folder evidence beside it, with wikipedia and web; it comes with triviaqa-rc; if it stands elsewhere, "
        "add --set trivia-qa.evidence=FOLDER",
        questions,
    )


def find(inputs: Sequence[str], view: str, settings: TriviaQASection) -> list[InputFile]:
    """The files of questions; of a folder those of the split. Their evidence must be there."""
    paths = find_split(inputs, (".json",), split=settings.split, source="trivia-qa")
    for path in paths:
        find_evidence(path, settings.evidence)
    return [InputFile(path, _QUESTIONS) for path in paths]


SOURCE = Source(
    name="trivia-qa",
    description="Trivia questions, and documents that answer them",
    inputs="the folder triviaqa-rc, or files such as qa/web-train.json with evidence/ beside them",
    licence="that of the authors of questions and documents",
    citation="Joshi et al. 2017, https://arxiv.org/abs/1705.03551",
    find=find,
    views=(View("question-evidence", "question ↔ each document", read_question, num_published=73_346),),
)
