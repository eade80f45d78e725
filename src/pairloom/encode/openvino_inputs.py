"""A micro-batch as the arrays that the OpenVINO graph takes: pure functions of token numbers."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pairloom.choices import PoolingMode
from pairloom.encode.micro_batches import few_rows
from pairloom.encode.packing import Packing, pack
from pairloom.models.model import Model
from pairloom.models.tokenizer import Tokens

Number = TypeVar("Number", bound=np.generic)

# Added to scores and maxima where there is padding. Not infinity: it goes through half precision, and minus infinity
# less minus infinity is no number.
_FAR_BELOW = np.float32(-1e30)
# Each rectangle and each number of tokens has kernels of its own, which are made when it first comes, and kept. So both are
# rounded up to multiples: of the first number up to its limit, of the next one up to the next, …
_WIDTHS = ((64, 4), (None, 8))
_TOKENS = ((64, 4), (256, 8), (1024, 16), (None, 32))
# Of a row that short texts share (docs/log.md): of longer ones more is closed than open, of shorter ones there are more.
_ROW_TOKENS = 64


def make_inputs(
    model: Model,
    tokens: Tokens,
    rows: npt.NDArray[np.int64],
    *,
    skip_tokens: int = 0,
    num_rows: int | None = None,
    share_rows: bool = True,
) -> dict[str, npt.NDArray[np.int32] | npt.NDArray[np.float32]]:
    """The inputs of `pairloom.encode.openvino_graph.build_backbone`, by name.

    Args:
        model: Which graph it is.
        tokens: Of all texts.
        rows: Which of them, at least one.
        skip_tokens: Tokens at the beginning of each text that pooling leaves out.
        num_rows: How many vectors are made; by default as many as there are texts. What the others are means nothing.
        share_rows: Whether short texts may share a row of attention.
    """
    lengths = tokens.lengths[rows]
    num_tokens, longest = int(lengths.sum()), min(few_widths(int(lengths.max())), model.max_tokens)
    apart = num_rows or len(rows), longest
    # Of each token its place among all of the micro-batch, its text, its place in that, and its place if each text has a row.
    place = np.arange(num_tokens)
    text = np.repeat(np.arange(len(rows)), lengths)
    column = place - (np.cumsum(lengths) - lengths)[text]
    own_row = text * longest + column
    ids = tokens.ids[(np.cumsum(tokens.lengths) - tokens.lengths)[rows][text] + column]
    pad, offset = model.architecture.pad_token_id, model.architecture.position_offset
    positions = column
    if offset:
        # As in fairseq, the padding token takes no position, wherever it stands: it may also occur in a text.
        counted = _spread(ids != pad, own_row, apart, 0, np.int64)
        positions = (np.cumsum(counted, axis=1) * counted).ravel()[own_row] + (offset - 1)
    shape, gathered = apart, own_row
    packing = _packing(model, lengths, apart) if share_rows else None
    padding = _spread(np.float32(0), own_row, apart, _FAR_BELOW, np.float32)
    closed = padding[:, None, None, :]
    if packing is not None:
        shape = few_rows(packing.num_rows), min(few_widths(packing.width), model.max_tokens)
        gathered = (packing.row * shape[1] + packing.begin)[text] + column
        owner = _spread(text + 1, gathered, shape, 0, np.int32)
        closed = np.where(owner[:, :, None] == owner[:, None, :], np.float32(0), _FAR_BELOW)[:, None]
    inputs: dict[str, npt.NDArray[np.int32] | npt.NDArray[np.float32]] = {
        "ids": _filled(ids, pad),
        "positions": _filled(positions),
        "spread": _spread(place, gathered, shape, 0, np.int32),
        "gathered": _filled(gathered),
        "closed": closed,
        "texts": _spread(place, own_row, apart, 0, np.int32),
    }
    if model.pooling.first_only:
        return inputs | {"padding": padding[:, None, None, :]}
    taken = padding == 0
    if skip_tokens:
        # A prompt that fills the whole text would leave nothing: then the last token stands for it.
        first = np.zeros(len(taken), dtype=np.int64)
        first[: len(rows)] = np.minimum(lengths - 1, skip_tokens)
        taken &= np.arange(longest) >= first[:, None]
    return inputs | {f"pool_{mode}": pooling_weights(taken, mode) for mode in model.pooling.modes}


def few_widths(num_tokens: int) -> int:
    """How wide a rectangle is whose longest text has so many tokens, if the model takes as many."""
    return _rounded_up(num_tokens, _WIDTHS)


def few_tokens(num_tokens: int) -> int:
    """How many tokens are computed if so many come."""
    return _rounded_up(num_tokens, _TOKENS)


def _packing(model: Model, lengths: npt.NDArray[np.int64], apart: tuple[int, int]) -> Packing | None:
    """How texts share rows; None if that would not make the rectangle smaller than one with a row for each."""
    num_rows, longest = apart
    packing = pack(lengths, min(max(longest, _ROW_TOKENS), model.max_tokens))
    return packing if few_rows(packing.num_rows) * few_widths(packing.width) < num_rows * longest else None


def _filled(values: npt.NDArray[np.integer], value: int = 0) -> npt.NDArray[np.int32]:
    """As many numbers as are computed; those that nobody asks for are all the same."""
    filled = np.full(few_tokens(len(values)), value, dtype=np.int32)
    filled[: len(values)] = values
    return filled


def _spread(
    values: npt.ArrayLike, gathered: npt.NDArray[np.int64], shape: tuple[int, int], empty: Any, dtype: type[Number]
) -> npt.NDArray[Number]:
    """Values of tokens in the rectangle, and something else where there is padding."""
    rectangle = np.full(shape, empty, dtype=dtype)
    rectangle.ravel()[gathered] = values
    return rectangle


def _rounded_up(number: int, multiples: tuple[tuple[int | None, int], ...]) -> int:
    multiple = next(multiple for limit, multiple in multiples if limit is None or number <= limit)
    return max(1, -(-number // multiple)) * multiple


def pooling_weights(taken: npt.NDArray[np.bool_], mode: PoolingMode) -> npt.NDArray[np.float32]:
    """What each token counts in a text's vector, [B, L]; of ``max``, what is added to it before.

    The modes are those of `pairloom.network.pooling.pool`.

    Args:
        taken: Which tokens take part, at least one of each text whose vector is wanted.
        mode: The kind of pooling.
    """
    count = np.maximum(1, taken.sum(axis=1, keepdims=True))
    places = np.arange(taken.shape[1])
    weights: npt.NDArray[np.floating]
    match mode:
        case "cls":
            weights = places == taken.argmax(axis=1)[:, None]
        case "lasttoken":
            weights = places == taken.shape[1] - 1 - taken[:, ::-1].argmax(axis=1)[:, None]
        case "max":
            weights = np.where(taken, 0, _FAR_BELOW)
        case "mean":
            weights = taken / count
        case "mean_sqrt_len_tokens":
            weights = taken / np.sqrt(count)
        case "weightedmean":
            weights = taken * (places + 1.0)
            weights = weights / np.maximum(1, weights.sum(axis=1, keepdims=True))
    return weights.astype(np.float32)
