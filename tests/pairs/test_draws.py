"""Which datasets a step draws from."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pairloom.pairs.draws import Draws, part_sizes

EVERY = np.ones(4, dtype=np.bool_)
WEIGHTS = [1.0, 2.0, 3.0, 4.0]


def test_the_draws_never_change() -> None:
    draws = Draws(WEIGHTS, [2, 2, 3, 2], seed=1, datasets_per_batch=2)
    assert draws.choose(np.arange(6), EVERY).tolist() == [[1, 3], [3, 1], [3, 1], [2, -1], [2, -1], [1, 3]]


def test_the_draws_of_groups_never_change() -> None:
    draws = Draws(WEIGHTS, [2, 2, 3, 2], seed=1, steps_per_group=4, datasets_per_group=2)
    assert draws.choose(np.arange(16), EVERY)[:, 0].tolist() == [1, 1, 3, 3, 3, 3, 1, 1, 2, 2, 2, 2, 1, 1, 1, 1]


def test_groups_of_one_step_are_none() -> None:
    options: dict[str, Any] = {"seed": 1, "datasets_per_batch": 2}
    plain = Draws(WEIGHTS, [2, 2, 3, 2], **options).choose(np.arange(500), EVERY)
    for turns in (1, 2):
        draws = Draws(WEIGHTS, [2, 2, 3, 2], steps_per_group=1, datasets_per_group=turns, **options)
        assert draws.choose(np.arange(500), EVERY).tolist() == plain.tolist()


@pytest.mark.parametrize(
    ("steps", "turns", "lengths"),
    [(8, 2, [4, 4]), (8, 3, [3, 3, 2]), (5, 2, [3, 2]), (4, 1, [4]), (3, 9, [1, 1, 1])],
)
def test_the_draws_of_a_group_take_turns_for_as_many_steps(steps: int, turns: int, lengths: list[int]) -> None:
    """With so many datasets that two draws in succession hardly ever find the same."""
    draws = Draws([1.0] * 5000, [2] * 5000, seed=0, steps_per_group=steps, datasets_per_group=turns)
    chosen = draws.choose(np.arange(20 * steps), np.ones(5000, dtype=np.bool_))[:, 0]
    for group in chosen.reshape(20, steps).tolist():
        assert [len(list(run)) for _, run in itertools.groupby(group)] == lengths


def test_a_group_has_one_format_and_shares_are_still_weights() -> None:
    num_columns = np.array([2, 3, 3, 2])
    groups = 40_000
    draws = Draws(WEIGHTS, num_columns.tolist(), seed=0, steps_per_group=8, datasets_per_group=2)
    chosen = draws.choose(np.arange(8 * groups), EVERY)[:, 0].reshape(groups, 8)
    assert (chosen == np.repeat(chosen[:, [0, 4]], 4, axis=1)).all()
    first, second = chosen[:, 0], chosen[:, 4]
    assert (num_columns[first] == num_columns[second]).all()
    for turn in (first, second):
        assert stats.chisquare(np.bincount(turn), groups * np.array(WEIGHTS) / 10).pvalue > 1e-4
    pairs = np.bincount(4 * first + second, minlength=16).reshape(4, 4)
    alike = num_columns[:, None] == num_columns
    # Both formats have half of the weights: a second draw that finds the first's dataset again is as likely as any.
    shares = np.where(alike, np.outer(WEIGHTS, WEIGHTS) / 50, 0)
    assert stats.chisquare(pairs[alike], groups * shares[alike]).pvalue > 1e-4


def test_the_only_dataset_takes_all_turns() -> None:
    draws = Draws([3.0, 1.0], [2, 3], seed=4, steps_per_group=4, datasets_per_group=2)
    chosen = draws.choose(np.arange(400), np.ones(2, dtype=np.bool_))[:, 0].reshape(100, 4)
    assert (chosen == chosen[:, :1]).all()
    assert set(chosen.ravel().tolist()) == {0, 1}


def test_what_shares_a_batch_stays_for_the_turn() -> None:
    draws = Draws([1.0] * 6, [2, 2, 2, 3, 3, 3], seed=0, datasets_per_batch=2, steps_per_group=6, datasets_per_group=2)
    chosen = draws.choose(np.arange(600), np.ones(6, dtype=np.bool_)).reshape(100, 2, 3, 2)
    assert (chosen == chosen[:, :, :1]).all()
    assert (chosen[..., 0] != chosen[..., 1]).all()
    assert ((chosen < 3).all(axis=(1, 2, 3)) | (chosen >= 3).all(axis=(1, 2, 3))).all()


def test_who_has_run_out_is_passed_over_in_groups_too() -> None:
    draws = Draws(WEIGHTS, [2] * 4, seed=5, steps_per_group=8, datasets_per_group=2)
    before = draws.choose(np.arange(80_000), EVERY)[:, 0]
    after = draws.choose(np.arange(80_000), np.array([True, True, True, False]))[:, 0]
    assert 3 not in after
    assert (after[before != 3] == before[before != 3]).all()
    replaced = np.bincount(after[::4][before[::4] == 3], minlength=3)
    assert stats.chisquare(replaced, replaced.sum() * np.array([1, 2, 3]) / 6).pvalue > 1e-4


def test_a_group_follows_what_is_drawn_in_the_place_of_its_first_dataset() -> None:
    draws = Draws([1.0, 1.0, 1.0], [2, 3, 3], seed=0, steps_per_group=4, datasets_per_group=2)
    chosen = draws.choose(np.arange(400), np.array([False, True, True]))[:, 0]
    assert set(chosen.tolist()) == {1, 2}


def test_shares_are_weights() -> None:
    steps = 100_000
    chosen = Draws(WEIGHTS, [2] * 4, seed=0).choose(np.arange(steps), EVERY)[:, 0]
    expected = steps * np.array(WEIGHTS) / 10
    assert stats.chisquare(np.bincount(chosen), expected).pvalue > 1e-4
    pairs = np.bincount(4 * chosen[:-1] + chosen[1:], minlength=16)
    shares = np.outer(WEIGHTS, WEIGHTS).ravel() / 100
    assert stats.chisquare(pairs, (steps - 1) * shares).pvalue > 1e-4, "a step does not depend on the one before"


def test_several_are_drawn_like_slips_from_a_hat() -> None:
    steps = 50_000
    chosen = Draws(WEIGHTS, [2] * 4, seed=0, datasets_per_batch=3).choose(np.arange(steps), EVERY)
    counts, expected = [], []
    for first in range(4):
        for second in set(range(4)) - {first}:
            for third in set(range(4)) - {first, second}:
                counts.append((chosen == [first, second, third]).all(axis=1).sum())
                left = 10 - WEIGHTS[first]
                share = WEIGHTS[first] / 10 * WEIGHTS[second] / left * WEIGHTS[third] / (left - WEIGHTS[second])
                expected.append(steps * share)
    assert sum(counts) == steps
    assert stats.chisquare(counts, expected).pvalue > 1e-4


def test_pairs_and_triplets_are_apart_and_too_few_are_all() -> None:
    num_columns = np.array([2, 3, 2, 3, 3])
    draws = Draws([1.0] * 5, num_columns.tolist(), seed=0, datasets_per_batch=3)
    chosen = draws.choose(np.arange(500), np.ones(5, dtype=np.bool_))
    for row in chosen.tolist():
        present = [number for number in row if number >= 0]
        assert len({num_columns[number] for number in present}) == 1
        assert len(set(present)) == len(present) == (2 if num_columns[present[0]] == 2 else 3)


def test_who_has_run_out_is_passed_over_and_the_others_stay() -> None:
    draws = Draws(WEIGHTS, [2] * 4, seed=5)
    before = draws.choose(np.arange(1000), EVERY)[:, 0]
    after = draws.choose(np.arange(1000), np.array([True, True, True, False]))[:, 0]
    assert 3 not in after
    assert (after[before != 3] == before[before != 3]).all()
    replaced = np.bincount(after[before == 3], minlength=3)
    assert stats.chisquare(replaced, replaced.sum() * np.array([1, 2, 3]) / 6).pvalue > 1e-4


def test_very_uneven_weights() -> None:
    draws = Draws([1e12, 1e-12, 5e-324], [2] * 3, seed=0, datasets_per_batch=3)
    chosen = draws.choose(np.arange(100), np.ones(3, dtype=np.bool_))
    assert (np.sort(chosen, axis=1) == [0, 1, 2]).all()
    assert (chosen[:, 0] == 0).all()


def test_parts_are_as_equal_as_possible() -> None:
    sizes = part_sizes(np.array([[0, 1, 2], [2, 0, -1], [1, -1, -1]]), np.array([10, 10, 7]))
    assert sizes.tolist() == [[4, 3, 2], [4, 5, 0], [10, 0, 0]]


@settings(max_examples=60, deadline=None)
@given(
    steps=st.integers(0, 3000),
    limits=st.lists(st.none() | st.integers(0, 4000), min_size=1, max_size=5),
    together=st.integers(1, 3),
    group=st.sampled_from([(1, 1), (8, 2), (5, 3), (7, 1)]),
    seed=st.integers(0, 2**40),
)
def test_counting_equals_drawing_one_by_one(
    steps: int, limits: list[int | None], together: int, group: tuple[int, int], seed: int
) -> None:
    weights = [number + 1.0 for number in range(len(limits))]
    num_columns = [2 + number % 2 for number in range(len(limits))]
    sizes = [8 + number for number in range(len(limits))]
    draws = Draws(
        weights,
        num_columns,
        seed=seed,
        datasets_per_batch=min(together, len(limits)),
        steps_per_group=group[0],
        datasets_per_group=group[1],
    )
    counted = draws.count(steps, sizes, limits)
    assert (counted.steps, counted.batches.tolist(), counted.rows.tolist(), counted.run_out.tolist()) == one_by_one(
        draws, steps, sizes, limits
    )


def one_by_one(
    draws: Draws, steps: int, sizes: Sequence[int], limits: Sequence[int | None]
) -> tuple[int, list[int], list[int], list[bool]]:
    batches, rows, run_out = [0] * len(sizes), [0] * len(sizes), [False] * len(sizes)
    for step in range(steps):
        while not all(run_out):
            chosen = draws.choose(np.array([step]), ~np.array(run_out))
            wanted = [
                (number, size)
                for number, size in zip(
                    chosen[0].tolist(), part_sizes(chosen, np.array(sizes))[0].tolist(), strict=True
                )
                if number >= 0
            ]
            over = [number for number, size in wanted if rows[number] + size > (limits[number] or 0)]
            over = [number for number in over if limits[number] is not None]
            if not over:
                break
            run_out[over[0]] = True
        if all(run_out):
            return step, batches, rows, run_out
        for number, size in wanted:
            batches[number] += 1
            rows[number] += size
    return steps, batches, rows, run_out


@pytest.mark.parametrize("together", [1, 3])
def test_counting_costs_no_memory_for_steps(together: int) -> None:
    """Shares of many steps are counted in pieces; the pieces fit together."""
    draws = Draws(WEIGHTS, [2] * 4, seed=2, datasets_per_batch=together)
    chosen = draws.choose(np.arange(100_000), EVERY)
    counted = draws.count(100_000, [60] * 4, [None] * 4)
    assert counted.batches.tolist() == np.bincount(chosen.ravel(), minlength=4).tolist()
    assert counted.rows.sum() == 100_000 * 60
