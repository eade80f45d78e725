"""Datasets to measure mixtures with: rows that are only simulated, and real shards of synthetic text."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks._texts import read_pairs
from pairloom.pairs.counter_random import below, random_numbers, stream_key
from pairloom.pairs.shards import Layout, new_shards

# A text that comes again stands in one of so many rows: rarer than a batch, or it could never be drawn to the end.
_ROWS_PER_COMMON_TEXT = 4000
_POOL_BYTES = 1 << 27
_ROWS_AT_ONCE = 4 * 16384
# Mean, spread (of the logarithm), smallest and largest length in characters.
_TITLES, _BODIES = (52, 0.4, 8, 300), (700, 0.7, 20, 4096)
_LARGE_LISTS = 290, 1_170_060_424


@dataclass(frozen=True)
class NoText:
    columns: tuple[list[str], ...]


class SimulatedRows:
    """Rows without texts, whose hashes are a function of their numbers.

    Args:
        name: Rows of another name have other hashes.
        num_rows: How many.
        common: Share of the rows whose anchor is one of some common texts, each of which stands in one of 4,000 rows.
    """

    columns = ("anchor", "positive")

    def __init__(self, name: str, num_rows: int, common: float) -> None:
        self._num_rows, self._common, self._key = num_rows, common, stream_key(0, "benchmark", name)
        self.fingerprint = hashlib.sha256(f"{name} {num_rows}".encode()).hexdigest()

    def __len__(self) -> int:
        return self._num_rows

    def hashes(self, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        counters = rows.astype(np.uint64)
        hashes = np.stack([random_numbers(self._key, counters, lane) for lane in (0, 1)], axis=1)
        if self._common:
            numbers = random_numbers(self._key, counters, 2)
            is_common = np.flatnonzero(numbers < np.uint64(int(self._common * (2**64 - 1))))
            number_of_texts = np.uint64(max(1, int(self._common * _ROWS_PER_COMMON_TEXT)))
            hashes[is_common, 0] = below(random_numbers(self._key, counters[is_common], 3), number_of_texts)
        return hashes

    def take(self, rows: NDArray[np.int64]) -> NoText:
        return NoText(tuple([str(row) for row in rows.tolist()] for _ in self.columns))


def synthetic_list() -> tuple[list[int], list[float]]:
    """Rows and weights of as many datasets, with as many rows in all, as all_datasets_v4 has.

    Returns:
        Rows, log-normally distributed; and weights by the published rule: as the rows, capped at a million.
    """
    count, total = _LARGE_LISTS
    sizes = np.random.default_rng(0).lognormal(0.0, 2.0, count)
    rows = np.maximum(10_000, sizes / sizes.sum() * total).astype(np.int64)
    rows[rows.argmax()] += total - rows.sum()
    capped = np.minimum(rows, 1_000_000)
    return rows.tolist(), np.ceil(10_000 * capped / capped.sum()).tolist()


class Prose:
    """English text without end: sentences of docstrings, in random order."""

    def __init__(self) -> None:
        pairs = read_pairs(1000)
        sentences = [f"{sentence}. " for pair in pairs for sentence in pair.positive.split(". ")]
        chooser = random.Random(0)
        mean = sum(map(len, sentences)) / len(sentences)
        text = "".join(chooser.choices(sentences, k=int(1.1 * _POOL_BYTES / mean)))
        self._pool = np.frombuffer(text.encode("ascii", "ignore")[:_POOL_BYTES], dtype=np.uint8)

    def column(self, lengths: NDArray[np.int64], generator: np.random.Generator) -> pa.Array:
        """Texts of some lengths, cut out of a random stretch one after another."""
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        begin = int(generator.integers(0, len(self._pool) - offsets[-1]))
        content = pa.py_buffer(self._pool[begin : begin + offsets[-1]])
        return pa.LargeStringArray.from_buffers(len(lengths), pa.py_buffer(offsets), content)


def write_shards(folder: Path, name: str, num_rows: int, common: float, prose: Prose) -> None:
    """Writes pairs of title and body with the lengths of Stack Exchange's; hashes are those of `SimulatedRows`."""
    generator = np.random.default_rng(stream_key(0, name))
    layout, hashes = Layout(), SimulatedRows(name, num_rows, common)
    with new_shards(folder, layout) as writer:
        for first in range(0, num_rows, _ROWS_AT_ONCE):
            rows = np.arange(first, min(first + _ROWS_AT_ONCE, num_rows))
            texts = [prose.column(_lengths(len(rows), generator, *shape), generator) for shape in (_TITLES, _BODIES)]
            writer.write_table(pa.table([*texts, *map(pa.array, hashes.hashes(rows).T)], schema=layout.schema))


def _lengths(
    count: int, generator: np.random.Generator, mean: int, spread: float, least: int, most: int
) -> NDArray[np.int64]:
    lengths = generator.lognormal(np.log(mean) - spread**2 / 2, spread, count)
    return np.clip(lengths, least, most).astype(np.int64)
