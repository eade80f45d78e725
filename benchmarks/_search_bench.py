"""What all parts of the benchmark share: the data, contestants with their stores, and rounds."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from benchmarks._encode_apart import Apart
from benchmarks._search_data import FACTS, Data, encode, gather, grow
from benchmarks._search_growth import Growth
from benchmarks._search_lancedb import Lance
from benchmarks._search_pairloom import Pairloom
from benchmarks._search_rivals import Faiss, SemanticSearch
from benchmarks._search_side import Figures, Side
from benchmarks._search_truth import Truth, truth
from benchmarks._train_table import Rounds, alternate
from pairloom import Encoder
from pairloom.evaluate.tasks import RetrievalTask, read_task
from pairloom.models.names import load_model

How = dict[str, Any]
EFFORTS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
PROBES = (5, 10, 20, 40, 80, 160, 320)


@dataclass(frozen=True)
class Contestant:
    """Someone who takes part.

    Args:
        name: Under which it is shown.
        side: Its class.
        store: The name of its store; several may share one.
        settings: Of the class.
        how: How it is asked.
        ladders: Ways of asking, each ladder from the quickest to the most thorough. Of the first of each ladder that finds
            enough, the quickest is taken. Without any it chooses by itself.
        library: What must be installed.
    """

    name: str
    side: type[Side]
    store: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    how: How = field(default_factory=dict)
    ladders: tuple[tuple[How, ...], ...] = ()
    library: str = "pairloom"

    @property
    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.library) is not None


PAIRLOOM = {
    kind: Contestant(f"pairloom, {kind}", Pairloom, f"pairloom-{kind}", {"kind": kind})
    for kind in ("exact", "graph", "compact")
}
FAISS_EXACT = Contestant("FAISS alone, exact", Faiss, "faiss-exact", {"kind": "exact"}, library="faiss")
FAISS_GRAPH = Contestant(
    "FAISS alone, graph",
    Faiss,
    "faiss-graph",
    {"kind": "graph"},
    ladders=(tuple({"effort": effort} for effort in EFFORTS),),
    library="faiss",
)
SEMANTIC_SEARCH = Contestant(
    "util.semantic_search, exact", SemanticSearch, "semantic-search", library="sentence_transformers"
)
LANCE_GRAPH = Contestant(
    "LanceDB, IVF_HNSW_SQ",
    Lance,
    "lancedb-graph",
    {"kind": "graph"},
    ladders=tuple(
        tuple({"refine": refine, "effort": effort} for effort in EFFORTS if effort >= 10 * refine)
        for refine in (1, 2, 4, 8)
    ),
    library="lancedb",
)
LANCE_COMPACT = Contestant(
    "LanceDB, IVF_PQ",
    Lance,
    "lancedb-compact",
    {"kind": "compact"},
    ladders=tuple(tuple({"refine": refine, "probes": probes} for probes in PROBES) for refine in (4, 8, 16, 32)),
    library="lancedb",
)
LANCE_EXACT = Contestant(
    "LanceDB, exact", Lance, "lancedb-graph", {"kind": "graph"}, how={"exact": True}, library="lancedb"
)
RIVALS = (FAISS_EXACT, FAISS_GRAPH, SEMANTIC_SEARCH, LANCE_EXACT, LANCE_GRAPH, LANCE_COMPACT)


class Bench:
    """Options, and what is made for them in the cache folder.

    Args:
        options: Of `benchmarks.search`.
        cache: A folder, which may have been filled before.
        model: A folder, or a name.
    """

    def __init__(self, options: argparse.Namespace, cache: Path, model: str) -> None:
        self.options, self.cache, self.model = options, cache, model
        self.sizes: list[int] = sorted(options.sizes)
        self._said: set[str] = set()
        self._truths: dict[int, Truth] = {}

    @cached_property
    def task(self) -> RetrievalTask | None:
        """The task that was given."""
        read = read_task(self.options.task) if self.options.task else None
        if read is not None and not isinstance(read, RetrievalTask):
            raise SystemExit(f"{self.options.task} is no retrieval task")
        return read

    @cached_property
    def real(self) -> Data:
        """Real texts and their vectors, which are made if they are not there.

        Raises:
            SystemExit: Those that are there are another model's.
        """
        options, encoded = self.options, self.cache / "encoded"
        if (encoded / FACTS).exists():
            real = Data(encoded)
            if real.facts["model"] != load_model(self.model).fingerprint:
                raise SystemExit(f"{self.cache} has vectors of another model; take another folder")
            return real
        texts, questions = gather(options.pairs, self.task, options.questions, count=options.texts)
        return encode(encoded, texts, questions, Encoder(self.model, device="cpu", threads=options.threads))

    @cached_property
    def data(self) -> Data:
        """The same with as many rows as are wanted."""
        real, rows, further = self.real, max(self.sizes), self.options.further
        folder = self.cache / f"rows-{rows}-{further}"
        data = Data(folder) if (folder / FACTS).exists() else grow(real, folder, rows, further)
        questions, _ = data.questions()
        print(f"  {data.num_real:,} texts, {data.facts['rows']:,} rows, {len(questions):,} questions", flush=True)
        print(f"  {Growth(**data.facts['growth']).describe()}", flush=True)
        return data

    def at(self, size: int) -> Data:
        """The first so many rows."""
        return Data(self.data.folder, size)

    def truth(self, size: int) -> Truth:
        """The nearest of the first so many rows, for all questions."""
        if size not in self._truths:
            _, questions = self.data.questions()
            self._truths[size] = truth(self.at(size).rows, questions)
        return self._truths[size]

    def present(self, *contestants: Contestant) -> list[Contestant]:
        """Those that can take part; who cannot is named once, with the reason."""
        for one in contestants:
            if not one.is_installed and one.library not in self._said:
                self._said.add(one.library)
                print(f"  {one.library} is not installed: left out", flush=True)
        return [one for one in contestants if one.is_installed]

    def apart(
        self, one: Contestant, data: Data, store: Path | None = None, *, cores: int | None = None, clients: int = 1
    ) -> Apart:
        """A contestant in a process of its own, on so many ``cores``, by default all, which ``clients`` threads share."""
        cores = cores or self.options.threads
        arguments = {
            "data": str(data.folder),
            "size": data.size,
            "store": str(store or self.store(one, data)),
            "cores": cores,
            **one.settings,
        }
        return Apart(one.side, arguments, threads=max(1, cores // clients))

    def store(self, one: Contestant, data: Data) -> Path:
        """Where it has its own files."""
        return self.cache / "stores" / f"{one.store}-{data.folder.name}-{data.size}"

    def build(self, one: Contestant, data: Data) -> Figures:
        """Builds a store anew. What was measured is kept beside it: without it the store is not finished."""
        store = self.store(one, data)
        known = store.with_name(f"{store.name}.json")
        known.unlink(missing_ok=True)
        shutil.rmtree(store, ignore_errors=True)
        store.parent.mkdir(parents=True, exist_ok=True)
        with self.apart(one, data) as apart:
            figures = apart.call("build")
        if "failed" not in figures:
            known.write_text(json.dumps(figures), encoding="utf-8")
        return figures

    def built(self, one: Contestant, data: Data) -> Figures:
        """What is known of a store, which is built if it is not there."""
        store = self.store(one, data)
        known = store.with_name(f"{store.name}.json")
        if known.exists():
            found: Figures = json.loads(known.read_text(encoding="utf-8"))
            return found
        print(f"  building {one.store} of {data.size:,} rows ...", flush=True)
        return self.build(one, data)

    @contextlib.contextmanager
    def opened(
        self, contestants: Iterable[Contestant], data: Data, *, cores: int | None = None, clients: int = 1
    ) -> Iterator[dict[str, Apart]]:
        """Those that could be built and opened, ready to be asked, by name."""
        with contextlib.ExitStack() as stack:
            found: dict[str, Apart] = {}
            for one in contestants:
                built = self.built(one, data)
                apart = None
                if "failed" not in built:
                    apart = stack.enter_context(self.apart(one, data, cores=cores, clients=clients))
                answer = built if apart is None else apart.call("open")
                if apart is None or "failed" in answer:
                    print(f"  {one.name}: {answer['failed']}", flush=True)
                else:
                    found[one.name] = apart
            yield found

    def alternate(self, workers: Mapping[str, tuple[Apart, str, dict[str, Any]]]) -> Rounds:
        """Lets them take turns."""
        return alternate(
            {name: partial(apart.call, method, **given) for name, (apart, method, given) in workers.items()},
            self.options.rounds,
        )
