"""Stack Exchange: the public dumps of its question-and-answer sites.

A dump has an XML file a table. In ``Posts.xml`` a row is ``<row Id PostTypeId Score Title Body Tags ParentId
AcceptedAnswerId …/>``: ``PostTypeId`` is 1 for questions and 2 for answers, whose ``ParentId`` is the question; ``Body``
is HTML. Dumps before 2024 have the tags as ``<a><b>``, later ones as ``|a|b|``; no view needs them. In ``PostLinks.xml``
``LinkTypeId`` 3 says that ``PostId`` was closed as a duplicate of ``RelatedPostId``. A site comes as ``<site>.7z`` with
all tables, Stack Overflow as ``stackoverflow.com-Posts.7z``, ``stackoverflow.com-PostLinks.7z`` and so on.

The cards of the published models count 25,316,456 pairs of title and body, 21,396,559 of title and answer, and 304,525
pairs of duplicate titles. The texts are CC BY-SA.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pairloom.errors import InputError, RecordError
from pairloom.pairs.clean import clean_text
from pairloom.recipe import StackExchangeSection
from pairloom.records import Pair
from pairloom.sources.formats import InputFile
from pairloom.sources.source import Intake, Keyed, Source, View
from pairloom.sources.xml_rows import Row, xml_rows

_QUESTION, _ANSWER = "1", "2"
_DUPLICATE = "3"
_POSTS = ("Posts", "posts")
_LINKS = ("PostLinks", "links")
_FORMATS = {"posts": xml_rows("posts"), "links": xml_rows("postlinks")}
# Large sites come as an archive a table.
_TABLE_ARCHIVE = re.compile(r"-(Badges|Comments|PostHistory|PostLinks|Posts|Tags|Users|Votes)\.7z$")
_DUPLICATE_VIEWS = ("duplicate-titles", "duplicate-bodies", "duplicate-title-body")

# Sites are numbered; a post of one must not meet those of another.
_ID_BITS = 48


def read_title_body(row: Row, file: InputFile, settings: StackExchangeSection, intake: Intake) -> Iterator[Pair]:
    """A question's title ↔ its body."""
    question = _question(row, settings, intake)
    if question is not None:
        yield Pair(question[0], _text(question[1]))


def read_titles(row: Row, file: InputFile, settings: StackExchangeSection, intake: Intake) -> Iterator[Keyed]:
    """Titles of questions, and answers, to be joined by the question."""
    return read_posts(row, file, settings, intake, bodies=False)


def read_posts(
    row: Row, file: InputFile, settings: StackExchangeSection, intake: Intake, *, bodies: bool = True
) -> Iterator[Keyed]:
    """Questions and answers, to be joined by the question."""
    kind = row.get("PostTypeId")
    if kind == _ANSWER:
        body = row.get("Body")
        if not body:
            intake.drop("answer without body")
        else:
            number, question = _number(row, "Id"), _number(row, "ParentId")
            yield Keyed(_key(file, question), "answer", (-_score(row), number, body))
    else:
        post = _question(row, settings, intake)
        if post is not None:
            title, body = post
            accepted = row.get("AcceptedAnswerId") or ""
            yield Keyed(_key(file, _number(row, "Id")), "question", (title, body if bodies else "", accepted))


def join_title_answer(group: list[Keyed], settings: StackExchangeSection, intake: Intake) -> Iterator[Pair]:
    """A question's title ↔ its best answer."""
    for title, _, best, _ in _answered(group, settings, intake):
        yield Pair(title, best)


def join_title_body_answer(group: list[Keyed], settings: StackExchangeSection, intake: Intake) -> Iterator[Pair]:
    """A question's title and body ↔ its best answer."""
    for title, body, best, _ in _answered(group, settings, intake):
        if (both := _both(title, body, settings, intake)) is not None:
            yield Pair(both, best)


def join_best_worst(group: list[Keyed], settings: StackExchangeSection, intake: Intake) -> Iterator[Pair]:
    """A question's title and body ↔ its best answer, and its worst as a negative."""
    for title, body, best, others in _answered(group, settings, intake):
        (best_score, *_), (worst_score, _, worst_html) = others[0], others[-1]
        if len(others) < 2 or not (
            worst_score <= settings.worst_max_score or best_score - worst_score >= settings.worst_min_gap
        ):
            intake.drop("question without a bad answer")
            continue
        worst = clean_text(_text(worst_html))
        if not _fits(worst, settings):
            intake.drop("worst answer too short or too long")
        elif (both := _both(title, body, settings, intake)) is not None:
            yield Pair(both, best, (worst,))


def read_links(row: Row, file: InputFile, settings: StackExchangeSection, intake: Intake) -> Iterator[Keyed]:
    """Questions, and which is a duplicate of which, to be joined by the duplicate and then by its original."""
    if file.role == "links":
        if row.get("LinkTypeId") != _DUPLICATE:
            intake.drop("link that is not to a duplicate")
        else:
            duplicate, original = _number(row, "PostId"), _number(row, "RelatedPostId")
            yield Keyed(_key(file, duplicate), "link", (_key(file, original),))
    else:
        post = _question(row, settings, intake)
        if post is not None:
            yield Keyed(_key(file, _number(row, "Id")), "question", post)


def join_duplicate(group: list[Keyed], settings: StackExchangeSection, intake: Intake) -> Iterator[Keyed]:
    """Sends each duplicate to its original; every question may be one."""
    question = next((part.fields for part in group if part.kind == "question"), None)
    for part in group:
        if part.kind == "question":
            yield part
        elif question is None:
            intake.drop("duplicate that is not among the questions kept")
        else:
            yield Keyed(part.fields[0], "duplicate", question)


def join_original_titles(group: list[Keyed], settings: StackExchangeSection, intake: Intake) -> Iterator[Pair]:
    """The titles of a question and its original."""
    for duplicate, original in _duplicates(group, intake):
        yield Pair(duplicate[0], original[0])


def join_original_bodies(group: list[Keyed], settings: StackExchangeSection, intake: Intake) -> Iterator[Pair]:
    """The bodies of a question and its original."""
    for duplicate, original in _duplicates(group, intake):
        yield Pair(_text(duplicate[1]), _text(original[1]))


def join_original_posts(group: list[Keyed], settings: StackExchangeSection, intake: Intake) -> Iterator[Pair]:
    """Title and body of a question and of its original."""
    for duplicate, original in _duplicates(group, intake):
        both = [_both(*post, settings, intake) for post in (duplicate, original)]
        if both[0] is not None and both[1] is not None:
            yield Pair(both[0], both[1])


def _answered(
    group: list[Keyed], settings: StackExchangeSection, intake: Intake
) -> Iterator[tuple[str, str, str, list[tuple[int, int, str]]]]:
    """Title, body (HTML), best answer (text), and all answers as (score, id, HTML), the best first.

    The best has the highest score; of equals the accepted one, then the oldest.
    """
    questions = [part.fields for part in group if part.kind == "question"]
    answers = [part.fields for part in group if part.kind == "answer"]
    if not questions:
        for _ in answers:
            intake.drop("answer to a question that was not kept")
        return
    title, body, accepted = questions[0]
    if not answers:
        intake.drop("question without answer")
        return
    answers.sort(key=lambda answer: (answer[0], str(answer[1]) != accepted, answer[1]))
    others = [(-negated, number, html) for negated, number, html in answers]
    best = clean_text(_text(others[0][2]))
    if others[0][0] < settings.min_score:
        intake.drop(f"best answer's score below {settings.min_score}")
    elif not _fits(best, settings):
        intake.drop("best answer too short or too long")
    else:
        yield title, body, best, others


def _duplicates(group: list[Keyed], intake: Intake) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    original = next((part.fields for part in group if part.kind == "question"), None)
    for part in group:
        if part.kind == "duplicate":
            if original is None:
                intake.drop("original that is not among the questions kept")
            else:
                yield (part.fields[0], part.fields[1]), (original[0], original[1])


def _question(row: Row, settings: StackExchangeSection, intake: Intake) -> tuple[str, str] | None:
    """Title and body (HTML) of a question that the filters let through."""
    if row.get("PostTypeId") != _QUESTION:
        intake.drop("not a question" if row.get("PostTypeId") == _ANSWER else "neither question nor answer")
        return None
    title, body = row.get("Title"), row.get("Body")
    if not title or not body:
        intake.drop("question without title or body")
        return None
    if _score(row) < settings.min_score:
        intake.drop(f"score below {settings.min_score}")
        return None
    title = clean_text(title)
    if len(title) < settings.anchor_min_chars:
        intake.drop(f"title shorter than {settings.anchor_min_chars} characters")
        return None
    return title, body


def _both(title: str, body: str, settings: StackExchangeSection, intake: Intake) -> str | None:
    text = clean_text(_text(body))
    if not _fits(text, settings):
        intake.drop("question's body too short or too long")
        return None
    return f"{title} {text}"


def _fits(body: str, settings: StackExchangeSection) -> bool:
    longest = settings.positive_max_chars
    return settings.positive_min_chars <= len(body) and (longest is None or len(body) <= longest)


def _text(html: str) -> str:
    from pairloom.sources.html import html_to_text

    return html_to_text(html)


def _key(file: InputFile, number: int) -> int:
    return file.group << _ID_BITS | number


def _number(row: Row, name: str) -> int:
    value = row.get(name)
    if value is None or not value.isdecimal() or int(value) >> _ID_BITS:
        raise RecordError(f"row {row.get('Id')} has no {name} that is a number: {value!r}")
    return int(value)


def _score(row: Row) -> int:
    score = row.get("Score")
    try:
        return int(score or "")
    except ValueError:
        raise RecordError(f"post {row.get('Id')} has no score that is a number: {score!r}") from None


def find(inputs: Sequence[str], view: str, settings: StackExchangeSection) -> list[InputFile]:
    """The posts of each site, and its links if the view needs them."""
    files = []
    for group, (posts, links) in enumerate(site for name in inputs for site in find_sites(Path(name))):
        files.append(_file(posts, *_POSTS, group))
        if view in _DUPLICATE_VIEWS:
            if links is None:
                raise InputError("has no PostLinks beside it, which tells the duplicates", posts)
            files.append(_file(links, *_LINKS, group))
    return files


def _file(path: Path, table: str, role: str, group: int) -> InputFile:
    return InputFile(path, _FORMATS[role], role, group, f"{table}.xml" if path.suffix == ".7z" else None)


def find_sites(path: Path) -> list[tuple[Path, Path | None]]:
    """Finds posts and links of each site of an input: a file, a site's folder, or a folder of sites.

    Where a folder has ``Posts.xml`` beside archives, those are what it was unpacked from, and stay unread.

    Raises:
        InputError: Nothing is there, or nothing with posts in it.
    """
    if not path.is_dir():
        if not path.exists():
            raise InputError("no such file or folder", path)
        return [(path, _links_beside(path))]
    found = _posts_in(path)
    if not found:
        folders = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
        found = [posts for folder in folders for posts in _posts_in(folder)]
    if not found:
        raise InputError("holds no Posts.xml, no Posts.xml.gz and no .7z, nor does a folder in it", path)
    return [(posts, _links_beside(posts)) for posts in found]


def _posts_in(folder: Path) -> list[Path]:
    if (posts := _table(folder, "Posts")) is not None:
        return [posts]
    archives = sorted(folder.glob("*.7z"))
    return [path for path in archives if (table := _TABLE_ARCHIVE.search(path.name)) is None or table[1] == "Posts"]


def _links_beside(posts: Path) -> Path | None:
    if posts.suffix != ".7z":
        return _table(posts.parent, "PostLinks")
    if _TABLE_ARCHIVE.search(posts.name) is None:
        return posts  # all tables in one
    links = posts.with_name(_TABLE_ARCHIVE.sub("-PostLinks.7z", posts.name))
    return links if links.is_file() else None


def _table(folder: Path, name: str) -> Path | None:
    paths = (folder / f"{name}.xml{suffix}" for suffix in ("", ".gz", ".bz2", ".xz", ".zst"))
    return next((path for path in paths if path.is_file()), None)


SOURCE = Source(
    name="stackexchange",
    description="Questions and answers of Stack Exchange sites",
    inputs="Posts.xml[.gz], a site's .7z, a site's folder, or a folder of sites",
    licence="CC BY-SA",
    citation="Stack Exchange data dump, https://archive.org/details/stackexchange",
    find=find,
    views=(
        View("title-body", "a question's title ↔ its body", read_title_body, num_published=25_316_456),
        View("title-answer", "title ↔ best answer", read_titles, (join_title_answer,), num_published=21_396_559),
        View("title-body-answer", "title and body ↔ best answer", read_posts, (join_title_body_answer,)),
        View(
            "best-worst",
            "title and body ↔ best answer, and the worst as a negative",
            read_posts,
            (join_best_worst,),
            num_negatives=1,
        ),
        View(
            "duplicate-titles",
            "titles of duplicates",
            read_links,
            (join_duplicate, join_original_titles),
            num_published=304_525,
        ),
        View("duplicate-bodies", "bodies of duplicates", read_links, (join_duplicate, join_original_bodies)),
        View("duplicate-title-body", "title and body of duplicates", read_links, (join_duplicate, join_original_posts)),
    ),
)
