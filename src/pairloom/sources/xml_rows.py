"""Rows of the XML in which Stack Exchange dumps a table: ``<posts><row Id="1" … /><row … /></posts>``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

from pairloom.errors import InputError, MissingExtraError
from pairloom.sources.formats import Format, Numbered, Piece

# A "<" cannot stand in the value of an attribute, so this is the beginning of a row wherever it occurs.
_MARK = b"<row "
# What may stand before the root element of a dump: a byte-order mark, the declaration, comments.
_PROLOG = re.compile(rb"(?:\xef\xbb\xbf)?\s*+(?:<\?xml\s[^>]*\?>)?\s*+(?:<!--(?:[^-]|-[^-])*-->\s*+)*+")
_ROOT = re.compile(rb"<([A-Za-z_][\w.:-]*)\s*(/?)>")


class Row(Protocol):
    """A row of a dump."""

    def get(self, key: str, /) -> str | None:
        """The value of an attribute, entities replaced; None if the row has no such attribute."""


def xml_rows(root: str) -> Format:
    """The rows of a table whose root element has this name. Refuses a document type: entities are declared in one."""
    return Format(partial(_read, root=root.encode()), _MARK, 0)


def _read(piece: Piece, *, root: bytes) -> Numbered:
    content = piece.stream.read()
    begin = _check_head(content, root, piece) if piece.is_first else 0
    end = len(content)
    if piece.is_last and begin < end:
        end = content.rfind(b"</" + root + b">")
        if end < 0:
            raise InputError(f"ends without </{root.decode()}>; the dump is cut, fetch it again", piece.file.path)
    lines = content.count(b"\n", 0, begin)
    rows = content[begin:end]
    etree = _etree()
    try:
        # huge_tree lifts the limit of 10 MB for an attribute, and those on entities, of which there are none.
        parser = etree.XMLParser(resolve_entities=False, load_dtd=False, no_network=True, huge_tree=True)
        tree = etree.fromstring(b"<r>" + rows + b"</r>", parser)
    except etree.XMLSyntaxError:
        yield from _one_by_one(rows, lines, piece)
        return
    for row in tree:
        yield lines + (row.sourceline or 0), row


def _one_by_one(rows: bytes, line: int, piece: Piece) -> Numbered:
    """Reads rows of which at least one is broken."""
    etree = _etree()
    parser = etree.XMLParser(resolve_entities=False, load_dtd=False, no_network=True, huge_tree=True)
    for row in _split(rows):
        line += 1
        if row.strip():
            try:
                yield line, etree.fromstring(row.strip(), parser)
            except etree.XMLSyntaxError as error:
                piece.broken(line, f"not sound XML ({error.msg})")
        line += row.count(b"\n") - 1


def _split(rows: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(rows):
        stop = rows.find(_MARK, start + 1)
        stop = len(rows) if stop < 0 else stop
        yield rows[start:stop]
        start = stop


def _check_head(content: bytes, root: bytes, piece: Piece) -> int:
    """Checks what stands before the first row; returns where that begins."""
    path = piece.file.path
    if not content.strip():
        raise InputError("is empty", path)
    prolog = _PROLOG.match(content)
    assert prolog is not None, "every part of it may be missing"
    line = content.count(b"\n", 0, prolog.end()) + 1
    if content.startswith(b"<!", prolog.end()):
        raise InputError("declares a document type or entities, which no dump does; it is not read", path, line)
    found = _ROOT.match(content, prolog.end())
    if found is None:
        raise InputError("not XML in UTF-8", path, line)
    if found[1] != root:
        raise InputError(f"holds <{found[1].decode()}>, not <{root.decode()}>", path, line)
    return len(content) if found[2] else found.end()


def _etree() -> Any:
    try:
        from lxml import etree
    except ImportError:
        raise MissingExtraError("reading Stack Exchange dumps", "lxml", "data") from None
    return etree
