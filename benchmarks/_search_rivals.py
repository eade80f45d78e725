"""FAISS alone, and the search of sentence-transformers: vectors in memory, without texts, fields or changes on the disk."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks._search_side import BLOCK_ROWS, Asker, Figures, Side, Stopwatch, contiguous
from benchmarks._search_truth import K

_FILE = "vectors.faiss"


class Faiss(Side):
    """An index in half precision. Settings: ``kind``, ``exact`` or ``graph``."""

    def make(self) -> Figures:
        from pairloom.search.index.faiss_views import faiss
        from pairloom.search.index.graph import CONSTRUCTION_EFFORT, NUM_LINKS  # so that the same index is compared

        faiss.omp_set_num_threads(self.cores)
        rows, adding = self.data.rows, Stopwatch()
        half, product = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        if self.settings["kind"] == "graph":
            index = faiss.IndexHNSWSQ(rows.dimensions, half, NUM_LINKS, product)
            index.hnsw.efConstruction = CONSTRUCTION_EFFORT
        else:
            index = faiss.IndexScalarQuantizer(rows.dimensions, half, product)
        index.train(rows.read(0, BLOCK_ROWS))
        for block in rows.blocks(BLOCK_ROWS):
            with adding:
                index.add(block)
        faiss.write_index(index, str(self.store / _FILE))
        return {"add_s": adding.seconds, "build_s": {}}

    def open(self) -> Figures:
        from pairloom.search.index.faiss_views import faiss

        faiss.omp_set_num_threads(self.cores)
        self._index = faiss.read_index(str(self.store / _FILE))
        self.vectors = contiguous(self.vectors)
        return {"count": self._index.ntotal}

    def asker(self, effort: int | None = None, filter: Any = None) -> Asker:
        """``effort`` is efSearch. The bits of a filter are made ahead: whoever uses FAISS alone keeps them himself."""
        from pairloom.search.index.faiss_views import faiss

        selector = None
        if filter is not None:
            selector = faiss.IDSelectorBitmap(np.packbits(self.data.mask(*filter), bitorder="little"))
        options = {} if selector is None else {"sel": selector}
        if self.settings["kind"] == "graph":
            parameters = faiss.SearchParametersHNSW(efSearch=effort or K, **options)
        else:
            parameters = faiss.SearchParameters(**options)

        def ask(number: int) -> list[int]:
            _, found = self._index.search(self.vectors[number : number + 1], K, params=parameters)
            return [row for row in found[0].tolist() if row >= 0]

        return ask

    def together(self, effort: int | None = None) -> Figures:
        """All questions in one call."""
        from pairloom.search.index.faiss_views import faiss

        graph = self.settings["kind"] == "graph"
        parameters = faiss.SearchParametersHNSW(efSearch=effort or K) if graph else faiss.SearchParameters()
        begin = time.perf_counter()
        self._index.search(self.vectors, K, params=parameters)
        return {"batch_size": len(self.vectors), "step_s": [time.perf_counter() - begin]}


class SemanticSearch(Side):
    """``util.semantic_search`` by dot product over normalised vectors, as its documentation advises."""

    def make(self) -> Figures:
        """Its store is the file of vectors."""
        return {"add_s": 0.0, "build_s": {}}

    def open(self) -> Figures:
        import torch

        torch.set_num_threads(self.cores)
        self._corpus = torch.from_numpy(self.data.rows.read(0, self.data.size))
        self._asked = torch.from_numpy(contiguous(self.vectors))
        return {"count": len(self._corpus)}

    def asker(self, k: int = K) -> Asker:
        from sentence_transformers import util

        def ask(number: int) -> list[int]:
            found = util.semantic_search(
                self._asked[number : number + 1], self._corpus, top_k=k, score_function=util.dot_score
            )
            return [int(hit["corpus_id"]) for hit in found[0]]

        return ask

    def together(self) -> Figures:
        """All questions in one call, for which it is made."""
        from sentence_transformers import util

        begin = time.perf_counter()
        util.semantic_search(self._asked, self._corpus, top_k=K, score_function=util.dot_score)
        return {"batch_size": len(self._asked), "step_s": [time.perf_counter() - begin]}
