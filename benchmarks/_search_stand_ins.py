"""The part ``stand_ins``: whether what an index is measured with is as hard to find for as real questions are."""

from __future__ import annotations

import numpy as np

from benchmarks._search_bench import PAIRLOOM, Bench
from benchmarks._search_rows import Vectors
from pairloom.encode.similarity import normalize
from pairloom.search.index.approximate import ApproximateSearch, Settings
from pairloom.search.index.calibrate import Sample, draw_sample, recalls
from pairloom.search.index.flat_file import FlatFile
from pairloom.search.index.vector_index import VectorIndex

_EFFORTS = (64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096)
_MOVED = (0.2, 0.3, 0.35, 0.4, 0.5)
_DEPTH = 200


def stand_ins(bench: Bench) -> None:
    """Recall by effort on a graph: of titles by where they are from, and of stand-ins for questions."""
    for size in bench.sizes:
        data = bench.at(size)
        bench.built(PAIRLOOM["graph"], data)
        folder = bench.store(PAIRLOOM["graph"], data) / "index"
        index = VectorIndex(max(folder.iterdir()), threads=bench.options.threads)
        if index.source is None:
            print(f"  {data.size:,} rows: no graph was made", flush=True)
            continue
        print(f"  {data.size:,} rows, efforts {' '.join(map(str, _EFFORTS))}", flush=True)
        for name, sample in _samples(bench, index.flat).items():
            found = [
                recalls(ApproximateSearch(index.flat, index.source, Settings(effort, effort, 10, 100)), sample, 10)
                for effort in _EFFORTS
            ]
            shown = " ".join(f"{values.mean():.4f}" for values in found)
            print(f"  {name} ({len(sample.vectors)}): {shown}", flush=True)


def _samples(bench: Bench, flat: FlatFile) -> dict[str, Sample]:
    questions, vectors = bench.data.questions()
    sources = np.array([question.source for question in questions])
    samples = {f"titles of {source}": sample_of(flat, vectors[sources == source]) for source in sorted(set(sources))}
    for moved in _MOVED:
        both = draw_sample(flat, num_queries=1_000, moved=moved)
        half = len(both.vectors) // 2
        samples["vectors themselves"] = Sample(*(part[:half] for part in vars(both).values()))
        samples[f"moved by {moved}"] = Sample(*(part[half:] for part in vars(both).values()))
    return samples


def sample_of(flat: FlatFile, vectors: Vectors) -> Sample:
    """Questions [Q, D], and what there is to find for them."""
    unit = normalize(vectors)
    return Sample(unit, np.full(len(unit), -1), *flat.search(unit, min(_DEPTH, len(flat))))
