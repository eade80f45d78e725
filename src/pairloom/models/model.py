"""An encoder described whole, independent of the engine that computes it and of the folder it came from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pairloom.choices import Similarity
from pairloom.models.architecture import Architecture
from pairloom.models.heads import Dense, Head, Normalize, Pooling
from pairloom.models.tokenizer import Tokenizer
from pairloom.models.weights import Array, Weights


@dataclass(frozen=True)
class Model:
    """An encoder described whole: everything an engine needs, and everything the folder must keep.

    Args:
        name: What the user called it.
        architecture: The backbone's shape.
        config: ``config.json`` as it was.
        weights: The backbone's, under canonical names.
        unread_weights: Tensors of the backbone's file that no encoder reads.
        tokenizer_files: File name to content.
        max_tokens: Longer texts are cut.
        lower_case: Whether texts are lower-cased before tokenizing.
        pooling: Token vectors to one vector.
        heads: What follows, in order.
        similarity: How two vectors are compared.
        prompts: Name to text that is put before an input.
        default_prompt: The name of the prompt used when none is named.
        output_size: Vectors are cut to it, if given.
        has_modules: False for a bare backbone, for which pooling was assumed.
    """

    name: str
    architecture: Architecture
    config: dict[str, Any] = field(repr=False)
    weights: Weights = field(repr=False)
    unread_weights: dict[str, Array] = field(repr=False)
    tokenizer_files: dict[str, bytes] = field(repr=False)
    max_tokens: int
    lower_case: bool
    pooling: Pooling
    heads: tuple[Head, ...]
    similarity: Similarity
    prompts: dict[str, str]
    default_prompt: str | None
    output_size: int | None
    has_modules: bool = True

    @property
    def dimensions(self) -> int:
        """Numbers in a vector."""
        size = self.architecture.hidden_size * len(self.pooling.modes)
        for head in self.heads:
            if isinstance(head, Dense):
                size = head.weight.shape[0]
        return min(size, self.output_size or size)

    @property
    def normalized(self) -> bool:
        """Whether vectors have length 1."""
        return bool(self.heads) and isinstance(self.heads[-1], Normalize) and self.output_size is None

    def tokenizer(self, max_tokens: int | None = None, *, cut: bool = True) -> Tokenizer:
        """The model's tokenizer, with its own limit or a smaller one; or with none, to measure texts."""
        if max_tokens is None and cut:
            return self._own_tokenizer
        return self._make_tokenizer(min(max_tokens or self.max_tokens, self.architecture.max_tokens) if cut else None)

    @cached_property
    def _own_tokenizer(self) -> Tokenizer:
        # To make one is to parse all of tokenizer.json. Several ask for it, and it never changes.
        return self._make_tokenizer(min(self.max_tokens, self.architecture.max_tokens))

    def _make_tokenizer(self, max_tokens: int | None) -> Tokenizer:
        return Tokenizer(
            self.tokenizer_files["tokenizer.json"],
            max_tokens=max_tokens,
            lower_case=self.lower_case,
            path=Path(self.name) / "tokenizer.json",
        )

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that change whenever a vector could: weights, tokenizer, pooling, limits, prompts.

        The two dialects of one model, and a copy in another folder, have the same fingerprint.
        """
        settings = {
            "architecture": {name: value for name, value in vars(self.architecture).items() if "dropout" not in name},
            "max_tokens": self.max_tokens,
            "lower_case": self.lower_case,
            "pooling": [list(self.pooling.modes), self.pooling.include_prompt],
            "heads": [head.activation if isinstance(head, Dense) else "normalize" for head in self.heads],
            "similarity": self.similarity,
            "prompts": {name: text for name, text in self.prompts.items() if text},
            "default_prompt": self.default_prompt,
            "output_size": self.output_size,
        }
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        digest.update(self.tokenizer().canonical())
        for name, weight in sorted(self.weights.items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(weight).data)
        for head in self.heads:
            if isinstance(head, Dense):
                digest.update(np.ascontiguousarray(head.weight).data)
                digest.update(b"" if head.bias is None else np.ascontiguousarray(head.bias).data)
        return digest.hexdigest()[:32]
