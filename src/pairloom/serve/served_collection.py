"""A collection as the server uses it: in threads, with writers one after another, and what follows from it kept until it changes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pairloom.errors import BusyError
from pairloom.search.any_collection import AnyCollection
from pairloom.serve.errors import RequestError
from pairloom.serve.scheduled import asking_for
from pairloom.serve.threads import Threads

if TYPE_CHECKING:
    from pairloom.serve.metrics import Metrics
    from pairloom.serve.service import Service

Result = TypeVar("Result")
Act = Callable[[AnyCollection], Result]

# A search is given some text. A write is given as much as a body may have, and holds it until its turn.
_MOST_SEARCHES = 1_024
_MOST_WRITES = 64
_MOST_DERIVED = 64
# How long a writer waits before it tries again, while another process writes.
_RETRY_S = 0.1
# Of a collection that does not number its changes, what follows from it is kept so long.
_KEPT_S = 60.0
_KEPT_RESULTS = 8


class ServedCollection:
    """A collection that many requests use at once.

    Searches are done by as many threads as there are cores, for more would only slow each other down. Writes are done by one, in the
    order in which they came. What takes long and is asked for again and again is made by another one, once for each change.

    Args:
        collection: The collection.
        cores: How many threads search.
        deadline_s: Who would have to wait longer is refused.
        metrics: What is counted.
    """

    def __init__(self, collection: AnyCollection, *, cores: int, deadline_s: float, metrics: Metrics) -> None:
        self._collection, self._deadline_s, self._metrics = collection, deadline_s, metrics
        self._reading = Threads("search", cores, deadline_s=deadline_s, most_waiting=_MOST_SEARCHES)
        self._writing = Threads("write", 1, deadline_s=deadline_s, most_waiting=_MOST_WRITES)
        self._deriving = Threads("derive", 1, deadline_s=deadline_s, most_waiting=_MOST_DERIVED)
        self._derived: dict[Hashable, tuple[int, asyncio.Task[Any]]] = {}

    async def read(self, act: Act[Result]) -> Result:
        """What something comes to that only reads.

        Raises:
            TooBusyError: It could not be done in time.
        """

        def timed() -> Result:
            begun = time.perf_counter()
            try:
                return act(self._collection)
            finally:
                self._metrics.observe_stage("search", time.perf_counter() - begun)

        return await self._reading.run(timed)

    async def write(self, act: Act[Result], *, client: str) -> Result:
        """What something comes to that writes; when this returns it is on the disk.

        Args:
            act: What is done. It may be done again if another process was writing.
            client: Under whose name texts are encoded.

        Raises:
            TooBusyError: It could not be done in time.
            RequestError: 503, another process was writing all the time.
        """
        until = time.monotonic() + self._deadline_s
        with asking_for(client):
            return await self._writing.run(partial(self._patiently, act, until))

    async def derive(self, key: Hashable, act: Act[Result]) -> Result:
        """What follows from the collection as it is: computed once for each change, however many ask for it meanwhile.

        Who asks while it is computed gets that, though something may have been written since it was begun: where something is
        written all the time, it would otherwise be computed all the time, and waited for by more and more.

        Args:
            key: What it is called.
            act: What makes it; it only reads.

        Raises:
            TooBusyError: It could not be begun in time.
        """
        change = await self._reading.run(self._change)
        known = self._derived.pop(key, None)
        if known is None or (known[1].done() and known[0] != change):
            known = change, asyncio.ensure_future(self._deriving.run(partial(act, self._collection)))
            known[1].add_done_callback(partial(self._drop_failed, key))
        self._derived[key] = known
        if len(self._derived) > _KEPT_RESULTS:
            del self._derived[next(iter(self._derived))]
        # Who hangs up does not take it away from the others.
        result: Result = await asyncio.shield(known[1])
        return result

    def _change(self) -> int:
        change = self._collection.change()
        return int(time.monotonic() / _KEPT_S) if change is None else change

    def _drop_failed(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or task.exception() is not None:
            known = self._derived.get(key)
            if known is not None and known[1] is task:
                del self._derived[key]

    def _patiently(self, act: Act[Result], until: float) -> Result:
        while True:
            try:
                return act(self._collection)
            except BusyError:
                if time.monotonic() + _RETRY_S >= until:
                    raise RequestError(
                        "another process is writing to the collection, and has not ended within "
                        f"{self._deadline_s:g} s; try again (searching is possible meanwhile)",
                        503,
                        code="collection_busy",
                        retry_after_s=self._deadline_s,
                    ) from None
                time.sleep(_RETRY_S)


def served_collection(service: Service) -> ServedCollection | None:
    """The collection of a server, if it has one."""
    if service.collection is None:
        return None
    settings = service.settings
    cores = settings.threads or max(1, (os.cpu_count() or 1) // settings.workers)
    return ServedCollection(service.collection, cores=cores, deadline_s=settings.deadline_s, metrics=service.metrics)


def no_collection() -> RequestError:
    """What is said where a collection is asked for and there is none."""
    return RequestError(
        "this server has no collection; start it with pairloom serve MODEL --collection COLLECTION",
        404,
        code="no_collection",
    )
