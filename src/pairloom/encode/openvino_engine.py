"""Vectors by OpenVINO, which knows the kernels of CPUs best: no torch, and near the machine's limit.

A block of texts goes through as many streams as there are cores, each of them one thread with a micro-batch of its own:
no core waits for another in the middle of a layer. A single micro-batch has all cores to itself instead.
"""

from __future__ import annotations

import functools
import logging
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.choices import Precision
from pairloom.encode.micro_batches import even_micro_batches, few_rows, rows_above
from pairloom.encode.openvino_graph import build_backbone, build_heads
from pairloom.encode.openvino_inputs import make_inputs
from pairloom.encode.quiet_openvino import op, openvino
from pairloom.errors import UsageError
from pairloom.models.model import Model
from pairloom.models.tokenizer import Tokens

logger = logging.getLogger("pairloom")

Arrays = dict[str, npt.NDArray[Any]]

# Tokens of a micro-batch: measured on cores with 1 MiB of second-level cache each (docs/log.md).
_MICRO_BATCH_TOKENS = 1024
# Where that would leave cores without one, micro-batches are smaller; but with less than this for each core a single one has
# all cores to itself (docs/log.md).
_LEAST_TOKENS = 64
# Of a micro-batch: padding, as a multiple of its tokens, beyond which a text had better be in the next one. Only pooling has any,
# where it hardly costs time; but it takes memory.
_PADDING_FACTOR = 4
# Of a micro-batch for which somebody waits: measured (docs/log.md, serving).
_STREAM_TOKENS = 384
# The inputs of an int8 product are quantised in groups of so many along the row, each token by itself, so that a text's
# vector does not depend on the others. Smaller groups are more exact, larger ones faster (docs/log.md).
_GROUP_SIZES = (128, 64, 32)


class OpenVINOEngine:
    """An `Engine` on the CPU. Several threads may use it at once.

    Args:
        model: The encoder.
        precision: ``float32``, exact; ``bfloat16`` for matrix products and attention; ``int8`` for the linear layers, and
            bfloat16 for attention. By default the fastest that keeps a cosine of 0.9995 to float32 on this machine.
        threads: How many cores to use; by default all.
        micro_batch_tokens: How many tokens are computed at once by a core, about; by default what suits its cache. Memory grows
            with it and with the cores.
    """

    def __init__(
        self,
        model: Model,
        *,
        precision: Precision | None = None,
        threads: int | None = None,
        micro_batch_tokens: int | None = None,
    ) -> None:
        self._core = _core()
        self._has_bfloat16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision: Precision = pick_precision(precision, has_bfloat16=self._has_bfloat16)
        self.micro_batch_tokens = micro_batch_tokens or _MICRO_BATCH_TOKENS
        self._model = model
        self._threads = threads or _num_cores(self._core)
        self.num_streams = self._threads
        self.stream_tokens = min(_STREAM_TOKENS, self.micro_batch_tokens)
        self._compiling = Lock()
        self._compiled: dict[str, _Compiled] = {}
        self._workers = ThreadPoolExecutor(self._threads, thread_name_prefix="openvino")

    def embed(self, tokens: Tokens, *, skip_tokens: int = 0) -> npt.NDArray[np.float32]:
        """See `Engine.embed`."""
        share = self._share(tokens)
        most_padding = _PADDING_FACTOR * self.micro_batch_tokens
        batches = list(even_micro_batches(tokens.lengths, share, most_padding=most_padding))
        # Alone, a micro-batch has all cores; of many, each core has one, and none waits for another within a layer.
        backbone = self._backbone(1 if len(batches) == 1 else self._threads)
        pooled = np.empty((len(tokens), backbone.size), dtype=np.float32)

        def run(rows: npt.NDArray[np.int64]) -> None:
            inputs = make_inputs(self._model, tokens, rows, skip_tokens=skip_tokens, num_rows=few_rows(len(rows)))
            found = backbone(inputs)
            pooled[rows] = found[: len(rows)]

        if len(batches) == 1:
            run(batches[0])
        else:
            running = [self._workers.submit(run, rows) for rows in batches]
            try:
                for one in running:
                    one.result()
            finally:
                for one in running:  # of which some are left after a fault or Ctrl-C
                    one.cancel()
        return self._finish(pooled)

    def embed_micro_batch(
        self, tokens: Tokens, *, skip_tokens: int = 0, alone: bool = False
    ) -> npt.NDArray[np.float32]:
        """See `Engine.embed_micro_batch`: on one core, or on all of them if it is ``alone``.

        What comes has any shape, and for each shape there are kernels to make and to keep. So there are few numbers of rows.
        """
        backbone = self._backbone(1 if alone else self._threads)
        rows, num_rows = np.arange(len(tokens)), rows_above(len(tokens))
        pooled = backbone(make_inputs(self._model, tokens, rows, skip_tokens=skip_tokens, num_rows=num_rows))
        return self._finish(pooled)[: len(tokens)]

    def _share(self, tokens: Tokens) -> int:
        """Tokens of each micro-batch, such that there are as many of them as cores, or a multiple of that."""
        total = len(tokens.ids)
        if total < self._threads * _LEAST_TOKENS:
            return total
        rounds = -(-total // (self._threads * self.micro_batch_tokens))
        return -(-total // (self._threads * rounds))

    def _finish(self, pooled: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What follows the pooling."""
        if self._model.heads:
            heads = self._get(
                "heads", lambda: self._compile(build_heads(self._model.heads, pooled.shape[1]), "float32")
            )
            pooled = heads({"pooled": pooled})
        return pooled if self._model.output_size is None else pooled[:, : self._model.output_size]

    def _backbone(self, num_streams: int) -> _Compiled:
        def compile_it() -> _Compiled:
            graph = build_backbone(self._model, quantized=self.precision == "int8")
            return self._compile(graph, self.precision, num_streams)

        return self._get(f"backbone in {num_streams}", compile_it)

    def _get(self, name: str, compile_it: Callable[[], _Compiled]) -> _Compiled:
        """What is compiled when it is first needed: who encodes single texts does not pay for the other graph."""
        if name not in self._compiled:
            with self._compiling:
                if name not in self._compiled:
                    self._compiled[name] = compile_it()
        return self._compiled[name]

    def _compile(self, graph: openvino.Model, precision: Precision, num_streams: int = 1) -> _Compiled:
        half = precision != "float32" and self._has_bfloat16
        sizes = self._model.architecture.hidden_size, self._model.architecture.feed_forward_size
        groups = [size for size in _GROUP_SIZES if not any(width % size for width in sizes)]
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(groups[0] if precision == "int8" and groups else 0),
            "NUM_STREAMS": str(num_streams),
            "INFERENCE_NUM_THREADS": str(self._threads),
            "PERFORMANCE_HINT": "LATENCY" if num_streams == 1 else "THROUGHPUT",
        }
        return _Compiled(self._core.compile_model(graph, "CPU", settings), num_streams)


class _Compiled:
    """A graph, and as many requests as can be computed at once; who comes when all are taken waits."""

    def __init__(self, compiled: openvino.CompiledModel, num_requests: int) -> None:
        self.size: int = compiled.output(0).get_partial_shape()[1].get_length()
        self._requests: queue.LifoQueue[openvino.InferRequest] = queue.LifoQueue()
        for _ in range(num_requests):
            self._requests.put(compiled.create_infer_request())

    def __call__(self, inputs: Arrays) -> npt.NDArray[np.float32]:
        request = self._requests.get()
        try:
            request.infer(inputs, share_inputs=True)
            return np.array(request.get_output_tensor(0).data)  # a copy: the next one writes there
        finally:
            self._requests.put(request)


def pick_precision(asked: Precision | None, *, has_bfloat16: bool) -> Precision:
    """What is computed in: bfloat16 where the processor multiplies in it, if nothing else is asked for.

    Raises:
        UsageError: It is not one that CPUs compute in.
    """
    if asked is None:
        return "bfloat16" if has_bfloat16 else "float32"
    if asked not in ("float32", "bfloat16", "int8"):
        raise UsageError(f"precision {asked!r} is for GPUs; on a CPU there are float32, bfloat16 and int8")
    if asked == "bfloat16" and not has_bfloat16:
        logger.warning("this processor does not multiply in bfloat16: computing in float32")
        return "float32"
    return asked


@functools.cache
def _core() -> Any:
    """OpenVINO itself, one for the process, which is never given up.

    When the last one goes, the library of its kernels is unloaded; and a signal that came later then ended the process by
    SIGSEGV instead of being delivered (docs/log.md).
    """
    return openvino.Core()


def _num_cores(core: Any) -> int:
    """How many OpenVINO would use by itself: cores, not their threads, and of those that this process may use."""
    value = op.parameter([1], np.float32, name="value")
    trivial = openvino.Model([op.relu(value)], [value], "trivial")
    return int(
        core.compile_model(trivial, "CPU", {"PERFORMANCE_HINT": "LATENCY"}).get_property("INFERENCE_NUM_THREADS")
    )
