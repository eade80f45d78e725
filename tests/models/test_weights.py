"""Reading safetensors files, byte by byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pairloom.errors import ModelError
from pairloom.models.weights import read_tensors, write_tensors


def write(path: Path, header: dict[str, Any], content: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    return path


def test_types_that_can_hold_weights_are_read_as_float32(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    values = np.array([[1.5, -2.0, 0.25], [3.0, 0.0, -0.125]])
    tensors = {kind: values.astype(kind) for kind in ("float64", "float32", "float16")}
    save_file(
        {**tensors, "positions": np.arange(3), "one": np.array(7, np.float32), "none": np.zeros((0, 4), np.float32)},
        file,
        metadata={"format": "pt"},
    )
    read = read_tensors(file)
    assert {name: tensor.shape for name, tensor in read.items()} == {
        **dict.fromkeys(tensors, (2, 3)),
        "one": (),
        "none": (0, 4),
    }
    for name in tensors:
        assert read[name].dtype == np.float32
        np.testing.assert_array_equal(read[name], values)
    assert read["one"] == 7


def test_bfloat16_is_the_upper_half_of_float32(tmp_path: Path) -> None:
    file = write(
        tmp_path / "model.safetensors",
        {"a": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}},
        bytes.fromhex("803f40c00000"),
    )
    np.testing.assert_array_equal(read_tensors(file)["a"], np.array([1.0, -3.0, 0.0], dtype=np.float32))


def test_tensors_need_not_be_aligned_in_the_file(tmp_path: Path) -> None:
    numbers = np.array([1.0, -2.0], dtype="<f4")
    header = {
        "half": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]},
        "whole": {"dtype": "F32", "shape": [2], "data_offsets": [2, 10]},
    }
    for spaces in range(4):  # the header's length moves what follows
        read = read_tensors(
            write(tmp_path / f"{spaces}", {**header, "__metadata__": {"": " " * spaces}}, b"\0\x3c" + numbers.tobytes())
        )
        np.testing.assert_array_equal(read["whole"], numbers)
        assert read["whole"].flags.aligned
        assert read["half"] == 1


def test_what_is_read_is_no_part_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    write_tensors(file, {"a": np.ones(4, dtype=np.float32)})
    read = read_tensors(file)
    file.write_bytes(b"")
    np.testing.assert_array_equal(read["a"], np.ones(4))
    read["a"][0] = 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:7],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: b"\xff" * 8 + content[8:],
        lambda content: content.replace(b'"shape":[4]', b'"shape":[5]'),
        lambda content: content.replace(b"{", b"(", 1),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, damage: Any) -> None:
    file = tmp_path / "model.safetensors"
    write_tensors(file, {"a": np.ones(4, dtype=np.float32)})
    damaged = damage(file.read_bytes())
    assert damaged != file.read_bytes()
    file.write_bytes(damaged)
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        read_tensors(file)
