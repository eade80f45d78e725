"""How the learning rate goes through a run."""

from __future__ import annotations


def linear_warmup_then_decay(step: int, *, warmup_steps: int, steps: int) -> float:
    """The share of the full learning rate at a step.

    It rises in a straight line to 1 at step ``warmup_steps`` and falls in a straight line that would reach 0 one step
    after the last, so that no step is spent at 0.

    Args:
        step: From 1 to ``steps``.
        warmup_steps: 0 for none.
        steps: Of the whole run.
    """
    if step <= warmup_steps:
        return step / warmup_steps
    return (steps + 1 - step) / (steps + 1 - warmup_steps)
