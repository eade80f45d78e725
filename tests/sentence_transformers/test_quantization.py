"""Bytes and bits beside those of sentence-transformers 6.2: equal to the last one."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import quantize_embeddings as theirs

from pairloom.errors import UsageError
from pairloom.sentence_transformers import quantize_embeddings, util
from pairloom.sentence_transformers.quantization import PRECISIONS


def vectors(rows: int, size: int = 13, *, seed: int = 0) -> np.ndarray:
    array = np.random.default_rng(seed).standard_normal((rows, size)).astype(np.float32)
    array[:, 3] = 0.25  # a component without a range
    return array


def assert_equal(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rows", [2, 150])
def test_whatever_is_given(precision: str, rows: int) -> None:
    array = vectors(rows)
    tensor = torch.from_numpy(array)
    for embeddings in (
        array,
        array.astype(np.float64),
        tensor,
        tensor.half(),
        tensor.bfloat16(),
        list(array),
        list(tensor),
        array.tolist(),
        vectors(rows, 16),
        np.zeros((0, 13), dtype=np.float32),
        [],
    ):
        assert_equal(quantize_embeddings(embeddings, precision), theirs(embeddings, precision))


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_ranges_and_calibration(precision: str) -> None:
    array, others = vectors(40), vectors(200, seed=1) * 0.5
    ranges = np.stack([others.min(0), others.max(0)])
    for given in (ranges, ranges.astype(np.float64)):
        assert_equal(quantize_embeddings(array, precision, given), theirs(array, precision, given))
        assert_equal(quantize_embeddings(array[0], precision, given), theirs(array[0], precision, given))
    found = quantize_embeddings(array[:1], precision, calibration_embeddings=others)
    assert_equal(found, theirs(array[:1], precision, calibration_embeddings=others))


def test_values_by_hand() -> None:
    array = np.array([[-127.0, 0.0], [0.0, 51.0], [128.0, 255.0]], dtype=np.float32)
    assert quantize_embeddings(array, "uint8").tolist() == [[0, 0], [127, 51], [255, 255]]
    assert quantize_embeddings(array, "int8").tolist() == [[-128, -128], [-1, -77], [127, 127]]
    signs = np.array([1, -1, 0, 2, -3, 5, 6, -7, 8], dtype=np.float32)
    assert quantize_embeddings(signs, "ubinary").tolist() == [0b10010110, 0b10000000]
    assert quantize_embeddings(signs, "binary").tolist() == [0b10010110 - 128, 0]


def test_few_embeddings_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="pairloom"):
        quantize_embeddings(vectors(99), "int8")
        assert "int8 ranges come from 99 embeddings only" in caplog.text
        caplog.clear()
        quantize_embeddings(vectors(100), "int8")
        quantize_embeddings(vectors(2), "int8", calibration_embeddings=vectors(100))
        quantize_embeddings(vectors(2), "binary")
    assert not caplog.text


@pytest.mark.parametrize(
    ("embeddings", "precision", "message"),
    [
        (vectors(1), "int8", "range of each component, which one embedding does not tell"),
        (vectors(2)[0], "uint8", "range of each component, which one embedding does not tell"),
        (vectors(2), "float16", "precision 'float16' is not supported; these are: float32, int8"),
        (vectors(2).astype(np.int8), "binary", "must be floats; these are int8 already"),
        ([vectors(2), vectors(2)], "int8", "several vectors for each text"),
        (torch.from_numpy(vectors(2)).to_sparse(), "int8", "sparse embeddings are not supported"),
    ],
)
def test_refusals(embeddings: Any, precision: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        util.quantize_embeddings(embeddings, precision)
