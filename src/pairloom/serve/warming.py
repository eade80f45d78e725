"""What is computed before the first request, so that it does not wait for what is done only once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pairloom.encode.engine import Engine
from pairloom.encode.micro_batches import rows_below
from pairloom.models.tokenizer import Tokens
from pairloom.serve.priority import give_way

# Short texts are what most requests have; of each width, one alone, and then some together. Kernels are made for each shape.
_WIDTHS = (16, 20, 12, 24, 8, 28, 32, 36, 40, 48, 56, 64)
_ROWS = (16, 8, 4, 2, 12, 6, 3, 1)
# The first ones of these are enough for the graphs to be compiled; then it is only made shorter by what follows.
_PATIENCE_S = 0.5


def warm_up(engine: Engine, *, max_tokens: int, patience_s: float = _PATIENCE_S) -> float:
    """Compiles what the engine compiles, and computes the shapes that are likeliest to come, until patience ends.

    Args:
        engine: Any.
        max_tokens: The longest text that the model takes.
        patience_s: How long to go on with what could also be done later.

    Returns:
        Seconds that a token takes, with all streams at work on full micro-batches.
    """
    widths = [width for width in _WIDTHS if width <= max_tokens] or [max_tokens]
    # Threads that the engine starts for itself are started here, and go on as those that start them.
    with ThreadPoolExecutor(engine.num_streams, thread_name_prefix="warm-up", initializer=give_way) as streams:

        def on_all_streams(rows: int, width: int) -> float:
            """Each stream has kernels of its own. Returns the seconds that it took."""
            began = time.perf_counter()
            texts = [_texts(rows, width)] * engine.num_streams
            list(streams.map(engine.embed_micro_batch, texts))
            return time.perf_counter() - began

        def on_all_cores(width: int) -> None:
            streams.submit(engine.embed_micro_batch, _texts(1, width), alone=True).result()

        width = widths[min(1, len(widths) - 1)]
        rows = rows_below(max(1, engine.stream_tokens // width))
        on_all_cores(width)
        on_all_streams(rows, width)
        # The better of two: at the start of a server much else goes on.
        took_s = min(on_all_streams(rows, width) for _ in range(2))
        ends = time.perf_counter() + patience_s
        for one in widths:
            if time.perf_counter() < ends:
                on_all_cores(one)
        for some in _ROWS:
            for one in widths:
                if time.perf_counter() < ends and some * one <= engine.stream_tokens:
                    on_all_streams(some, one)
    return took_s / (rows * width * engine.num_streams)


def _texts(count: int, num_tokens: int) -> Tokens:
    """Texts of the first token that there is, whatever it means."""
    lengths = np.full(count, num_tokens, dtype=np.int64)
    return Tokens(np.zeros(count * num_tokens, dtype=np.int32), lengths, np.zeros(count, dtype=np.bool_))
