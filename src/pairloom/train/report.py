"""``report.html``: a run for people to read, in one page that needs no network, no script and no other file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom import __version__
from pairloom.errors import MissingExtraError
from pairloom.terminal import one_line, printable
from pairloom.train.chart import Chart, Series, draw_chart
from pairloom.train.metrics import first_and_last, losses_by_dataset
from pairloom.train.neighbours import Neighbours

Floats = npt.NDArray[np.float64]

_TEMPLATE = Path(__file__).with_name("report.html")
# More curves in a picture cannot be told apart.
_MOST_DATASETS_DRAWN = 12
_NAME_CHARACTERS, _QUERY_CHARACTERS, _TEXT_CHARACTERS = 80, 400, 600
_MOST_RELEVANT = 5
# More tasks than this are counted in the summary, and told one by one in their tables only.
_MOST_TASKS_TOLD = 3
# Not characters, but XML and some browsers stumble over them.
_NONCHARACTERS = re.compile("[\ufdd0-\ufdef\ufffe\uffff]")
_VERDICT_WORDS = {"better": "clearly better", "worse": "clearly worse", "unclear": "no clear change"}
# What the page says elsewhere; whatever else a run tells of itself is listed as it is.
_TOLD = {"recipe", "data", "evaluations", "steps", "base", "fingerprint"}


def write_report(
    path: Path,
    *,
    name: str,
    facts: dict[str, Any],
    records: list[dict[str, Any]],
    neighbours: Sequence[Neighbours] = (),
) -> None:
    """Writes the page.

    Args:
        path: The file to write.
        name: What to call the model.
        facts: The manifest's facts.
        records: The lines of ``metrics.jsonl``, of this version or an earlier one.
        neighbours: What the model found for a few queries, before and after.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise MissingExtraError("a run's report", "jinja2", "train") from None
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["shown"] = shown
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    steps = [record for record in records if "loss" in record]
    datasets, drawn = _datasets(facts, steps)
    page = template.render(
        name=shown(name),
        summary=_summary(name, facts, steps),
        tasks=_tasks(facts),
        charts=_run_charts(steps, drawn) + _task_charts(facts),
        datasets=datasets,
        num_left_out=len(datasets) - len(drawn),
        neighbours=[_neighbours(one) for one in neighbours],
        recipe=_plain(json.dumps(facts["recipe"], indent=2, ensure_ascii=False)),
        origins=_origins(facts),
    )
    path.write_text(page, encoding="utf-8")


def shown(text: Any, max_characters: int = _NAME_CHARACTERS) -> str:
    """A text in one line, without what browsers obey or stumble over, and cut if it is long."""
    return _plain(one_line(str(text), max_characters))


def _plain(text: str) -> str:
    return _NONCHARACTERS.sub(" ", printable(text))


def _summary(name: str, facts: dict[str, Any], steps: list[dict[str, Any]]) -> str:
    batch_size = facts["recipe"]["train"]["batch_size"]
    pairs, num_datasets = sum(data["pairs_drawn"] for data in facts["data"]), len(facts["data"])
    what = (
        f"{shown(name)} was trained from {shown(facts['recipe']['model']['base'])} for {facts['steps']:,} steps of "
        f"{batch_size:,} pairs on {shown(facts['device'])}: {pairs:,} pairs drawn from "
        f"{'one dataset' if num_datasets == 1 else f'{num_datasets:,} datasets'}"
    )
    seconds = _seconds(steps, pairs / max(1, facts["steps"]))
    words = [what + (f", in about {duration(seconds)} of training steps." if seconds else ".")]
    losses = column(steps, "loss")
    if len(losses := losses[np.isfinite(losses)]):
        first, last, span = first_and_last(losses)
        went = "fell" if last < first else "rose" if last > first else "went"
        of = "step" if span == 1 else f"{span} steps"
        words.append(f"The loss {went} from {first:.3f} to {last:.3f} (first and last {of}).")
    return " ".join(filter(None, (*words, _what_changed(facts))))


def _what_changed(facts: dict[str, Any]) -> str:
    last = {evaluation["task"]: evaluation for evaluation in facts["evaluations"]}
    firsts = [(task, *next(iter(evaluation["metrics"].items()))) for task, evaluation in last.items()]
    compared = [(task, metric, measured) for task, metric, measured in firsts if "baseline" in measured]
    if not compared:
        return "No held-out task was measured before and after." if not last else ""
    if len(compared) > _MOST_TASKS_TOLD:
        verdicts = [_verdict(measured) for _, _, measured in compared]
        better, worse = verdicts.count("better"), verdicts.count("worse")
        return (
            f"Of {len(compared)} held-out tasks, {better} went clearly better, {worse} clearly worse, and "
            f"{len(compared) - better - worse} without a clear change."
        )
    tales = []
    for task, metric, measured in compared:
        change = f"{_signed(measured['difference'], 3)}, 95 % interval {_signed_interval(measured['difference_interval'], 3)}"
        tales.append(
            f"On {shown(task)}, {shown(metric)} went from {measured['baseline']:.3f} to {measured['value']:.3f} "
            f"({change}: {_VERDICT_WORDS[_verdict(measured)]})."
        )
    return " ".join(tales)


def _verdict(measured: dict[str, Any]) -> str:
    low, high = measured["difference_interval"]
    return "better" if low > 0 else "worse" if high < 0 else "unclear"


def column(records: Sequence[dict[str, Any]], key: str) -> Floats:
    """The numbers under a key, one for each record; NaN where there is none."""
    values = [record.get(key) for record in records]
    try:
        numbers = np.array(values, dtype=np.float64)  # None becomes NaN
        if numbers.ndim == 1:
            return numbers
    except (TypeError, ValueError, OverflowError):
        pass
    return np.array([_number(value) for value in values], dtype=np.float64)


def _number(value: Any) -> float:
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan


def duration(seconds: float) -> str:
    """A time in its two largest units."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"


def _seconds(steps: list[dict[str, Any]], pairs_a_step: float) -> float:
    """The time that the steps took together, from the pairs a second that each of them tells."""
    rates = column(steps, "pairs_per_s")
    return float(np.sum(pairs_a_step / rates[np.isfinite(rates) & (rates > 0)]))


def _run_charts(steps: list[dict[str, Any]], drawn: list[Series]) -> list[Chart]:
    places = np.array([record["step"] for record in steps], dtype=np.int64)

    def one(title: str, unit: str, key: str, *, factor: float = 1.0, smooth: bool = True) -> Chart | None:
        return draw_chart(title, unit, [Series(title, places, column(steps, key) * factor)], smooth=smooth)

    charts = [
        one("Loss", "nats", "loss"),
        draw_chart("Loss by dataset", "nats", drawn) if len(drawn) > 1 else None,
        one("In-batch accuracy", "% of anchors that find their positive first", "accuracy", factor=100),
        one("Learning rate", "", "learning_rate", smooth=False),
        one("Gradient norm", "before clipping", "gradient_norm"),
        one("Throughput", "pairs a second", "pairs_per_s"),
        one("Utilisation", "% of the machine's best matrix product", "utilisation", factor=100),
    ]
    return [chart for chart in charts if chart is not None]


def _task_charts(facts: dict[str, Any]) -> list[Chart]:
    """The first metric of each task that was measured on the way, too."""
    by_task: dict[str, list[dict[str, Any]]] = {}
    for evaluation in facts["evaluations"]:
        by_task.setdefault(evaluation["task"], []).append(evaluation)
    charts = []
    for task, evaluations in by_task.items():
        if len(evaluations) > 2:
            metric = next(iter(evaluations[-1]["metrics"]))
            measured = [one["metrics"][metric] for one in evaluations]
            places = np.array([one["step"] for one in evaluations], dtype=np.int64)
            values = np.array([one["value"] for one in measured], dtype=np.float64)
            ranges = np.array([one["interval"] for one in measured], dtype=np.float64).T
            charts.append(draw_chart(f"{metric} on {shown(task)}", "", [Series(metric, places, values, ranges)]))
    return [chart for chart in charts if chart is not None]


def _datasets(facts: dict[str, Any], steps: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[Series]]:
    """The table's rows, most pairs drawn first, and the curves of the first few."""
    found = losses_by_dataset(steps, [data["name"] for data in facts["data"]])
    rows, drawn = [], []
    for data in sorted(facts["data"], key=lambda data: -data["pairs_drawn"]):
        places, losses = found[data["name"]]
        first, last, _ = first_and_last(losses) if len(losses) else (None, None, 0)
        epochs = data["pairs_drawn"] / max(1, data["pairs"])
        rows.append(
            {**data, "epochs": f"{epochs:.2g}" if epochs < 10 else f"{epochs:,.0f}"}
            | {"first": _decimal(first), "last": _decimal(last)}
        )
        if len(rows) <= _MOST_DATASETS_DRAWN:
            drawn.append(Series(shown(data["name"], 40), places, losses))
    return rows, drawn


def _tasks(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The last measurement of each task beside the first, as cells of a table."""
    before: dict[str, dict[str, Any]] = {}
    last: dict[str, dict[str, Any]] = {}
    for evaluation in facts["evaluations"]:
        last[evaluation["task"]] = evaluation
        if evaluation["step"] == 0:
            before[evaluation["task"]] = evaluation["metrics"]
    return [
        {
            "name": shown(task),
            "counts": ", ".join(
                f"{evaluation[key]:,} {key}" for key in ("queries", "documents", "pairs") if key in evaluation
            ),
            "remarks": [shown(remark, _TEXT_CHARACTERS) for remark in evaluation.get("remarks", [])],
            "rows": _metric_rows(evaluation["metrics"], before.get(task, {})),
        }
        for task, evaluation in last.items()
    ]


def _metric_rows(metrics: dict[str, Any], before: dict[str, Any]) -> list[dict[str, Any]]:
    ends = [abs(end) for measured in metrics.values() for end in measured.get("difference_interval", ())]
    reach = max((end for end in ends if np.isfinite(end)), default=0.0) or 1.0
    rows = []
    for metric, measured in metrics.items():
        row = {
            "metric": shown(metric),
            "value": _decimal(measured["value"], 4),
            "interval": _interval(measured["interval"]),
            "compared": "baseline" in measured,
        }
        if row["compared"]:
            low, high = measured["difference_interval"]
            row |= {
                "baseline": _decimal(measured["baseline"], 4),
                "baseline_interval": _interval(before[metric]["interval"]) if metric in before else "",
                "change": _signed(measured["difference"]),
                "change_interval": _signed_interval((low, high)),
                "verdict": _verdict(measured),
                # Where in the little picture, 160 units wide, with 0 in the middle.
                "marks": [
                    round(80 + 72 * float(np.clip(np.nan_to_num(mark / reach), -1, 1)), 1)
                    for mark in (low, measured["difference"], high)
                ],
            }
        rows.append(row)
    return rows


def _neighbours(one: Neighbours) -> dict[str, Any]:
    return {
        "task": shown(one.task),
        "query": shown(one.query, _QUERY_CHARACTERS),
        "num_documents": one.num_documents,
        "sides": [
            (
                title,
                [(shown(hit.text, _TEXT_CHARACTERS), f"{hit.score:.3f}", hit.relevant) for hit in hits],
            )
            for title, hits in (("Before", one.before), ("After", one.after))
        ],
        "relevant": [shown(text, _TEXT_CHARACTERS) for text in one.relevant[:_MOST_RELEVANT]],
        "num_relevant": len(one.relevant),
    }


def _origins(facts: dict[str, Any]) -> list[tuple[str, str]]:
    rows: list[tuple[str, object]] = [("pairloom", __version__)]
    rows += [(key, value) for key, value in facts.items() if key not in _TOLD and isinstance(value, str | int | float)]
    rows += [("model's fingerprint", facts["fingerprint"]), ("base's fingerprint", facts["base"]["fingerprint"])]
    rows += [(f"fingerprint of {data['name']}", data["fingerprint"]) for data in facts["data"]]
    return [(shown(key.replace("_", " "), 120), shown(value, 120)) for key, value in rows]


def _decimal(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def _interval(ends: Sequence[float]) -> str:
    return " … ".join(_decimal(end, 4) for end in ends)


def _signed(value: float, digits: int = 4) -> str:
    return f"{value:+.{digits}f}".replace("-", "−") if np.isfinite(value) else "–"


def _signed_interval(ends: Sequence[float], digits: int = 4) -> str:
    return " … ".join(_signed(end, digits) for end in ends)
