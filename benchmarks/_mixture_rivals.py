"""Mixtures of the same rows: pairloom's, sentence-transformers' samplers, and two ways of `datasets`.

Each is used as its documentation says. Where a rival draws by size, so do all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import skip_first_batches
from datasets import Dataset as TheirDataset
from datasets import disable_progress_bars, interleave_datasets, load_dataset
from sentence_transformers.base.sampler import NoDuplicatesBatchSampler, ProportionalBatchSampler
from torch.utils.data import ConcatDataset, DataLoader

from pairloom.pairs.dataset import Dataset
from pairloom.pairs.mixture import Mixture
from pairloom.pairs.shards import Shards

BATCH = 1024
COLUMNS = ["anchor", "positive"]
SHUFFLE_BUFFER = 10_000
Texts = list[str]
disable_progress_bars()


class Contestant(Protocol):
    def __init__(self, folders: list[Path], cache: Path, seed: int) -> None: ...

    def start(self) -> Iterator[Texts]:
        """The anchors of each batch."""

    def state(self) -> Any:
        """What `resume` needs, as JSON values."""

    def resume(self, batches: int, state: Any) -> Iterator[Texts]:
        """The anchors of each batch after the first ones."""


class Pairloom:
    def __init__(self, folders: list[Path], cache: Path, seed: int) -> None:
        self._folders, self._seed = folders, seed

    def start(self) -> Iterator[Texts]:
        rows = [Shards(folder) for folder in self._folders]
        datasets = [Dataset(folder.name, one, len(one)) for folder, one in zip(self._folders, rows, strict=True)]
        self._mixture = Mixture(datasets, batch_size=BATCH, seed=self._seed)
        return (batch.columns[0] for batch in self._mixture)

    def state(self) -> Any:
        return self._mixture.state()

    def resume(self, batches: int, state: Any) -> Iterator[Texts]:
        stream = self.start()
        self._mixture.restore(state)
        return stream


class SentenceTransformers:
    """As its trainer makes it of a `DatasetDict`, with NO_DUPLICATES and PROPORTIONAL; it resumes by `skip_first_batches`."""

    precompute_hashes = False

    def __init__(self, folders: list[Path], cache: Path, seed: int) -> None:
        self._folders, self._cache, self._seed = folders, cache, seed

    def _loader(self) -> Any:
        datasets = [opened(folder, self._cache) for folder in self._folders]
        generator = torch.Generator()
        generator.manual_seed(self._seed)
        samplers = [
            NoDuplicatesBatchSampler(
                dataset,
                batch_size=BATCH,
                drop_last=True,
                generator=generator,
                seed=self._seed,
                precompute_hashes=self.precompute_hashes,
            )
            for dataset in datasets
        ]
        together: ConcatDataset[Any] = ConcatDataset(datasets)
        sampler = ProportionalBatchSampler(together, batch_samplers=samplers, generator=generator, seed=self._seed)
        return DataLoader(together, batch_sampler=sampler, collate_fn=anchors)

    def start(self) -> Iterator[Texts]:
        return iter(self._loader())

    def state(self) -> Any:
        return {}

    def resume(self, batches: int, state: Any) -> Iterator[Texts]:
        return iter(skip_first_batches(self._loader(), batches))


class SentenceTransformersHashed(SentenceTransformers):
    """With NO_DUPLICATES_HASHED: `datasets` keeps the hashes on disk from one start to the next."""

    precompute_hashes = True


class Interleaved:
    """Map-style: shuffled datasets, interleaved row by row; it resumes by `skip_first_batches`."""

    def __init__(self, folders: list[Path], cache: Path, seed: int) -> None:
        self._folders, self._cache, self._seed = folders, cache, seed

    def _loader(self) -> Any:
        datasets = [opened(folder, self._cache) for folder in self._folders]
        rows = [len(dataset) for dataset in datasets]
        together = interleave_datasets(
            [dataset.shuffle(seed=self._seed) for dataset in datasets],
            probabilities=[number / sum(rows) for number in rows],
            seed=self._seed,
            stopping_strategy="all_exhausted",
        )
        return DataLoader(together, batch_size=BATCH, collate_fn=anchors)

    def start(self) -> Iterator[Texts]:
        return iter(self._loader())

    def state(self) -> Any:
        return {}

    def resume(self, batches: int, state: Any) -> Iterator[Texts]:
        return iter(skip_first_batches(self._loader(), batches))


class Streamed:
    """Streaming, with a shuffle buffer for each dataset; it resumes by `load_state_dict`."""

    def __init__(self, folders: list[Path], cache: Path, seed: int) -> None:
        self._folders, self._seed = folders, seed

    def start(self) -> Iterator[Texts]:
        rows = [Shards(folder).facts["num_rows"] for folder in self._folders]
        streams = [
            load_dataset("arrow", data_files=files(folder), split="train", streaming=True)
            .select_columns(COLUMNS)
            .shuffle(seed=self._seed, buffer_size=SHUFFLE_BUFFER)
            for folder in self._folders
        ]
        self._stream = interleave_datasets(
            streams,
            probabilities=[number / sum(rows) for number in rows],
            seed=self._seed,
            stopping_strategy="all_exhausted",
        )
        return iter(DataLoader(self._stream, batch_size=BATCH, collate_fn=anchors))

    def state(self) -> Any:
        return json.loads(json.dumps(self._stream.state_dict()))

    def resume(self, batches: int, state: Any) -> Iterator[Texts]:
        stream = self.start()
        self._stream.load_state_dict(state)
        return stream


CONTESTANTS: dict[str, type[Contestant]] = {
    "pairloom": Pairloom,
    "sentence-transformers": SentenceTransformers,
    "sentence-transformers, hashed": SentenceTransformersHashed,
    "interleave_datasets": Interleaved,
    "interleave_datasets, streaming": Streamed,
}


def anchors(rows: list[dict[str, str]]) -> Texts:
    return [row["anchor"] for row in rows]


def files(folder: Path) -> list[str]:
    return sorted(map(str, folder.glob("*.arrow")))


def opened(folder: Path, cache: Path) -> TheirDataset:
    """A folder of shards; `datasets` copies it into its cache the first time."""
    dataset = load_dataset("arrow", data_files=files(folder), split="train", cache_dir=str(cache))
    return dataset.select_columns(COLUMNS)
