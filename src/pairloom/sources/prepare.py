"""A raw dump becomes shards, and a held-out task if one is wanted."""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from pairloom.artifacts import Draft, new_artifact, resolved
from pairloom.errors import InputError, UsageError
from pairloom.pairs.clean import clean_text, text_hash
from pairloom.pairs.holdout import Hashes, HeldOutTask, choose_held_out, touches
from pairloom.pairs.shards import PAIR_COLUMNS, TRIPLET_COLUMNS, Layout, RowFiles, ShardWriter, new_shards
from pairloom.progress import Meter, meter
from pairloom.recipe import SourceSection, SourcesSection
from pairloom.records import Pair
from pairloom.sources import SOURCES
from pairloom.sources.source import Intake, Source, View

_REPORT_EVERY = 1000  # redrawing a progress bar costs more than a pair

_Row = tuple[tuple[str, ...], tuple[int, ...]]
"""Clean texts in the order of the columns, and their hashes."""


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
    show_progress: bool = True,
) -> dict[str, Any]:
    """Makes shards of a corpus: its pairs, cleaned, filtered, each once; and holds some out as a retrieval task.

    Texts pass through a record batch at a time. Both folders appear whole or not at all.

    Args:
        source: A name in `SOURCES`.
        inputs: What the source calls its inputs.
        view: One of the source's views; None for its first.
        out: Where the shards shall stand.
        settings: The filters of all sources.
        holdout: Anchors to hold out as queries.
        holdout_documents: Documents that the task shall have at least; by default as many as ``holdout`` brings.
        holdout_out: Where the task shall stand.
        seed: Of the choice of what is held out.
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
    holdout_documents = _check_holdout(holdout, holdout_documents, holdout_out, out)
    sections = settings or SourcesSection()
    section: SourceSection = getattr(sections, source.replace("-", "_"))
    intake = Intake()
    layout = Layout(TRIPLET_COLUMNS if chosen_view.num_negatives else PAIR_COLUMNS)
    with ExitStack() as stack:
        # The task is entered first and so finished last: when its turn comes, the shards are done.
        task = stack.enter_context(new_artifact(holdout_out, "task")) if holdout_out else None
        shards = stack.enter_context(new_shards(out, layout))
        bar = stack.enter_context(meter(f"Preparing {source}", unit="pairs", show=show_progress))
        raw = stack.enter_context(closing(chosen_view.pairs([str(name) for name in inputs], section, intake)))
        rows = _distinct(_kept(raw, section, intake, bar), intake)
        held_out = None
        if task is None:
            for texts, hashes in rows:
                shards.write(texts, hashes)
        else:
            held_out = _split(rows, shards, task, intake, plan=(holdout, holdout_documents, seed))
        if shards.num_rows == 0:
            raise InputError(_nothing_left(intake))
        facts = _facts(chosen, chosen_view, section, intake)
        facts["num_read"] = shards.num_rows + (held_out or {}).get("num_pairs", 0) + intake.dropped.total()
        facts["holdout"] = held_out
        shards.facts |= facts
        if task is not None:
            task.facts |= facts
    columns = list(layout.columns)
    paths = {"out": str(out), "holdout_out": str(holdout_out) if holdout_out else None}
    return {**facts, "num_rows": shards.num_rows, "columns": columns, **paths}


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
    if holdout_out is not None:
        task, shards = resolved(holdout_out), resolved(out)
        if task == shards or task in shards.parents or shards in task.parents:
            raise UsageError(
                f"{out} and {holdout_out}: shards and task need a place each, and not one inside the other"
            )
    return documents or queries


def _kept(raw: Iterator[Pair], section: SourceSection, intake: Intake, bar: Meter) -> Iterator[_Row]:
    """Cleans pairs and drops what the filters do not want."""
    for number, pair in enumerate(raw, start=1):
        if number % _REPORT_EVERY == 0:
            bar.advance(_REPORT_EVERY)
        texts = tuple(clean_text(text) for text in (pair.anchor, pair.positive, *pair.negatives))
        reason = _wrong_length(texts, section)
        if reason is None:
            hashes = tuple(text_hash(text) for text in texts)
            if len(set(hashes)) == len(hashes):
                yield texts, hashes
                continue
            reason = "two texts of it are the same"
        intake.drop(reason)


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


def _distinct(rows: Iterator[_Row], intake: Intake) -> Iterator[_Row]:
    """Drops rows whose texts have all come before, up to case.

    Memory: about 100 bytes a pair, for its hash; the texts are not kept.
    """
    seen: set[int] = set()
    for row in rows:
        key = hash(row[1])  # of a tuple of numbers: the same in every process, and 64 bits are enough for 10^8 pairs
        if key in seen:
            intake.drop("duplicate pair")
        else:
            seen.add(key)
            yield row


def _split(
    rows: Iterator[_Row], shards: ShardWriter, task: Draft, intake: Intake, *, plan: tuple[int, int, int]
) -> dict[str, Any]:
    """Writes held-out pairs to the task and the others to the shards.

    What is held out is known when everything has been read, so the pairs wait in a folder beside the shards. Their
    anchors' and positives' hashes wait in memory, 16 bytes a pair.
    """
    num_queries, num_documents, seed = plan
    waiting = shards.folder / "waiting"
    waiting.mkdir()
    anchors, positives = array("Q"), array("Q")
    with ShardWriter(waiting, shards.layout) as writer:
        for row in rows:
            writer.write(*row)
            anchors.append(row[1][0])
            positives.append(row[1][1])
    if not anchors:
        raise InputError(_nothing_left(intake))
    anchor_hashes, positive_hashes = np.frombuffer(anchors, np.uint64), np.frombuffer(positives, np.uint64)
    held_out = choose_held_out(
        anchor_hashes, positive_hashes, num_queries=num_queries, num_documents=num_documents, seed=seed
    )
    pairs = RowFiles(waiting, shards.layout, writer.num_rows)
    kept_back = pairs.take(np.flatnonzero(np.isin(anchor_hashes, held_out.anchors)))
    content = HeldOutTask(held_out)
    for texts, hashes in zip(zip(*kept_back.columns, strict=True), kept_back.hashes.tolist(), strict=True):
        content.add(texts, hashes)
    _write_untouched(pairs, shards, held_out.anchors, content.text_hashes, intake)
    del pairs  # closes the files
    shutil.rmtree(waiting)
    return {"seed": seed, "num_pairs": len(kept_back), **content.write(task.path)}


def _write_untouched(pairs: RowFiles, shards: ShardWriter, anchors: Hashes, texts: Hashes, intake: Intake) -> None:
    """Writes the pairs that are not held out and have no text in common with the task."""
    for batch in pairs.batches():
        held_out = np.isin(batch.hashes[:, 0], anchors)
        leaking = ~held_out & touches(batch.hashes, texts)
        intake.dropped["a text of it occurs in the held-out task"] += int(leaking.sum())
        hashes = batch.hashes.tolist()
        for row in np.flatnonzero(~held_out & ~leaking):
            shards.write([column[row] for column in batch.columns], hashes[row])


def _facts(source: Source, view: View, section: SourceSection, intake: Intake) -> dict[str, Any]:
    return {
        "source": source.name,
        "view": view.name,
        "licence": source.licence,
        "dropped": {reason: count for reason, count in intake.dropped.most_common() if count},
        "filters": section.model_dump(mode="json"),
        "origins": intake.origins,
    }


def _nothing_left(intake: Intake) -> str:
    reasons = ", ".join(f"{reason}: {count:,}" for reason, count in intake.dropped.most_common() if count)
    return f"no pair is left; dropped: {reasons}" if reasons else "no pair is left: the input has none"
