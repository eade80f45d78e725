"""The parts ``throughput`` and ``micro_batches``: one short text a request, from many clients at once."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from functools import partial

from benchmarks._encode_apart import Apart
from benchmarks._serve_bench import Bench, served_model, unbase64
from benchmarks._serve_process import Server
from benchmarks._serve_requests import as_json, embeddings, prepare
from benchmarks._serve_table import show_served
from benchmarks._train_table import Figures, alternate

OFFLINE = "offline, all at once"
PEER = "FastAPI + sentence-transformers"
BASE64, FLOATS = "pairloom, base64", "pairloom, floats"
# At which the scheduler's budgets are compared.
_LONE, _MANY = 1, 64


def throughput(bench: Bench) -> None:
    """One short text a request, by clients at once, beside the same texts offline and the plainest peer."""
    with contextlib.ExitStack() as stack:
        load, offline = stack.enter_context(bench.load()), stack.enter_context(bench.offline())
        # Server and file of requests of each.
        sides = {**_ours(bench, stack.enter_context(bench.ours()), offline), **_peers(bench, stack, offline)}
        for clients in bench.options.clients:
            print(f"  {clients} client{'s' * (clients > 1)}", flush=True)
            contestants: dict[str, Callable[[], Figures]] = {OFFLINE: partial(offline.call, "encode")}
            for name, (server, requests) in sides.items():
                bench.warm(load, server, requests, clients)
                contestants[name] = partial(bench.turn, load, server, requests, clients)
            measured = alternate(contestants, bench.options.rounds)
            show_served(measured, OFFLINE, *(name for name in sides if name.startswith(PEER)))


def _ours(bench: Bench, server: Server, offline: Apart) -> dict[str, tuple[Server, str]]:
    model, texts = served_model(server), bench.titles.texts
    body = {"input": bench.first_titles(), "model": model}
    bench.check(BASE64, unbase64(server.post("/v1/embeddings", {**body, "encoding_format": "base64"})), offline)
    floats = server.post("/v1/embeddings", {**body, "encoding_format": "float"})
    bench.check(FLOATS, [one["embedding"] for one in floats["data"]], offline)
    return {
        name: (server, bench.write(format, embeddings(texts, model, format)))
        for name, format in ((BASE64, "base64"), (FLOATS, "float"))
    }


def _peers(bench: Bench, stack: contextlib.ExitStack, offline: Apart) -> dict[str, tuple[Server, str]]:
    if not bench.has_peer():
        return {}
    requests = bench.write("peer", (prepare("text", "/embed", as_json({"text": text})) for text in bench.titles.texts))
    found = {}
    for precision in ("float32", "bfloat16"):
        name, server = f"{PEER}, {precision}", stack.enter_context(bench.peer(precision))
        bench.check(
            name, [server.post("/embed", {"text": text})["embedding"] for text in bench.first_titles()], offline
        )
        found[name] = (server, requests)
    return found


def micro_batches(bench: Bench) -> None:
    """The same by the scheduler's budget of tokens a micro-batch."""
    with contextlib.ExitStack() as stack:
        load = stack.enter_context(bench.load())
        servers = {budget: stack.enter_context(_tuned(bench, budget)) for budget in bench.options.budget}
        requests = bench.write(
            "budget", embeddings(bench.titles.texts, served_model(next(iter(servers.values()))), "base64")
        )
        for clients in (_LONE, _MANY):
            print(f"  {clients} client{'s' * (clients > 1)}", flush=True)
            contestants: dict[str, Callable[[], Figures]] = {}
            for budget, server in servers.items():
                bench.warm(load, server, requests, clients)
                contestants[f"{budget:5} tokens"] = partial(bench.turn, load, server, requests, clients)
            show_served(alternate(contestants, bench.options.rounds), next(iter(contestants)))


def _tuned(bench: Bench, budget: int) -> Server:
    module = [sys.executable, "-m", "benchmarks._serve_tuned", str(budget)]
    return bench.ours(command=[*module, "serve", bench.model, "--port", "PORT"])
