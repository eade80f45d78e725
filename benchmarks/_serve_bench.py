"""What all parts of the benchmark of serving share: the model, texts, servers, rivals and the load."""

from __future__ import annotations

import argparse
import base64
import importlib.util
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._encode_apart import Apart
from benchmarks._encode_texts import Corpus, corpus, model_folder, random_model
from benchmarks._serve_load import Load
from benchmarks._serve_offline import Offline
from benchmarks._serve_process import Server, measured, serve_command
from benchmarks._serve_requests import Request, write_requests
from benchmarks._train_pairs import distinct_pairs
from benchmarks._train_table import Figures
from pairloom.models.model import Model
from pairloom.models.names import load_model

READY = "/health/ready"
# The cosine that vectors over HTTP must have to those without: what bfloat16 of either library keeps.
_LEAST_COSINE = 0.995
_NUM_CHECKED = 8
_PEER_LIBRARIES = ("fastapi", "sentence_transformers", "torch", "uvicorn")


class Bench:
    """Options, and what is made for them.

    Args:
        options: Of `benchmarks.serve`.
        folder: For files.
    """

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        if options.toy:
            toy = random_model(folder / "toy", "bert", layers=2, width=32, max_tokens=64, toy=True, spread=0.2)
            self.model = str(toy)
        else:
            self.model = options.model

    @cached_property
    def loaded(self) -> Model:
        return load_model(self.model)

    @cached_property
    def titles(self) -> Corpus:
        """Short texts: titles, or first lines of docstrings."""
        count = self.options.texts
        sources: list[Path | None] = self.options.pairs or [None]
        found = [title for path in sources for title, _ in distinct_pairs(path, -(-count // len(sources)))]
        titles = corpus("titles", found[:count], self.loaded)
        print(f"  {titles.describe()}", flush=True)
        return titles

    @cached_property
    def titles_file(self) -> str:
        return str(self.titles.write(self.folder))

    def ours(self, *words: str, settings: Mapping[str, Any] | None = None, command: list[str] | None = None) -> Server:
        """Pairloom.

        Args:
            words: More of the command line.
            settings: Of `pairloom.serve.settings`, by environment.
            command: Instead of the usual one.
        """
        variables = {f"PAIRLOOM_SERVE_{name.upper()}": str(value) for name, value in (settings or {}).items()}
        precision = ["--precision", self.options.precision] if self.options.precision else []
        common = ["--threads", str(self.options.threads), *precision, *words]
        return Server([*(command or serve_command(self.model)), *common], READY, variables)

    def peer(self, precision: str) -> Server:
        """FastAPI with sentence-transformers."""
        module = [sys.executable, "-m", "benchmarks._serve_peer", str(model_folder(self.model)), "--port", "PORT"]
        words = ["--precision", precision, "--threads", str(self.options.threads)]
        return Server([*module, *words], "/openapi.json")

    def has_peer(self) -> bool:
        """Whether it can take part."""
        missing = [name for name in _PEER_LIBRARIES if importlib.util.find_spec(name) is None]
        if missing:
            print(f"  {', '.join(missing)}: not installed; the peer is left out", flush=True)
        return not missing

    def offline(self) -> Apart:
        threads, precision = self.options.threads, self.options.precision
        given = {"model": self.model, "corpus": self.titles_file, "threads": threads, "precision": precision}
        return Apart(Offline, given, threads=threads)

    def load(self) -> Apart:
        return Apart(Load, {}, threads=1)

    def write(self, name: str, requests: Iterable[Request]) -> str:
        """A file of requests."""
        return str(write_requests(self.folder / f"{name}.requests.json", requests))

    def turn(self, load: Apart, server: Server, requests: str, clients: int, count: int | None = None) -> Figures:
        """One turn of clients that wait for their answers."""
        given: dict[str, Any] = {"requests": requests, "port": server.port, "clients": clients}
        bounds = {"count": count or self.options.texts, "seconds": self.options.seconds}
        return measured(server, load.call, "closed", **given, **bounds)

    def warm(self, load: Apart, server: Server, requests: str, clients: int) -> None:
        """A turn that is not timed."""
        load.call("closed", requests=requests, port=server.port, clients=clients, count=self.options.texts, seconds=1.0)

    def check(self, name: str, vectors: Any, offline: Apart) -> None:
        """Ends the program if what is to be timed is not right.

        Args:
            name: Whose.
            vectors: Of the first texts, [N, D].
            offline: Whose are right.
        """
        right = np.array(offline.call("vectors", count=len(vectors))["vectors"])
        found = np.asarray(vectors)
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(right, axis=1)
        least = float(((found * right).sum(axis=1) / lengths).min())
        print(f"  {name}: cosine to offline vectors at least {least:.6f}", flush=True)
        if not least >= _LEAST_COSINE:
            raise SystemExit(f"{name} answers with other vectors")

    def first_titles(self) -> list[str]:
        """By which answers are checked."""
        return self.titles.texts[:_NUM_CHECKED]

    def collection_of_titles(self) -> Path:
        """A collection, made by the command line."""
        path = self.folder / "collection"
        if not path.exists():
            lines = self.folder / "titles.txt"
            lines.write_text("".join(f"{' '.join(text.split())}\n" for text in self.titles.texts), encoding="utf-8")
            words = ["index", str(lines), "--out", str(path), "--model", self.model, "--quiet"]
            done = subprocess.run([sys.executable, "-m", "pairloom", *words], capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"pairloom index failed: {done.stderr.strip()[-300:]}")
        return path


def served_model(server: Server) -> str:
    """The name under which the server's model is asked for."""
    return str(server.get("/v1/models")["data"][0]["id"])


def unbase64(answer: Any) -> list[Any]:
    """Vectors of an answer in base64, [N][D]."""
    return [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in answer["data"]]
