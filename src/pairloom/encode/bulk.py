"""Bulk encoding: any number of texts into a vectors artifact, as a job that may be killed and divided.

A killed job is taken up by the next one with the same arguments (see `pairloom.encode.job`); the parts of a divided one are joined by
`pairloom.encode.merge`. Either way the files have the same bytes as those of one process that ran through.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.artifacts import DISK_FULL
from pairloom.encode import vector_files
from pairloom.encode.dual_encoder import AnyEncoder, halves, names
from pairloom.encode.encoder import Encoder
from pairloom.encode.job import Done, Job, open_job, place_job
from pairloom.encode.job_input import WHOLE, Block, JobInput, Shard
from pairloom.encode.storage import Storage, pack
from pairloom.encode.vector_files import LAYOUT, Rows, VectorLayout, VectorWriter
from pairloom.encode.vectors import KIND, PART_KIND
from pairloom.errors import ArtifactError, InputError, ModelError
from pairloom.models.names import lasting_name
from pairloom.progress import meter
from pairloom.records import Text

log = logging.getLogger(__name__)

# What a kill can cost. Waiting for the disk more often would take its time from encoding.
_COMMIT_EVERY_S = 2.0
_AS_JSON = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make an encoder for each text
BLOCKS = "blocks.npy"
"""Of a part of a job: the rows of each of its blocks."""


def encode_texts(
    encoder: AnyEncoder,
    texts: Iterable[Text],
    out: Path,
    *,
    origin: str,
    store: Storage = "float32",
    shard: Shard | None = None,
    job: Mapping[str, Any] | None = None,
    restart: bool = False,
    share_read: Callable[[], float | None] | None = None,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Encodes texts as documents and writes the vectors artifact, in constant memory.

    If a process with the same arguments was ended before it was done, its work is taken up: what it has encoded is read past.

    Args:
        encoder: The model; of two encoders that of the documents does the work, and the fingerprint is its own.
        texts: Any number of them, from the beginning, whatever is done already.
        out: The folder to make.
        origin: Where the texts came from, for the manifest.
        store: The type of the stored numbers.
        shard: Which part of the job to do, if not all of it; `pairloom.encode.merge.merge_parts` joins all parts.
        job: What else must be the same when an ended process's work is taken up, as
            `pairloom.encode.job_input.source_state` gives it.
        restart: Whether to begin anew instead.
        share_read: Says how much of the input has been read, between 0 and 1, for the time left.
        show_progress: Whether to show progress on stderr.

    Returns:
        The manifest's facts: count, dimensions, model, fingerprint, truncated texts, seconds.

    Raises:
        ArtifactError: Something stands at ``out``, another process is at work on it, an ended one was at another job, or the
            disk is full.
        InputError: There are no texts.
        ModelError: A vector is not finite, or has a number too large for ``store``.
    """
    _, document = halves(encoder)
    layout = VectorLayout(document.dimensions, store, vector_files.ROWS_PER_FILE)
    identity = job_identity(encoder, store, shard, job)
    try:
        with open_job(out, identity, restart=restart) as work:
            source = JobInput(texts, shard or WHOLE, work.done.behind, origin=origin, share_read=share_read)
            if work.done.rows:
                log.info("%s: going on behind the %s texts that are encoded", out, f"{work.done.rows:,}")
            with meter("encoding", unit="texts", show=show_progress) as progress:
                for count, note in _encode(work, document, source, layout, count_blocks=shard is not None):
                    progress.advance(count, note)
            if not source.behind.texts:
                raise InputError("holds no text", origin)
            facts = {
                **_model_facts(encoder, layout, origin),
                **_count_facts(work.done, source),
            }
            if shard is not None:
                facts |= _part_facts(source, shard, identity)
                np.save(work.data / BLOCKS, np.array(work.block_rows, dtype="<i8"))
            place_job(work, out, KIND if shard is None else PART_KIND, facts)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise ArtifactError(
                f"{out}: the disk is full; free some space and run again (what is encoded stays, and it goes on from there)"
            ) from None
        raise
    return facts


def job_identity(
    encoder: AnyEncoder, store: Storage, shard: Shard | None = None, job: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What must be the same when a job is taken up, as JSON values; arguments as in `encode_texts`."""
    query, document = halves(encoder)
    return {
        "layout": LAYOUT,
        "rows_per_file": vector_files.ROWS_PER_FILE,
        "model": document.fingerprint,
        "queries'_model": None if query is document else query.fingerprint,
        "precision": document.precision,
        "storage": store,
        "part": None if shard is None else str(shard),
        **(job or {}),
    }


def _encode(
    job: Job, encoder: Encoder, source: JobInput, layout: VectorLayout, *, count_blocks: bool
) -> Iterator[tuple[int, str]]:
    """Encodes and writes what is left of a job; yields after each block how many texts it had, and how fast it goes."""
    pending: deque[Block] = deque()
    done, start = job.done, time.monotonic()
    committed, start_seconds = start, done.seconds
    pace = _Pace(start)
    block_rows: list[int] = []
    writer = VectorWriter(job.data, layout, rows=done.rows, text_bytes=done.text_bytes, finished=job.finished)

    def commit() -> None:
        nonlocal committed
        writer.flush()
        job.commit(replace(done, seconds=start_seconds + time.monotonic() - start), writer.finished, block_rows)
        block_rows.clear()
        committed = time.monotonic()

    try:
        for encoded in encoder.encode_blocks(_strings(source, pending), prompt_name=encoder.document_prompt):
            block = pending.popleft()
            writer.append(_rows(block.texts, encoded.vectors, layout.storage, encoder.model.name))
            done = Done(
                block.behind,
                writer.rows,
                writer.text_bytes,
                done.tokens + encoded.num_tokens,
                done.truncated + encoded.num_truncated,
            )
            if count_blocks:
                block_rows.append(len(block.texts))
            if time.monotonic() - committed >= _COMMIT_EVERY_S:
                commit()
            yield len(block.texts), pace.after(encoded.num_tokens, block.share_read)
        if source.behind.texts:
            done = replace(done, behind=source.behind)
            commit()
            job.finished = writer.finish()
    finally:
        writer.close()


class _Pace:
    """How fast a process encodes, and how long it still will."""

    def __init__(self, start: float) -> None:
        self._start, self._tokens = start, 0
        self._first_share: float | None = None

    def after(self, num_tokens: int, share_read: float | None) -> str:
        """What there is to say after a block, at whose end so much of the input had been read."""
        self._tokens += num_tokens
        seconds = max(time.monotonic() - self._start, 1e-9)
        note = f"{self._tokens / seconds:,.0f} tokens/s"
        if share_read is None:
            return note
        if self._first_share is None:
            self._first_share = share_read  # what was done before has cost no time
        if share_read <= self._first_share:
            return note
        left = seconds * (1 - share_read) / (share_read - self._first_share)
        return f"{note}, {share_read:.0%} read, {timedelta(seconds=round(left))} left"


def _strings(source: Iterable[Block], pending: deque[Block]) -> Iterator[list[str]]:
    """The texts of each block, which then waits for its vectors: the encoder takes blocks before it has given others back."""
    for block in source:
        pending.append(block)
        yield [text.text for text in block.texts]


def _rows(texts: Sequence[Text], vectors: npt.NDArray[np.float32], store: Storage, model: str) -> Rows:
    """Texts and their vectors as they are stored."""
    stored, scales = pack(vectors, store)
    for numbers, fault in (
        (vectors, "is no number; do not use it"),
        (stored, f"is too large for {store}; store float32"),
    ):
        if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
            worst = texts[int(np.argmin(np.isfinite(numbers).all(axis=1)))]
            raise ModelError(f"{model}: its vector of text {worst.id} {fault}")
    lines = [_line(text) for text in texts]
    return Rows(stored, scales, b"".join(lines), np.array([len(line) for line in lines], dtype=np.int64))


def _line(text: Text) -> bytes:
    record = {"id": text.id, "text": text.text}
    try:
        return _AS_JSON(record).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair is no Unicode, but can be escaped
        return json.dumps(record).encode() + b"\n"


def _model_facts(encoder: AnyEncoder, layout: VectorLayout, origin: str) -> dict[str, Any]:
    query, document = halves(encoder)
    made_by = [lasting_name(name) for name in names(encoder)]
    return {
        "layout": LAYOUT,
        "model": made_by[0] if len(made_by) == 1 else made_by,
        "fingerprint": document.fingerprint,
        **({} if query is document else {"query_fingerprint": query.fingerprint}),
        "similarity": document.similarity_name,
        "precision": document.precision,
        "max_tokens": document.max_tokens,
        "dimensions": layout.dimensions,
        "storage": layout.storage,
        "rows_per_file": layout.rows_per_file,
        "input": origin,
    }


def _count_facts(done: Done, source: JobInput) -> dict[str, Any]:
    return {
        "input_sha256": source.behind.sha256,
        "count": done.rows,
        "truncated": done.truncated,
        "tokens": done.tokens,
        "seconds": round(done.seconds, 3),
    }


def _part_facts(source: JobInput, shard: Shard, identity: dict[str, Any]) -> dict[str, Any]:
    return {
        "part": shard.index + 1,
        "parts": shard.count,
        "input_count": source.behind.texts,
        "input_blocks": source.behind.blocks,
        "job": identity,
    }
