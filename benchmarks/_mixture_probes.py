"""What is measured in a process of its own: `python -m benchmarks._mixture_probes NAME ARGUMENTS-AS-JSON`.

Each probe prints a JSON object. Memory is what the process holds beyond what it held when all modules were imported.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._mixture_data import SimulatedRows
from pairloom.pairs.batch import Batch
from pairloom.pairs.configuration import read_configuration
from pairloom.pairs.dataset import Dataset
from pairloom.pairs.mixture import Mixture
from pairloom.pairs.order import BlockShuffle
from pairloom.pairs.prefetch import Prefetch
from pairloom.pairs.shards import Shards

BATCH = 1024
Figures = dict[str, Any]


def memory() -> tuple[int, int]:
    """Resident bytes of this process: all, and those that are its own, without pages of mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "RssAnon"))}
    return kilobytes["VmRSS"] * 1024, kilobytes["RssAnon"] * 1024


class Clock:
    """Figures of a run that begins when it is made: seconds, and memory beyond that of the beginning."""

    def __init__(self) -> None:
        self._before, self._begin, self._cpu = memory(), time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._begin

    @property
    def cpu_seconds(self) -> float:
        """Of all threads."""
        return time.process_time() - self._cpu

    def memory(self) -> Figures:
        now = memory()
        return {"process": now[0], "more": now[0] - self._before[0], "more_own": now[1] - self._before[1]}


def digest(texts: Any) -> str:
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()[:16]


def sampler(config: str | None, rows: list[int], weights: list[float], common: float, batches: int) -> Figures:
    """A mixture of simulated rows."""
    clock = Clock()
    if config is not None:
        configured = read_configuration(Path(config)).datasets
        names = [dataset.name for dataset in configured]
        rows, weights = [dataset.num_rows or 0 for dataset in configured], [dataset.weight for dataset in configured]
    else:
        names = [f"synthetic/dataset-{number:03d}.jsonl.gz" for number in range(len(rows))]

    def start() -> Mixture:
        described = zip(names, rows, weights, strict=True)
        datasets = [Dataset(name, SimulatedRows(name, size, common), weight) for name, size, weight in described]
        return Mixture(datasets, batch_size=BATCH, seed=1)

    figures: Figures = {"datasets": len(names), "rows": sum(rows), "weights": weights}
    begin = time.perf_counter()
    mixture = start()
    next(mixture)
    figures["first"] = time.perf_counter() - begin
    begin = time.perf_counter()
    for _ in range(batches - 1):
        next(mixture)
    figures["rate"] = BATCH * (batches - 1) / (time.perf_counter() - begin)
    figures["memory"] = clock.memory()
    place, state = mixture.place, mixture.state()
    assert place.step == batches
    figures["waiting"] = sum(len(cursor.waiting) for cursor in place.cursors)
    text = json.dumps(state, separators=(",", ":"))
    figures["state"], figures["state_spaced"] = len(text.encode()), len(json.dumps(state).encode())

    expected = [next(mixture) for _ in range(20)]
    begin = time.perf_counter()
    other = start()
    other.restore(json.loads(text))
    got = [next(other)]
    figures["restore"] = time.perf_counter() - begin
    got += [next(other) for _ in range(19)]
    figures["restored_equal"] = all(same_rows(*both) for both in zip(expected, got, strict=True))

    other = start()
    begin = time.perf_counter()
    other.seek(900_000)
    figures["seek"] = time.perf_counter() - begin
    next(other)
    figures["seek_first"] = time.perf_counter() - begin
    figures["count_is_drawn"] = other.count(batches).rows.tolist() == [cursor.num_drawn for cursor in place.cursors]
    figures["batches"] = other.count(100_000).batches.tolist()
    return figures


def same_rows(one: Batch, other: Batch) -> bool:
    return one.names == other.names and all(
        np.array_equal(a.rows, b.rows) for a, b in zip(one.parts, other.parts, strict=True)
    )


def shards(
    folders: list[str],
    batches: int,
    cold: bool,
    texts: bool = True,
    model: str | None = None,
    blocks: list[int] | None = None,
) -> Figures:
    """A mixture of shards, drawn with a thread ahead where it tokenizes.

    Args:
        folders: Of shards, drawn equally often.
        batches: How many are drawn.
        cold: Whether the files are first dropped from the system's cache.
        texts: Whether all texts are read, or only those of one rank of 1,024.
        model: Whose tokenizer is used.
        blocks: Rows of a block and blocks of a window, for a block shuffle.
    """
    prepare: Callable[[Batch], int] = len_of_texts
    if model is not None:
        from pairloom.models.names import load_model

        tokenizer = load_model(model).tokenizer(128)
        prepare = lambda batch: len(tokenizer([text for column in batch.columns for text in column]).ids)  # noqa: E731
    if cold:
        drop([file for folder in folders for file in Path(folder).glob("*.arrow")])
    clock = Clock()
    datasets = [Dataset(Path(folder).name, Shards(Path(folder), reads_ahead=bool(blocks))) for folder in folders]
    order = BlockShuffle(*blocks) if blocks else None
    mixture = Mixture(datasets, batch_size=BATCH, seed=1, block_shuffle=order, world_size=1 if texts else BATCH)
    with Prefetch(mixture, prepare, depth=4 if model else 0) as stream:
        next(stream)
        first = clock.seconds
        steady = Clock()
        size = sum(size for _, size in itertools.islice(stream, batches))
        seconds, cpu = steady.seconds, steady.cpu_seconds
    number = batches * BATCH
    figures = {"first": first, "rate": number / seconds, "cpu_rate": number / cpu, "size": size / number}
    return figures | {"memory": clock.memory()}


def len_of_texts(batch: Batch) -> int:
    return sum(len(text) for column in batch.columns for text in column)


def drop(files: list[Path]) -> None:
    """Drops files from the system's cache; what a host keeps of a virtual disk stays there."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def contestant(name: str, folders: list[str], cache: str, batches: int, resume: bool, seed: int) -> Figures:
    """Draws batches, and leaves a state behind; or resumes after as many and draws one more.

    Args:
        name: Of a contestant in `benchmarks._mixture_rivals`.
        folders: Of shards, each a dataset.
        cache: A folder for what contestants keep.
        batches: How many.
        resume: Whether to resume.
        seed: Another seed, other batches.
    """
    from benchmarks._mixture_rivals import CONTESTANTS

    state_file = Path(cache) / f"state-{name}-{seed}.json"
    make = CONTESTANTS[name]([Path(folder) for folder in folders], Path(cache), seed)
    clock = Clock()  # modules have been imported
    if resume:
        stream: Iterator[Any] = make.resume(batches, json.loads(state_file.read_text()))
        texts = next(stream)
        return {"resume": clock.seconds, "memory": clock.memory(), "next": digest(texts)}
    stream = make.start()
    next(stream)
    figures: Figures = {"first": clock.seconds, "memory_first": clock.memory()}
    steady = Clock()
    for _ in range(batches - 1):
        next(stream)
    figures["rate"] = (batches - 1) * BATCH / steady.seconds
    text = json.dumps(make.state())
    state_file.write_text(text)
    return figures | {"memory": clock.memory(), "state": len(text), "next": digest(next(stream))}


PROBES = {probe.__name__: probe for probe in (sampler, shards, contestant)}

if __name__ == "__main__":
    print(json.dumps(PROBES[sys.argv[1]](**json.loads(sys.argv[2]))))
