"""Tasks of response selection: candidate sets of a fixed size, in one file of JSON lines.

The first line says how many pairs make a set; each other line is a pair, what is said and what answers it:

    {"candidates": 100}
    ["What do you cook on Sundays?", "Soup, mostly. It keeps."]
    …

The first 100 pairs are a set, and so are the next 100. Each query must find its own response among those of its set. Since
the sets are fixed, every model has the same ones before it, in every run. The file may be gzipped.

References: Henderson et al. 2019, *A Repository of Conversational Datasets*, https://arxiv.org/abs/1904.06472: there the
sets are random batches of 100 test pairs (1-of-100 accuracy).
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairloom.errors import InputError
from pairloom.files import read_json_lines

_HINT = 'the first line says how many pairs make a set, such as {"candidates": 100}'
_SHOWN_CHARACTERS = 60
# All scores of a set are held at once; to find one of more texts is retrieval.
_MAX_SET_SIZE = 10_000


@dataclass(frozen=True)
class SelectionTask:
    """Queries, and for each the response to find among those of its set.

    Args:
        name: The file's name, or its folder's.
        queries: What is said, set by set.
        responses: What answers it, at the same places.
        set_size: How many pairs make a set; of as many pairs there are one or several times so many.
        remarks: What a reader of the numbers should know about the data.
    """

    name: str
    queries: tuple[str, ...]
    responses: tuple[str, ...]
    set_size: int
    remarks: tuple[str, ...] = ()

    @property
    def num_sets(self) -> int:
        """Of candidates."""
        return len(self.queries) // self.set_size


def read_selection(path: Path, name: str) -> SelectionTask:
    """Reads and checks a file of candidate sets.

    Args:
        path: The file.
        name: Of the task.

    Raises:
        InputError: Something in it is wrong; the message names the line.
    """
    lines = read_json_lines(path)
    number, first = next(lines, (1, None))
    if first is None:
        raise InputError(f"is empty; {_HINT}", path)
    set_size = _set_size(path, number, first)
    pairs = [_pair(path, number, record) for number, record in lines]
    if not pairs:
        raise InputError("holds no pair below the first line", path)
    if left_over := len(pairs) % set_size:
        raise InputError(
            f"holds {len(pairs):,} pairs, which make no whole number of sets of {set_size:,}; remove {left_over:,} of them "
            f"or add {set_size - left_over:,}",
            path,
        )
    queries, responses = zip(*pairs, strict=True)
    num_repeated = sum(
        _num_repeated(responses[begin : begin + set_size]) for begin in range(0, len(responses), set_size)
    )
    remarks = (f"responses that occur twice in their set, and so are never right: {num_repeated:,}",)
    return SelectionTask(name, queries, responses, set_size, remarks if num_repeated else ())


def _set_size(path: Path, number: int, record: Any) -> int:
    if not isinstance(record, dict) or "candidates" not in record:
        raise InputError(f"is {_shown(record)}, but {_HINT}", path, number)
    size = record["candidates"]
    if isinstance(size, bool) or not isinstance(size, int) or not 2 <= size <= _MAX_SET_SIZE:
        raise InputError(f"candidates is {_shown(size)}, not a whole number from 2 to {_MAX_SET_SIZE:,}", path, number)
    return size


def _pair(path: Path, number: int, record: Any) -> tuple[str, str]:
    match record:
        case [str(query), str(response)]:
            for text, what in ((query, "query"), (response, "response")):
                if not text.strip():
                    raise InputError(f"its {what} has no text", path, number)
            return query, response
    raise InputError(f"is {_shown(record)}, not a pair of two texts: [query, response]", path, number)


def _num_repeated(texts: tuple[str, ...]) -> int:
    return sum(count for count in Counter(texts).values() if count > 1)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
