"""Tokens/s: the parts ``main``, ``families``, ``batches`` and ``budgets``."""

from __future__ import annotations

import contextlib
from typing import Any

from benchmarks._encode_bench import INSTALLED, PRECISIONS, TUNED, Bench, Worker, precision_of
from benchmarks._encode_sides import Theirs
from benchmarks._encode_table import shares, show_products, show_share, show_speeds
from benchmarks._encode_texts import Corpus, random_model
from benchmarks._train_models import Family
from benchmarks._train_table import Figures, Rounds, fastest
from pairloom.train.flops import model_flops

FIXED_TEXTS = 32
_TRIES = 2
# Layers; all are 768 wide, as the published ones.
FAMILIES: dict[Family, int] = {"mpnet": 12, "distilbert": 6}


def main_part(bench: Bench) -> None:
    """Tokens/s beside sentence-transformers as installed and tuned, and the share of the machine's own rate."""
    for texts in bench.texts():
        print(f"  {texts.describe()}", flush=True)
        speeds(bench, texts, None if bench.options.no_tuning else tune(bench, texts))


def families(bench: Bench) -> None:
    """The same for random networks of other families, at their true sizes, beside sentence-transformers as installed."""
    for family, layers in FAMILIES.items():
        size = {"layers": 2, "width": 64} if bench.options.toy else {"layers": layers, "width": 768}
        path = random_model(
            bench.folder / family, family, max_tokens=bench.model.max_tokens, toy=bench.options.toy, **size
        )
        other = Bench(bench.options, bench.folder, path)
        for texts in other.texts(bench.options.family_texts):
            print(
                f"  {family}, {size['layers']} layers of {size['width']}, random weights; {texts.describe()}",
                flush=True,
            )
            speeds(other, texts, None)


def speeds(bench: Bench, texts: Corpus, tuned: Figures | None) -> None:
    """All contestants over a corpus, and products of matrices between them.

    Args:
        bench: With the model.
        texts: What is encoded.
        tuned: The rival's fastest settings, if it shall take part with them, too.
    """
    with contextlib.ExitStack() as stack:
        given: dict[str, Any] = {"corpus": texts.name}
        theirs: dict[str, Worker] = {INSTALLED: (bench.theirs(stack, texts), "encode", given)}
        if tuned is not None:
            apart = bench.theirs(stack, texts, precision=tuned["precision"], compiled=tuned["compiled"])
            theirs[TUNED] = (apart, "encode", given | {"batch_size": tuned["texts_a_batch"]})
        ours: dict[str, Worker] = {name: (apart, "encode", given) for name, apart in bench.ours(stack, texts).items()}
        products = bench.products(stack)
        measured = bench.alternate(theirs | ours | products)
    rates: Rounds = {name: measured.pop(name) for name in products}
    show_speeds(measured, *theirs, peaks=True)
    show_products(rates)
    flops = model_flops(bench.model.architecture, texts.lengths, bench.model.heads)
    for name in ours:
        show_share(name, shares(measured[name], rates, precision_of(name), flops), measured[name], flops)


def tune(bench: Bench, texts: Corpus) -> Figures | None:
    """The rival's fastest settings on the first texts; None if it ran with none of them."""
    sample = texts.first(bench.options.tuning_texts, "sample")
    tried: Rounds = {}
    for compiled in (False,) if bench.options.no_compile else (False, True):
        for precision in PRECISIONS[:2]:
            settings = {"precision": precision, "compiled": compiled}
            with bench.apart(Theirs, sample, **settings) as apart:
                for size in bench.options.batch_size:
                    name = f"{precision}, batches of {size}" + (", compiled" if compiled else "")
                    print(f"  trying {name} ...", flush=True)
                    runs = [apart.call("encode", corpus=sample.name, batch_size=size) for _ in range(_TRIES)]
                    tried[name] = [settings | {"texts_a_batch": size} | run for run in runs]
    show_speeds(tried)
    best = fastest(tried, "")
    print(f"  tuned: {best}", flush=True)
    return tried[best][0] if best is not None else None


def batches(bench: Bench) -> None:
    """Beside the same compiled graph fed fixed batches of 32 texts in input order, padded or not, each on all cores."""
    for texts in bench.texts(mixed=True):
        print(f"  {texts.describe()}", flush=True)
        given: dict[str, Any] = {"corpus": texts.name}
        fixed = given | {"fixed": FIXED_TEXTS}
        padded = fixed | {"padded": True}
        with contextlib.ExitStack() as stack:
            for name, apart in bench.ours(stack, texts).items():
                from_texts: dict[str, Worker] = {
                    f"{name}, fixed batches, padded": (apart, "encode_fixed", padded),
                    f"{name}, fixed batches": (apart, "encode_fixed", fixed),
                    name: (apart, "encode", given),
                }
                from_tokens: dict[str, Worker] = {
                    f"{name}, from tokens, fixed batches, padded": (apart, "embed", padded),
                    f"{name}, from tokens, fixed batches": (apart, "embed", fixed),
                    f"{name}, from tokens": (apart, "embed", given),
                }
                measured = bench.alternate(from_texts | from_tokens)
                for some in (from_texts, from_tokens):
                    show_speeds({key: measured[key] for key in some}, next(iter(some)))


def budgets(bench: Bench) -> None:
    """Tokens/s by the most tokens of a micro-batch."""
    for texts in bench.texts():
        print(f"  {texts.describe()}", flush=True)
        with contextlib.ExitStack() as stack:
            for name, apart in bench.ours(stack, texts).items():
                tried: dict[str, Worker] = {
                    f"{name}, {budget:>6,} tokens": (apart, "encode", {"corpus": texts.name, "budget": budget})
                    for budget in bench.options.budget
                }
                own: Worker = (apart, "encode", {"corpus": texts.name})
                show_speeds(bench.alternate({f"{name}, its own budget": own, **tried}), f"{name}, its own budget")
