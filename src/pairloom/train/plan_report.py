"""A plan for a person (a few lines and the table of the mixture) and for programs (JSON)."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pairloom.pairs import forecast_report
from pairloom.terminal import one_line
from pairloom.train.plan import Plan
from pairloom.train.plan_lengths import SEED
from pairloom.train.report import duration

_SENTENCE_CHARACTERS = 400
_WHERE = {"folder": "in its folder", "package": "in an installed package", "cache": "in the hub's cache"}
_HUNDRED_HOURS_S = 360_000


def to_json(plan: Plan) -> dict[str, Any]:
    """A plan as JSON values, unrounded; what is unknown is null."""
    return {
        "ready": plan.is_ready,
        "missing": list(plan.missing),
        "problems": list(plan.problems),
        "steps": plan.steps,
        "base": {
            "name": plan.base.name,
            "found": None if plan.base.where is None else plan.base.where.place,
            "architecture": None if plan.base.architecture is None else vars(plan.base.architecture),
        },
        "volume": None if plan.volume is None else vars(plan.volume) | {"num_tokens": plan.volume.num_tokens},
        "rate": None
        if plan.rate is None or plan.volume is None
        else vars(plan.rate) | {"share_replayed": plan.rate.share_replayed(plan.volume.num_tokens / plan.steps)},
        "device": plan.device,
        "num_devices": plan.num_devices,
        "precision": plan.precision,
        "step_s": plan.step_s,
        "hours": plan.hours,
        "space": None
        if plan.space is None
        else vars(plan.space) | {"free_at": str(plan.space.free_at), "needed_bytes": plan.space.needed_bytes},
        "mixture": None if plan.mixture is None else forecast_report.to_json(plan.mixture),
    }


def render(plan: Plan) -> Group:
    """What stands in the way, what the run costs, and what it draws, for ``Console.print``."""
    parts: list[RenderableType] = [_sentence(f"missing: {one}", "red") for one in plan.missing]
    parts += [_sentence(f"would be refused: {one}", "red") for one in plan.problems]
    if plan.is_ready:
        parts.append(Text("all that the run needs is here", style="green"))
    costs = Table.grid(padding=(0, 2, 0, 0))
    costs.add_column(style="bold", no_wrap=True)
    costs.add_column(justify="right", no_wrap=True)
    costs.add_column(overflow="fold")
    for row in [_base(plan), *_volume(plan), _time(plan), *_space(plan)]:
        costs.add_row(*map(Text, row))
    parts += [Text(), costs]
    if plan.mixture is not None:
        parts += [Text(), forecast_report.render(plan.mixture)]
    return Group(*parts)


def _sentence(text: str, style: str) -> Text:
    return Text(one_line(text, _SENTENCE_CHARACTERS), style=style)


def _base(plan: Plan) -> tuple[str, str, str]:
    place = None if plan.base.where is None else _WHERE.get(plan.base.where.place)
    note = f"{one_line(plan.base.name, 80)}, {place or 'not here'}"
    if (architecture := plan.base.architecture) is None:
        return "base", "?", f"{note}; what the run costs is unknown until it is here"
    sizes = f"{architecture.num_layers} layers of {architecture.hidden_size}"
    return "base", architecture.family, f"{note}; {sizes}" + ("" if place else ", as published")


def _volume(plan: Plan) -> list[tuple[str, str, str]]:
    volume = plan.volume
    if volume is None:
        return [("pairs", "?", "the weights of the datasets are not known yet")]
    anchors, candidates = (tokens / volume.num_pairs for tokens in (volume.anchor_tokens, volume.candidate_tokens))
    source = f"by {volume.num_sampled_rows:,} sampled rows (seed {SEED})"
    if volume.is_upper_bound:
        source = "at most: by the limits" + (f", and {source}" if volume.num_sampled_rows else "")
        source += ", until shards and tokenizer are here"
    rows = [
        ("pairs", _number(volume.num_pairs), f"in {plan.steps:,} steps"),
        (
            "tokens",
            _number(volume.num_tokens),
            f"anchor {anchors:,.1f} + candidates {candidates:,.1f} a pair; {source}",
        ),
    ]
    if volume.num_flops is not None:
        rows.append(("model FLOPs", f"{volume.num_flops:.2e}", "forward and backward, without what is computed twice"))
    return rows


def _time(plan: Plan) -> tuple[str, str, str]:
    if plan.rate is None or plan.volume is None or plan.step_s is None:
        return "time", "?", "not measured"
    num_tokens = plan.volume.num_tokens / plan.steps
    note = f"{_seconds(plan.step_s)} a step, {num_tokens / plan.step_s:,.0f} tokens/s"
    if replayed := plan.rate.share_replayed(num_tokens):
        note += f", {100 * replayed:.0f} % of them computed twice"
    note += f"; measured in {plan.rate.spent_s:.0f} s on {one_line(plan.device, 80)}, {plan.precision}"
    if plan.num_devices > 1:
        note += f"; on all {plan.num_devices} of them a {plan.num_devices}th of it at best"
    return "time", _duration(plan.step_s * plan.steps), note


def _space(plan: Plan) -> list[tuple[str, str, str]]:
    if (space := plan.space) is None:
        return []
    memory: float = space.state_bytes
    note = "weights, gradients and moments"
    if plan.rate is not None and plan.volume is not None:
        graphs = plan.rate.graph_bytes(plan.volume.num_tokens / plan.steps)
        memory, note = memory + graphs, f"{note} {_bytes(memory)}, graphs of a batch {_bytes(graphs)}"
    shards = [f"shards {_bytes(space.shards_bytes)}"] if space.shards_bytes else []
    if space.num_shards_unknown:
        shards.append(f"shards of {space.num_shards_unknown:,} datasets that are not here")
    disk = f"{space.num_checkpoints} checkpoint{'' if space.num_checkpoints == 1 else 's'} of {_bytes(space.checkpoint_bytes)}, the model {_bytes(space.model_bytes)}"
    return [
        ("memory", _bytes(memory), note),
        (
            "disk",
            _bytes(space.needed_bytes),
            f"{disk}; {_bytes(space.free_bytes)} are free. Besides: {', '.join(shards)}",
        ),
    ]


def _number(value: float) -> str:
    for unit, word in ((1e12, " trillion"), (1e9, " billion"), (1e6, " million")):
        if value >= unit:
            return f"{value / unit:,.4g}{word}"
    return f"{value:,.0f}"


def _bytes(count: float) -> str:
    for unit, word in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:,.1f} {word}"
    return f"{count / 1e3:,.0f} kB"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{1000 * seconds:,.0f} ms"


def _duration(seconds: float) -> str:
    days = f" ({seconds / 3600:,.0f} h)" if seconds > _HUNDRED_HOURS_S else ""
    return duration(seconds) + days
