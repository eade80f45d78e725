"""What a server counts, for Prometheus."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.multiprocess import MultiProcessCollector

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder in which several workers count together; `prometheus_client` looks at it when it is imported."""

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_STAGE_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1)

_Metric = TypeVar("_Metric", bound=MetricWrapperBase)


@dataclass
class Usage:
    """What a request made the models do, for its line in the log.

    Args:
        texts: How many were encoded.
        tokens: Their tokens.
        truncated: How many were longer than the model takes.
    """

    texts: int = 0
    tokens: int = 0
    truncated: int = 0


USAGE: ContextVar[Usage | None] = ContextVar("usage", default=None)
"""Of the request in hand; texts may be counted anywhere below it, and in threads that it starts."""


class Metrics:
    """Counters and histograms of a process; several workers write into files that each of them can add up.

    Observing costs microseconds: what a label stands for is looked up once.
    """

    def __init__(self) -> None:
        self._folder = os.environ.get(MULTIPROCESS_VARIABLE)
        self._registry = CollectorRegistry()
        if self._folder is None:
            ProcessCollector(registry=self._registry)

        def made(kind: type[_Metric], name: str, about: str, *labels: str, **more: Any) -> _Metric:
            return kind(name, about, labels, registry=self._registry, **more)

        self._requests = _Children(made(Counter, "pairloom_requests_total", "Requests.", "route", "method", "status"))
        self._request_seconds = _Children(
            made(Histogram, "pairloom_request_seconds", "Until answered.", "route", "method", buckets=_SECONDS)
        )
        self._stage_seconds = _Children(
            made(Histogram, "pairloom_stage_seconds", "Of a request's stages.", "stage", buckets=_STAGE_SECONDS)
        )
        self._texts = _Children(made(Counter, "pairloom_texts_total", "Texts encoded.", "model"))
        self._tokens = _Children(made(Counter, "pairloom_tokens_total", "Tokens encoded.", "model"))
        self._truncated = _Children(
            made(Counter, "pairloom_truncated_total", "Texts longer than the model takes.", "model")
        )
        self._batch_texts = made(Histogram, "pairloom_batch_texts", "Texts computed at once.", buckets=_TEXTS)
        self._batch_fill = made(
            Histogram, "pairloom_batch_fill_ratio", "Tokens computed at once, of those that may be.", buckets=_RATIOS
        )
        self._queue = made(
            Gauge, "pairloom_queue_tokens", "Tokens that wait to be computed.", multiprocess_mode="livesum"
        )
        self._waiting_tokens: Callable[[], int] | None = None

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts a request that was answered.

        Args:
            route: Its template, such as ``/v1/documents/{id}``: a label that took what a client sends would have no end.
            method: Of HTTP.
            status: Of HTTP.
            seconds: From its head to the end of the answer.
        """
        self._requests[route, method, str(status)].inc()
        self._request_seconds[route, method].observe(seconds)

    def observe_refusal(self, route: str, method: str, status: int) -> None:
        """Counts a request that was refused before it was looked at; see `observe_request`."""
        self._requests[route, method, str(status)].inc()

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Counts what a stage took: ``tokenize``, ``queue``, ``compute`` or ``search``."""
        self._stage_seconds[(stage,)].observe(seconds)

    def count_texts(self, model: str, *, texts: int, tokens: int, truncated: int) -> None:
        """Counts texts that were encoded, for a model and for the request in hand."""
        self._texts[(model,)].inc(texts)
        self._tokens[(model,)].inc(tokens)
        if truncated:
            self._truncated[(model,)].inc(truncated)
        if (usage := USAGE.get()) is not None:
            usage.texts += texts
            usage.tokens += tokens
            usage.truncated += truncated

    def observe_batch(self, *, texts: int, tokens: int, max_tokens: int) -> None:
        """Counts what was computed at once.

        Args:
            texts: How many.
            tokens: Theirs.
            max_tokens: How many there might be; a text that alone is longer comes alone.
        """
        self._batch_texts.observe(texts)
        self._batch_fill.observe(min(1.0, tokens / max_tokens))

    def watch_queue(self, waiting_tokens: Callable[[], int]) -> None:
        """Takes the length of the queue from this function from now on."""
        self._waiting_tokens = waiting_tokens

    def refresh(self) -> None:
        """Notes what is not counted when it happens; of several workers each does it, as one of them answers for all."""
        if self._waiting_tokens is not None:
            self._queue.set(self._waiting_tokens())

    def render(self) -> tuple[bytes, str]:
        """All that was counted, by all workers, as Prometheus reads it, and the type of that."""
        self.refresh()
        registry = self._registry
        if self._folder is not None:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, path=self._folder)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST


class _Children(dict[tuple[str, ...], _Metric]):
    """A metric's children by their labels, without the lock and the checks that the library's own look-up has."""

    def __init__(self, metric: _Metric) -> None:
        self._metric: _Metric = metric

    def __missing__(self, labels: tuple[str, ...]) -> _Metric:
        child = self[labels] = self._metric.labels(*labels)
        return child
