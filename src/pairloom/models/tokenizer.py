"""Text to token numbers, through the model's own ``tokenizer.json``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers

from pairloom.errors import ModelError

# Texts of so many characters together are tokenized without letting go of the interpreter's lock: to get it back takes other
# threads' time, up to milliseconds, and that is more than there is to win.
_SHORT = 2_000


@dataclass(frozen=True)
class Tokens:
    """The tokens of N texts, end to end.

    Args:
        ids: All token numbers, int32 [sum of lengths].
        lengths: Tokens of each text, special ones included, int64 [N].
        truncated: Which texts were longer than the limit, bool [N].
    """

    ids: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]
    truncated: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.lengths)

    def padded(
        self, rows: npt.NDArray[np.int64], pad_token_id: int, *, width: int | None = None
    ) -> npt.NDArray[np.int64]:
        """The token numbers of some texts as a rectangle [len(rows), width], padded on the right.

        By default it is as wide as the longest of them.
        """
        starts = (np.cumsum(self.lengths) - self.lengths)[rows]
        lengths = self.lengths[rows]
        columns = np.arange(lengths.max(initial=0) if width is None else width)
        inside = columns < lengths[:, None]
        where = np.where(inside, starts[:, None] + columns, 0)
        return np.where(inside, self.ids[where], pad_token_id).astype(np.int64)

    @staticmethod
    def concatenate(parts: Sequence[Tokens]) -> Tokens:
        """The texts of several parts as one."""
        return Tokens(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.truncated for part in parts]),
        )


class Tokenizer:
    """A model's tokenizer with a limit of tokens.

    Args:
        content: What ``tokenizer.json`` holds.
        max_tokens: Longer texts are cut, special tokens included in the count; None for no limit.
        lower_case: Whether texts are lower-cased first, as some old models ask for.
        path: Where the content came from, for errors.

    Raises:
        ModelError: The content is not a tokenizer.
    """

    def __init__(
        self, content: bytes, *, max_tokens: int | None, lower_case: bool = False, path: Path | None = None
    ) -> None:
        self.max_tokens = max_tokens
        try:
            self._tokenizer = tokenizers.Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises bare Exception
            raise ModelError(f"{path or 'tokenizer.json'}: not a tokenizer ({error}); fetch it again") from None
        if lower_case:
            # As sentence-transformers does it: in the tokenizer, so that special tokens in a text keep their case.
            parts = [tokenizers.normalizers.Lowercase(), self._tokenizer.normalizer]
            self._tokenizer.normalizer = tokenizers.normalizers.Sequence([part for part in parts if part])
        # What the file says of padding and truncation is somebody's last call, not a property of the model.
        self._tokenizer.no_padding()
        if max_tokens is None:
            self._tokenizer.no_truncation()
        else:
            self._tokenizer.enable_truncation(max_tokens)

    @property
    def vocabulary_size(self) -> int:
        """Token numbers are below this; there may be gaps."""
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)

    def canonical(self) -> bytes:
        """What the tokenizer does to a text, apart from the limit: equal for equal tokenizers, however they were saved."""
        bare = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
        bare.no_truncation()
        return str(bare.to_str()).encode()

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokenizes texts, many of them on all cores; half of a surrogate pair, which is no character, becomes a question mark."""
        try:
            encodings = self._encodings(texts)
        except (UnicodeEncodeError, TypeError):
            encodings = self._encodings([_without_surrogates(text) for text in texts])
        rows = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        ids = np.fromiter(itertools.chain.from_iterable(rows), dtype=np.int32, count=int(lengths.sum()))
        truncated = np.fromiter((bool(encoding.overflowing) for encoding in encodings), dtype=np.bool_, count=len(rows))
        return Tokens(ids, lengths, truncated)

    def _encodings(self, texts: Sequence[str]) -> Sequence[tokenizers.Encoding]:
        if sum(map(len, texts)) <= _SHORT:
            return [self._tokenizer.encode(text) for text in texts]
        return self._tokenizer.encode_batch_fast(texts)

    def around(self, rows: Sequence[Sequence[int]], prompt: str = "") -> Tokens:
        """Texts that are token numbers already, with the model's special tokens around them, unless they are there.

        Args:
            rows: Token numbers of each text; those beyond the limit are cut, as those of a text are.
            prompt: Is put before each text.
        """
        before, behind = self._special
        prefix = self([prompt]).ids.tolist() if prompt else []
        prefix = prefix[len(before) : len(prefix) - len(behind)]
        whole = [[*before, *prefix, *self._bare(row), *behind] for row in rows]
        limit = self.max_tokens
        cut = [limit is not None and len(row) > limit for row in whole]
        kept = [
            [*row[: limit - len(behind)], *behind] if limit and long else row
            for row, long in zip(whole, cut, strict=True)
        ]
        return Tokens(
            np.fromiter(itertools.chain.from_iterable(kept), dtype=np.int32),
            np.array([len(row) for row in kept], dtype=np.int64),
            np.array(cut, dtype=np.bool_),
        )

    @cached_property
    def _special(self) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer puts before every text, and behind it."""
        encoding = self._tokenizer.encode("a")
        special = [bool(flag) for flag in encoding.special_tokens_mask]
        num_before = len(list(itertools.takewhile(bool, special)))
        num_behind = len(list(itertools.takewhile(bool, special[num_before:][::-1])))
        return encoding.ids[:num_before], encoding.ids[len(special) - num_behind :]

    def _bare(self, row: Sequence[int]) -> Sequence[int]:
        """Token numbers without the special tokens, if they are around them."""
        before, behind = self._special
        inner = row[len(before) : len(row) - len(behind)]
        return inner if [*before, *inner, *behind] == list(row) else row


def _without_surrogates(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
