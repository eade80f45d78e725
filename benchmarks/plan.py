"""How near a plan's hours are to those of the run: a plan, then some steps of training, in turns."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks._train_pairs import MODEL, distinct_pairs, write_pairs
from pairloom.recipe import Recipe, parse_recipe
from pairloom.train.facts import training_seconds
from pairloom.train.loop import train
from pairloom.train.metrics import MetricsLog
from pairloom.train.plan import Plan, make_plan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default=MODEL)
    parser.add_argument("--pairs", type=Path, help="a file of JSON lines; by default docstrings of this environment")
    parser.add_argument("--count", type=int, default=4096, help="pairs, at most")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--graph-memory-mib", type=int, help="by default automatic")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = write_pairs(folder / "pairs", distinct_pairs(options.pairs, options.count))
        recipe = make_recipe(shards, options)
        ratios = []
        for number in range(options.rounds):
            plan = make_plan(recipe)
            assert plan.is_ready, (plan.missing, plan.problems)
            ratios.append(compare(plan, *trained(recipe, folder / str(number))))
        print(f"run's time to plan's, median of {len(ratios)}: {statistics.median(ratios):.2f}")


def make_recipe(shards: Path, options: argparse.Namespace) -> Recipe:
    limits = {"anchor_max_tokens": options.max_tokens, "positive_max_tokens": options.max_tokens}
    settings = {"steps": options.steps, "batch_size": options.batch_size, "warmup_steps": 0}
    memory = {} if options.graph_memory_mib is None else {"graph_memory_mib": options.graph_memory_mib}
    raw = {
        "model": {"base": options.base},
        "data": {"datasets": [{"shards": shards}], **limits},
        "train": {**settings, **memory, "precision": options.precision},
    }
    return parse_recipe(raw, where="benchmark")


def trained(recipe: Recipe, out: Path) -> tuple[float, float, float]:
    """Seconds in steps without the first, tokens of a mean step, and the share that was computed twice."""
    train(recipe, out, show_progress=False)
    records = [record for record in MetricsLog(out / "metrics.jsonl").records() if "loss" in record]
    tokens = [recipe.train.batch_size * record["tokens_per_s"] / record["pairs_per_s"] for record in records]
    replayed = statistics.mean(record["replayed"] for record in records)
    return training_seconds(records[1:]) / (len(records) - 1), statistics.mean(tokens), replayed


def compare(plan: Plan, step_s: float, num_tokens: float, replayed: float) -> float:
    assert plan.step_s is not None
    assert plan.volume is not None
    assert plan.rate is not None
    planned_tokens = plan.volume.num_tokens / plan.steps
    print(
        f"a step: {plan.step_s:.2f} s planned ({plan.rate.spent_s:.1f} s of measuring), {step_s:.2f} s in the run; tokens "
        f"{planned_tokens:,.0f} and {num_tokens:,.0f}; computed twice {plan.rate.share_replayed(planned_tokens):.2f} and "
        f"{replayed:.2f}",
        flush=True,
    )
    return step_s / plan.step_s


if __name__ == "__main__":
    main()
