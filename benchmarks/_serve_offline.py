"""The same texts without a server: `Encoder.encode`, which has all of them at once."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from pairloom import Encoder
from pairloom.choices import Precision


class Offline:
    """What `benchmarks._encode_apart` calls.

    Args:
        model: A folder or a name.
        corpus: A file of texts (`benchmarks._encode_texts.Corpus.write`).
        threads: For computing.
        precision: By default the encoder's own choice.
    """

    def __init__(self, model: str, corpus: str, threads: int, precision: Precision | None = None) -> None:
        self._texts: list[str] = json.loads(Path(corpus).read_text(encoding="utf-8"))["texts"]
        self._encoder = Encoder(model, device="cpu", threads=threads, precision=precision)
        self._is_warm = False

    def encode(self) -> dict[str, Any]:
        """Seconds of a pass over all texts; before the first comes another, which is not timed."""
        if not self._is_warm:
            self._encoder.encode(self._texts)
            self._is_warm = True
        cpu, begin = time.process_time(), time.perf_counter()
        self._encoder.encode(self._texts)
        seconds = time.perf_counter() - begin
        return {"batch_size": len(self._texts), "step_s": [seconds], "server_cpu_s": time.process_time() - cpu}

    def vectors(self, count: int) -> dict[str, Any]:
        """Of the first texts."""
        return {"vectors": self._encoder.encode(self._texts[:count]).tolist()}
