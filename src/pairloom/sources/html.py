"""HTML to readable text."""

from __future__ import annotations

import re
from html import unescape

from pairloom.errors import MissingExtraError

try:
    from lxml import etree
except ImportError:
    raise MissingExtraError("reading HTML", "lxml", "data") from None

# Where a browser would begin a new line or a new cell. The text of two such elements must not run together.
_BLOCKS = (
    "address article aside blockquote br caption center dd details div dl dt fieldset figcaption figure footer form h1 h2"
    " h3 h4 h5 h6 header hr iframe img legend li main nav ol option p pre section summary table tbody td tfoot th thead"
    " tr ul"
).split()
_BLOCK_TAG = re.compile(rf"<(?=/?(?:{'|'.join(_BLOCKS)})\b)", re.IGNORECASE)
_LIST_ITEM = re.compile(r"<li(?:\s[^<>]*)?>", re.IGNORECASE)
_ANY_TAG = re.compile(r"<(/?)[a-zA-Z][^<>]*>")
_SAFE_TAGS = 1000
_NOT_TEXT = ("script", "style", "template", "head")

# Tags as nearly all posts have them, and what stands for each in the text.
_PLAIN_TAG = re.compile(r"""<(/?[a-z][a-z0-9]*+)(?:\s++[a-z-]++(?:="[^"<>]*+")?+)*+\s*+/?>""")
_INLINE = "a abbr b big cite code del em font i ins kbd mark q s samp small span strike strong sub sup tt u var".split()
_SEPARATORS = {f"{slash}{name}": "" for slash in ("", "/") for name in _INLINE}
_SEPARATORS |= {f"{slash}{name}": " " for slash in ("", "/") for name in _BLOCKS if name not in ("iframe", "option")}
_SEPARATORS["li"] = " - "

# Bytes with a known encoding: a <meta> tag or an XML declaration inside the text has no say.
_PARSER = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True, huge_tree=True)


def html_to_text(html: str) -> str:
    """Takes the markup out of a piece of HTML, as a reader would see it.

    Entities become characters; code keeps its text; list items begin with a dash; blocks, line breaks and table cells
    are set apart, whereas inline elements are not (``10<sup>2</sup>`` is ``102``). Scripts, styles and comments go.
    White space is as it comes; `clean_text` folds it.

    Plain mark-up, which most posts have, is taken out by a regular expression. Whatever holds anything else (comments,
    scripts, tags that are not closed, capital letters) goes through an HTML parser.
    """
    if "<" not in html and "&" not in html:
        return html
    parts = _PLAIN_TAG.split(html)
    try:
        parts[1::2] = map(_SEPARATORS.__getitem__, parts[1::2])
    except KeyError:
        return _parsed(html)
    text = "".join(parts)
    return _parsed(html) if "<" in text else unescape(text)


def _parsed(html: str) -> str:
    """The same by an HTML parser. Spaces are put in before, so that parsing and gathering happen in C."""
    spaced = _BLOCK_TAG.sub(" <", _LIST_ITEM.sub(r"\g<0>- ", html))
    if spaced.count("<") > _SAFE_TAGS:
        # Beyond a depth of some thousand libxml2 stops, without a word, and the rest would be lost.
        depth = deepest = 0
        for closing in _ANY_TAG.findall(spaced):
            depth += -1 if closing else 1
            deepest = max(deepest, depth)
        if deepest > _SAFE_TAGS:
            return unescape(_ANY_TAG.sub(" ", spaced))
    root: etree._Element | None = etree.fromstring(spaced.encode("utf-8", "replace"), _PARSER)
    if root is None:  # nothing but comments
        return ""
    etree.strip_elements(root, *_NOT_TEXT, with_tail=False)
    return etree.tostring(root, method="text", encoding="unicode")
