"""Characters that are written as ``&amp;`` in text that is otherwise plain."""

from __future__ import annotations

import re
from html import unescape

# Without the semicolon, as HTML allows it, an address such as ``?a=1&copy=2`` would lose its meaning.
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")


def replace_entities(text: str) -> str:
    """Puts the characters in the place of their names and numbers; the halves of a surrogate pair stay halves.

    `pairloom.pairs.clean.clean_text` joins these: there are dumps that write an emoji as two numbers.
    """
    return _ENTITY.sub(_character, text) if "&" in text else text


def _character(entity: re.Match[str]) -> str:
    name = entity[0][1:-1]
    if name.startswith("#"):
        number = int(name[2:], 16) if name[1] in "xX" else int(name[1:])
        if 0xD800 <= number <= 0xDFFF:
            return chr(number)
    return unescape(entity[0])
