"""A batch as training takes it: the tokens of a rank's share, and where the share stands in the whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pairloom.models.dual import AnyModel, DualModel
from pairloom.models.model import Model
from pairloom.models.tokenizer import Tokenizer, Tokens
from pairloom.pairs.batch import Batch
from pairloom.recipe import DataSection

# Special tokens before a text, in all families.
_NUM_LEADING = 1


@dataclass(frozen=True)
class BatchTokens:
    """The tokens of a rank's share of a batch.

    Args:
        tokens: Anchors, then positives, then negatives if there are any.
        num_pairs: Anchors of the share.
        num_columns: 2, or 3 with negatives or past contexts.
        begin: The share's first pair, counted through the batch.
        num_pairs_of_batch: Over all ranks; by default the share is all.
        prompt_tokens: Tokens of each text that are a prompt's, int64; by default none.
        has_context: Whether the third column holds past contexts, and no negatives.
        candidate_vocabulary: Identifies the tokenizer of positives and negatives, if it is not that of the anchors: then
            the same token numbers are other words.
    """

    tokens: Tokens
    num_pairs: int
    num_columns: int
    begin: int = 0
    num_pairs_of_batch: int | None = None
    prompt_tokens: npt.NDArray[np.int64] | None = None
    has_context: bool = False
    candidate_vocabulary: bytes = b""

    @property
    def num_pairs_in_all(self) -> int:
        """Pairs of the whole batch."""
        return self.num_pairs if self.num_pairs_of_batch is None else self.num_pairs_of_batch

    @cached_property
    def places(self) -> npt.NDArray[np.int64]:
        """Where each text stands in the whole batch: anchors of all ranks first, then their positives."""
        columns = np.arange(self.num_columns)[:, None] * self.num_pairs_in_all
        return (columns + self.begin + np.arange(self.num_pairs)).ravel()

    @cached_property
    def text_keys(self) -> npt.NDArray[np.int64]:
        """A 64-bit number for each text, equal where the model reads the same: after the cut, and without the prompt.

        Where anchors and candidates have tokenizers of their own, no anchor's is equal to a candidate's.
        """
        ends = np.cumsum(self.tokens.lengths)
        prompts = np.zeros_like(ends) if self.prompt_tokens is None else self.prompt_tokens
        digests = bytearray()
        for row, (begin, end, skipped) in enumerate(
            zip((ends - self.tokens.lengths).tolist(), ends.tolist(), prompts.tolist(), strict=True)
        ):
            first = self.tokens.ids[begin : begin + _NUM_LEADING].tobytes()
            rest = self.tokens.ids[begin + _NUM_LEADING + skipped : end].tobytes()
            vocabulary = b"" if row < self.num_pairs else self.candidate_vocabulary
            digests += hashlib.blake2b(first + rest, digest_size=8, key=vocabulary).digest()
        return np.frombuffer(bytes(digests), dtype=np.int64)

    def sides(self) -> Iterator[tuple[slice, Tokens]]:
        """The rows and tokens of the anchors, and those of the candidates."""
        middle = int(self.tokens.lengths[: self.num_pairs].sum())
        for rows, ids in (
            (slice(0, self.num_pairs), slice(0, middle)),
            (slice(self.num_pairs, len(self.tokens)), slice(middle, len(self.tokens.ids))),
        ):
            yield rows, Tokens(self.tokens.ids[ids], self.tokens.lengths[rows], self.tokens.truncated[rows])


class BatchTokenizer:
    """Tokenizes a batch, or a rank's share of it: each dataset's texts with its prompts and limits.

    Args:
        model: Whose tokenizer is used; of two encoders each has its own.
        section: Has the limits of datasets that have none of their own.
    """

    def __init__(self, model: AnyModel, section: DataSection) -> None:
        self._section = section
        self._anchors = self._candidates = _Limited(model) if isinstance(model, Model) else _Limited(model.query)
        self._candidate_vocabulary = b""
        if isinstance(model, DualModel):
            self._candidates = _Limited(model.document)
            if self._candidates.vocabulary != self._anchors.vocabulary:
                self._candidate_vocabulary = self._candidates.vocabulary

    def __call__(self, batch: Batch) -> BatchTokens:
        anchors, *candidates = batch.columns
        tokens, prompts = [], []

        def add(tokenizer: _Limited, texts: list[str], prompt: str, limit: int) -> None:
            found = tokenizer([prompt + text for text in texts] if prompt else texts, limit)
            tokens.append(found)
            prompts.append(_prompt_tokens(found, tokenizer.prompt(prompt, limit)))

        for part, where in batch.own_parts():
            limit = part.dataset.anchor_max_tokens or self._section.anchor_max_tokens
            add(self._anchors, anchors[where], part.dataset.anchor_prompt, limit)
        for column in candidates:
            for part, where in batch.own_parts():
                limit = part.dataset.positive_max_tokens or self._section.positive_max_tokens
                add(self._candidates, column[where], part.dataset.positive_prompt, limit)
        share = BatchTokens(
            Tokens.concatenate(tokens),
            len(anchors),
            len(batch.columns),
            begin=batch.begin,
            num_pairs_of_batch=batch.num_pairs,
            prompt_tokens=np.concatenate(prompts),
            has_context=batch.has_context,
            candidate_vocabulary=self._candidate_vocabulary,
        )
        assert len(share.text_keys) == len(share.tokens)  # they are made here, ahead of the step that wants them
        return share


class _Limited:
    """A model's tokenizer with any limit."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._tokenizers: dict[int, Tokenizer] = {}

    @property
    def vocabulary(self) -> bytes:
        """The same for tokenizers that make the same of any text."""
        return hashlib.blake2b(self._model.tokenizer().canonical(), digest_size=32).digest()

    def __call__(self, texts: list[str], limit: int) -> Tokens:
        if limit not in self._tokenizers:
            self._tokenizers[limit] = self._model.tokenizer(limit)
        return self._tokenizers[limit](texts)

    def prompt(self, prompt: str, limit: int) -> npt.NDArray[np.int32]:
        """The tokens of a prompt that stands alone, without the special ones."""
        tokens = self([prompt, ""], limit)
        with_prompt, without = tokens.lengths.tolist()
        return tokens.ids[_NUM_LEADING : _NUM_LEADING + with_prompt - without]


def _prompt_tokens(tokens: Tokens, prompt: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Tokens of each text that are the prompt's: those with which it begins as the prompt does when it stands alone.

    The prompt's last token may be another there: many tokenizers take a space at its end into the text's first word.
    """
    begins = np.cumsum(tokens.lengths) - tokens.lengths + _NUM_LEADING
    counts = np.zeros(len(tokens), dtype=np.int64)
    for number, token in enumerate(prompt.tolist()):
        places = np.minimum(begins + number, len(tokens.ids) - 1)
        inside = number < tokens.lengths - _NUM_LEADING
        counts += (counts == number) & inside & (tokens.ids[places] == token)
    return counts
