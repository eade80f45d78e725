"""The two kinds of work that are shared among processes: reading pieces of files, and joining buckets of what was read.

Both give rows that are put aside: parts of the next join, or clean pairs with their hashes.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pairloom.errors import RecordError
from pairloom.pairs.clean import clean_text, text_hash
from pairloom.recipe import SourceSection
from pairloom.records import Pair
from pairloom.sources import SOURCES
from pairloom.sources.formats import InputFile
from pairloom.sources.pieces import Advance, Task, open_piece
from pairloom.sources.source import Intake, Keyed
from pairloom.sources.spill import Orders, Spill, SpillKind, SpillWriter, scatter

_CONSTANTS = {None: "none", False: "false", True: "true"}
_MEANINGS = {word: constant for constant, word in _CONSTANTS.items()}

Index = dict[Path, NDArray[np.int16]]
"""Spill files, and the bucket of every record batch in them."""


@dataclass(frozen=True)
class Job:
    """What a process has to know before it is given tasks.

    Args:
        source: Name of the source.
        view: Name of its view.
        section: The source's settings.
        files: Those that are read.
        folder: Where rows are put aside.
        num_buckets: Into how many buckets.
        num_texts: Of a pair: 2, or 3 with a negative or a past context.
        stage: 0 for reading; n for the view's n-th join.
        index: For a join, what it joins.
    """

    source: str
    view: str
    section: SourceSection
    files: tuple[InputFile, ...]
    folder: Path
    num_buckets: int
    num_texts: int
    stage: int = 0
    index: Index = field(default_factory=dict)


@dataclass
class Done:
    """What came of a task.

    Args:
        num_records: Records read.
        num_pairs: Pairs put aside.
        dropped: What gave no pair, by reason.
        broken: Number and fault of the records that could not be read.
    """

    num_records: int = 0
    num_pairs: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class PutAside:
    """What a process has put aside in all.

    Args:
        pairs: Clean pairs.
        parts: Parts of the next join.
    """

    pairs: Index = field(default_factory=dict)
    parts: Index = field(default_factory=dict)


def pair_kind(num_texts: int) -> SpillKind:
    """Rows of clean texts and their hashes; equal pairs have an equal order."""
    texts = [pa.field(f"text_{number}", pa.large_string()) for number in range(num_texts)]
    hashes = [pa.field(f"hash_{number}", pa.uint64()) for number in range(num_texts)]
    return SpillKind(pa.schema(texts + hashes), partial(_pair_order, num_texts=num_texts))


def _pair_order(table: Any, *, num_texts: int) -> Orders:
    order = np.zeros(table.num_rows, dtype=np.uint64)
    for number in range(num_texts):
        order = scatter(order ^ table.column(f"hash_{number}").to_numpy())
    return order


def _part_order(table: Any) -> Orders:
    return scatter(table.column("key").to_numpy().astype(np.uint64))


PART_KIND = SpillKind(pa.schema([pa.field("key", pa.int64()), pa.field("part", pa.large_binary())]), _part_order)
"""Parts of a join: the key, and kind and fields."""


class Worker:
    """Does one kind of work; everything a process puts aside goes through one of these.

    Args:
        job: What it has to know.
        number: Of the worker, among those of the job.
    """

    def __init__(self, job: Job, number: int) -> None:
        self._job = job
        self._view = SOURCES[job.source].view(job.view)
        self._intake, self._num_pairs = Intake(), 0
        name = f"{job.stage}-{number}.arrow"
        self._pairs_path, self._parts_path = job.folder / f"pairs-{name}", job.folder / f"parts-{name}"
        self._pairs = SpillWriter(self._pairs_path, pair_kind(job.num_texts), job.num_buckets)
        self._parts = SpillWriter(self._parts_path, PART_KIND, job.num_buckets)
        self._spill = Spill(job.index, PART_KIND, job.num_buckets)

    def run(self, task: Task | int, advance: Advance) -> Done:
        """Reads a piece, or joins the bucket of this number."""
        self._intake = Intake()
        self._num_pairs = 0
        done = Done(dropped=self._intake.dropped)
        if isinstance(task, Task):
            self._read(task, done, advance)
        else:
            self._join(task)
            advance(1)
        done.num_pairs = self._num_pairs
        return done

    def finish(self) -> PutAside:
        """Ends the files; returns what is in them."""
        return PutAside({self._pairs_path: self._pairs.close()}, {self._parts_path: self._parts.close()})

    def _read(self, task: Task, done: Done, advance: Advance) -> None:
        section, limit = self._job.section, self._job.section.max_broken_records
        file = self._job.files[task.number]

        def broken(number: int, fault: str) -> None:
            done.broken.append((number, fault))
            if len(done.broken) > limit:
                raise _TooManyBrokenError

        try:
            with open_piece(task, file, broken, advance) as piece:
                for number, record in file.format.read(piece):
                    done.num_records += 1
                    try:
                        for item in self._view.read(record, file, section, self._intake):
                            self._put(item)
                    except RecordError as error:
                        broken(number, str(error))
        except _TooManyBrokenError:
            pass  # who hands out the tasks stops when it sees them

    def _join(self, bucket: int) -> None:
        join = self._view.joins[self._job.stage - 1]
        table = self._spill.bucket(bucket)
        keys = table.column("key").to_numpy()
        places = np.argsort(keys, kind="stable")
        keys, ordered = keys[places], places.tolist()
        parts = table.column("part").to_pylist()
        del table
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        for start, stop in zip(starts.tolist(), np.append(starts, len(keys))[1:].tolist(), strict=True):
            key = int(keys[start])
            # Sorted, so that what is made of a group does not depend on who read which part first.
            group = [_decode(key, part) for part in sorted(parts[place] for place in ordered[start:stop])]
            for item in join(group, self._job.section, self._intake):
                self._put(item)

    def _put(self, item: Pair | Keyed) -> None:
        if isinstance(item, Keyed):
            part = _encode(item)
            self._parts.write((item.key, part), len(part))
            return
        texts = [clean_text(text) for text in item.texts]
        reason = _wrong_length(texts, self._job.section)
        if reason is None:
            hashes = [text_hash(text) for text in texts]
            if len(set(hashes)) == len(hashes):
                self._pairs.write((*texts, *hashes), sum(map(len, texts)))
                self._num_pairs += 1
                return
            reason = "two texts of it are the same"
        self._intake.drop(reason)


class _TooManyBrokenError(Exception):
    pass


def _encode(item: Keyed) -> bytes:
    """A line with a word for each field, and then the texts, which JSON would go through letter by letter."""
    words, texts = [], []
    for value in (item.kind, *item.fields):
        if isinstance(value, str):
            # Half a surrogate pair is no UTF-8, but JSON of a dump may have one; cleaning replaces it.
            text = value.encode("utf-8", "surrogatepass")
            texts.append(text)
            words.append(f"s{len(text)}")
        elif isinstance(value, bool | None):
            words.append(_CONSTANTS[value])
        else:
            words.append(str(operator.index(value)))
    return b"".join((" ".join(words).encode(), b"\n", *texts))


def _decode(key: int, part: bytes) -> Keyed:
    begin = part.index(b"\n") + 1
    fields: list[Any] = []
    for word in part[: begin - 1].decode().split(" "):
        if word[0] == "s":
            end = begin + int(word[1:])
            fields.append(part[begin:end].decode("utf-8", "surrogatepass"))
            begin = end
        else:
            fields.append(_MEANINGS[word] if word in _MEANINGS else int(word))
    return Keyed(key, fields[0], tuple(fields[1:]))


def _wrong_length(texts: Sequence[str], section: SourceSection) -> str | None:
    anchor, positive = len(texts[0]), len(texts[1])
    if not all(texts):
        return "a text is empty"
    if anchor < section.anchor_min_chars:
        return f"anchor shorter than {section.anchor_min_chars} characters"
    if section.anchor_max_chars is not None and anchor > section.anchor_max_chars:
        return f"anchor longer than {section.anchor_max_chars} characters"
    if positive < section.positive_min_chars:
        return f"positive shorter than {section.positive_min_chars} characters"
    if section.positive_max_chars is not None and positive > section.positive_max_chars:
        return f"positive longer than {section.positive_max_chars} characters"
    return None
