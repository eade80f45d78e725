"""A micro-batch as the arrays that the OpenVINO graph takes: pure functions of token numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pairloom.choices import PoolingMode
from pairloom.models.model import Model
from pairloom.models.tokenizer import Tokens

# Added to scores and maxima where there is padding. Not infinity: it goes through half precision, and minus infinity
# less minus infinity is no number.
_FAR_BELOW = np.float32(-1e30)
# Up to it a batch is as wide as its longest text; beyond, a multiple of 8. Each width has kernels of its own, which are
# made when it first comes: this way there are few, and at most one token in nine is padding for it.
_EXACT_WIDTH, _MULTIPLE = 64, 8
# Where there should be few widths, so many are short ones.
_SHORT_MULTIPLE = 4


def make_inputs(
    model: Model,
    tokens: Tokens,
    rows: npt.NDArray[np.int64],
    *,
    skip_tokens: int = 0,
    exact_width: int = _EXACT_WIDTH,
) -> dict[str, npt.NDArray[np.int32] | npt.NDArray[np.float32]]:
    """The inputs of `pairloom.encode.openvino_graph.build_backbone`, by name.

    Args:
        model: Which graph it is.
        tokens: Of all texts.
        rows: Which of them, at least one.
        skip_tokens: Tokens at the beginning of each text that pooling leaves out.
        exact_width: As in `padded_width`.
    """
    pad = model.architecture.pad_token_id
    lengths = tokens.lengths[rows]
    width = padded_width(int(lengths.max()), model.max_tokens, exact_width=exact_width)
    ids = tokens.padded(rows, pad, width=width).astype(np.int32)
    inside = np.arange(ids.shape[1]) < lengths[:, None]
    inputs: dict[str, npt.NDArray[np.int32] | npt.NDArray[np.float32]] = {
        "ids": ids,
        "closed": np.where(inside, np.float32(0), _FAR_BELOW)[:, None, None, :],
    }
    if offset := model.architecture.position_offset:
        # As in fairseq, the padding token takes no position, wherever it stands: it may also occur in a text.
        counted = ids != pad
        inputs["positions"] = (np.cumsum(counted, axis=1) * counted + (offset - 1)).astype(np.int32)
    if model.pooling.first_only:
        return inputs
    taken = inside
    if skip_tokens:
        # A prompt that fills the whole text would leave nothing: then the last token stands for it.
        first = np.minimum(lengths - 1, skip_tokens)
        taken = inside & (np.arange(ids.shape[1]) >= first[:, None])
    return inputs | {f"pool_{mode}": pooling_weights(taken, mode) for mode in model.pooling.modes}


def padded_width(longest: int, max_tokens: int, *, exact_width: int = _EXACT_WIDTH) -> int:
    """How wide a batch is.

    Args:
        longest: Tokens of its longest text.
        max_tokens: Of the model.
        exact_width: Up to it a batch is as wide as its longest text; 0 if there should be few widths, as `few_widths` says.
    """
    return longest if longest <= exact_width else min(few_widths(longest), max_tokens)


def few_widths(num_tokens: int) -> int:
    """A number of tokens, rounded up to a multiple of 4 if it is at most 64, and else to one of 8."""
    multiple = _SHORT_MULTIPLE if num_tokens <= _EXACT_WIDTH else _MULTIPLE
    return max(1, -(-num_tokens // multiple)) * multiple


def pooling_weights(taken: npt.NDArray[np.bool_], mode: PoolingMode) -> npt.NDArray[np.float32]:
    """What each token counts in a text's vector, [B, T]; of ``max``, what is added to it before.

    The modes are those of `pairloom.network.pooling.pool`.

    Args:
        taken: Which tokens take part, at least one of each text.
        mode: The kind of pooling.
    """
    count = taken.sum(axis=1, keepdims=True)
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
            weights = weights / weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)
