"""Making the index of a collection from its ledger, and putting it in the place of the one before."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.artifacts import only_one
from pairloom.errors import ArtifactError, BusyError, CollectionError, OccupiedError
from pairloom.search import rows as tables
from pairloom.search.index.vector_index import IndexKind, VectorIndex, build_index, exact_rows
from pairloom.search.index.watch import StoppedError
from pairloom.search.ledger import Ledger, get, put
from pairloom.search.settings import Settings
from pairloom.search.state import INDEX_FOLDER, States, open_index

logger = logging.getLogger("pairloom")

BUILD_LOCK = ".build.lock"
# So many rows are searched beside the index, exactly; of 384 numbers each they take 50 MB.
TAIL_ROWS = 32_768
_TAIL_SHARE = 16  # with a large index a larger tail: what is saved by a new one must be worth the building
_DEAD_SHARE = 4  # of an index, that it carries along before it is built anew
_READ_ROWS = 8_192
_TRIED_AGAIN = 2  # what has failed, when there are so many times the rows

Stop = Callable[[], bool]


class Builder:
    """Builds indexes, one at a time over all processes, in the foreground or by a thread.

    Args:
        ledger: The ledger.
        states: What shall go over to a new index.
        dtype: Of stored vectors.
        dimensions: Of vectors.
    """

    def __init__(self, ledger: Ledger, states: States, dtype: np.dtype[Any], dimensions: int) -> None:
        self._ledger, self._states = ledger, states
        self._dtype, self._dimensions = dtype, dimensions
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()
        self._stopped = threading.Event()

    def is_due(self) -> bool:
        """Whether there is so much beside the index that a new one is worth its time."""
        with self._ledger.reading() as connection:
            about = get(connection, "index")
            count, last_row = get(connection, "count"), get(connection, "next_row") - 1
        num_rows, upto = (0, 0) if about is None else (about["facts"]["rows"], about["upto"])
        num_newer = last_row - upto
        if num_newer > TAIL_ROWS + num_rows // _TAIL_SHARE:
            return True
        num_dead = num_rows + num_newer - count
        return bool(num_dead > max(TAIL_ROWS, num_rows // _DEAD_SHARE))

    def start(self) -> None:
        """Builds in the background, with one thread, if nobody does."""
        with self._guard:
            if self._stopped.is_set() or (self._thread is not None and self._thread.is_alive()):
                return
            self._thread = threading.Thread(target=self._build_aside, name="build index", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ends what is built in the background; it leaves nothing."""
        self._stopped.set()
        with self._guard:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def wait(self) -> None:
        """Waits until nothing is built in the background."""
        with self._guard:
            thread = self._thread
        if thread is not None:
            thread.join()

    def build(
        self,
        *,
        anew: bool = False,
        threads: int | None = None,
        stop: Stop = lambda: False,
        on_progress: Callable[[float], None] = lambda share: None,
    ) -> dict[str, Any] | None:
        """Builds an index of all rows that there are now, and puts it in the place of the one before.

        Args:
            anew: Whether nothing of the one before is used.
            threads: How many; by default all.
            stop: Asked now and then whether to end without a result.
            on_progress: Told which share is done.

        Returns:
            What is known of the index; None if it was stopped.

        Raises:
            BusyError: Another process builds one.
        """
        try:
            with only_one(self._ledger.folder, name=BUILD_LOCK):
                return self._build(anew, threads or os.cpu_count() or 1, stop, on_progress)
        except StoppedError:
            return None
        except OccupiedError:
            raise BusyError(f"{self._ledger.folder}: another process is building its index; wait for it") from None

    def _build(self, anew: bool, threads: int, stop: Stop, on_progress: Callable[[float], None]) -> dict[str, Any]:
        folder = self._ledger.folder / INDEX_FOLDER
        with self._ledger.reading() as connection:
            # As they are now: another process may have decided otherwise.
            settings = Settings(**get(connection, "about")["settings"])
            before = get(connection, "index")
            upto = get(connection, "next_row") - 1
            deletions = _last_deletion(connection)
            rows = np.array(connection.execute("SELECT row FROM vectors ORDER BY row").fetchall(), np.int64).reshape(-1)
        _remove_all_but(folder, None if before is None else before["folder"])
        generation = f"{1 if before is None else int(before['folder']) + 1:06d}"
        kind = _kind(settings, len(rows), self._dimensions)
        # What did not reach the recall takes long to build, and would hardly reach it with a few rows more.
        failed = None if anew or before is None else before["facts"]["unreached"]
        if failed is not None and (
            failed["kind"] != kind or settings.target_recall < before["facts"]["target_recall"]
        ):  # something easier is wanted since then
            failed = None
        if failed is not None and len(rows) < _TRIED_AGAIN * failed.get("rows", 0):
            kind = "exact"
        else:
            failed = None
        facts = asdict(
            build_index(
                folder / generation,
                rows,
                self._vectors(rows),
                dimensions=self._dimensions,
                storage=settings.storage,
                kind=kind,
                target_recall=settings.target_recall,
                threads=threads,
                stop=stop,
                on_progress=on_progress,
                previous=None if anew or before is None else self._previous(before),
            )
        )
        if facts["unreached"] is not None:
            self._warn(facts["unreached"], settings.target_recall)
        facts["unreached"] = facts["unreached"] or failed
        about = {"folder": generation, "upto": upto, "deletions": deletions, "facts": facts}
        with self._ledger.amending() as connection:
            put(connection, "index", about)
            # Who has not gone over to this index yet still needs to hear of what has gone since the one before.
            pruned = 0 if before is None else before["deletions"]
            connection.execute("DELETE FROM deletions WHERE number <= ?", (pruned,))
            put(connection, "pruned", pruned)
        self._states.adopt_index()
        _remove_all_but(folder, generation)
        return facts

    def _warn(self, unreached: dict[str, Any], wanted: float) -> None:
        logger.warning(
            "%s: with all its effort a %s finds %.3f of the ten nearest, less than the %.3f that are wanted, so searches compare with "
            "all %s rows; a collection that wants less (--recall) is searched faster",
            self._ledger.folder,
            unreached["kind"],
            unreached["recall"],
            wanted,
            f"{unreached['rows']:,}",
        )

    def _previous(self, before: dict[str, Any]) -> VectorIndex | None:
        try:
            return open_index(self._ledger.folder, before["folder"])
        except ArtifactError:
            return None

    def _vectors(self, rows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[Any]]:
        """The vectors of rows [n], some at a time. Rows that have gone meanwhile are zeros: they are masked already.

        Each block is a transaction of its own: a long one would keep the ledger's log from being taken up.
        """
        for begin in range(0, len(rows), _READ_ROWS):
            wanted = rows[begin : begin + _READ_ROWS]
            block = np.zeros((len(wanted), self._dimensions), self._dtype)
            with self._ledger.reading() as connection:
                last = int(wanted[0]) - 1
                while last < wanted[-1]:
                    found, vectors = tables.vectors_after(connection, last, len(wanted), self._dtype, self._dimensions)
                    if not len(found):
                        break
                    last = int(found[-1])
                    places = np.minimum(np.searchsorted(wanted, found), len(wanted) - 1)
                    right = wanted[places] == found
                    block[places[right]] = vectors[right]
            yield block

    def _build_aside(self) -> None:
        try:
            self.build(threads=1, stop=self._stopped.is_set)
        except BusyError as error:
            logger.debug("no index was built", exc_info=error)
        except (ArtifactError, CollectionError) as error:
            if not self._stopped.is_set():
                logger.warning("no index was built: %s", error)


def _kind(settings: Settings, num_rows: int, dimensions: int) -> IndexKind:
    if settings.kind != "auto":
        return settings.kind
    return "exact" if num_rows <= exact_rows(dimensions) else "graph"


def _last_deletion(connection: sqlite3.Connection) -> int:
    found = connection.execute("SELECT max(number) FROM deletions").fetchone()[0]
    return max(found or 0, int(get(connection, "pruned")))


def _remove_all_but(folder: Path, generation: str | None) -> None:
    """Who has another one open keeps it; who was about to open it finds that there is a newer one."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name != generation:
                shutil.rmtree(path, ignore_errors=True)
