"""How the learning rate goes through a run: its share of the full rate at a step."""

from __future__ import annotations

import math

from pairloom.recipe import Schedule


def rate_share(
    schedule: Schedule, step: int, *, warmup_steps: int, steps: int, decay_steps: int | None = None
) -> float:
    """The share of the full learning rate at a step.

    It rises in a straight line to 1 at step ``warmup_steps``; afterwards it falls so that it would reach 0 one step after
    the last, and no step is spent at 0.

    Args:
        schedule: ``linear``: in a straight line. ``cosine``: along half a cosine (Loshchilov and Hutter 2017).
            ``warmup-stable-decay``: it stays at 1 and falls in a straight line at the end (Hu et al. 2024, MiniCPM).
        step: From 1 to ``steps``.
        warmup_steps: 0 for none.
        steps: Of the whole run.
        decay_steps: How many steps the fall of ``warmup-stable-decay`` takes; by default a tenth of the run.
    """
    if step <= warmup_steps:
        return step / warmup_steps
    left = steps + 1 - step
    match schedule:
        case "linear":
            return left / (steps + 1 - warmup_steps)
        case "cosine":
            return (1 - math.cos(math.pi * left / (steps + 1 - warmup_steps))) / 2
        case "warmup-stable-decay":
            decay = min(decay_steps or max(1, steps // 10), steps - warmup_steps)
            return min(1.0, left / (decay + 1))
