"""Which texts come next: their order, what is computed together, and that nothing is left behind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairloom.serve.waiting import Job, MicroBatch, Waiting, choose
from tests.serve.engines import ToldEngine, texts


def job(engine: ToldEngine, lengths: list[int], client: str = "a", *, skip_tokens: int = 0) -> Job:
    return Job(engine, texts(lengths), skip_tokens=skip_tokens, client=client, dimensions=4)


def waiting_with(*jobs: Job) -> Waiting:
    waiting = Waiting()
    for one in jobs:
        waiting.add(one)
    return waiting


def clients_of(batch: MicroBatch) -> list[str]:
    return [one.client for one, _ in batch.texts]


def is_empty(waiting: Waiting) -> bool:
    return not waiting and not any(vars(waiting).values()) and waiting.cost == 0


@given(
    st.dictionaries(st.integers(1, 40).map(lambda number: 8 * number), st.integers(1, 60), min_size=1),
    st.data(),
    st.integers(8, 600),
    st.integers(0, 64),
)
def test_what_is_chosen_waits_fits_and_is_hardly_padded(
    waiting: dict[int, int], data: st.DataObject, max_tokens: int, most_padding: int
) -> None:
    first = data.draw(st.sampled_from(sorted(waiting)))
    chosen = choose(first, waiting, max_tokens, most_padding=most_padding)
    assert next(iter(chosen)) == first
    assert all(1 <= count <= waiting[width] for width, count in chosen.items())
    rows, cost = sum(chosen.values()), sum(width * count for width, count in chosen.items())
    assert cost <= max_tokens or rows == 1
    assert rows * max(chosen) - cost <= most_padding


@pytest.mark.parametrize(
    ("waiting", "chosen"),
    [
        ({24: 40}, {24: 16}),  # 384 tokens
        ({24: 1}, {24: 1}),
        ({24: 2, 16: 2, 64: 5}, {24: 2, 16: 2}),
        ({24: 1, 32: 3, 8: 9}, {24: 1, 32: 3, 8: 1}),
        ({24: 4, 16: 9}, {24: 4, 16: 4}),  # padding of four is as much as is allowed
        ({24: 1, 400: 1}, {24: 1}),
    ],
)
def test_texts_of_like_length_come_together(waiting: dict[int, int], chosen: dict[int, int]) -> None:
    assert choose(24, waiting, 384, most_padding=32) == chosen


def test_a_text_that_is_longer_than_a_micro_batch_comes_alone() -> None:
    assert choose(512, {512: 3, 8: 2, 504: 1}, 384, most_padding=32) == {512: 1}


Operations = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("abcd"), st.integers(0, 2), st.lists(st.integers(1, 90), min_size=1, max_size=30)),
        st.integers(0, 40),  # a job to drop
        st.none(),  # take
    ),
    max_size=40,
)


@given(Operations)
def test_every_text_comes_once_unless_it_is_dropped_and_nothing_is_left(operations: list[object]) -> None:
    engines = ToldEngine(), ToldEngine(stream_tokens=64)
    waiting, jobs, dropped = Waiting(), list[Job](), set[Job]()
    taken = list[tuple[Job, int]]()

    def take() -> None:
        batch = waiting.take(num_free=2)
        keys = {one.key for one, _ in batch.texts}
        assert keys == {(batch.engine, batch.skip_tokens)}
        taken.extend(batch.texts)

    for operation in operations:
        if isinstance(operation, tuple):
            client, kind, lengths = operation
            jobs.append(job(engines[kind % 2], lengths, client, skip_tokens=kind // 2))
            waiting.add(jobs[-1])
        elif isinstance(operation, int) and operation < len(jobs):
            waiting.drop(jobs[operation])
            dropped.add(jobs[operation])
        elif operation is None and waiting:
            take()
        left = sum(width * len(rows) for one in jobs for width, rows in one.rows.items())
        assert waiting.cost == left
    while waiting:
        take()
    assert is_empty(waiting)
    assert len(taken) == len(set(taken))
    everything = {(one, row) for one in jobs if one not in dropped for row in range(len(one.tokens))}
    assert everything <= set(taken)


def test_a_micro_batch_has_the_tokens_of_its_texts_and_gives_vectors_back_to_them() -> None:
    engine = ToldEngine()
    jobs = [job(engine, [3, 8, 5], "a"), job(engine, [7], "b")]
    batch = waiting_with(*jobs).take()
    tokens = batch.tokens()
    assert sorted(tokens.lengths.tolist()) == [3, 5, 7, 8]
    places = np.cumsum(tokens.lengths)
    for (one, row), end, length in zip(batch.texts, places, tokens.lengths, strict=True):
        ids = np.split(one.tokens.ids, np.cumsum(one.tokens.lengths)[:-1])[row]
        np.testing.assert_array_equal(tokens.ids[end - length : end], ids)
    batch.scatter(np.repeat(tokens.lengths[:, None], 4, axis=1).astype(np.float32))
    for one in jobs:
        np.testing.assert_array_equal(one.vectors[:, 2], one.tokens.lengths)


def test_clients_take_turns_and_so_do_the_jobs_of_a_client() -> None:
    engine = ToldEngine()
    # So far apart that none is computed with another one.
    waiting = waiting_with(
        job(engine, [100] * 3, "huge"),
        job(engine, [60], "huge"),
        job(engine, [300], "b"),
        job(engine, [400], "c"),
    )
    order = list[tuple[str, int]]()
    while waiting:
        batch = waiting.take()
        one, row = batch.texts[0]
        order.append((one.client, int(one.tokens.lengths[row])))
    assert order[:4] == [("huge", 100), ("b", 300), ("c", 400), ("huge", 60)]
    assert order[4:] == [("huge", 100)] * 2


def test_company_comes_from_other_clients_first() -> None:
    engine = ToldEngine()
    waiting = waiting_with(
        job(engine, [16] * 500, "huge"), job(engine, [15], "b"), job(engine, [14], "c"), job(engine, [13] * 3, "d")
    )
    assert clients_of(waiting.take()) == ["huge", "b", "c", "d", "huge", "d", "huge", "d"]


def test_texts_longer_than_a_micro_batch_cost_as_many_turns() -> None:
    engine = ToldEngine(stream_tokens=128)
    waiting = waiting_with(job(engine, [512] * 3, "long"), job(engine, [16] * 8 * 20, "short"))
    leaders = [waiting.take().texts[0][0].client for _ in range(10)]
    assert leaders == ["long", *["short"] * 4, "long", *["short"] * 4]


def test_what_waits_is_shared_among_free_streams() -> None:
    engine = ToldEngine(stream_tokens=1024)
    waiting = waiting_with(job(engine, [16] * 32))
    assert [len(waiting.take(num_free=2).texts) for _ in range(2)] == [16, 8]
    waiting = waiting_with(job(engine, [16] * 8))
    assert len(waiting.take(num_free=8).texts) == 8, "small parts are slow"
    waiting = waiting_with(job(engine, [16] * 32))
    assert len(waiting.take(max_tokens=64).texts) == 4


def test_texts_with_other_prompts_or_models_are_not_mixed() -> None:
    one, other = ToldEngine(), ToldEngine()
    waiting = waiting_with(job(one, [9]), job(other, [9]), job(one, [9], skip_tokens=2), job(one, [9], "b"))
    assert waiting.costs == {one: 36, other: 12}
    found = [(batch.engine, batch.skip_tokens, len(batch.texts)) for batch in (waiting.take() for _ in range(3))]
    assert sorted(found, key=str) == sorted([(one, 0, 2), (one, 2, 1), (other, 0, 1)], key=str)
    assert is_empty(waiting)
