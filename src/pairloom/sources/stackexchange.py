"""Stack Exchange: the public dumps of its question-and-answer sites.

A dump is XML: ``<row Id PostTypeId Score Title Body …/>`` in ``Posts.xml``, with the HTML of the post in ``Body``.
``PostTypeId`` is 1 for questions and 2 for answers. It comes as ``<site>.7z`` with one XML file a table, and for Stack
Overflow as ``stackoverflow.com-Posts.7z``.

The published models saw 25,316,456 pairs of title and body.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from pairloom.errors import InputError, MissingExtraError
from pairloom.files import open_binary
from pairloom.recipe import StackExchangeSection
from pairloom.records import Pair
from pairloom.sources.source import Intake, Source, View

if TYPE_CHECKING:
    from lxml import etree

QUESTION = "1"
_POSTS_NAMES = ("Posts.xml", "Posts.xml.gz")
# Large sites come as an archive a table; only that of the posts is of use here.
_OTHER_TABLE = re.compile(r"-(?:Badges|Comments|PostHistory|PostLinks|Tags|Users|Votes)\.7z$")

_BLOCK_BYTES = 1 << 16
# What may stand before the root element of a dump: a byte-order mark, the declaration, comments. All within a block.
_PROLOG = re.compile(rb"(?:\xef\xbb\xbf)?\s*+(?:<\?xml\s[^>]*\?>)?\s*+(?:<!--(?:[^-]|-[^-])*-->\s*+)*+")
_ROOT = re.compile(rb"<([A-Za-z_][\w.:-]*)")


class Row(Protocol):
    """A row of a dump, as long as the next one has not been read."""

    sourceline: int | None

    def get(self, key: str, /) -> str | None:
        """The value of an attribute, entities replaced; None if the row has no such attribute."""


def title_body(inputs: Sequence[str], settings: StackExchangeSection, intake: Intake) -> Generator[Pair, None, None]:
    """Title ↔ body of every question."""
    from pairloom.sources.html import html_to_text

    for path in [posts for name in inputs for posts in find_posts(Path(name))]:
        intake.add_file(path)
        with closing(read_rows(path)) as rows:
            for row in rows:
                title, body = row.get("Title"), row.get("Body")
                if row.get("PostTypeId") != QUESTION:
                    intake.drop("not a question")
                elif not title or not body:
                    intake.drop("question without title or body")
                elif _score(row, path) < settings.min_score:
                    intake.drop(f"score below {settings.min_score}")
                else:
                    yield Pair(title, html_to_text(body))


def find_posts(path: Path) -> list[Path]:
    """Finds the posts of an input: a file, a site's folder, or a folder of sites (folders or archives).

    Where a folder has ``Posts.xml`` beside archives, those are what it was unpacked from, and stay unread.

    Raises:
        InputError: Nothing is there, or nothing with posts in it.
    """
    if not path.is_dir():
        if not path.exists():
            raise InputError("no such file or folder", path)
        return [path]
    found = _posts_in(path)
    if not found:
        folders = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
        found = [posts for folder in folders for posts in _posts_in(folder)]
    if not found:
        raise InputError("holds no Posts.xml, no Posts.xml.gz and no .7z, nor does a folder in it", path)
    return found


def _posts_in(folder: Path) -> list[Path]:
    for name in _POSTS_NAMES:
        if (folder / name).is_file():
            return [folder / name]
    return sorted(archive for archive in folder.glob("*.7z") if not _OTHER_TABLE.search(archive.name))


def read_rows(path: Path) -> Generator[Row, None, None]:
    """Yields the rows of ``Posts.xml``, plain, gzipped, or in a 7z archive, in constant memory.

    A document type is refused before the parser sees it: a dump has none, and entities are declared in one.

    Raises:
        InputError: The file is missing, empty, cut, not sound XML, not UTF-8, or not a dump's posts.
    """
    try:
        from lxml import etree
    except ImportError:
        raise MissingExtraError("reading Stack Exchange dumps", "lxml", "data") from None

    parser = etree.XMLPullParser(("end",), tag="row", resolve_entities=False, load_dtd=False, no_network=True)
    with _open_posts(path) as stream:
        block = stream.read(_BLOCK_BYTES)
        _check_prolog(block, path)
        try:
            while block:
                parser.feed(block)
                for _, row in parser.read_events():
                    assert isinstance(row, etree._Element)
                    yield cast("Row", row)
                    _forget(row)
                block = stream.read(_BLOCK_BYTES)
            parser.close()
        except etree.XMLSyntaxError as error:
            # For some faults the exception only says that the document did not end.
            first = next(iter(parser.feed_error_log), None)
            fault, line = (first.message, first.line) if first else (error.msg, error.lineno)
            raise InputError(f"not sound XML ({fault}); if the dump is cut, fetch it again", path, line) from None


def _forget(row: etree._Element) -> None:
    """Empties a row and removes what stands before it, so that the tree stays one block large."""
    row.clear()
    parent = row.getparent()
    while parent is not None and row.getprevious() is not None:
        del parent[0]


def _open_posts(path: Path) -> AbstractContextManager[BinaryIO]:
    if path.suffix != ".7z":
        return open_binary(path)
    from pairloom.sources.archives import open_7z_member

    return open_7z_member(path, "Posts.xml")


def _check_prolog(head: bytes, path: Path) -> None:
    if not head.strip():
        raise InputError("is empty", path)
    prolog = _PROLOG.match(head)
    assert prolog is not None, "every part of it may be missing"
    line = head.count(b"\n", 0, prolog.end()) + 1
    if head.startswith(b"<!", prolog.end()):
        raise InputError("declares a document type or entities, which no dump does; it is not read", path, line)
    root = _ROOT.match(head, prolog.end())
    if root is None:
        raise InputError("not XML in UTF-8", path, line)
    if root[1] != b"posts":
        raise InputError(f"holds <{root[1].decode()}>, not <posts>; give Posts.xml", path, line)


def _score(row: Row, path: Path) -> int:
    score = row.get("Score")
    try:
        return int(score or "")
    except ValueError:
        raise InputError(
            f"post {row.get('Id')} has no score that is a number: {score!r}", path, row.sourceline
        ) from None


SOURCE = Source(
    name="stackexchange",
    description="Questions of Stack Exchange sites",
    inputs="Posts.xml[.gz], a site's .7z, a site's folder, or a folder of sites",
    licence="CC BY-SA",
    citation="Stack Exchange data dump, https://archive.org/details/stackexchange",
    views=(View("title-body", "a question's title ↔ its body", title_body),),
)
