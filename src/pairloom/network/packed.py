"""A micro-batch without padding: the tokens of its texts one after another.

Everything that treats each token alone (embedding, linear layers, norms) computes on the packed tokens, so that no
product is spent on padding. Attention pads where it needs to (`Packed.pad`), or takes the ends of the texts as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from pairloom.models.tokenizer import Tokens

# Kernels like lengths that are multiples of it, and four random numbers are made at a time (`pairloom.network.noise`).
WIDTH_MULTIPLE = 8


@dataclass(frozen=True)
class Packed:
    """B texts of S tokens in all. It is made on the host, so nothing waits for a GPU to tell a shape.

    Args:
        ids: Token numbers.
        positions: Place of each token in its text, from 0.
        texts: Number of each token's text.
        lengths: Tokens of each text.
        ends: Where each text ends, with a 0 before: what kernels for texts of various lengths take.
        longest: Tokens of the longest text.
    """

    ids: Int[Tensor, "S"]
    positions: Int[Tensor, "S"]
    texts: Int[Tensor, "S"]
    lengths: Int[Tensor, "B"]
    ends: Int[Tensor, "B+1"]
    longest: int

    @property
    def num_texts(self) -> int:
        """B."""
        return len(self.lengths)

    @property
    def full(self) -> bool:
        """Whether all texts are equally long, so that a rectangle has no padding."""
        return self.num_texts * self.longest == len(self.ids)

    @property
    def width(self) -> int:
        """Tokens of a row of the rectangle, T."""
        return _width(self.num_texts, len(self.ids), self.longest)

    @cached_property
    def places(self) -> Int[Tensor, "S"]:
        """Where each token stands in the rectangle, counted row by row."""
        return self.texts * self.width + self.positions

    def inside(self) -> Bool[Tensor, "B T"]:
        """Where the rectangle has a token, and not padding."""
        return torch.arange(self.width, device=self.lengths.device) < self.lengths[:, None]

    def pad(self, values: Shaped[Tensor, "S *rest"]) -> Shaped[Tensor, "B T *rest"]:
        """Lays a value for each token out as a rectangle, with zeros for padding."""
        rest = values.shape[1:]
        if self.full:
            return values.view(self.num_texts, self.width, *rest)
        rectangle = values.new_zeros(self.num_texts * self.width, *rest)
        return rectangle.index_copy(0, self.places, values).view(self.num_texts, self.width, *rest)

    def unpad(self, rectangle: Shaped[Tensor, "B T *rest"]) -> Shaped[Tensor, "S *rest"]:
        """The values of the tokens, without those of padding."""
        flat = rectangle.flatten(0, 1)
        return flat if self.full else flat.index_select(0, self.places)


def num_padding(lengths: npt.NDArray[np.int64]) -> int:
    """Places without a token in the rectangle of texts of these lengths."""
    num_tokens = int(lengths.sum())
    return len(lengths) * _width(len(lengths), num_tokens, int(lengths.max())) - num_tokens


def _width(num_texts: int, num_tokens: int, longest: int) -> int:
    return longest if num_texts * longest == num_tokens else -(-longest // WIDTH_MULTIPLE) * WIDTH_MULTIPLE


def pack(tokens: Tokens, rows: npt.NDArray[np.int64], device: torch.device) -> Packed:
    """Some texts as a micro-batch.

    Args:
        tokens: Of all texts.
        rows: Which of them, in the order of the micro-batch; at least one.
        device: Where it shall lie.
    """
    lengths = tokens.lengths[rows]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    texts = np.repeat(np.arange(len(rows)), lengths)
    positions = np.arange(ends[-1]) - ends[:-1][texts]
    starts = (np.cumsum(tokens.lengths) - tokens.lengths)[rows]
    numbers = tokens.ids[starts[texts] + positions]
    moved = _move((numbers, positions, texts, lengths, ends), device)
    return Packed(
        ids=moved[0],
        positions=moved[1],
        texts=moved[2],
        lengths=moved[3],
        ends=moved[4].int(),
        longest=int(lengths.max()),
    )


def _move(arrays: Sequence[npt.NDArray[np.integer]], device: torch.device) -> Sequence[Int[Tensor, "_"]]:
    """Whole numbers to a device, all in one transfer, for which a GPU's host does not wait."""
    sizes = [len(array) for array in arrays]
    # Torch gives pinned memory to nobody else before the transfer is done, though nothing here holds it any longer.
    pinned = device.type == "cuda"
    host = torch.empty(sum(sizes), dtype=torch.int64, pin_memory=pinned)
    np.concatenate(arrays, out=host.numpy())
    return torch.split(host.to(device, non_blocking=pinned), sizes)
