"""LanceDB as a contestant: tables on the disk with indexes over vectors, words and fields, as its documentation advises."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from benchmarks._search_changing import Changing
from benchmarks._search_data import SHARES, Labelled, metadata
from benchmarks._search_rows import Vectors
from benchmarks._search_side import Asker, Figures, Stopwatch, as_ints
from benchmarks._search_truth import K

if TYPE_CHECKING:
    import pyarrow as pa

_TABLE = "documents"
# Starting points that its documentation names for IVF-PQ; of IVF-HNSW its defaults are one graph, 20 links, 300 candidates.
_ROWS_A_PARTITION = 4_096
_NUMBERS_A_CODE = 8


class Lance(Changing):
    """A table. Settings: ``kind``, ``graph`` (IVF_HNSW_SQ) or ``compact`` (IVF_PQ); ``words`` if words are searched, too; ``model``
    if questions are encoded.

    By itself it keeps two processors for reading; where there are but two, it would compute with one only. So it is told how many
    it has. Vectors have length 1, so the dot product, which takes the least time, is the cosine.
    """

    def __init__(self, data: str, size: int, store: str, cores: int, **settings: Any) -> None:
        os.environ["LANCE_CPU_THREADS"] = str(cores)
        super().__init__(data, size, store, cores, **settings)
        self._encoder: Any = None

    def make(self) -> Figures:
        import lancedb
        from lancedb.index import FTS, Bitmap, BTree, HnswSq, IvfPq

        adding, table = Stopwatch(), None
        database = lancedb.connect(self.store)
        for documents, vectors in self.blocks():
            texts = [(document.text, str(document.metadata["source"])) for document in documents]
            rows = as_table([document.id for document in documents], int(documents[0].id), texts, vectors)
            with adding:
                if table is None:
                    table = database.create_table(_TABLE, rows)
                else:
                    table.add(rows)
        assert table is not None
        if self.settings["kind"] == "graph":
            config: Any = HnswSq(distance_type="dot")
        else:
            width = self.data.rows.dimensions
            config = IvfPq(
                distance_type="dot",
                num_partitions=max(1, self.data.size // _ROWS_A_PARTITION),
                num_sub_vectors=width // _NUMBERS_A_CODE,
            )
        compacting = Stopwatch()
        with compacting:
            table.optimize()
        with Stopwatch() as building:
            table.create_index("vector", config=config)
        with Stopwatch() as fields:
            table.create_index("id", config=BTree())
            for field in ("source", "ten", "hundred"):
                table.create_index(field, config=Bitmap())
            table.create_index("ten_thousand", config=BTree())
        build = {"vectors": building.seconds, "fields": fields.seconds}
        if self.settings.get("words"):
            with Stopwatch() as words:
                table.create_index("text", config=FTS())
            build["words"] = words.seconds
        with compacting:  # of files of versions that are over, which would count as bytes on the disk
            table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
        build["compaction"] = compacting.seconds
        return {"add_s": adding.seconds, "build_s": build}

    def open(self) -> Figures:
        import lancedb

        # Others' changes are seen at once, as they are in a collection, if others are to change it.
        interval = timedelta(0) if self.settings.get("current") else None
        self._table = lancedb.connect(self.store, read_consistency_interval=interval).open_table(_TABLE)
        if model := self.settings.get("model"):
            from pairloom import Encoder

            self._encoder = Encoder(model, device="cpu", threads=self.cores)
        return {"count": self._table.count_rows()}

    def asker(
        self,
        mode: str = "vector",
        by: str = "vector",
        exact: bool = False,
        effort: int | None = None,
        refine: int | None = None,
        probes: int | None = None,
        filter: Any = None,
        k: int = K,
    ) -> Asker:
        """``effort`` is ef; ``by`` a text, questions are encoded by pairloom's encoder, so that only the search differs."""
        condition = None if filter is None else f"{filter[0]} = {filter[1]!r}"

        def ask(number: int) -> list[int]:
            text = self.texts[number]
            vector = self._encoder.encode_query(text) if by == "text" and mode != "words" else self.vectors[number]
            if mode == "vector":
                query = self._table.search(vector, vector_column_name="vector", query_type="vector")
            elif mode == "words":
                query = self._table.search(text, query_type="fts", fts_columns="text")
            else:
                query = self._table.search(query_type="hybrid", vector_column_name="vector", fts_columns="text")
                query = query.vector(vector).text(text)
            if mode != "words":
                query = query.distance_type("dot")
                query = query.bypass_vector_index() if exact else query
                query = query.ef(effort) if effort else query
                query = query.refine_factor(refine) if refine else query
                query = query.nprobes(probes) if probes else query
            query = query.where(condition) if condition else query
            return as_ints([row["id"] for row in query.limit(k).select(["id", "text"]).to_list()])

        return ask

    def replace(self, rows: Sequence[int], first: int) -> None:
        """By one call."""
        texts, vectors = self.further
        part = slice(first, first + len(rows))
        merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        merge.execute(as_table([str(row) for row in rows], first, texts[part], vectors[part]))

    def add_further(self, begin: int, end: int) -> None:
        """Adds rows that were not there."""
        texts, vectors = self.further
        ids = [f"new {number}" for number in range(begin, end)]
        self._table.add(as_table(ids, begin, texts[begin:end], vectors[begin:end]))

    def renew_index(self) -> None:
        """What its documentation has one call after changes."""
        self._table.optimize()

    def knows(self, number: int) -> bool:
        """Whether the further row of this number is found by its own vector."""
        found = self._table.search(self.further[1][number], vector_column_name="vector").distance_type("dot").limit(1)
        return bool(found.select(["id"]).to_list()[0]["id"] == f"new {number}")


def as_table(ids: list[str], first: int, texts: list[Labelled], vectors: Vectors) -> pa.Table:
    """Rows with the metadata of the numbers from ``first`` on, as columns."""
    import pyarrow as pa

    known = [metadata(number, source) for number, (_, source) in enumerate(texts, first)]
    values = pa.array(vectors.ravel(), pa.float32())
    columns = {
        "id": ids,
        "text": [text for text, _ in texts],
        "vector": pa.FixedSizeListArray.from_arrays(values, vectors.shape[1]),
        **{name: [one[name] for one in known] for name in ("source", *SHARES)},
    }
    return pa.table(columns)
