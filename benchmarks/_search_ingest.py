"""The part ``ingest``: rows into stores, with vectors that are there and with texts that must be encoded."""

from __future__ import annotations

import itertools
import shutil
import time
from pathlib import Path
from typing import Any

from benchmarks._encode_apart import Apart
from benchmarks._search_bench import LANCE_GRAPH, PAIRLOOM, RIVALS, Bench, Contestant
from benchmarks._search_data import Data
from benchmarks._search_lancedb import as_table
from benchmarks._search_side import Figures, limit
from benchmarks._search_table import show_builds
from benchmarks._train_table import alternate, show


def ingest(bench: Bench) -> None:
    """Rows/s without encoding and with, time to build, bytes on the disk and memory."""
    stores: dict[str, Contestant] = {}
    for one in bench.present(*(PAIRLOOM[kind] for kind in bench.options.kinds), *RIVALS):
        stores.setdefault(one.store, one)
    for size in bench.sizes:
        data = bench.at(size)
        print(f"  {data.size:,} rows of {data.rows.dimensions} numbers with texts and fields", flush=True)
        built: dict[str, list[Figures]] = {name: [] for name in stores}
        for number in range(bench.options.builds):
            for name, one in stores.items():
                print(f"  round {number + 1} of {bench.options.builds}: {name} ...", flush=True)
                built[name].append(bench.build(one, data))
        for name, figures in built.items():
            show_builds(name, figures, max(map(len, built)))
    encoded(bench)


def encoded(bench: Bench) -> None:
    """The same with encoding, beside the encoder alone."""
    arguments: dict[str, Any] = {
        "data": str(bench.data.folder),
        "count": bench.options.encode_texts,
        "model": bench.model,
        "work": str(bench.cache / "encoded"),
        "cores": bench.options.threads,
    }
    with Apart(Encoding, arguments, threads=bench.options.threads) as ours:
        workers: dict[str, Any] = {
            "pairloom, the encoder alone": lambda: ours.call("alone"),
            "pairloom, a collection": lambda: ours.call("added"),
        }
        others = bench.present(LANCE_GRAPH)
        theirs = Apart(OtherEncoding, arguments, threads=bench.options.threads) if others else None
        if theirs is not None:
            workers["sentence-transformers and LanceDB"] = lambda: theirs.call("added")
        print(f"  {bench.options.encode_texts:,} texts that must be encoded", flush=True)
        show(alternate(workers, bench.options.rounds), "pairloom, the encoder alone", unit="texts")
        if theirs is not None:
            theirs.close()


class _Encoded:
    """Texts to encode.

    Args:
        data: The folder of `benchmarks._search_data`.
        count: How many of its texts.
        model: A folder, or a name.
        work: A folder for stores, which go.
        cores: To how many the process is limited.
    """

    def __init__(self, data: str, count: int, model: str, work: str, cores: int) -> None:
        limit(cores)
        self._documents = list(itertools.islice(Data(Path(data)).documents(), count))
        self._model, self._work = model, Path(work) / type(self).__name__

    def _figures(self, begin: float) -> Figures:
        return {"batch_size": len(self._documents), "step_s": [time.perf_counter() - begin]}


class Encoding(_Encoded):
    """Pairloom."""

    def __init__(self, data: str, count: int, model: str, work: str, cores: int) -> None:
        super().__init__(data, count, model, work, cores)
        from pairloom import Encoder

        self._encoder = Encoder(model, device="cpu", threads=cores)
        self._encoder.encode(["warm"])

    def alone(self) -> Figures:
        """Only encoding."""
        begin = time.perf_counter()
        self._encoder.encode_document([document.text for document in self._documents])
        return self._figures(begin)

    def added(self) -> Figures:
        """Into a new collection."""
        from pairloom.search.collection import Collection

        shutil.rmtree(self._work, ignore_errors=True)
        with Collection(self._work, self._encoder, create=True) as collection:
            begin = time.perf_counter()
            collection.add(self._documents)
            return self._figures(begin)


class OtherEncoding(_Encoded):
    """Sentence-transformers' encoder, as it is installed, into a table."""

    def __init__(self, data: str, count: int, model: str, work: str, cores: int) -> None:
        super().__init__(data, count, model, work, cores)
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(cores)
        self._encoder = SentenceTransformer(model, device="cpu")

    def added(self) -> Figures:
        """Into a new table."""
        import lancedb

        shutil.rmtree(self._work, ignore_errors=True)
        database = lancedb.connect(self._work)
        begin = time.perf_counter()
        vectors = self._encoder.encode([document.text for document in self._documents], normalize_embeddings=True)
        texts = [(document.text, str(document.metadata["source"])) for document in self._documents]
        database.create_table("documents", as_table([document.id for document in self._documents], 0, texts, vectors))
        return self._figures(begin)
