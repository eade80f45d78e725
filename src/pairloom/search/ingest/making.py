"""A new collection that appears when it is whole, and whose making goes on after it was killed.

Beside ``OUT`` lies ``.OUT.indexing`` with the collection as far as it is and with ``job.json``, which says what it is made of. Who does the
same job again goes on: what the ledger has acknowledged is there. When all is written the folder is moved into place.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairloom.artifacts import flush, only_one, refuse_occupied, resolved
from pairloom.encode.job import difference
from pairloom.errors import ArtifactError, CollectionError
from pairloom.search.ledger import is_collection

log = logging.getLogger(__name__)

_JOB = "job.json"


@dataclass
class Making:
    """A collection that is being made.

    Args:
        path: Where it is made.
        goes_on: Whether an earlier process has begun.
        num_documents: How many it has; whoever writes them says so, and if there are none, nothing stays of a failure.
    """

    path: Path
    goes_on: bool
    num_documents: int = 0


@contextmanager
def making(out: Path, identity: dict[str, Any], *, restart: bool = False) -> Iterator[Making]:
    """Makes the collection ``out`` appear when the block ends, from where an earlier process left it.

    In the block the collection is made at `Making.path`, or gone on with, and closed.

    Args:
        out: The place.
        identity: What must be the same to go on, as JSON values.
        restart: Whether to throw away what an earlier process has written.

    Raises:
        CollectionError: There is a collection at ``out``.
        ArtifactError: Something else is there, another process is at work, or the earlier process did another job.
    """
    out = resolved(out)
    refuse_collection(out)
    work = out.parent / f".{out.name}.indexing"
    with only_one(work):
        refuse_collection(out)  # the other process may just have finished
        job = Making(work / "collection", goes_on=_take_up(work, out, json.loads(json.dumps(identity)), restart))
        try:
            yield job
        except BaseException:
            if job.num_documents:
                log.info(
                    "%s: %s documents are written; the same command goes on from there", out, f"{job.num_documents:,}"
                )
            elif not job.goes_on:
                shutil.rmtree(work, ignore_errors=True)
            raise
        _place(job.path, out)
        shutil.rmtree(work, ignore_errors=True)


def refuse_collection(out: Path) -> None:
    """Raises `CollectionError` if there is a collection, and `ArtifactError` if there is something else."""
    if is_collection(out):
        raise CollectionError(
            f"{out}: already a collection; add to it with pairloom collection add, or choose another place for a new one"
        )
    refuse_occupied(out)


def _take_up(work: Path, out: Path, identity: dict[str, Any], restart: bool) -> bool:
    """Whether there is something to go on with; if not, the job begins."""
    file, collection = work / _JOB, work / "collection"
    before = None if restart else _read(file)
    if before is not None and is_collection(collection):
        if before != identity:
            raise ArtifactError(f"{out}: {difference(before, identity)}; give the same, or begin anew with --restart")
        return True
    shutil.rmtree(collection, ignore_errors=True)
    new = file.with_suffix(".new")
    try:
        with new.open("w", encoding="utf-8") as stream:
            json.dump(identity, stream)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(file)
        flush(work)
    except OSError as error:
        shutil.rmtree(work, ignore_errors=True)
        raise ArtifactError(f"{out}: cannot be written ({error.strerror}); free some space or choose another") from None
    return False


def _read(file: Path) -> dict[str, Any] | None:
    try:
        identity = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return identity if isinstance(identity, dict) else None


def _place(folder: Path, out: Path) -> None:
    refuse_collection(out)
    try:
        folder.rename(out)
    except OSError as error:
        raise ArtifactError(f"{out}: cannot be written ({error.strerror}); choose another place") from None
    flush(out.parent)
