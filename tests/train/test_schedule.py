from __future__ import annotations

import pytest

from pairloom.train.schedule import linear_warmup_then_decay


def test_by_hand() -> None:
    shares = [linear_warmup_then_decay(step, warmup_steps=2, steps=5) for step in range(1, 6)]
    assert shares == pytest.approx([1 / 2, 1, 3 / 4, 2 / 4, 1 / 4])


def test_without_warmup() -> None:
    assert linear_warmup_then_decay(1, warmup_steps=0, steps=4) == pytest.approx(4 / 5)


def test_no_step_is_spent_at_zero() -> None:
    for warmup in (0, 1, 9):
        shares = [linear_warmup_then_decay(step, warmup_steps=warmup, steps=10) for step in range(1, 11)]
        assert min(shares) > 0
        assert max(shares) <= 1
