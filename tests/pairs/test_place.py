"""States: small, exact, and only for the mixture that they were taken of."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import numpy as np
import pytest

from pairloom.errors import ArtifactError, UsageError
from pairloom.pairs.dataset import Dataset
from pairloom.pairs.mixture import Mixture
from pairloom.pairs.order import BlockShuffle, RowOrder
from tests.pairs.fakes import FakeRows, VastRows, different

COLLIDING = [(number % 9, 100 + number) for number in range(30)]


def mixture(datasets: list[Dataset] | None = None, **options: Any) -> Mixture:
    datasets = datasets or [Dataset("a", FakeRows(COLLIDING)), Dataset("b", different(21, first=500), weight=2)]
    return Mixture(datasets, **{"batch_size": 5, "seed": 2, **options})


def drawn(stream: Mixture, steps: int) -> list[tuple[tuple[list[str], ...], tuple[str, ...]]]:
    return [(batch.columns, batch.names) for batch in islice(stream, steps)]


@pytest.mark.parametrize("stop", [0, 1, 7, 23])
def test_a_continued_stream_equals_the_unbroken_one(stop: int) -> None:
    expected = drawn(mixture(), 40)
    first = mixture()
    assert drawn(first, stop) == expected[:stop]
    state = json.loads(json.dumps(first.state(), sort_keys=True))
    second = mixture()
    second.restore(state)
    assert second.state() == first.state() == state
    assert drawn(second, 40 - stop) == expected[stop:]


def test_rows_wait_in_the_state_and_come_first_after_it() -> None:
    stream = mixture([Dataset("a", FakeRows(COLLIDING))])
    while not len(stream.place.cursors[0].waiting):
        next(stream)
    (saved,) = stream.state()["datasets"]
    waiting = stream.place.cursors[0].waiting
    assert np.cumsum(saved["waiting"]).tolist() == waiting.tolist()
    other = mixture([Dataset("a", FakeRows(COLLIDING))])
    other.restore(stream.state())
    assert next(other).parts[0].rows[0] == RowOrder("a", len(COLLIDING), seed=2).rows(waiting)[0]


def test_a_state_is_not_changed_by_what_comes_after_it() -> None:
    stream = mixture()
    next(stream)
    state, place = stream.state(), stream.place
    before = json.dumps(state)
    drawn(stream, 20)
    assert json.dumps(state) == json.dumps(place.state()) == before


def test_a_batch_leads_a_place_on() -> None:
    """Who keeps a place of its own needs no mixture to say where it is."""
    stream = mixture(datasets_per_batch=2)
    place = stream.place
    for batch in islice(stream, 20):
        place.advance(batch.step, batch.cursors)
        assert set(batch.cursors) == {0, 1}
    assert place.state() == stream.state()


def test_a_state_is_small() -> None:
    datasets = [
        Dataset(f"stackexchange_title_body/a_site_with_a_rather_long_name_{number:03d}.jsonl.gz", VastRows(10**9))
        for number in range(290)
    ]
    stream = mixture(datasets, batch_size=1024)
    stream.seek(10**6)
    assert len(json.dumps(stream.state())) < 48 * 1024


def in_groups(**options: Any) -> Mixture:
    datasets = [Dataset("a", different(50)), Dataset("b", different(50, first=500), weight=2)]
    return mixture(datasets, **{"steps_per_group": 8, "datasets_per_group": 2, **options})


def test_without_groups_states_are_as_they_always_were() -> None:
    stream = mixture()
    drawn(stream, 7)
    state = stream.state()
    assert set(state) == {"version", "step", "settings", "datasets"}
    assert set(state["settings"]) == {"seed", "batch_size", "datasets_per_batch", "block_shuffle"}
    assert not any("before_group" in dataset for dataset in state["datasets"])
    one = mixture(steps_per_group=1, datasets_per_group=4)
    one.restore(state)
    assert one.state() == state


def test_a_state_says_where_its_group_began_and_nothing_between_groups() -> None:
    stream = in_groups()
    for step in range(1, 33):
        next(stream)
        state = stream.state()
        within = step % 8 != 0
        assert state.get("group_start") == (step - step % 8 if within else None)
        assert any("before_group" in dataset for dataset in state["datasets"]) == within
        assert stream.place.start_of_group().step == step - step % 8


def test_a_state_within_a_group_is_small_too() -> None:
    datasets = [
        Dataset(f"a_site_with_a_rather_long_name_{number:03d}.jsonl.gz", VastRows(10**9)) for number in range(290)
    ]
    stream = mixture(datasets, batch_size=1024, steps_per_group=8, datasets_per_group=2)
    drawn = [stream.draw() for _ in range(7)]
    assert all(drawn)
    before = json.dumps(mixture(datasets, batch_size=1024, steps_per_group=8, datasets_per_group=2).state())
    assert len(json.dumps(stream.state())) < len(before) + 200


def test_another_mixture_forgets_the_texts_of_the_group(caplog: pytest.LogCaptureFixture) -> None:
    first = in_groups()
    drawn(first, 13)
    with pytest.raises(UsageError, match="datasets_per_group was 2 and is None; steps_per_group was 8 and is None"):
        in_groups(steps_per_group=1).restore(first.state())
    for second in (in_groups(batch_size=4), in_groups(steps_per_group=1), in_groups(steps_per_group=3)):
        second.restore(first.state(), allow_changes=True)
        assert "another mixture" in caplog.text
        assert "group_start" not in second.state()
        assert [len(columns[0]) for columns, _ in drawn(second, 20)]
    plain, grouped = in_groups(steps_per_group=1), in_groups()
    drawn(plain, 13)
    grouped.restore(plain.state(), allow_changes=True)
    texts = [text for columns, _ in drawn(grouped, 3) for column in columns for text in column]
    assert len(set(texts)) == len(texts)
    assert "group_start" not in grouped.state(), "the group of step 8 ends at step 16 all the same"
    state = grouped.state()
    next(grouped)
    again = in_groups()
    again.restore(state)
    assert drawn(again, 1)


def test_a_group_that_was_begun_with_another_mixture_resumes() -> None:
    plain, grouped, again = in_groups(steps_per_group=1), in_groups(), in_groups()
    drawn(plain, 13)
    grouped.restore(plain.state(), allow_changes=True)
    drawn(grouped, 2)
    state = grouped.state()
    assert state["group_start"] == 13
    again.restore(state)
    assert drawn(again, 9) == drawn(grouped, 9)


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"seed": 3}, "seed was 2 and is 3"),
    ({"batch_size": 6}, "batch_size was 5 and is 6"),
    ({"datasets_per_batch": 2}, "datasets_per_batch was 1 and is 2"),
    ({"block_shuffle": BlockShuffle(2, 2)}, r"block_shuffle was None and is \[2, 2\]"),
]
DATASETS: list[tuple[list[Dataset], str]] = [
    ([Dataset("a", FakeRows(COLLIDING))], "the dataset b is gone"),
    ([Dataset("a", FakeRows(COLLIDING)), Dataset("c", different(21), weight=2)], "b is gone; the dataset c is new"),
    ([Dataset("b", different(21), weight=2), Dataset("a", FakeRows(COLLIDING))], "come in another order"),
    ([Dataset("a", FakeRows(COLLIDING)), Dataset("b", different(21), weight=3)], "weight of b was 2 and is 3"),
    (
        [Dataset("a", FakeRows(COLLIDING)), Dataset("b", different(21), weight=2, swap=True)],
        "swap of b was None and is True",
    ),
    (
        [Dataset("a", FakeRows(COLLIDING)), Dataset("b", different(21), weight=2, max_epochs=900)],
        "max_epochs of b was None and is 900",
    ),
    (
        [Dataset("a", FakeRows(COLLIDING, fingerprint="1" * 64)), Dataset("b", different(21), weight=2)],
        "the rows of a have changed",
    ),
]


@pytest.mark.parametrize(
    ("datasets", "options", "expected"),
    [(None, options, expected) for options, expected in CHANGES]
    + [(datasets, {}, expected) for datasets, expected in DATASETS],
)
def test_another_mixture_is_refused_or_continued_aloud(
    datasets: list[Dataset] | None, options: dict[str, Any], expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = mixture()
    drawn(first, 12)
    second = mixture(datasets, **options)
    fresh = second.state()
    with pytest.raises(UsageError, match=f"another mixture: .*{expected}.*allow changes"):
        second.restore(first.state())
    assert second.state() == fresh, "a refused state changes nothing"
    second.restore(first.state(), allow_changes=True)
    assert "rows of the present epoch may come twice" in caplog.text
    assert second.place.step == 12
    before = {one.name: cursor for one, cursor in zip(first.datasets, first.place.cursors, strict=True)}
    for dataset, cursor in zip(second.datasets, second.place.cursors, strict=True):
        assert cursor.position == (before[dataset.name].position if dataset.name in before else 0)
    drawn(second, 10)


def test_a_limit_may_be_raised_and_lowered() -> None:
    def limited(max_epochs: int) -> Mixture:
        return mixture([Dataset("a", different(12), max_epochs=max_epochs), Dataset("b", different(12, first=500))])

    first = limited(2)
    drawn(first, 40)
    assert first.place.cursors[0].run_out
    more = limited(9)
    more.restore(first.state(), allow_changes=True)
    assert ("a",) in [names for _, names in drawn(more, 10)]
    fewer = limited(1)
    fewer.restore(more.state(), allow_changes=True)
    assert {names for _, names in drawn(fewer, 40)} == {("b",)}
    assert fewer.place.cursors[0].run_out


def test_an_equal_mixture_goes_on_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    first, second = mixture(), mixture()
    drawn(first, 3)
    second.restore(first.state(), allow_changes=True)
    assert caplog.text == ""


@pytest.mark.parametrize("state", [{}, {"version": 2}, {"step": 3, "cursors": []}, None, [], {"version": "1"}])
def test_a_state_of_another_version_is_refused(state: Any) -> None:
    with pytest.raises(ArtifactError, match=r"of version .* and this pairloom reads version 1"):
        mixture().restore(state, allow_changes=True)


@pytest.mark.parametrize(
    "damage",
    [
        {"step": -1},
        {"step": "3"},
        {"step": 2**80},
        {"settings": 3},
        {"datasets": 3},
        {"datasets": [{}]},
        {"datasets": [{"name": "a"}, {"name": "a"}]},
        {"datasets": [{"name": "a", "position": 1.5}]},
        {"datasets": [{"name": "a", "position": 3, "waiting": [7]}]},
        {"datasets": [{"name": "a", "position": 9, "waiting": [2, 0]}]},
        {"datasets": [{"name": "a", "position": 9, "waiting": [2**61, 2**61, 2**61, 2**61, 2**61]}]},
        {"datasets": [{"name": "a", "position": 9, "waiting": 3}]},
        {"datasets": [{"name": ["a"]}]},
        {"group_start": 1},
        {"group_start": -1},
        {"group_start": "0"},
        {"datasets": [{"name": "a", "position": 3, "before_group": {"position": 4}}]},
        {"datasets": [{"name": "a", "position": 3, "before_group": 3}]},
        {"datasets": [{"name": "a", "position": 3, "before_group": {"position": 2, "waiting": [5]}}]},
    ],
)
def test_a_damaged_state_is_refused(damage: dict[str, Any]) -> None:
    stream = mixture()
    with pytest.raises(ArtifactError, match="the state of the mixture is damaged"):
        stream.restore({**stream.state(), **damage}, allow_changes=True)
