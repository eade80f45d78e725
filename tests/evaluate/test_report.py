from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.console import Console

from pairloom.evaluate.evaluation import Comparison, Evaluation, Measurement, Outcome
from pairloom.evaluate.report import render, to_json

EVALUATION = Evaluation(
    task="insects",
    kind="retrieval",
    similarity="cosine",
    counts={"queries": 12, "documents": 3400},
    metrics={
        "nDCG@10": Measurement(0.5, (0.45, 0.56), Comparison(0.4, 0.1, (0.05, 0.15))),
        "MRR@10": Measurement(0.61234, (0.6, 0.7), Comparison(0.7, -0.08766, (-0.1, -0.01))),
        "Recall@100": Measurement(1.0, (1.0, 1.0), Comparison(1.0, 0.0, (0.0, 0.0))),
    },
    remarks=("empty documents: 2",),
    num_resamples=2000,
    seed=0,
    outcome=Outcome({}, {}, 12),
)


def without_baseline(evaluation: Evaluation) -> Evaluation:
    return replace(evaluation, metrics={name: replace(m, comparison=None) for name, m in evaluation.metrics.items()})


def shown(evaluations: Sequence[Evaluation]) -> list[str]:
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(render(evaluations))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_json_holds_every_number_unrounded() -> None:
    facts = to_json(EVALUATION)
    assert json.loads(json.dumps(facts)) == facts
    assert {name: facts[name] for name in ("task", "kind", "queries", "documents", "similarity", "remarks")} == {
        "task": "insects",
        "kind": "retrieval",
        "queries": 12,
        "documents": 3400,
        "similarity": "cosine",
        "remarks": ["empty documents: 2"],
    }
    assert facts["metrics"]["MRR@10"] == {
        "value": 0.61234,
        "interval": [0.6, 0.7],
        "baseline": 0.7,
        "difference": -0.08766,
        "difference_interval": [-0.1, -0.01],
        "clear": True,
    }
    assert facts["bootstrap"] == {"level": 0.95, "resamples": 2000, "seed": 0}


def test_json_without_a_baseline_says_nothing_of_one() -> None:
    assert to_json(without_baseline(EVALUATION))["metrics"]["nDCG@10"] == {"value": 0.5, "interval": [0.45, 0.56]}


def test_the_table_compares() -> None:
    lines = shown([EVALUATION])
    assert lines[0].split() == ["value", "95", "%", "interval", "baseline", "change", "95", "%", "interval"]
    assert lines[2:] == [
        "insects",
        " nDCG@10     0.5000  0.4500…0.5600    0.4000  +0.1000  +0.0500…+0.1500  better",
        " MRR@10      0.6123  0.6000…0.7000    0.7000  -0.0877  -0.1000…-0.0100  worse",
        " Recall@100  1.0000  1.0000…1.0000    1.0000  +0.0000  +0.0000…+0.0000  unclear",
        "",
        "insects: 12 queries, 3,400 documents; empty documents: 2",
    ]


def test_without_a_baseline_the_table_is_narrow() -> None:
    lines = shown([without_baseline(EVALUATION)])
    assert lines[0].split() == ["value", "95", "%", "interval"]
    assert lines[3] == " nDCG@10     0.5000  0.4500…0.5600"


def test_several_tasks_share_a_table_and_long_names_fit() -> None:
    lines = shown([EVALUATION, replace(without_baseline(EVALUATION), task="a-task-with-a-long-name")])
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith(" nDCG@10") for line in lines) == 2
    folded = lines[lines.index("a-task-with") :][:3]
    assert folded == ["a-task-with", "-a-long-nam", "e"]


@pytest.mark.parametrize(
    ("interval", "clear"),
    [((0.01, 0.2), True), ((-0.2, -0.01), True), ((-0.1, 0.1), False), ((0.0, 0.1), False), ((-0.1, 0.0), False)],
)
def test_a_difference_is_clear_if_the_interval_leaves_0_out(interval: tuple[float, float], clear: bool) -> None:
    assert Comparison(0.5, 0.05, interval).is_clear is clear
