"""SearchQA: clues of the quiz show Jeopardy!, with the snippets that Google gave for them.

========  ============================================================================================================
raw       a JSON file for each question: ``question, answer, category, search_results: [{"title", "url", "snippet",
          "related_links"}], …``; some have ``clue`` for ``question``, and a snippet may be null
packed    the same files in an archive, ``train.zip``, ``val.zip`` or ``test.zip``
text      ``train.txt``, ``val.txt`` and ``test.txt``, also together in one zip: on each line ``<s> snippet </s> <s>
          snippet </s> … ||| question ||| answer``, in tokens and lower case
========  ============================================================================================================

The anchor is the question. The cards of the published models count 582,261 pairs for 140 thousand questions with five
snippets each. Clues and snippets belong to their authors.

References: https://github.com/nyu-dl/dl4ir-searchQA.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from pairloom.errors import InputError, RecordError
from pairloom.files import json_fault, uncompressed_name
from pairloom.recipe import SearchQASection
from pairloom.records import Pair
from pairloom.sources.formats import (
    JSON_WHOLE,
    MAX_RECORD_BYTES,
    TEXT_LINES,
    Format,
    InputFile,
    Numbered,
    Piece,
    kind_of,
    list_of,
    text_of,
)
from pairloom.sources.source import Intake, Source, View
from pairloom.sources.splits import choose_split, files_in, refuse_archive, splits_in
from pairloom.sources.tokens import untokenize

_ENDINGS = (".zip", ".txt", ".json")  # a packed corpus before what it was packed from
_ENCRYPTED = 1  # the bit among a member's flags
_SNIPPET = re.compile(r"<s>(.*?)</s>")
_ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError)


def read_question(record: Any, file: InputFile, settings: SearchQASection, intake: Intake) -> Iterator[Pair]:
    """A question ↔ each of its first snippets, or these joined."""
    question, snippets = _from_line(record) if isinstance(record, str) else _from_json(record)
    snippets = [snippet for snippet in snippets if snippet.strip()][: settings.num_snippets]
    if not snippets:
        intake.drop("question without a snippet")
    elif settings.joined:
        yield Pair(question, " ".join(snippets))
    else:
        for snippet in snippets:
            yield Pair(question, snippet)


def _from_json(record: Any) -> tuple[str, list[str]]:
    has_clue = isinstance(record, dict) and "question" not in record and "clue" in record
    question = text_of(record, "clue" if has_clue else "question")
    snippets = []
    for result in list_of(record, "search_results"):
        if not isinstance(result, dict):
            raise RecordError(f"a search result is {kind_of(result)}, not an object")
        snippet = result.get("snippet")
        if not isinstance(snippet, str | None):
            raise RecordError(f"a snippet is {kind_of(snippet)}, not a text")
        snippets.append(snippet or "")
    return question, snippets


def _from_line(line: str) -> tuple[str, list[str]]:
    columns = line.split("|||")
    if len(columns) != 3:
        raise RecordError(f"has {len(columns)} parts instead of 3, snippets ||| question ||| answer")
    snippets, question, _ = columns
    return untokenize(question.split()), [untokenize(snippet.split()) for snippet in _SNIPPET.findall(snippets)]


def _read_zip(piece: Piece, *, split: str) -> Numbered:
    """The questions in a zip archive. Nothing is unpacked to disk, so that the names in it can do no harm."""
    number = 0
    try:
        with zipfile.ZipFile(cast("Any", piece.stream)) as archive:
            for member in _members(archive, split, piece.file.path):
                with archive.open(member) as stream:
                    for content in _contents(member, stream, piece.file.path):
                        number += 1
                        yield from _record(piece, number, member.filename, content)
    except _ZIP_FAULTS as error:
        raise InputError(f"not a sound zip archive ({error}); fetch it again", piece.file.path) from None


def _members(archive: zipfile.ZipFile, split: str, path: Path) -> list[zipfile.ZipInfo]:
    """The files of questions; if they are of several splits, those of the wanted one."""
    members = [member for member in archive.infolist() if member.filename.endswith((".json", ".txt"))]
    if not members:
        raise InputError("has no .json and no .txt in it", path)
    if any(member.flag_bits & _ENCRYPTED for member in members):
        raise InputError("is encrypted; unpack it with its password first", path)
    names = {member: _told(member.filename) for member in members}
    if len(set().union(*map(splits_in, names.values()))) < 2:
        return members
    return choose_split(names, split, path, "search-qa")


def _contents(member: zipfile.ZipInfo, stream: IO[bytes], path: Path) -> Iterator[bytes]:
    """Of a text file the lines; of a JSON file all of it."""
    if member.filename.endswith(".txt"):
        lines = iter(partial(io.BufferedReader(cast("Any", stream)).readline, MAX_RECORD_BYTES + 1), b"")
    else:
        lines = iter([stream.read(MAX_RECORD_BYTES + 1)])
    for content in lines:
        if len(content) > MAX_RECORD_BYTES:
            raise InputError(f"has a record of more than {MAX_RECORD_BYTES >> 20} MiB in {member.filename}", path)
        yield content


def _record(piece: Piece, number: int, name: str, content: bytes) -> Numbered:
    try:
        text = content.decode("utf-8-sig")
        if name.endswith(".json"):
            yield number, json.loads(text)
        elif text.strip():
            yield number, text.rstrip("\r\n")
    except UnicodeDecodeError as error:
        piece.broken(number, f"not UTF-8 (byte {error.start + 1}), in {name}")
    except (ValueError, RecursionError) as error:
        piece.broken(number, f"not JSON ({json_fault(error, lines=True)}), in {name}")


def find(inputs: Sequence[str], view: str, settings: SearchQASection) -> list[InputFile]:
    """Archives, texts, or JSON files: of a folder, what comes first of these, and of that the split."""
    files = []
    for path in map(Path, inputs):
        if not path.is_dir():
            files.append(InputFile(path, _format(path, settings)))
            continue
        found = files_in(path, _ENDINGS)
        ending = next((end for end in _ENDINGS if any(_is(file, end) for file in found)), None)
        if ending is None:
            raise InputError("holds no .zip, no .txt and no .json, nor does a folder in it", path)
        names = {file: _told(file.relative_to(path).as_posix()) for file in found if _is(file, ending)}
        chosen = choose_split(names, settings.split, path, "search-qa")
        origin = path if ending == ".json" else None  # of a file each question the manifest notes the folder
        files += [InputFile(file, _format(file, settings), origin=origin) for file in chosen]
    return files


def _format(path: Path, settings: SearchQASection) -> Format:
    if _is(path, ".json"):
        return JSON_WHOLE
    if _is(path, ".txt"):
        return TEXT_LINES
    if path.suffix == ".zip":
        return Format(partial(_read_zip, split=settings.split))
    refuse_archive(path)
    raise InputError("questions are read from .zip, .txt or .json", path)


def _is(path: Path, ending: str) -> bool:
    return uncompressed_name(path).endswith(ending)


def _told(name: str) -> str:
    """What of a name may tell a split: the file of a question has its category in it, so there only the folders."""
    return str(PurePosixPath(name).parent) if name.endswith(".json") else name


SOURCE = Source(
    name="search-qa",
    description="Clues of Jeopardy!, and what Google found for them",
    inputs="train.zip, train.txt, a folder of JSON files, or the folder of these",
    licence="that of the authors of clues and snippets",
    citation="Dunn et al. 2017, https://arxiv.org/abs/1704.05179",
    find=find,
    views=(
        View(
            "question-snippet",
            "question ↔ each of its first snippets, or these joined",
            read_question,
            num_published=582_261,
        ),
    ),
)
