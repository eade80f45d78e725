"""Both sides, as their users call them, with the time that each call takes. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pairloom import Encoder
    from pairloom.models.tokenizer import Tokens

Figures = dict[str, Any]
Precision = Literal["float32", "bfloat16", "int8"]
EngineName = Literal["openvino", "torch"]


class _Side:
    """What both have in common.

    Args:
        corpora: By name, a file of texts (`benchmarks._encode_texts.Corpus.write`).
    """

    def __init__(self, corpora: dict[str, str]) -> None:
        self._corpora = {name: json.loads(Path(path).read_text(encoding="utf-8")) for name, path in corpora.items()}
        self._warm: set[tuple[Any, ...]] = set()

    def _timed(self, corpus: str, way: tuple[Any, ...], run: Callable[[list[str]], object]) -> Figures:
        """Seconds of a pass over a corpus; before the first one of its kind comes another, which is not timed."""
        texts, num_tokens = self._corpora[corpus]["texts"], self._corpora[corpus]["num_tokens"]
        if (corpus, *way) not in self._warm:
            run(texts)
            self._warm.add((corpus, *way))
        begin = time.perf_counter()
        run(texts)
        seconds = time.perf_counter() - begin
        return {"batch_size": num_tokens, "step_s": [seconds], "peak_bytes": memory_bytes("VmHWM")}

    def _latency(self, corpus: str, callers: int, calls: int, run: Callable[[str], object]) -> Figures:
        """Seconds of each of ``calls`` calls with one text, shared by ``callers`` threads, and of all of them together."""
        texts = self._corpora[corpus]["texts"]
        for text in texts[:20]:
            run(text)
        found: list[float] = []
        start = threading.Barrier(callers)

        def work(number: int) -> None:
            start.wait()
            for call in range(number, calls, callers):
                begin = time.perf_counter()
                run(texts[call % len(texts)])
                found.append(time.perf_counter() - begin)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(callers)]
        whole = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - whole
        if len(found) != calls:
            raise RuntimeError(f"{calls - len(found)} of {calls} calls did not return")
        return {"calls_s": found, "wall_s": seconds}


class Ours(_Side):
    """Pairloom.

    Args:
        model: A folder.
        corpora: See `_Side`.
        threads: For computing.
        precision: By default the encoder's own choice.
        engine: What computes.
    """

    def __init__(
        self,
        model: str,
        corpora: dict[str, str],
        threads: int,
        precision: Precision | None = None,
        engine: EngineName = "openvino",
    ) -> None:
        super().__init__(corpora)
        self.encoder, self._engine = open_ours(model, precision, threads, engine)

    def about(self) -> Figures:
        """The precision that is computed in."""
        return {"precision": self._engine.precision}

    def encode(self, corpus: str, budget: int | None = None) -> Figures:
        """A pass; with a budget of tokens a micro-batch, if it is not to be the engine's own."""
        with self._budget(budget):
            return self._timed(corpus, ("encode", budget), self.encoder.encode)

    def embed(self, corpus: str, fixed: int | None = None, padded: bool = False) -> Figures:
        """A pass of the engine alone, over tokens made ahead.

        Args:
            corpus: Its name.
            fixed: Texts a batch, in input order; by default the engine makes the batches.
            padded: Whether fixed batches are padded to the longest text.
        """
        tokenizer = self.encoder.model.tokenizer()
        texts = self._corpora[corpus]["texts"]
        parts = [tokenizer(part) for part in (in_order(texts, fixed) if fixed else [texts])]
        embed = partial(self._embed_as_it_is, padded=padded) if fixed else self._engine.embed
        return self._timed(corpus, ("embed", fixed, padded), lambda _: [embed(tokens) for tokens in parts])

    def encode_fixed(self, corpus: str, fixed: int, padded: bool = False) -> Figures:
        """A pass in batches of so many texts in input order, each tokenized when its turn comes."""
        tokenizer = self.encoder.model.tokenizer()

        def run(texts: list[str]) -> None:
            for part in in_order(texts, fixed):
                self._embed_as_it_is(tokenizer(part), padded=padded)

        return self._timed(corpus, ("encode_fixed", fixed, padded), run)

    def latency(self, corpus: str, callers: int, calls: int) -> Figures:
        """See `_Side`."""
        return self._latency(corpus, callers, calls, self.encoder.encode)

    def _embed_as_it_is(self, tokens: Tokens, padded: bool) -> npt.NDArray[np.float32]:
        """All at once, on all cores."""
        if padded:
            from benchmarks._encode_padded import embed_padded

            return embed_padded(self._engine, self.encoder.model, tokens)
        vectors: npt.NDArray[np.float32] = self._engine.embed_micro_batch(tokens, alone=True)
        return vectors

    @contextlib.contextmanager
    def _budget(self, num_tokens: int | None) -> Iterator[None]:
        """Lets the engine make micro-batches of at most so many tokens for a while."""
        before = self._engine.micro_batch_tokens
        self._engine.micro_batch_tokens = before if num_tokens is None else num_tokens
        try:
            yield
        finally:
            self._engine.micro_batch_tokens = before


class Theirs(_Side):
    """Sentence-transformers, as its documentation says.

    Args:
        model: A folder.
        corpora: See `_Side`.
        threads: For computing.
        precision: ``float32`` as it is installed; ``bfloat16`` by ``model.bfloat16()``.
        compiled: Whether by ``model.compile(dynamic=True)``, which its documentation advises for texts of all lengths.
    """

    def __init__(
        self,
        model: str,
        corpora: dict[str, str],
        threads: int,
        precision: Literal["float32", "bfloat16"] = "float32",
        compiled: bool = False,
    ) -> None:
        super().__init__(corpora)
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        self._model = SentenceTransformer(model, device="cpu")
        if precision == "bfloat16":
            self._model.bfloat16()
        if compiled:
            self._model.compile(dynamic=True)

    def encode(self, corpus: str, batch_size: int = 32) -> Figures:
        """A pass; 32 texts a batch is its default."""
        return self._timed(corpus, (batch_size,), lambda texts: self._model.encode(texts, batch_size=batch_size))

    def latency(self, corpus: str, callers: int, calls: int) -> Figures:
        """See `_Side`."""
        return self._latency(corpus, callers, calls, self._model.encode)


def open_ours(
    model: str, precision: Precision | None, threads: int, engine: EngineName = "openvino"
) -> tuple[Encoder, Any]:
    """Pairloom's encoder on the CPU, and the engine in it."""
    from pairloom import Encoder

    if engine == "openvino":
        encoder = Encoder(model, device="cpu", precision=precision, threads=threads)
        return encoder, encoder.engine
    import torch

    from pairloom.encode.torch_engine import TorchEngine
    from pairloom.models.names import load_model
    from pairloom.network.encoder import EncoderNetwork

    torch.set_num_threads(threads)
    read = load_model(model)
    assert precision in ("float32", "bfloat16")
    made = TorchEngine(EncoderNetwork(read), device="cpu", precision=precision)
    return Encoder(read, engine=made), made


def in_order(texts: list[str], size: int) -> list[list[str]]:
    """The texts cut into parts of a size, the last one shorter."""
    return [texts[begin : begin + size] for begin in range(0, len(texts), size)]


def memory_bytes(what: Literal["VmRSS", "VmHWM", "RssAnon"], process: int | Literal["self"] = "self") -> int:
    """Resident memory of a process: now, at its highest, or now without what belongs to files.

    Raises:
        OSError: It has ended.
    """
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {process} has no memory any more")
