"""How fast the machine multiplies matrices, by OpenVINO and by torch: what the encoder's own rate is a share of."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

Figures = dict[str, Any]
Shape = tuple[int, int, int]
Precision = Literal["float32", "bfloat16", "int8"]
# Rows, inner size, columns. The first ones are the products of MiniLM-L6 for a thousand tokens, then one of the base models;
# large squares are where processors are fastest.
SHAPES: tuple[Shape, ...] = (
    (1024, 384, 384),
    (1024, 384, 1536),
    (1024, 1536, 384),
    (1024, 768, 3072),
    (1536, 1536, 1536),
    (4096, 4096, 4096),
)
_SECONDS = 0.25
_LEAST_REPEATS = 2


class _Products:
    """Args:
    shapes: To be tried.
    """

    precisions: tuple[Precision, ...]

    def __init__(self, shapes: list[Shape], threads: int) -> None:
        self._threads = threads
        self._runs = {
            precision: {
                f"{rows}×{inner}×{columns}": (
                    2 * rows * inner * columns,
                    self._product(precision, (rows, inner, columns)),
                )
                for rows, inner, columns in shapes
            }
            for precision in self.precisions
        }

    def rates(self) -> Figures:
        """The most operations a second of each product, by precision and shape."""
        return {
            precision: {name: flops / _least_seconds(run) for name, (flops, run) in runs.items()}
            for precision, runs in self._runs.items()
        }

    def _product(self, precision: Precision, shape: Shape) -> Callable[[], object]:
        raise NotImplementedError


class OpenVinoProducts(_Products):
    """A MatMul with constant weights, as in the encoder; in int8 with a scale a row, tokens quantized on the way."""

    precisions = ("float32", "bfloat16", "int8")

    def _product(self, precision: Precision, shape: Shape) -> Callable[[], object]:
        import openvino
        from openvino import opset13 as ops

        rows, inner, columns = shape
        dice = np.random.default_rng(0)
        weights = dice.standard_normal((columns, inner)).astype(np.float32)
        settings = {"INFERENCE_NUM_THREADS": self._threads, "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
        kind = openvino.Type.f32
        if precision == "bfloat16":
            # Factors and product in bfloat16 throughout: nothing is converted on the way.
            kind = openvino.Type.bf16
            settings["INFERENCE_PRECISION_HINT"] = "bf16"
        if precision == "int8":
            scales = np.abs(weights).max(axis=1, keepdims=True) / 127
            stored = ops.convert(ops.constant(np.rint(weights / scales).astype(np.int8)), "f32")
            factor = ops.multiply(stored, ops.constant(scales))
            settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = inner
        else:
            factor = ops.constant(weights, dtype=kind)
        tokens = ops.parameter([rows, inner], kind)
        graph = openvino.Model([ops.matmul(tokens, factor, False, True)], [tokens])
        request = openvino.Core().compile_model(graph, "CPU", settings).create_infer_request()
        request.set_input_tensor(_tensor(dice.standard_normal((rows, inner)).astype(np.float32), kind))
        run: Callable[[], object] = request.infer
        return run


class TorchProducts(_Products):
    """``torch.mm`` into a matrix that is there already."""

    precisions = ("float32", "bfloat16")

    def _product(self, precision: Precision, shape: Shape) -> Callable[[], object]:
        import torch

        torch.set_num_threads(self._threads)
        rows, inner, columns = shape
        kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
        dice = torch.Generator().manual_seed(0)
        one, other, product = (
            torch.randn(size, generator=dice).to(kind) for size in ((rows, inner), (inner, columns), (rows, columns))
        )
        return lambda: torch.mm(one, other, out=product)


def best_rate(answers: list[Figures], precision: str) -> float | None:
    """The most operations a second that anything reached at a precision; None if nothing computes in it."""
    rates = [rate for answer in answers for rate in answer.get(precision, {}).values()]
    return max(rates, default=None)


def _tensor(values: np.ndarray[Any, Any], kind: Any) -> Any:
    import openvino

    if kind == openvino.Type.f32:
        return openvino.Tensor(values)
    tensor = openvino.Tensor(kind, values.shape)
    # NumPy has no bfloat16: its bits are the upper half of float32's.
    tensor.data.view(np.uint16)[:] = (values.view(np.uint32) >> 16).astype(np.uint16)
    return tensor


def _least_seconds(run: Callable[[], object]) -> float:
    run()
    found: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(found) < _LEAST_REPEATS or time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        found.append(time.perf_counter() - begin)
    return min(found)
