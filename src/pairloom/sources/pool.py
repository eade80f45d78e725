"""Processes that share tasks out among themselves: one asks, one answers, and no one is left behind when either ends.

``concurrent.futures`` would do, were it not that each process must be told to finish the files that it has written to,
and that tasks must be made no faster than they are done.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import pyarrow as pa

from pairloom.errors import PairloomError
from pairloom.sources.pieces import Advance, Task
from pairloom.sources.work import Done, Job, PutAside, Worker

_Task = Task | int
_ENDING = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class _Failure:
    """What stopped a process: an error for people, or a traceback for us."""

    error: Exception | None
    trace: str


def run(
    job: Job,
    tasks: Iterable[_Task],
    *,
    num_processes: int,
    advance: Advance,
    each: Callable[[_Task, Done], None],
) -> PutAside:
    """Does all tasks of a job.

    Args:
        job: What is to be done.
        tasks: Drawn as they are needed, and not faster.
        num_processes: 1 does everything in this process.
        advance: Told of progress.
        each: Told of each task that is done; may raise to stop.

    Raises:
        PairloomError: What a task or ``each`` raised, or a process has died.
    """
    if num_processes == 1:
        with _frugal():
            worker = Worker(job, 0)
            for task in tasks:
                each(task, worker.run(task, advance))
            return worker.finish()
    with _Processes(job, num_processes) as processes:
        for task, done in processes.run(tasks, advance):
            each(task, done)
        return processes.finish()


@contextmanager
def _frugal() -> Iterator[None]:
    """Suits Python and Arrow to millions of short-lived records.

    Records are many objects without cycles, over which the garbage collector would only walk. And of Arrow's allocators,
    jemalloc gives back what it does not need. docs/log.md has what that brings.
    """
    thresholds, pool = gc.get_threshold(), pa.default_memory_pool()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    with suppress(NotImplementedError):  # not in every build
        pa.set_memory_pool(pa.jemalloc_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(pool)
        gc.set_threshold(*thresholds)
        gc.unfreeze()


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM wait: a process that is interrupted while it starts would say so with a traceback.

    Who is started meanwhile inherits that they are blocked. In this process blocking them is not enough, because
    another thread may take them; so they are noted, and raised when the block ends.
    """
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield
        return
    noted: list[int] = []
    handlers = {number: signal.signal(number, lambda caught, _: noted.append(caught)) for number in _ENDING}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # those that have waited are noted now
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for got in noted:
        signal.raise_signal(got)


class _Processes:
    def __init__(self, job: Job, count: int) -> None:
        # A forked process would inherit threads' locks in whatever state they are.
        context = multiprocessing.get_context("spawn")
        self._processes: dict[Connection, Any] = {}
        self._working: dict[Connection, _Task] = {}
        with _signals_wait():
            for number in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, job, number), daemon=True)
                process.start()
                theirs.close()
                self._processes[ours] = process

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for connection, process in self._processes.items():
            connection.close()
            process.terminate()
        for process in self._processes.values():
            process.join()

    def run(self, tasks: Iterable[_Task], advance: Advance) -> Iterator[tuple[_Task, Done]]:
        """Hands out tasks and yields each when it is done."""
        idle = list(self._processes)
        for task in tasks:
            while not idle:
                for connection, message in self._messages(advance):
                    idle.append(connection)
                    yield self._working.pop(connection), message
            connection = idle.pop()
            self._working[connection] = task
            self._send(connection, task)
        while self._working:
            for connection, message in self._messages(advance):
                yield self._working.pop(connection), message

    def finish(self) -> PutAside:
        """Ends the processes; returns what they have put aside."""
        total = PutAside()
        for connection in self._processes:
            self._send(connection, None)
        for connection in self._processes:
            put_aside = self._receive(connection)
            total.pairs |= put_aside.pairs
            total.parts |= put_aside.parts
        return total

    def _messages(self, advance: Advance) -> Iterator[tuple[Connection, Done]]:
        for connection in wait(list(self._working)):
            assert isinstance(connection, Connection)
            message = self._receive(connection)
            if isinstance(message, int):
                advance(message)
            else:
                yield connection, message

    def _send(self, connection: Connection, message: Any) -> None:
        try:
            connection.send(message)
        except (BrokenPipeError, ConnectionResetError):
            raise self._death(connection) from None

    def _receive(self, connection: Connection) -> Any:
        try:
            message = connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._death(connection) from None
        if isinstance(message, _Failure):
            raise message.error or RuntimeError(message.trace)
        return message

    def _death(self, connection: Connection) -> PairloomError:
        process = self._processes[connection]
        process.join()
        return PairloomError(
            f"a process ended with code {process.exitcode}, before its work was done; if memory was short, "
            "run again with fewer --processes"
        )


def _serve(connection: Connection, job: Job, number: int) -> None:
    """What a process does until it is told that there is no more, or nobody is there any more to tell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; who hands out the tasks decides
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        with _frugal():
            worker = Worker(job, number)
            while (task := connection.recv()) is not None:
                connection.send(worker.run(task, connection.send))
            connection.send(worker.finish())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except (PairloomError, OSError) as error:
        _tell(connection, _Failure(error, ""))
    except Exception:
        _tell(connection, _Failure(None, traceback.format_exc()))


def _tell(connection: Connection, failure: _Failure) -> None:
    try:
        connection.send(failure)
    except OSError:
        return
