"""Arrays as files of NumPy, mapped into memory: nothing is read before it is touched, nor allocated for what a file claims."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from pairloom.encode.vector_files import npy_header
from pairloom.errors import ArtifactError

Array = npt.NDArray[Any]


def save_array(file: Path, array: Array) -> None:
    """Writes an array whole, in little-endian order."""
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    with file.open("wb") as stream:
        stream.write(npy_header(array.dtype, array.shape).data)
        append(stream, array)


def append(stream: BinaryIO, array: Array) -> None:
    """Writes an array's numbers to a stream; unlike `numpy.ndarray.tofile`, a full disk keeps its error number."""
    stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def map_array(file: Path, dtype: str, shape: tuple[int, ...]) -> Array:
    """The array in a file, read-only and left on the disk.

    Args:
        file: As `save_array` writes it.
        dtype: What must be in it, such as ``<f2``.
        shape: Of what shape.

    Raises:
        ArtifactError: The file is missing or cut, or has another type or shape.
    """
    expected = np.dtype(dtype)
    header = npy_header(expected, shape).tobytes()
    num_bytes = len(header) + math.prod(shape) * expected.itemsize
    try:
        if file.stat().st_size != num_bytes:
            raise ValueError(f"it has {file.stat().st_size:,} bytes instead of {num_bytes:,}")
        with file.open("rb") as stream:
            if stream.read(len(header)) != header:
                raise ValueError(f"its header is not that of {expected} {list(shape)}")
            if num_bytes == len(header):  # nothing cannot be mapped
                return np.zeros(shape, expected)
            return np.asarray(np.memmap(stream, expected, "r", len(header), shape))
    except (ValueError, OSError) as error:
        raise damaged(file, error) from None


def damaged(file: Path, error: object) -> ArtifactError:
    """The error about a file of an index that makes no sense."""
    return ArtifactError(f"{file}: damaged ({error}); build the index again")
