"""Bulk jobs for tests: small blocks, an engine that takes no time, and a process of their own that can be killed."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.artifacts import MANIFEST
from pairloom.choices import Precision
from pairloom.encode import blocks, bulk, vector_files
from pairloom.encode.bulk import encode_texts
from pairloom.encode.encoder import Encoder
from pairloom.encode.job_input import parse_shard, source_state
from pairloom.errors import PairloomError
from pairloom.models.tokenizer import Tokens
from pairloom.records import Text

BLOCK_TEXTS = 16
WORDS = ("the a of how do i what python list file water coffee bean grind brew cup hot cold train model search").split()


class MeanEngine:
    """The mean of a random vector for each token, so that no engine needs to be loaded; it counts what it is given.

    Args:
        dimensions: Of a vector.
        seconds: How long each block shall take.
        precision: What it says that it computes in.
    """

    num_streams = 1
    stream_tokens = 384

    def __init__(self, dimensions: int = 32, seconds: float = 0.0, precision: Precision = "float32") -> None:
        self.precision: Precision = precision
        self._table = np.random.default_rng(0).normal(size=(1000, dimensions)).astype(np.float32)
        self._seconds = seconds
        self.num_texts = 0

    def embed(self, tokens: Tokens, *, skip_tokens: int = 0) -> npt.NDArray[np.float32]:
        time.sleep(self._seconds)
        self.num_texts += len(tokens)
        starts = np.cumsum(tokens.lengths) - tokens.lengths
        sums = np.add.reduceat(self._table[tokens.ids], starts, axis=0)
        return (sums / tokens.lengths[:, None]).astype(np.float32)

    def embed_micro_batch(
        self, tokens: Tokens, *, skip_tokens: int = 0, alone: bool = False
    ) -> npt.NDArray[np.float32]:
        return self.embed(tokens, skip_tokens=skip_tokens)


def make_texts(count: int) -> list[Text]:
    """Texts of some words; their ids are not their numbers."""
    dice = np.random.default_rng(count)
    return [
        Text(f"tëxt {number}", " ".join(dice.choice(WORDS, size=int(dice.integers(1, 12))))) for number in range(count)
    ]


def write_texts(path: Path, texts: Sequence[Text]) -> Path:
    path.write_text("".join(json.dumps({"id": text.id, "text": text.text}) + "\n" for text in texts))
    return path


def content(folder: Path) -> dict[str, Any]:
    """The bytes of an artifact, without what its manifest says of time."""
    found: dict[str, Any] = {file.name: file.read_bytes() for file in folder.iterdir() if file.name != MANIFEST}
    manifest = json.loads((folder / MANIFEST).read_bytes())
    del manifest["created"], manifest["facts"]["seconds"]
    return {**found, MANIFEST: manifest}


@dataclass(frozen=True)
class Command:
    """A job in a process of its own.

    Args:
        model: A model folder; its tokenizer is used.
        source: A file that `write_texts` has made.
        out: The artifact.
        store: As in `encode_texts`.
        shard: As in ``--shard``.
        rows_per_file: Of the artifact.
        block_s: How long a block takes.
        max_file_bytes: Larger files cannot be written.
        die: Whether it is killed when it tries, in the middle of the write, rather than told so.
        kill_in: The name of a function of `pairloom.artifacts` that kills the process instead.
    """

    model: Path
    source: Path
    out: Path
    store: str = "float32"
    shard: str | None = None
    rows_per_file: int = 2**20
    block_s: float = 0.0
    max_file_bytes: int | None = None
    die: bool = False
    kill_in: str | None = None

    def start(self) -> subprocess.Popen[str]:
        arguments = json.dumps(
            {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}
        )
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.encode.jobs", arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self) -> tuple[int, str, int]:
        """Returns the exit code, what was said, and how many texts were encoded (-1 of a killed one)."""
        process = self.start()
        said, fault = process.communicate(timeout=120)
        assert "Traceback" not in fault, fault
        *sentences, count = said.splitlines() or ["-1"]
        return process.returncode, "\n".join(sentences), int(count)


def small_blocks() -> None:
    """Jobs in this process have blocks of few texts, and write down each."""
    blocks.BLOCK_TEXTS = BLOCK_TEXTS
    bulk._COMMIT_EVERY_S = 0.0


def read(path: Path) -> Iterator[Text]:
    with path.open() as lines:
        for line in lines:
            yield Text(**json.loads(line))


def main(arguments: dict[str, Any]) -> None:
    from pairloom import artifacts

    small_blocks()
    vector_files.ROWS_PER_FILE = arguments["rows_per_file"]
    if arguments["max_file_bytes"] is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if arguments["die"] else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (arguments["max_file_bytes"], resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if arguments["kill_in"]:
        setattr(artifacts, arguments["kill_in"], lambda *_: signal.raise_signal(signal.SIGKILL))
    engine = MeanEngine(seconds=arguments["block_s"])
    source = Path(arguments["source"])
    try:
        encode_texts(
            Encoder(Path(arguments["model"]), precision="float32", engine=engine),
            read(source),
            Path(arguments["out"]),
            origin="texts",
            store=arguments["store"],
            shard=parse_shard(arguments["shard"]) if arguments["shard"] else None,
            job=source_state([source]),
            show_progress=False,
        )
    except PairloomError as error:
        sys.stdout.write(f"{error}\n")
    sys.stdout.write(f"{engine.num_texts}\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
