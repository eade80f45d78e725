"""The working folder of a bulk job, from which it goes on after it was killed.

Beside ``OUT`` lies ``.OUT.encoding`` with the artifact as far as it is and with ``journal.jsonl``. The journal's first line says what
job it is; each further one is written after the data it speaks of has reached the disk. A line carries a checksum of
itself, so one that was cut is known. Whoever goes on cuts the data to the last whole line.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pairloom.artifacts import Draft, FileEntry, flush, only_one, place_artifact, refuse_occupied, resolved
from pairloom.encode.job_input import Behind
from pairloom.errors import ArtifactError

log = logging.getLogger(__name__)

_JOURNAL = "journal.jsonl"
_CHECKSUM_DIGITS = 8


@dataclass(frozen=True)
class Done:
    """What a line of the journal says is done.

    Args:
        behind: How much of the input has been read past.
        rows: Vectors written.
        text_bytes: Bytes of texts in the last file, if that is not full.
        tokens: Encoded.
        truncated: Texts that were cut.
        seconds: Of work, in all processes.
    """

    behind: Behind = field(default_factory=Behind)
    rows: int = 0
    text_bytes: int = 0
    tokens: int = 0
    truncated: int = 0
    seconds: float = 0.0


class Job:
    """A job at work. See `open_job`.

    Args:
        folder: The working folder.
        identity: What the job is, as JSON values.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        self.data = folder / "artifact"
        """The artifact as far as it is."""
        self.done = Done()
        self.finished: dict[str, FileEntry] = {}
        """Files that are not written to any more."""
        self.block_rows: list[int] = []
        """Rows of each block written, where the job keeps count of them."""
        self._journal = folder / _JOURNAL
        self._identity = identity

    def take_up(self, out: Path) -> None:
        """Reads the journal, if there is one, and forgets what comes after its last whole line.

        Args:
            out: Where the artifact shall stand, for messages.

        Raises:
            ArtifactError: It is that of another job.
        """
        lines = _whole_lines(self._journal)
        identity, place = next(lines, ({}, 0))
        last: dict[str, Any] | None = None
        finished: dict[str, dict[str, Any]] = {}
        block_rows: list[int] = []
        for record, end in lines:
            last, place = record, end
            finished |= record["finished"]
            block_rows += record["block_rows"]
        if last is None or not self.data.is_dir():
            self._begin()
            return
        if identity != self._identity:
            raise ArtifactError(
                f"{out}: {difference(identity, self._identity)}; give the same, or begin anew with --restart"
            )
        os.truncate(self._journal, place)
        self.done = _done_of(last)
        self.finished = {name: FileEntry(**entry) for name, entry in finished.items()}
        self.block_rows = block_rows

    def commit(self, done: Done, finished: dict[str, FileEntry], block_rows: list[int]) -> None:
        """Writes down what is done. Its data must be on the disk.

        Args:
            done: All that is done.
            finished: All files that are not written to any more.
            block_rows: Rows of each block since the last time.
        """
        entries = {name: asdict(entry) for name, entry in finished.items() if name not in self.finished}
        self._write({"done": asdict(done), "finished": entries, "block_rows": block_rows})
        self.done, self.finished = done, dict(finished)
        self.block_rows += block_rows

    def written_down(self) -> Done:
        """What the journal says is done; when a commit is interrupted, it may already be more than `done`."""
        last = deque(itertools.islice(_whole_lines(self._journal), 1, None), maxlen=1)
        return _done_of(last[0][0]) if last else Done()

    def _begin(self) -> None:
        self.done, self.finished, self.block_rows = Done(), {}, []
        self._journal.unlink(missing_ok=True)
        shutil.rmtree(self.data, ignore_errors=True)
        try:
            self.data.mkdir()
            self._write(self._identity)
            flush(self.folder)
        except OSError:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def _write(self, record: dict[str, Any]) -> None:
        content = json.dumps(record).encode()
        with self._journal.open("ab") as stream:
            stream.write(b"%08x %s\n" % (zlib.crc32(content), content))
            stream.flush()
            os.fsync(stream.fileno())


@contextmanager
def open_job(out: Path, identity: dict[str, Any], *, restart: bool = False) -> Iterator[Job]:
    """Works on the artifact that shall stand at ``out``, from where an earlier process left it.

    When the block ends in an error, what is done stays, and the next process goes on; if nothing is, nothing stays.

    Args:
        out: The place.
        identity: What must be the same to go on, as JSON values.
        restart: Whether to throw away what an earlier process has done.

    Raises:
        ArtifactError: Something stands at ``out``, another process is at work, the earlier process did another job, or the disk
            is full.
    """
    out = resolved(out)
    refuse_occupied(out)
    folder = out.parent / f".{out.name}.encoding"
    with only_one(folder):
        refuse_occupied(out)  # the other process may just have finished
        job = Job(folder, json.loads(json.dumps(identity)))
        if restart:
            (folder / _JOURNAL).unlink(missing_ok=True)
        job.take_up(out)
        try:
            yield job
        except BaseException:
            if rows := job.written_down().rows:
                log.info("%s: %s texts are encoded; the same command goes on from there", out, f"{rows:,}")
            raise
        finally:
            if not job.written_down().behind.blocks:
                shutil.rmtree(folder, ignore_errors=True)


def place_job(job: Job, out: Path, kind: str, facts: dict[str, Any]) -> None:
    """Makes the job's data the artifact at ``out``, and the working folder go away."""
    place_artifact(Draft(job.data, facts, job.finished), out, kind)
    shutil.rmtree(job.folder, ignore_errors=True)


def _whole_lines(journal: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """The records of a journal up to the first line that is not whole, each with the place where its line ends."""
    if not journal.exists():
        return
    place = 0
    with journal.open("rb") as lines:
        for line in lines:
            checksum, content = line[:_CHECKSUM_DIGITS], line[_CHECKSUM_DIGITS + 1 : -1]
            if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(content):
                return
            place += len(line)
            yield json.loads(content), place


def _done_of(record: dict[str, Any]) -> Done:
    return Done(**{**record["done"], "behind": Behind(**record["done"]["behind"])})


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The first thing in which two jobs differ, in words."""
    for name in {**before, **now}:
        was, is_now = before.get(name), now.get(name)
        if was == is_now:
            continue
        if name != "input":
            return f"begun with {name.replace('_', ' ')} {_shown(was)}, not {_shown(is_now)}"
        if set(was or {}) != set(is_now or {}):
            return f"begun with the input {', '.join(was or {})}, not {', '.join(is_now or {})}"
        changed = next(file for file in was or {} if (was or {})[file] != (is_now or {})[file])
        return f"begun before its input {changed} was changed"
    raise AssertionError("the two are the same")


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
