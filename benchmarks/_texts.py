"""Texts to measure with: a file of the user's, or docstrings of this environment."""

from __future__ import annotations

import itertools
from pathlib import Path

from pairloom.encode.inputs import read_texts
from pairloom.recipe import PythonDocsSection
from pairloom.records import Pair
from pairloom.sources.python_docs import find, read_docstrings, split_docstring

# One in so many, so that a sample is not all from the first package.
_STRIDE = 17


def read_sample(path: Path | None, field: str | None, count: int) -> list[str]:
    """``count`` texts of a file, or descriptions from docstrings."""
    if path is not None:
        return [text.text for text in itertools.islice(read_texts(path, field), count)]
    return [pair.positive for pair in read_pairs(count)]


def read_pairs(count: int) -> list[Pair]:
    """``count`` docstrings: summary and description."""
    modules = (file.path.read_bytes() for file in find([], "summary-description", PythonDocsSection()))
    docstrings = (docstring for source in modules for docstring in read_docstrings(source) or ())
    pairs = filter(None, map(split_docstring, docstrings))
    return list(itertools.islice(pairs, 0, count * _STRIDE, _STRIDE))
