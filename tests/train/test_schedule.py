"""Schedules of the learning rate, by hand and in their bounds."""

from __future__ import annotations

import math
from typing import get_args

import pytest

from pairloom.recipe import Schedule
from pairloom.train.schedule import rate_share

SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


def test_linear_by_hand() -> None:
    shares = [rate_share("linear", step, warmup_steps=2, steps=5) for step in range(1, 6)]
    assert shares == pytest.approx([1 / 2, 1, 3 / 4, 2 / 4, 1 / 4])


def test_cosine_by_hand() -> None:
    shares = [rate_share("cosine", step, warmup_steps=1, steps=4) for step in range(1, 5)]
    halfway = [(1 + math.cos(math.pi * done / 4)) / 2 for done in (0, 1, 2, 3)]
    assert shares == pytest.approx(halfway)


def test_it_stays_and_falls_at_the_end() -> None:
    shares = [rate_share("warmup-stable-decay", step, warmup_steps=2, steps=8, decay_steps=3) for step in range(1, 9)]
    assert shares == pytest.approx([1 / 2, 1, 1, 1, 1, 3 / 4, 2 / 4, 1 / 4])


def test_the_fall_is_a_tenth_of_the_run_by_default() -> None:
    shares = [rate_share("warmup-stable-decay", step, warmup_steps=0, steps=20) for step in range(1, 21)]
    assert shares[:18] == [1.0] * 18
    assert shares[18:] == pytest.approx([2 / 3, 1 / 3])


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 1, 9])
def test_no_step_is_spent_at_zero_and_none_beyond_the_full_rate(schedule: Schedule, warmup: int) -> None:
    shares = [rate_share(schedule, step, warmup_steps=warmup, steps=10) for step in range(1, 11)]
    assert min(shares) > 0
    assert max(shares) <= 1
    after = shares[max(warmup - 1, 0) :]
    assert after == sorted(after, reverse=True), "it never rises again"
