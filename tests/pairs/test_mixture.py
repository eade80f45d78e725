"""The stream of batches: every row once an epoch, no text twice in a batch, the same on any number of ranks."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from pairloom.errors import ArtifactError, InputError, UsageError
from pairloom.pairs.batch import Batch
from pairloom.pairs.dataset import Dataset, open_datasets
from pairloom.pairs.mixture import Mixture
from pairloom.pairs.order import BlockShuffle, RowOrder
from pairloom.pairs.shards import Shards
from pairloom.recipe import DatasetSection
from tests.conftest import make_pairs, make_shards
from tests.pairs.fakes import FakeRows, VastRows, different


def rows_of(batch: Batch) -> list[tuple[str, list[int]]]:
    return [(part.dataset.name, part.rows.tolist()) for part in batch.parts]


def test_an_epoch_holds_every_row_once() -> None:
    mixture = Mixture([Dataset("a", different(50))], batch_size=10, seed=3)
    epochs = [[row for batch in islice(mixture, 5) for row in batch.parts[0].rows.tolist()] for _ in range(2)]
    for rows in epochs:
        assert sorted(rows) == list(range(50))
    assert epochs[0] != epochs[1], "each epoch has an order of its own"


def test_the_texts_are_those_of_the_rows(tmp_path: Path) -> None:
    shards = Shards(make_shards(tmp_path / "a", make_pairs(50)))
    batch = next(Mixture([Dataset("a", shards)], batch_size=10, seed=3))
    pairs = list(shards)
    drawn = [(pairs[row].anchor, pairs[row].positive) for row in batch.parts[0].rows]
    assert list(zip(*batch.columns, strict=True)) == drawn
    swapped = next(Mixture([Dataset("a", shards, swap=True)], batch_size=10, seed=3))
    assert swapped.columns == batch.columns[::-1]


def one_by_one(
    texts: Sequence[Sequence[int]], order: RowOrder, size: int, steps_per_group: int
) -> Iterator[tuple[list[int], list[int], int]]:
    """What the mixture promises of a single dataset, in plain words: rows of each batch, positions waiting, left out."""
    position, waiting, left_out, taken = 0, list[int](), 0, set[int]()
    for step in itertools.count():
        if step % steps_per_group == 0:
            taken = set()
        rows, still_waiting = list[int](), list[int]()
        queue = waiting
        while len(rows) < size:
            if queue:
                candidate, queue = queue[0], queue[1:]
            else:
                candidate, position = position, position + 1
            row = int(order.rows(np.array([candidate]))[0])
            if len(set(texts[row])) < len(texts[row]):
                left_out += 1
            elif taken.isdisjoint(texts[row]):
                rows.append(row)
                taken |= set(texts[row])
            else:
                still_waiting.append(candidate)
        waiting = still_waiting + queue
        left_out += max(len(waiting) - (3 + steps_per_group) * size, 0)
        waiting = waiting[-(3 + steps_per_group) * size :]
        yield rows, waiting, left_out


@settings(max_examples=80, deadline=None)
@given(
    texts=st.integers(3, 80).flatmap(
        lambda largest: st.lists(st.tuples(st.integers(0, largest), st.integers(0, largest)), min_size=20, max_size=60)
    ),
    size=st.integers(1, 8),
    steps_per_group=st.sampled_from([1, 1, 2, 3, 5]),
    seed=st.integers(0, 99),
)
def test_it_equals_going_through_rows_one_by_one(
    texts: list[tuple[int, int]], size: int, steps_per_group: int, seed: int
) -> None:
    assume(size * steps_per_group <= len(texts))
    mixture = Mixture(
        [Dataset("a", FakeRows(texts))],
        batch_size=size,
        seed=seed,
        steps_per_group=steps_per_group,
        datasets_per_group=2,
    )
    expected = one_by_one(texts, RowOrder("a", len(texts), seed=seed), size, steps_per_group)
    for _ in range(25):
        try:
            batch = next(mixture)
        except InputError:
            return  # the oracle would go through the rows for ever
        rows, waiting, left_out = next(expected)
        assert batch.parts[0].rows.tolist() == rows
        cursor = batch.cursors[0]
        assert (cursor.waiting.tolist(), cursor.num_left_out) == (waiting, left_out)
        assert cursor.num_drawn == size * (batch.step + 1)


COLLIDING = [(number % 12, 100 + number) for number in range(36)] + [(103, 1000)]
# With enough texts for a group of batches.
COLLIDING_LESS = [(number % 40, 100 + number) for number in range(96)] + [(103, 1000)]


@settings(max_examples=15, deadline=None)
@given(
    stops=st.lists(st.integers(0, 50), max_size=4),
    world_sizes=st.lists(st.integers(1, 5), min_size=5, max_size=5),
    together=st.integers(1, 2),
    group=st.sampled_from([(1, 1), (3, 1), (4, 2), (5, 3)]),
    blocks=st.none() | st.just(BlockShuffle(5, 3)),
)
def test_each_row_once_an_epoch_whoever_stops_and_however_many_ranks(
    stops: list[int], world_sizes: list[int], together: int, group: tuple[int, int], blocks: BlockShuffle | None
) -> None:
    datasets = [
        Dataset("a", FakeRows(COLLIDING if group == (1, 1) else COLLIDING_LESS)),
        Dataset("b", different(31, first=2000), weight=2),
    ]

    def start(rank: int, world_size: int) -> Mixture:
        return Mixture(
            datasets,
            batch_size=6,
            seed=1,
            datasets_per_batch=together,
            steps_per_group=group[0],
            datasets_per_group=group[1],
            block_shuffle=blocks,
            rank=rank,
            world_size=world_size,
        )

    unbroken = start(0, 1)
    expected = list(islice(unbroken, 50))
    state, batches = start(0, 1).state(), list[Batch]()
    for stop, world_size in zip([*sorted(stops), 50], world_sizes, strict=False):
        ranks = [start(rank, world_size) for rank in range(world_size)]
        for mixture in ranks:
            mixture.restore(state)
        for shares in zip(*(islice(rank, stop - len(batches)) for rank in ranks), strict=True):
            batch = shares[0]
            assert all(rows_of(share) == rows_of(batch) for share in shares)
            assert [(share.begin, share.end) for share in shares] == [
                (batch.num_pairs * rank // world_size, batch.num_pairs * (rank + 1) // world_size)
                for rank in range(world_size)
            ]
            columns = [[text for share in shares for text in share.columns[column]] for column in (0, 1)]
            assert tuple(columns) == expected[len(batches)].columns
            texts = columns[0] + columns[1]
            assert len(set(texts)) == len(texts) == 12
            batches.append(batch)
        states = [mixture.state() for mixture in ranks]
        assert all(other == states[0] for other in states), "each rank could write the checkpoint"
        state = states[0]
    assert [rows_of(batch) for batch in batches] == [rows_of(batch) for batch in expected]
    for start_of_group in range(0, 50, group[0]):
        together_drawn = expected[start_of_group : start_of_group + group[0]]
        texts = [text for batch in together_drawn for column in batch.columns for text in column]
        assert len(set(texts)) == len(texts) == 12 * len(together_drawn)
    for number, dataset in enumerate(datasets):
        cursor = unbroken.place.cursors[number]
        assert cursor.num_left_out == 0
        order = RowOrder(dataset.name, len(dataset), seed=1, blocks=blocks)
        passed = np.setdiff1d(np.arange(cursor.position), cursor.waiting)
        drawn = [row for batch in batches for name, rows in rows_of(batch) if name == dataset.name for row in rows]
        assert Counter(drawn) == Counter(order.rows(passed).tolist()), "each row of the stream but those that wait"


def test_ranks_read_the_texts_of_their_share_only() -> None:
    sources = [different(40), different(40)]
    for rank, source in enumerate(sources):
        mixture = Mixture([Dataset("a", source)], batch_size=10, seed=0, rank=rank, world_size=2)
        batches = list(islice(mixture, 3))
        assert source.rows_taken == [row for batch in batches for row in batch.parts[0].rows[batch.begin : batch.end]]
    assert not set(sources[0].rows_taken) & set(sources[1].rows_taken)
    assert [len(source.rows_taken) for source in sources] == [15, 15]


def test_a_share_knows_what_belongs_to_which_dataset() -> None:
    datasets = [Dataset(name, different(40, first=100 * number)) for number, name in enumerate("abc")]
    whole = next(Mixture(datasets, batch_size=10, seed=0, datasets_per_batch=3))
    found = []
    for rank in range(4):
        mixture = Mixture(datasets, batch_size=10, seed=0, datasets_per_batch=3, rank=rank, world_size=4)
        batch = next(mixture)
        assert [where for _, where in batch.own_parts()][-1].stop == len(batch.columns[0])
        for part, where in batch.own_parts():
            assert part.dataset.rows.take(part.rows).columns[0] == batch.columns[0][where]
            found += [(part.dataset.name, row) for row in part.rows.tolist()]
    assert found == [(name, row) for name, rows in rows_of(whole) for row in rows]
    assert [len(part.rows) for part in whole.parts] == [4, 3, 3]


def test_pairs_and_triplets_never_share_a_batch() -> None:
    datasets = [Dataset(f"{number}", different(40, first=500 * number, columns=2 + number % 2)) for number in range(4)]
    seen = set()
    for batch in islice(Mixture(datasets, batch_size=10, seed=0, datasets_per_batch=4), 40):
        formats = {len(part.dataset.rows.columns) for part in batch.parts}
        assert formats == {len(batch.columns)}
        assert len(batch.parts) == 2, "all there are of a format"
        seen |= formats
    assert seen == {2, 3}


def test_triplets_and_past_contexts_never_share_a_batch() -> None:
    datasets = [
        Dataset(f"{number}", different(40, first=500 * number, columns=3, contexts=number % 2 == 0), max_epochs=3)
        for number in range(4)
    ]
    batches = list(Mixture(datasets, batch_size=10, seed=0, datasets_per_batch=4))
    for batch in batches:
        assert {part.dataset.has_context for part in batch.parts} == {batch.has_context}
    assert {batch.has_context for batch in batches} == {True, False}


def test_a_text_of_two_datasets_comes_once_in_a_batch() -> None:
    datasets = [Dataset("a", different(30)), Dataset("b", different(30))]
    mixture = Mixture(datasets, batch_size=12, seed=0, datasets_per_batch=2)
    drawn: Counter[tuple[str, int]] = Counter()
    for batch in islice(mixture, 200):
        texts = [text for column in batch.columns for text in column]
        assert len(set(texts)) == len(texts)
        drawn.update((name, row) for name, rows in rows_of(batch) for row in rows)
    assert len(drawn) == 60
    assert max(drawn.values()) - min(drawn.values()) <= 2


def test_weights_are_shares() -> None:
    datasets = [Dataset(name, different(20), weight=weight) for name, weight in (("a", 1.0), ("b", 3.0))]
    counts = Counter(batch.names for batch in islice(Mixture(datasets, batch_size=2, seed=1), 2000))
    assert stats.binomtest(counts[("b",)], 2000, 0.75).pvalue > 1e-3


def test_a_dataset_beside_it_changes_nothing_within() -> None:
    one = Mixture([Dataset("a", different(50))], batch_size=5, seed=3)
    alone = [rows for batch in islice(one, 20) for rows in rows_of(batch)]
    two = Mixture([Dataset("b", different(50)), Dataset("a", different(50))], batch_size=5, seed=3)
    beside = [rows for batch in islice(two, 60) for rows in rows_of(batch) if rows[0] == "a"]
    assert beside[:20] == alone[: len(beside)]


def test_batch_sizes_of_their_own() -> None:
    datasets = [Dataset("a", different(50)), Dataset("b", different(50), batch_size=4)]
    for batch in islice(Mixture(datasets, batch_size=10, seed=0), 20):
        assert batch.num_pairs == (4 if batch.names == ("b",) else 10)


def test_limits_of_epochs_end_the_stream() -> None:
    datasets = [Dataset("a", different(25), max_epochs=2), Dataset("b", different(30), max_epochs=1)]
    mixture = Mixture(datasets, batch_size=10, seed=0)
    batches = list(mixture)
    assert Counter(batch.names for batch in batches) == {("a",): 5, ("b",): 3}
    drawn = Counter(row for batch in batches if batch.names == ("a",) for row in rows_of(batch)[0][1])
    assert drawn == dict.fromkeys(range(25), 2)
    assert list(mixture) == [], "and it stays at its end"
    assert mixture.count(100).steps == 8
    assert mixture.place.num_left_out == 0


def test_what_does_not_fill_a_last_batch_is_counted() -> None:
    datasets = [Dataset("a", different(25), max_epochs=1), Dataset("b", different(30))]
    mixture = Mixture(datasets, batch_size=10, seed=0)
    batches = list(islice(mixture, 30))
    assert sum(batch.names == ("a",) for batch in batches) == 2
    place = mixture.place
    assert place.cursors[0].run_out
    assert (place.cursors[0].num_left_out, place.cursors[0].num_drawn) == (5, 20)
    mixture.restore(mixture.state())
    assert all(batch.names == ("b",) for batch in islice(mixture, 10))


def test_seek_finds_the_datasets_and_rows_of_the_step() -> None:
    def start() -> Mixture:
        datasets = [
            Dataset("a", different(25)),
            Dataset("b", different(30), weight=2, max_epochs=3),
            Dataset("c", different(90), weight=0.5),
        ]
        return Mixture(datasets, batch_size=10, seed=0, datasets_per_batch=2)

    # Without a common text (in a batch), seeking is exact.
    datasets = [Dataset(name, different(30 + number, first=1000 * number)) for number, name in enumerate("abc")]
    unbroken = list(islice(Mixture(datasets, batch_size=10, seed=0, datasets_per_batch=2), 60))
    for step in (0, 1, 30, 59):
        mixture = Mixture(datasets, batch_size=10, seed=0, datasets_per_batch=2)
        mixture.seek(step)
        assert mixture.place.step == step
        waiting = unbroken[step - 1].cursors.values() if step else []
        if not any(len(cursor.waiting) for cursor in waiting):
            assert rows_of(next(mixture)) == rows_of(unbroken[step])
    # With them, the datasets are still those of the step.
    names = [batch.names for batch in islice(start(), 12)]
    mixture = start()
    mixture.seek(8)
    assert [batch.names for batch in islice(mixture, 4)] == names[8:]


GROUPS: dict[str, Any] = {"steps_per_group": 8, "datasets_per_group": 2}


def test_a_row_whose_text_was_seen_in_the_group_comes_in_the_next() -> None:
    """Of each text there are two rows, and a group needs nearly all texts: nothing is lost, and all come as often."""
    datasets = [Dataset("a", FakeRows([(number % 45, 100 + number) for number in range(90)]))]
    mixture = Mixture(datasets, batch_size=5, seed=0, **GROUPS)
    drawn: Counter[int] = Counter()
    for _ in range(90):
        group = [row for batch in islice(mixture, 8) for row in batch.parts[0].rows.tolist()]
        assert len({row % 45 for row in group}) == 40
        drawn.update(group)
    assert mixture.place.num_left_out == 0
    assert max(drawn.values()) - min(drawn.values()) <= 2
    assert len(drawn) == 90


@pytest.mark.parametrize("turns", [1, 2])
def test_a_dataset_as_large_as_a_group_loses_nothing_when_its_epochs_end_within(turns: int) -> None:
    datasets = [Dataset("a", different(40)), Dataset("b", different(60, first=500), weight=2)]
    mixture = Mixture(datasets, batch_size=5, seed=0, steps_per_group=8, datasets_per_group=turns)
    drawn: Counter[tuple[str, int]] = Counter()
    for batch in islice(mixture, 800):
        drawn.update((name, row) for name, rows in rows_of(batch) for row in rows)
    assert mixture.place.num_left_out == 0
    for name, count in (("a", 40), ("b", 60)):
        counts = [drawn[name, row] for row in range(count)]
        assert max(counts) - min(counts) <= 2


def test_a_text_of_two_datasets_comes_once_in_a_group() -> None:
    datasets = [Dataset("a", different(100)), Dataset("b", different(100))]
    mixture = Mixture(datasets, batch_size=6, seed=0, **GROUPS)
    shared = 0
    for _ in range(60):
        batches = list(islice(mixture, 8))
        texts = [text for batch in batches for column in batch.columns for text in column]
        assert len(set(texts)) == len(texts)
        assert [batch.names for batch in batches] == [batches[0].names] * 4 + [batches[4].names] * 4
        shared += batches[0].names != batches[4].names
    assert 10 < shared < 50


@pytest.mark.parametrize("stop", range(9))
def test_a_place_within_a_group_is_all_that_is_needed(stop: int) -> None:
    def start() -> Mixture:
        datasets = [Dataset("a", FakeRows(COLLIDING_LESS)), Dataset("b", FakeRows(COLLIDING_LESS), weight=2)]
        return Mixture(datasets, batch_size=3, seed=1, **GROUPS)

    expected = [rows_of(batch) for batch in islice(start(), 40)]
    mixture = start()
    place = mixture.place
    for batch in islice(mixture, 8 + stop):
        place.advance(batch.step, batch.cursors)
    state = json.loads(json.dumps(place.state()))
    assert state == mixture.state()
    for other in (mixture.copy(), mixture.copy(place), start().copy(place)):
        assert [rows_of(batch) for batch in islice(other, 32 - stop)] == expected[8 + stop :]
    restored = start()
    restored.restore(state)
    assert restored.state() == state
    assert [rows_of(batch) for batch in islice(restored, 32 - stop)] == expected[8 + stop :]
    assert [rows_of(batch) for batch in islice(mixture, 32 - stop)] == expected[8 + stop :], "it stayed where it was"


def test_seeking_into_a_group_finds_its_texts_too() -> None:
    def start() -> Mixture:
        return Mixture([Dataset("a", different(45)), Dataset("b", different(90))], batch_size=5, seed=3, **GROUPS)

    names = [batch.names for batch in islice(start(), 64)]
    for step in (0, 3, 8, 21, 47):
        mixture = start()
        mixture.seek(step)
        assert mixture.place.step == step
        begun = start()
        begun.seek(step - step % 8)
        group = [*islice(begun, step % 8), *islice(mixture, 8 - step % 8)]
        assert [batch.names for batch in group] == names[step - step % 8 :][:8]
        texts = [text for batch in group for column in batch.columns for text in column]
        assert len(set(texts)) == len(texts)
    # Where no text comes twice, seeking is exact.
    vast = [Mixture([Dataset("a", VastRows(10**6))], batch_size=5, seed=3, **GROUPS) for _ in range(2)]
    vast[1].seek(21)
    assert rows_of(next(vast[1])) == rows_of(next(islice(vast[0], 21, None)))


@pytest.mark.parametrize("seed", range(3))
def test_a_dataset_that_runs_out_within_a_group_is_passed_over_and_the_rest_resumes(seed: int) -> None:
    def start() -> Mixture:
        datasets = [
            Dataset("a", different(35), max_epochs=1),
            Dataset("b", different(35, first=500), max_epochs=2),
            Dataset("c", different(35, first=1000, columns=3), max_epochs=1),
        ]
        return Mixture(datasets, batch_size=4, seed=seed, **GROUPS)

    whole = list(start())
    counts = Counter(batch.names[0] for batch in whole)
    assert counts == {"a": 8, "b": 17, "c": 8}
    assert start().count(100).steps == len(whole) == 33
    for stop in range(len(whole)):
        first, second = start(), start()
        list(islice(first, stop))
        second.restore(json.loads(json.dumps(first.state())))
        assert [rows_of(batch) for batch in second] == [rows_of(batch) for batch in whole[stop:]]


def test_a_billion_rows_cost_nothing() -> None:
    datasets = [Dataset(f"{number}", VastRows(10**9 + number), weight=number + 1.0) for number in range(3)]
    mixture = Mixture(datasets, batch_size=100, seed=0)
    batches = list(islice(mixture, 50))
    assert all(max(part.rows.max() for part in batch.parts) > 10**8 for batch in batches)
    mixture.seek(10**5)
    assert mixture.place.step == 10**5
    assert next(mixture).num_pairs == 100
    assert sum(cursor.position for cursor in mixture.place.cursors) == (10**5 + 1) * 100


def test_a_frequent_text_neither_stops_the_run_nor_piles_up() -> None:
    """A fifth of the rows share their anchor: at most one of them fits into a batch, and the others must not wait for ever."""
    rows = [(0 if number % 5 == 0 else 1000 + number, 5000 + number) for number in range(400)]
    mixture = Mixture([Dataset("a", FakeRows(rows))], batch_size=16, seed=0)
    drawn: Counter[int] = Counter()
    for batch in islice(mixture, 600):
        drawn.update(batch.parts[0].rows.tolist())
        assert len(batch.cursors[0].waiting) <= 4 * 16
    others = [drawn[row] for row in range(400) if row % 5]
    assert max(others) - min(others) <= 2, "rows without the text come once an epoch"
    assert sum(drawn[row] for row in range(0, 400, 5)) == 600, "and of those with it one in each batch"
    place = mixture.place
    assert place.cursors[0].num_left_out == place.num_left_out > 0
    assert place.cursors[0].num_drawn == sum(drawn.values()) == 600 * 16


def test_rows_that_repeat_themselves_are_left_out_at_once() -> None:
    mixture = Mixture([Dataset("a", FakeRows([(n, n if n < 5 else 100 + n) for n in range(30)]))], batch_size=5, seed=0)
    drawn = Counter(row for batch in islice(mixture, 10) for row in batch.parts[0].rows.tolist())
    assert drawn == dict.fromkeys(range(5, 30), 2)
    assert mixture.place.num_left_out in range(5, 11)
    assert len(mixture.place.cursors[0].waiting) == 0


@pytest.mark.parametrize("max_epochs", [None, 1, 9])
def test_too_few_different_texts_are_named_after_an_epoch(max_epochs: int | None) -> None:
    dataset = Dataset("poor", FakeRows([(1, 100 + number) for number in range(9)]), max_epochs=max_epochs)
    with pytest.raises(InputError, match=r"^poor: has too few different texts for a batch of 2 .* of 9 rows only 1"):
        next(Mixture([Dataset("rich", different(20), weight=1e-9), dataset], batch_size=2, seed=0))


def test_too_few_different_texts_for_a_group_are_named() -> None:
    dataset = Dataset("poor", FakeRows([(number % 7, 100 + number) for number in range(20)]))
    mixture = Mixture([dataset], batch_size=5, seed=0, steps_per_group=4)
    next(mixture)
    with pytest.raises(
        InputError, match=r"poor: has too few .* only 2 had none that another of them, or what was drawn"
    ):
        next(mixture)


def test_too_few_different_texts_of_very_many_rows_are_named_soon() -> None:
    class Same(VastRows):
        looked_at = 0

        def hashes(
            self, rows: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
        ) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
            self.looked_at += len(rows)
            return super().hashes(rows % 10)

    source = Same(10**9)
    with pytest.raises(InputError, match="a: has too few different texts for a batch of 16"):
        next(Mixture([Dataset("a", source)], batch_size=16, seed=0))
    assert source.looked_at < 100_000


def test_every_row_may_be_needed_for_a_batch() -> None:
    """As many rows as a batch has, all different: wherever an epoch ends, the next batch can be filled."""
    mixture = Mixture(
        [Dataset("a", different(7)), Dataset("b", different(7, first=100))], batch_size=14, seed=0, datasets_per_batch=2
    )
    for batch in islice(mixture, 20):
        assert all(sorted(rows) == list(range(7)) for _, rows in rows_of(batch))


@pytest.mark.parametrize(
    ("dataset", "options", "expected"),
    [
        (Dataset("small", different(9)), {}, r"^small: has 9 pairs, too few for a batch of 10; lower its batch size"),
        (Dataset("own", different(9), batch_size=12), {}, "own: has 9 pairs, too few for a batch of 12"),
        (
            Dataset("few", different(90), num_distinct={"anchor": 90, "positive": 8}),
            {},
            "few: has 8 different texts in its column positive, too few for 10 in a batch",
        ),
        (Dataset("small", different(4)), {"datasets_per_batch": 2}, "small: has 4 pairs, too few for its part .* 5"),
        (
            Dataset("small", different(29)),
            {"steps_per_group": 3},
            "small: has 29 pairs, too few for a group of 3 steps of 10; lower its batch size or steps_per_group, or leave",
        ),
        (
            Dataset("few", different(90), num_distinct={"anchor": 90, "positive": 29}),
            {"steps_per_group": 3, "datasets_per_group": 2},
            "few: has 29 different texts in its column positive, too few for 30 in a group of 3 steps without",
        ),
    ],
)
def test_datasets_that_cannot_fill_a_batch_or_group_fail_at_the_start(
    dataset: Dataset, options: dict[str, int], expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        Mixture([Dataset("large", different(100)), dataset], batch_size=10, seed=0, **options)  # type: ignore[arg-type]


def test_a_part_grows_when_others_run_out() -> None:
    small = Dataset("small", different(7))
    with pytest.raises(InputError, match="small: has 7 pairs, too few for a batch of 14"):
        Mixture([small, Dataset("b", different(9), max_epochs=1)], batch_size=14, seed=0, datasets_per_batch=2)
    Mixture([small, Dataset("b", different(9))], batch_size=14, seed=0, datasets_per_batch=2)


def test_a_part_may_be_smaller_than_a_batch() -> None:
    datasets = [Dataset("a", different(5)), Dataset("b", different(9, first=50))]
    assert next(Mixture(datasets, batch_size=10, seed=0, datasets_per_batch=2)).num_pairs == 10


def test_what_is_no_mixture() -> None:
    a = Dataset("a", different(20))
    with pytest.raises(UsageError, match="no dataset"):
        Mixture([], batch_size=2, seed=0)
    with pytest.raises(UsageError, match="two datasets are called a; give one"):
        Mixture([a, a], batch_size=2, seed=0)
    with pytest.raises(UsageError, match="rank must be in"):
        Mixture([a], batch_size=2, seed=0, rank=2, world_size=2)
    with pytest.raises(UsageError, match="a: a batch of 2 cannot be shared by 3 ranks"):
        Mixture([a], batch_size=2, seed=0, world_size=3)
    with pytest.raises(UsageError, match="must be at least 1"):
        Mixture([a], batch_size=0, seed=0)
    with pytest.raises(UsageError, match="steps_per_group and datasets_per_group must be at least 1"):
        Mixture([a], batch_size=2, seed=0, steps_per_group=0)
    with pytest.raises(UsageError, match="steps_per_group and datasets_per_group must be at least 1"):
        Mixture([a], batch_size=2, seed=0, datasets_per_group=0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"weight": 0}, "a: its weight is 0; give a number above zero"),
        ({"weight": -1.5}, "a: its weight is -1.5"),
        ({"weight": float("nan")}, "a: its weight is nan"),
        ({"weight": float("inf")}, "a: its weight is inf"),
        ({"weight": None}, "a: its weight is None, not a number"),
        ({"weight": "3"}, "a: its weight is '3', not a number"),
        ({"max_epochs": 0}, "a: max_epochs is 0, but must be at least 1"),
        ({"batch_size": 0}, "a: batch_size is 0"),
        ({"name": ""}, "a dataset has no name"),
        ({"rows": FakeRows([[1]])}, "a: has 1 columns; pairs have two and triplets three"),
        ({"rows": different(3, columns=3, contexts=True), "swap": True}, "a: swap is for pairs and triplets"),
    ],
)
def test_what_is_no_dataset(options: dict[str, object], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        Dataset(**{"name": "a", "rows": different(3), **options})  # type: ignore[arg-type]


def test_datasets_are_opened_as_the_recipe_says(tmp_path: Path) -> None:
    make_shards(tmp_path / "shop", make_pairs(20))
    (plain,) = open_datasets([DatasetSection(shards=tmp_path / "shop")])
    assert (plain.name, len(plain), plain.weight, plain.num_distinct) == ("shop", 20, 1.0, {})
    section = DatasetSection(
        shards=tmp_path / "shop", name="b", weight=2.5, max_epochs=3, swap=True, anchor_prompt="q: ", batch_size=4
    )
    (other,) = open_datasets([section])
    assert (other.name, other.weight, other.max_epochs, other.swap) == ("b", 2.5, 3, True)
    assert (other.anchor_prompt, other.positive_prompt, other.batch_size) == ("q: ", "", 4)
    with pytest.raises(ArtifactError, match="no such folder"):
        open_datasets([DatasetSection(shards=tmp_path / "nothing")])


def test_drawing_reads_no_text_and_reading_comes_later() -> None:
    rows = different(12)
    source = Mixture([Dataset("a", rows)], batch_size=4, seed=1)
    drawn = [source.draw() for _ in range(3)]
    assert rows.rows_taken == []
    whole = list(islice(Mixture([Dataset("a", different(12))], batch_size=4, seed=1), 3))
    for batch, expected in zip(drawn, whole, strict=True):
        assert batch is not None
        assert (batch.columns, rows_of(batch), batch.step) == ((), rows_of(expected), expected.step)
        assert source.read(batch).columns == expected.columns
    ends = Mixture([Dataset("a", different(12), max_epochs=1)], batch_size=4, seed=1)
    assert [batch and batch.step for batch in (ends.draw() for _ in range(5))] == [0, 1, 2, None, None]


def test_a_copy_goes_its_own_way() -> None:
    source = Mixture([Dataset("a", different(12))], batch_size=4, seed=1)
    begin = source.place
    first = next(source)
    twin = source.copy()
    assert [batch.step for batch in islice(twin, 2)] == [1, 2]
    assert source.place.step == 1
    assert rows_of(next(source.copy(begin))) == rows_of(first)
    assert (begin.step, source.place.step) == (0, 1)


def test_a_batch_whose_texts_cannot_be_read_has_not_been_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = different(12)
    source = Mixture([Dataset("a", rows)], batch_size=4, seed=1)

    def broken(_: object) -> None:
        raise ArtifactError("damaged")

    with monkeypatch.context() as patch:
        patch.setattr(rows, "take", broken)
        with pytest.raises(ArtifactError):
            next(source)
    assert next(source).step == 0
