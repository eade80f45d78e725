"""How numbers of vectors are stored: as they are, in half the bytes, or in a quarter. Pure functions of arrays."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

Storage = Literal["float32", "float16", "int8"]
STORAGES: tuple[Storage, ...] = get_args(Storage)
_LARGEST_INT8 = 127


def pack(vectors: npt.NDArray[np.float32], storage: Storage) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32] | None]:
    """Vectors as they are stored.

    Args:
        vectors: [N, D], finite.
        storage: ``int8`` is symmetric: each row is divided by a 127th of its largest magnitude, and rounded to even.

    Returns:
        The numbers [N, D], and of ``int8`` the scales [N] by which they are multiplied again. A number that is too large for
        float16 becomes infinite.
    """
    if storage != "int8":
        with np.errstate(over="ignore"):
            return vectors.astype(storage, copy=False), None
    scales = np.abs(vectors).max(axis=1, initial=0.0) / np.float32(_LARGEST_INT8)
    # The scale of a row of zeros is 0, and that of a tiny one may be rounded to it.
    divisors = np.where(scales > 0, scales, np.float32(1))[:, None]
    numbers = np.clip(np.rint(vectors / divisors), -_LARGEST_INT8, _LARGEST_INT8)
    return numbers.astype(np.int8), scales


def unpack(stored: npt.NDArray[Any], scales: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float32]:
    """The float32 vectors [N, D] that stored numbers stand for; float32 is not copied."""
    vectors = np.asarray(stored, dtype=np.float32)
    return vectors if scales is None else vectors * scales[:, None]
