"""A server that is killed at any moment, again and again: what it has acknowledged is there, and nothing is half there."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from pairloom import Collection, Document, Encoder
from tests.conftest import WORDS

KILLS = 10
WRITERS = 4
DOCUMENTS_OF_A_WRITER = 40

Versions = dict[int, int | None]
"""By the numbers of documents; None are deleted ones."""


def make_document(number: int, version: int) -> Document:
    """The same of the same version: text and metadata say which it is."""
    dice = random.Random(number * 1_000_003 + version)
    text = f"{' '.join(dice.choices(WORDS, k=dice.randint(3, 12)))} number{number} version{version}"
    return Document(f"d/{number}", text, {"number": number, "version": version})


class Writer(threading.Thread):
    """A client that writes and deletes documents of its own until it gets no answer, and remembers what it was answered.

    Args:
        number: Of the client.
        url: Of the server.
        known: What of its documents was acknowledged before.
        seed: Of what it does.
    """

    def __init__(self, number: int, url: str, known: Versions, seed: int) -> None:
        super().__init__(daemon=True)
        self.known, self.pending = known, Versions()
        self.numbers = range(number * DOCUMENTS_OF_A_WRITER, (number + 1) * DOCUMENTS_OF_A_WRITER)
        self.num_acknowledged = 0
        self.fault: str | None = None
        self._url, self._dice = url, random.Random(seed)

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while True:
                numbers = self._dice.sample(self.numbers, self._dice.randint(1, 8))
                version = None if self._dice.random() < 0.2 else self._dice.randrange(1_000_000)
                self.pending = dict.fromkeys(numbers, version)
                try:
                    response = write(client, numbers, version)
                except httpx.HTTPError:
                    return  # it was killed
                if response.status_code != 200:
                    self.fault = response.text
                    return
                self.known |= self.pending
                self.pending = {}
                self.num_acknowledged += 1


def write(client: httpx.Client, numbers: list[int], version: int | None) -> httpx.Response:
    if version is None:
        return client.request("DELETE", "/v1/documents", json={"ids": [f"d/{number}" for number in numbers]})
    documents = [make_document(number, version) for number in numbers]
    body = [{"id": one.id, "text": one.text, "metadata": one.metadata} for one in documents]
    return client.post("/v1/documents", json={"documents": body})


def start(model: Path, collection: Path, log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A server in a process of its own, when it is ready, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ("serve", str(model), "--collection", str(collection), "--port", str(port))
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, "-m", "pairloom", *words], stdout=output, stderr=output)
    url, until = f"http://127.0.0.1:{port}", time.monotonic() + 60
    while True:
        assert process.poll() is None and time.monotonic() < until, log.read_text()
        try:
            if httpx.get(f"{url}/health/ready").status_code == 200:
                return process, url
        except httpx.HTTPError:
            pass
        time.sleep(0.05)


def check(path: Path, writers: list[Writer], encoder: Encoder) -> None:
    """The collection is whole; each document is as it was acknowledged, or as it was asked for last."""
    with Collection(path, encoder, background=False) as collection:
        collection.verify()
        rows = [(document, vector) for _, document, vector in collection.rows()]
        found: Versions = {document.metadata["number"]: document.metadata["version"] for document, _ in rows}
        for document, _ in rows:
            assert document == make_document(document.metadata["number"], document.metadata["version"])
        for writer in writers:
            for number in writer.numbers:
                acknowledged = writer.known.get(number)
                assert found.get(number) in (acknowledged, writer.pending.get(number, acknowledged))
                writer.known[number] = found.get(number)
        if rows:
            texts, vectors = [document.text for document, _ in rows], [vector for _, vector in rows]
            np.testing.assert_allclose(np.array(vectors), encoder.encode_document(texts), atol=2e-2)
            for mode in ("vector", "words"):
                assert texts[-1] in [hit.text for hit in collection.search(texts[-1], 10, mode=mode)]


@pytest.mark.slow
def test_what_was_acknowledged_outlives_ten_kills(model_folder: Path, encoder: Encoder, tmp_path: Path) -> None:
    path, log, dice = tmp_path / "c", tmp_path / "log", random.Random(0)
    Collection(path, encoder).close()
    known: list[Versions] = [{} for _ in range(WRITERS)]
    num_acknowledged = 0
    for kill in range(KILLS):
        process, url = start(model_folder, path, log)
        writers = [Writer(number, url, known[number], kill * WRITERS + number) for number in range(WRITERS)]
        try:
            for writer in writers:
                writer.start()
            time.sleep(dice.uniform(0.05, 1.0))
        finally:
            process.kill()
            process.wait()
        for writer in writers:
            writer.join(60)
            assert not writer.is_alive() and writer.fault is None, writer.fault
        num_acknowledged += sum(writer.num_acknowledged for writer in writers)
        check(path, writers, encoder)
    assert num_acknowledged > KILLS * WRITERS


@pytest.mark.slow
def test_a_server_that_is_asked_to_end_has_done_what_it_answered_for(
    model_folder: Path, encoder: Encoder, tmp_path: Path
) -> None:
    path, log = tmp_path / "c", tmp_path / "log"
    Collection(path, encoder).close()
    process, url = start(model_folder, path, log)
    writers = [Writer(number, url, {}, number) for number in range(WRITERS)]
    try:
        for writer in writers:
            writer.start()
        time.sleep(0.5)
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    for writer in writers:
        writer.join(60)
    check(path, writers, encoder)
    assert sum(writer.num_acknowledged for writer in writers) > WRITERS
