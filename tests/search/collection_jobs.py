"""Collections for tests: vectors without a model, small blocks and tails, and a process of their own that can be killed."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.encode import blocks
from pairloom.errors import PairloomError
from pairloom.records import Document
from pairloom.search import building, state
from pairloom.search.collection import Collection
from pairloom.search.settings import Settings

DIMENSIONS = 16
WORDS = ("the a of how do i what python list file water coffee bean grind brew cup hot cold train model search").split()
TAGS = ("red", "green", "blue")


def vector_of(text: str) -> npt.NDArray[np.float32]:
    """[D], the same of the same text."""
    seed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
    return np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)


def vectors_of(documents: Sequence[Document]) -> npt.NDArray[np.float32]:
    return np.array([vector_of(document.text) for document in documents], np.float32).reshape(-1, DIMENSIONS)


def make_document(number: int, version: int = 0) -> Document:
    dice = random.Random(number * 1_000 + version)
    text = f"{' '.join(dice.choices(WORDS, k=dice.randint(2, 9)))} number{number} version{version}"
    return Document(f"dök {number}", text, {"tag": TAGS[number % 3], "version": version, "number": number})


def open_collection(path: Path, **settings: Any) -> Collection:
    """A collection of vectors of 16 numbers, made if it is not there."""
    if (path / "ledger.db").is_file():
        return Collection(path)
    return Collection(path, settings=Settings(dimensions=DIMENSIONS, similarity="cosine", **settings))


def put(collection: Collection, documents: Sequence[Document]) -> None:
    collection.upsert(documents, vectors=vectors_of(documents))


def small_tails() -> None:
    """Indexes are built for few rows, blocks have few texts, and little is read at once."""
    building.TAIL_ROWS = 40
    building._READ_ROWS = state._READ_ROWS = 64
    blocks.BLOCK_TEXTS = 16


def work(path: Path, journal: Path, seed: int, max_file_bytes: int | None = None) -> None:
    """Adds, changes and deletes at random until the process is killed, and writes down what it begins and what is acknowledged.

    The journal's lines are ``["begin", operation, numbers, version]`` and ``["done"]``.
    """
    small_tails()
    if max_file_bytes is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
    dice = random.Random(seed)
    collection = open_collection(path)
    with journal.open("a", buffering=1) as lines:

        def step(operation: str, numbers: Sequence[int], version: int, act: Callable[[], object]) -> None:
            lines.write(json.dumps(["begin", operation, list(numbers), version]) + "\n")
            act()
            lines.write(json.dumps(["done"]) + "\n")

        while True:
            numbers = dice.sample(range(300), dice.randint(1, 14))
            match dice.choice(("put", "put", "put", "delete", "build", "export")):
                case "put":
                    version = dice.randrange(1_000_000)
                    documents = [make_document(number, version) for number in numbers]
                    step("put", numbers, version, partial(put, collection, documents))
                case "delete":
                    ids = [f"dök {number}" for number in numbers]
                    step("delete", numbers, 0, partial(collection.delete, ids))
                case "build":
                    collection.build()
                case "export":
                    for _ in collection.rows():
                        pass


def run_work(path: Path, journal: Path, seed: int, max_file_bytes: int | None, output: Path) -> None:
    """`work` in a process of its own; what it says goes to a file."""
    with output.open("w") as stream:
        os.dup2(stream.fileno(), sys.stdout.fileno())
        os.dup2(stream.fileno(), sys.stderr.fileno())
        try:
            work(path, journal, seed, max_file_bytes)
        except PairloomError as error:
            sys.stdout.write(f"{error}\n")
            sys.stdout.flush()
            os._exit(error.exit_code)


class Expected:
    """What a collection must hold by its journal: each document's version, and what the last operation may have done."""

    def __init__(self) -> None:
        self.versions: dict[int, int] = {}

    def read(self, journal: Path) -> list[dict[int, int]]:
        """The states that are possible: that before an operation that was not acknowledged, and that after it."""
        lines = [json.loads(line) for line in journal.read_text().splitlines() if line.endswith("]")]
        begun: list[Any] | None = None
        for line in lines:
            if line[0] == "begin":
                begun = line
            elif begun is not None:
                self.versions = applied(self.versions, begun)
                begun = None
        journal.write_text("")
        return [self.versions] if begun is None else [self.versions, applied(self.versions, begun)]


def applied(versions: dict[int, int], line: list[Any]) -> dict[int, int]:
    _, operation, numbers, version = line
    if operation == "delete":
        return {number: kept for number, kept in versions.items() if number not in numbers}
    return {**versions, **dict.fromkeys(numbers, version)}
