"""Values that are written as Python writes them: some corpora were dumped with ``print``."""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

from pairloom.errors import RecordError

_MAX_CHARS = 16 << 20
# What is outside strings becomes objects of a syntax tree, which are a hundred times larger.
_MAX_STRUCTURE_CHARS = 1 << 18
_MAX_DEPTH = 20

# A string that does not end takes all the rest: searching on behind its beginning would take quadratic time.
_STRING = re.compile(r"""'[^'\\]*(?:\\.[^'\\]*)*(?:'|\Z)|"[^"\\]*(?:\\.[^"\\]*)*(?:"|\Z)""", re.DOTALL)
_BRACKET = re.compile(r"[\[({]|[\])}]")


def read_literal(text: str) -> Any:
    """Reads lists, dicts, texts, numbers and the like; nothing is run, and size and depth are bounded.

    Raises:
        RecordError: It is something else, or too large.
    """
    _check_size(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in somebody's string is not our affair
            return ast.literal_eval(text.strip())
    except SyntaxError as error:
        raise RecordError(f"not a Python literal ({error.msg[:80]})") from None
    except (ValueError, TypeError, RecursionError, MemoryError):  # the last is how a too deep nesting shows
        raise RecordError("not a Python literal") from None


def _check_size(text: str) -> None:
    if len(text) > _MAX_CHARS:
        raise RecordError(f"a Python literal of {len(text):,} characters, more than the {_MAX_CHARS:,} that are read")
    structure = _STRING.sub("", text)
    if len(structure) > _MAX_STRUCTURE_CHARS:
        raise RecordError("a Python literal with too many values to be read")
    depth = 0
    for bracket in _BRACKET.findall(structure):
        depth += 1 if bracket in "[({" else -1
        if depth > _MAX_DEPTH:
            raise RecordError(f"a Python literal nested deeper than {_MAX_DEPTH} levels")
