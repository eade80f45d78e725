"""A model's tokenizer, called as those of transformers are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tokenizers
import torch

from pairloom.models.model import Model
from pairloom.models.tokenizer import Tokens
from pairloom.sentence_transformers.refusals import ArgumentError, UnsupportedError


class TextTokenizer:
    """Text to token numbers, with the arguments that models' cards use, and no others.

    Args:
        model: Its tokenizer and limit are taken.
    """

    def __init__(self, model: Model) -> None:
        self.model_max_length = model.max_tokens
        self.pad_token_id = model.architecture.pad_token_id
        self._whole, self._cut = model.tokenizer(cut=False), model.tokenizer()
        self.backend_tokenizer = tokenizers.Tokenizer.from_buffer(self._whole.canonical())

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=True)

    def __call__(
        self,
        text: str | Sequence[str],
        *,
        padding: bool = False,
        truncation: bool = False,
        return_tensors: str | None = None,
    ) -> dict[str, Any]:
        """Tokenizes one text or several.

        Args:
            text: Of a single one, flat lists are returned, or tensors of one row.
            padding: Whether to make all as long as the longest.
            truncation: Whether to cut to ``model_max_length``.
            return_tensors: ``pt`` for tensors, which texts of different lengths need padding for.

        Returns:
            ``input_ids`` and ``attention_mask``.
        """
        if return_tensors not in (None, "pt"):
            raise UnsupportedError(f"return_tensors={return_tensors!r} is not supported; 'pt' and None are")
        texts = [text] if isinstance(text, str) else list(text)
        tokens = (self._cut if truncation else self._whole)(texts)
        if return_tensors and not padding and len(set(tokens.lengths.tolist())) > 1:
            raise ArgumentError("the texts are not equally long, so one tensor cannot hold them; say padding=True")
        ids, masks = self._rows(tokens, padding=padding)
        if return_tensors:
            return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(masks)}
        if isinstance(text, str):
            return {"input_ids": ids[0], "attention_mask": masks[0]}
        return {"input_ids": ids, "attention_mask": masks}

    def tokenize(self, text: str) -> list[str]:
        """The tokens of a text as strings, without special ones."""
        return self.backend_tokenizer.encode(text, add_special_tokens=False).tokens

    def encode(self, text: str) -> list[int]:
        """The token numbers of a text, special ones included."""
        return self.backend_tokenizer.encode(text).ids

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of token numbers."""
        return self.backend_tokenizer.decode(list(token_ids), skip_special_tokens=skip_special_tokens)

    def _rows(self, tokens: Tokens, *, padding: bool) -> tuple[list[list[int]], list[list[int]]]:
        width = tokens.lengths.max(initial=0)
        ids, masks = [], []
        for row, length in zip(np.split(tokens.ids, np.cumsum(tokens.lengths)[:-1]), tokens.lengths, strict=False):
            added = int(width - length) if padding else 0
            ids.append([*row.tolist(), *[self.pad_token_id] * added])
            masks.append([1] * int(length) + [0] * added)
        return ids, masks
