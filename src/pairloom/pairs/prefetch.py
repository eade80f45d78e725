"""Batches drawn and prepared ahead, while the model is busy with earlier ones."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from pairloom.pairs.batch import Batch
from pairloom.pairs.mixture import Mixture
from pairloom.pairs.place import Place

Prepared = TypeVar("Prepared")


class Prefetch(Generic[Prepared]):
    """An iterator over a mixture's batches and what was prepared of them, some of which a thread makes ahead.

    Close it, or use it as a context manager: the thread ends when it is closed. The mixture itself has then been drawn
    from further than was consumed; `state` is what to go on from.

    Args:
        mixture: What to draw from; nobody else may, until this is closed.
        prepare: Called with each batch, in the thread; it may tokenize it, for example.
        depth: How many batches may be ready at a time; with 0 there is no thread, and each is made when it is asked for.
    """

    def __init__(self, mixture: Mixture, prepare: Callable[[Batch], Prepared], *, depth: int) -> None:
        self._mixture, self._prepare, self._depth = mixture, prepare, depth
        self._place = mixture.place
        self._ready: SimpleQueue[tuple[Batch, Prepared] | BaseException] = SimpleQueue()
        self._room = threading.Semaphore(depth)
        self._closed = False
        self._end: BaseException | None = None
        self._thread: threading.Thread | None = None

    def __iter__(self) -> Prefetch[Prepared]:
        return self

    def __next__(self) -> tuple[Batch, Prepared]:
        """The next batch, which counts as consumed from now on.

        Raises:
            StopIteration: All datasets have run out.
            Exception: Whatever drawing or preparing it raised.
        """
        batch, prepared = self._make() if self._depth == 0 else self._take()
        self._place.advance(batch.step, batch.cursors)
        return batch, prepared

    @property
    def place(self) -> Place:
        """Where the consumer is: after the last batch that it was given. A copy."""
        return self._place.copy()

    def state(self) -> dict[str, Any]:
        """What `Mixture.restore` needs to go on after the last batch that was consumed."""
        return self._place.state()

    def close(self) -> None:
        """Ends the thread, after the batch that it is at."""
        self._closed = True
        self._room.release()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Prefetch[Prepared]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make(self) -> tuple[Batch, Prepared]:
        batch = next(self._mixture)
        return batch, self._prepare(batch)

    def _take(self) -> tuple[Batch, Prepared]:
        if self._closed:
            raise ValueError("the prefetched batches are closed")
        if self._end is not None:
            raise self._end  # the thread is gone; it has nothing more to tell
        if self._thread is None:  # not before the first batch is wanted
            self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
            self._thread.start()
        item = self._ready.get()
        if isinstance(item, BaseException):
            self._end = item
            raise item
        self._room.release()
        return item

    def _run(self) -> None:
        while True:
            self._room.acquire()
            if self._closed:
                return
            try:
                self._ready.put(self._make())
            except BaseException as error:  # the end of the stream, too; the consumer is told all the same
                self._ready.put(error)
                return
