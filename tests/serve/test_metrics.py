"""What a server counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead
from prometheus_client.parser import text_string_to_metric_families

from pairloom.serve.metrics import MULTIPROCESS_VARIABLE, USAGE, Metrics, Usage


def values(text: str) -> dict[str, float]:
    """Samples by name and labels, as Prometheus's own parser reads them."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_requests_stages_and_texts_are_counted() -> None:
    metrics = Metrics()
    metrics.observe_request("/v1/embeddings", "POST", 200, 0.004)
    metrics.observe_request("/v1/embeddings", "POST", 200, 3.0)
    metrics.observe_request("/v1/embeddings", "POST", 429, 0.001)
    metrics.observe_stage("compute", 0.25)
    metrics.count_texts("m", texts=3, tokens=40, truncated=1)
    metrics.count_texts("m", texts=1, tokens=2, truncated=0)
    found = values(metrics.render()[0].decode())
    assert found["pairloom_requests_total{method=POST,route=/v1/embeddings,status=200}"] == 2
    assert found["pairloom_requests_total{method=POST,route=/v1/embeddings,status=429}"] == 1
    assert found["pairloom_request_seconds_count{method=POST,route=/v1/embeddings}"] == 3
    assert found["pairloom_request_seconds_bucket{le=0.005,method=POST,route=/v1/embeddings}"] == 2
    assert found["pairloom_stage_seconds_sum{stage=compute}"] == 0.25
    assert found["pairloom_texts_total{model=m}"] == 4
    assert found["pairloom_tokens_total{model=m}"] == 42
    assert found["pairloom_truncated_total{model=m}"] == 1


def test_batches_are_counted_by_how_full_they_are() -> None:
    metrics = Metrics()
    metrics.observe_batch(texts=4, tokens=75, max_tokens=100)
    metrics.observe_batch(texts=1, tokens=10, max_tokens=10)
    found = values(metrics.render()[0].decode())
    assert found["pairloom_batch_fill_ratio_sum{}"] == 1.75
    assert found["pairloom_batch_fill_ratio_bucket{le=0.8}"] == 1
    assert found["pairloom_batch_texts_sum{}"] == 5


def test_the_queue_is_looked_at_when_it_is_asked_for() -> None:
    metrics = Metrics()
    waiting = 7
    metrics.watch_queue(lambda: waiting)
    assert values(metrics.render()[0].decode())["pairloom_queue_tokens{}"] == 7
    waiting = 3
    assert values(metrics.render()[0].decode())["pairloom_queue_tokens{}"] == 3


def test_two_servers_in_a_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.observe_stage("search", 1)
    assert "pairloom_stage_seconds_count{stage=search}" not in values(other.render()[0].decode())


def test_texts_are_counted_for_the_request_in_hand() -> None:
    usage = Usage()
    token = USAGE.set(usage)
    try:
        Metrics().count_texts("m", texts=2, tokens=9, truncated=1)
    finally:
        USAGE.reset(token)
    assert usage == Usage(2, 9, 1)


WORKER = """
import os, signal, sys
from pairloom.serve.metrics import Metrics
metrics = Metrics()
metrics.observe_stage("queue", 0.5)
metrics.count_texts("m", texts=int(sys.argv[1]), tokens=1, truncated=0)
metrics.watch_queue(lambda: int(sys.argv[1]))
sys.stdout.write(metrics.render()[0].decode())
sys.stdout.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_several_processes_are_added_up_even_those_that_died(tmp_path: Path) -> None:
    environment = {**os.environ, MULTIPROCESS_VARIABLE: str(tmp_path)}

    def work(number: int) -> tuple[int, str]:
        command = [sys.executable, "-c", WORKER, str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            out, _ = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        return process.pid, out

    first, _ = work(10)
    mark_process_dead(first, str(tmp_path))  # type: ignore[no-untyped-call]
    found = values(work(5)[1])
    assert found["pairloom_texts_total{model=m}"] == 15
    assert found["pairloom_stage_seconds_count{stage=queue}"] == 2
    assert found["pairloom_queue_tokens{}"] == 5  # only of those that live, or the queue would never be empty again
