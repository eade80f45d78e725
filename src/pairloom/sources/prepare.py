"""A raw dump becomes shards, and a held-out task if one is wanted.

1. The files are read in pieces; each record becomes pairs, or parts of a join. Pairs are cleaned, filtered and put
   aside; so are the parts, by their key.
2. Each join collects what has the same key, bucket by bucket, and makes pairs of it, or parts of the next join.
3. The pairs are brought together bucket by bucket, each once, and written.

Several processes share the first two. Nothing that is held in memory grows with the dump.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from pairloom.artifacts import Draft, new_artifact, new_file, resolved
from pairloom.errors import InputError, UsageError
from pairloom.pairs.clean import clean_text, text_hash
from pairloom.pairs.holdout import Hashes, HeldOutTask
from pairloom.pairs.selection import SET_SIZE, HeldOutSelection, choose_held_out_pairs, is_selection_file
from pairloom.pairs.shards import Layout, new_shards
from pairloom.progress import meter
from pairloom.recipe import SourceSection, SourcesSection
from pairloom.sources import SOURCES
from pairloom.sources.distinct import Distinct, choose, write_all
from pairloom.sources.formats import InputFile
from pairloom.sources.origins import Origins
from pairloom.sources.pieces import Task, line_number, plan
from pairloom.sources.pool import run
from pairloom.sources.source import Source, View
from pairloom.sources.spill import Spill, choose_num_buckets
from pairloom.sources.work import Done, Index, Job, pair_kind

_MANY_BYTES = 64 << 20  # what one process reads while others would still be starting

_NUM_PLACES = 10  # of broken records that the manifest names

# How much larger what a compressed file holds is, roughly; it only decides about the number of buckets.
_EXPANSION = {".gz": 4, ".bz2": 6, ".xz": 7, ".zst": 8, ".7z": 7, ".zip": 4}


def prepare(
    source: str,
    inputs: Sequence[str | Path],
    view: str | None,
    out: Path,
    *,
    settings: SourcesSection | None = None,
    holdout: int = 0,
    holdout_documents: int = 0,
    holdout_out: Path | None = None,
    seed: int = 0,
    exclude: Mapping[str, Iterable[str]] | None = None,
    num_processes: int | None = 1,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Makes shards of a corpus: its pairs, cleaned, filtered, each once; and holds some out as a retrieval task.

    Both folders appear whole or not at all. The same pairs give the same shards, whatever the order of the inputs and
    the number of processes. While it works it needs about as much disk beside ``out`` as the texts have.

    Args:
        source: A name in `SOURCES`.
        inputs: What the source calls its inputs.
        view: One of the source's views; None for its first.
        out: Where the shards shall stand.
        settings: The filters of all sources.
        holdout: Anchors to hold out as queries; for candidate sets, pairs, and a multiple of 100.
        holdout_documents: Documents that the task shall have at least; by default as many as ``holdout`` brings.
        holdout_out: Where the task shall stand: a folder in BEIR layout, or, if its name ends in ``.jsonl`` or
            ``.jsonl.gz``, a file of candidate sets of 100.
        seed: Of the choice of what is held out.
        exclude: Texts that no pair may have, by the name of the task that they come from.
        num_processes: How many share the reading; None for one a core where there is enough to read. More than one need
            a main module that can be imported.
        show_progress: Whether to report on stderr.

    Returns:
        The manifest's facts, and the paths ``out`` and ``holdout_out``.

    Raises:
        UsageError: An unknown source or view, or a hold-out that cannot be.
        InputError: An input cannot be read, or no pair is left.
        ArtifactError: Something stands where a folder is to be made, or the disk is full.
    """
    chosen, chosen_view = _choose(source, view)
    if not inputs and chosen.needs_inputs:
        raise UsageError(f"{source} needs an input: {chosen.inputs}")
    if num_processes is not None and num_processes < 1:
        raise UsageError(f"{num_processes} processes cannot read anything; ask for one or more")
    holdout_documents = _check_holdout(holdout, holdout_documents, holdout_out, out)
    section: SourceSection = getattr(settings or SourcesSection(), source.replace("-", "_"))
    files = chosen.find([str(name) for name in inputs], chosen_view.name, section)
    for file in files:
        if not file.path.is_file():
            raise InputError(
                "is no regular file; give a file" if file.path.exists() else "no such file or folder", file.path
            )
    layout = Layout(chosen_view.columns)
    excluded = {name: _hashes(texts) for name, texts in (exclude or {}).items()}
    with ExitStack() as stack:
        # The task is entered first and so finished last: when its turn comes, the shards are done.
        draft = stack.enter_context(_new_task(holdout_out)) if holdout_out else None
        shards = stack.enter_context(new_shards(out, layout))
        origins = stack.enter_context(Origins(files))
        reading = _Reading(chosen, chosen_view, section, files, shards.folder, layout)
        pairs = reading.run(num_processes, show_progress)
        distinct = Distinct(
            Spill(pairs, pair_kind(reading.num_texts), reading.num_buckets), reading.num_texts, excluded
        )
        task: HeldOutTask | HeldOutSelection | None = None
        if pairs and holdout_out is not None and is_selection_file(holdout_out):
            chosen_pairs = choose_held_out_pairs(
                distinct.hashes, num_pairs=holdout, num_in_all=reading.num_pairs, seed=seed
            )
            task = HeldOutSelection(chosen_pairs, anchor_answers=chosen_view.anchor_answers)
        elif pairs and holdout_out is not None:
            task = HeldOutTask(choose(distinct, holdout, holdout_documents, seed))
        with meter("Writing", total=reading.num_pairs, unit="pairs", show=show_progress) as bar:
            num_held_out = write_all(distinct, shards, reading.dropped, bar.advance, task=task)
        shutil.rmtree(reading.folder)
        if shards.num_rows == 0:
            raise InputError(_nothing_left(reading.dropped, reading.broken))
        facts = {
            **_facts(chosen, chosen_view, section),
            "num_records": reading.num_records,
            "dropped": {reason: count for reason, count in reading.dropped.most_common() if count},
            "broken": reading.broken,
            "excluded": {name: len(texts) for name, texts in excluded.items()},
            "holdout": None,
            "origins": origins.result(),
        }
        if task is not None and draft is not None:
            facts["holdout"] = {"seed": seed, "num_pairs": num_held_out, **task.write(draft.path)}
            draft.facts |= facts
        shards.facts |= facts
    columns = list(layout.columns)
    paths = {"out": str(out), "holdout_out": str(holdout_out) if holdout_out else None}
    return {**facts, **shards.facts, "num_rows": shards.num_rows, "columns": columns, **paths}


class _Reading:
    """The part of the work that is shared: from files to clean pairs, put aside."""

    def __init__(
        self,
        source: Source,
        view: View,
        section: SourceSection,
        files: Sequence[InputFile],
        folder: Path,
        layout: Layout,
    ) -> None:
        self._source, self._view, self._section, self._files = source, view, section, tuple(files)
        self.folder = folder / "aside"
        self.folder.mkdir()
        self.num_texts = len(layout.columns)
        self._num_bytes = sum(map(_expanded_bytes, self._files))
        self.num_buckets = choose_num_buckets(self._num_bytes)
        self.num_records = 0
        self.num_pairs = 0
        self.dropped: Counter[str] = Counter()
        self.broken: dict[str, Any] = {"count": 0, "places": []}
        self._records_of = [0] * len(self._files)

    def run(self, num_processes: int | None, show_progress: bool) -> Index:
        """Reads and joins everything; returns where the pairs are."""
        if num_processes is None:
            num_processes = (os.cpu_count() or 1) if self._num_bytes > _MANY_BYTES else 1
        pairs: Index = {}
        parts: Index = {}
        total = sum({file.path: file.path.stat().st_size for file in self._files}.values())
        for stage in range(len(self._view.joins) + 1):
            job = Job(
                source=self._source.name,
                view=self._view.name,
                section=self._section,
                files=self._files,
                folder=self.folder,
                num_buckets=self.num_buckets,
                num_texts=self.num_texts,
                stage=stage,
                index=parts,
            )
            with ExitStack() as stack:
                bar = stack.enter_context(
                    meter(f"Reading {self._source.name}", total=total, unit="bytes", show=show_progress)
                    if stage == 0
                    else meter("Joining", total=self.num_buckets, unit="buckets", show=show_progress)
                )
                tasks: Iterator[Task | int] = (
                    stack.enter_context(closing(self._plan(bar.advance)))
                    if stage == 0
                    else iter(range(self.num_buckets))
                )
                done = run(job, tasks, num_processes=num_processes, advance=bar.advance, each=self._account)
            for path in parts:
                path.unlink(missing_ok=True)
            parts = done.parts
            pairs |= done.pairs
            if stage == 0:
                self._check_all_read()
        return pairs

    def _plan(self, advance: Callable[[int], None]) -> Generator[Task, None, None]:
        for number, file in enumerate(self._files):
            yield from plan(number, file, advance)

    def _account(self, task: Task | int, done: Done) -> None:
        self.num_records += done.num_records
        self.num_pairs += done.num_pairs
        self.dropped += done.dropped
        if isinstance(task, int):
            return
        self._records_of[task.number] += done.num_records + len(done.broken)
        if not done.broken:
            return
        file = self._files[task.number]
        self.broken["count"] += len(done.broken)
        room = _NUM_PLACES - len(self.broken["places"])
        for line, fault in done.broken[: max(room, 0)]:
            self.broken["places"].append(str(InputError(fault, file.path, line_number(task, file, line))))
        limit = self._section.max_broken_records
        if self.broken["count"] > limit:
            first = self.broken["places"][0]
            if limit == 0:
                raise InputError(first)
            raise InputError(
                f"more than {limit:,} records are broken; the first: {first}; if the rest is worth reading, raise "
                f"--set {self._source.name}.max_broken_records"
            )

    def _check_all_read(self) -> None:
        for file, count in zip(self._files, self._records_of, strict=True):
            if count == 0 and file.origin is None:
                raise InputError("holds no record", file.path)


def _expanded_bytes(file: InputFile) -> int:
    return file.path.stat().st_size * _EXPANSION.get(file.path.suffix, 1) * file.expansion


def _hashes(texts: Iterable[str]) -> Hashes:
    cleaned = filter(None, map(clean_text, texts))
    return np.unique(np.fromiter(map(text_hash, cleaned), dtype=np.uint64))


def _choose(source: str, view: str | None) -> tuple[Source, View]:
    if source not in SOURCES:
        raise UsageError(f"there is no source {source}; there are {', '.join(SOURCES)}")
    return SOURCES[source], SOURCES[source].view(view)


def _check_holdout(queries: int, documents: int, holdout_out: Path | None, out: Path) -> int:
    """Checks what is asked of the hold-out; returns the number of documents wanted."""
    if queries < 0 or documents < 0:
        raise UsageError("a hold-out cannot be negative")
    if (queries > 0) != (holdout_out is not None):
        raise UsageError("a hold-out needs both the number of queries and the place for the task")
    if 0 < documents < queries or (documents and not queries):
        raise UsageError(f"a hold-out of {queries:,} queries cannot have {documents:,} documents; ask for more")
    if holdout_out is not None and is_selection_file(holdout_out):
        if documents:
            raise UsageError(
                f"{holdout_out}: candidate sets have no documents beside the pairs; leave their number out"
            )
        if left_over := queries % SET_SIZE:
            fewer = queries - left_over
            instead = f"{fewer:,} or {fewer + SET_SIZE:,}" if fewer else f"{SET_SIZE:,}"
            raise UsageError(
                f"{holdout_out}: {queries:,} pairs make no whole number of candidate sets of {SET_SIZE:,}; ask for {instead}"
            )
    if holdout_out is not None:
        task, shards = resolved(holdout_out), resolved(out)
        if task == shards or task in shards.parents or shards in task.parents:
            raise UsageError(
                f"{out} and {holdout_out}: shards and task need a place each, and not one inside the other"
            )
    return documents or queries


def _new_task(path: Path) -> AbstractContextManager[Draft]:
    return new_file(path) if is_selection_file(path) else new_artifact(path, "task")


def _facts(source: Source, view: View, section: SourceSection) -> dict[str, Any]:
    return {
        "source": source.name,
        "view": view.name,
        "licence": source.licence,
        "citation": source.citation,
        "filters": section.model_dump(mode="json"),
    }


def _nothing_left(dropped: Counter[str], broken: dict[str, Any]) -> str:
    reasons = [f"{reason}: {count:,}" for reason, count in dropped.most_common() if count]
    if broken["count"]:
        reasons.append(f"broken: {broken['count']:,}, such as {broken['places'][0]}")
    return f"no pair is left; dropped: {', '.join(reasons)}" if reasons else "no pair is left: the input has none"
