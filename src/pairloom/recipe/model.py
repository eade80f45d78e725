"""``[model]``: what is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pairloom.choices import PoolingMode, Similarity
from pairloom.recipe.section import Section


class ModelSection(Section):
    """What is trained, and what the finished model says of itself."""

    base: str
    """A model folder, a model that an installed package carries, or a name on the Hugging Face hub. With two encoders it
    may be a model of two."""
    encoders: Literal["shared", "two"] = "shared"
    """One encoder for both sides, or two: one for anchors, which are the queries, and one for positives and negatives,
    which are the documents. Each of two has its own optimizer, and its gradient is clipped by its own norm."""
    document_base: str | None = None
    """Of two encoders, what that of the documents starts from; by default the same base."""
    pooling: PoolingMode | None = None
    """How token vectors become one vector; by default what the base says, and mean if it says nothing."""
    normalize: bool | None = None
    """Whether vectors get length 1; by default what the base says, and for a bare backbone: with cosine."""
    similarity: Similarity | None = None
    """How two vectors are compared; by default what the base says, and cosine if it says nothing."""
    max_tokens: int | None = Field(default=None, ge=3)
    """Longest text of the finished model, special tokens included; by default what the base says."""

    @model_validator(mode="after")
    def _document_base_is_for_two(self) -> ModelSection:
        if self.document_base is not None and self.encoders != "two":
            raise ValueError(f'document_base is for encoders = "two", but encoders is "{self.encoders}"')
        return self
