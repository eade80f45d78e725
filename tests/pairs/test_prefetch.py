"""Batches made ahead: the same ones, and a state that is the consumer's."""

from __future__ import annotations

import json
import threading
import time
from itertools import islice
from typing import Any

import pytest

from pairloom.errors import InputError
from pairloom.pairs.batch import Batch
from pairloom.pairs.dataset import Dataset
from pairloom.pairs.mixture import Mixture
from pairloom.pairs.prefetch import Prefetch
from tests.pairs.fakes import FakeRows, different

COLLIDING = [(number % 9, 100 + number) for number in range(30)]


def mixture(max_epochs: int | None = None, *, batch_size: int = 5, **options: Any) -> Mixture:
    datasets = [
        Dataset("a", FakeRows(COLLIDING), max_epochs=max_epochs),
        Dataset("b", different(21, first=500), weight=2, max_epochs=max_epochs),
    ]
    return Mixture(datasets, batch_size=batch_size, seed=2, **options)


def joined(batch: Batch) -> str:
    return " ".join(batch.columns[0])


@pytest.mark.parametrize("options", [{}, {"batch_size": 2, "steps_per_group": 4, "datasets_per_group": 2}])
@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("stop", [0, 1, 9])
def test_it_gives_the_same_batches_and_the_state_of_the_last_one_taken(
    depth: int, stop: int, options: dict[str, int]
) -> None:
    expected = [joined(batch) for batch in islice(mixture(**options), 20)]
    plain = mixture(**options)
    list(islice(plain, stop))
    with Prefetch(mixture(**options), joined, depth=depth) as batches:
        assert [text for _, text in islice(batches, stop)] == expected[:stop]
        _wait_until(lambda: batches._ready.qsize() == (depth if stop else 0))
        state = json.loads(json.dumps(batches.state()))
        assert state == plain.state() == batches.place.state()
    again = mixture(**options)
    again.restore(state)
    with Prefetch(again, joined, depth=2) as batches:
        assert [text for _, text in islice(batches, 20 - stop)] == expected[stop:]


def _wait_until(reached: object) -> None:
    assert callable(reached)
    for _ in range(2000):
        if reached():
            return
        time.sleep(0.001)
    pytest.fail("the thread did not come so far")


@pytest.mark.parametrize("depth", [0, 2])
def test_the_end_of_the_stream_is_the_consumers(depth: int) -> None:
    expected = len(list(mixture(max_epochs=1)))
    with Prefetch(mixture(max_epochs=1), joined, depth=depth) as batches:
        assert len(list(batches)) == expected
        assert list(batches) == [], "and again"


@pytest.mark.parametrize("depth", [0, 2])
def test_what_goes_wrong_ahead_surfaces_at_its_batch(depth: int) -> None:
    def fail_at_three(batch: Batch) -> int:
        if batch.step == 3:
            raise InputError("bad text", "somewhere", 7)
        return batch.step

    with Prefetch(mixture(), fail_at_three, depth=depth) as batches:
        assert [step for _, step in islice(batches, 3)] == [0, 1, 2]
        with pytest.raises(InputError, match="somewhere, line 7: bad text"):
            next(batches)
        assert batches.place.step == 3


def test_no_more_than_depth_are_made_ahead_and_closing_ends_the_thread() -> None:
    made: list[int] = []
    batches = Prefetch(mixture(), lambda batch: made.append(batch.step), depth=3)
    assert batches._thread is None, "nothing is drawn before a batch is wanted"
    next(batches)
    _wait_until(lambda: len(made) == 4)
    time.sleep(0.02)
    assert len(made) == 4
    assert threading.active_count() > 1
    batches.close()
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]
    with pytest.raises(ValueError, match="closed"):
        next(batches)


def test_closing_does_not_wait_for_a_consumer() -> None:
    """The thread is in the middle of a batch, with the queue full, and nobody takes anything any more."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(batch: Batch) -> None:
        if batch.step == 1:
            begun.set()
            go_on.wait(10)

    batches = Prefetch(mixture(), slow, depth=1)
    next(batches)
    assert begun.wait(10)
    closing = threading.Thread(target=batches.close)
    closing.start()
    go_on.set()
    closing.join(10)
    assert not closing.is_alive()
