"""A server that is killed at any moment, again and again: what it has acknowledged is there, and nothing is half there."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from pairloom import Collection, Document, Encoder
from tests.conftest import WORDS
from tests.serve.running import serving

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
    path, dice = tmp_path / "c", random.Random(0)
    Collection(path, encoder).close()
    known: list[Versions] = [{} for _ in range(WRITERS)]
    num_acknowledged = 0
    for kill in range(KILLS):
        with serving(tmp_path, str(model_folder), "--collection", str(path)) as server:
            writers = [Writer(number, server.url, known[number], kill * WRITERS + number) for number in range(WRITERS)]
            for writer in writers:
                writer.start()
            time.sleep(dice.uniform(0.05, 1.0))
            server.process.kill()
            server.process.wait()
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
    path = tmp_path / "c"
    Collection(path, encoder).close()
    with serving(tmp_path, str(model_folder), "--collection", str(path)) as server:
        writers = [Writer(number, server.url, {}, number) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        time.sleep(0.5)
        assert server.end() == 0, server.log
    for writer in writers:
        writer.join(60)
        assert not writer.is_alive()
    check(path, writers, encoder)
    assert sum(writer.num_acknowledged for writer in writers) > WRITERS
