"""One encoder, used by many at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pairloom import Encoder
from tests.conftest import WORDS


def some_texts(count: int, seed: int = 0) -> list[str]:
    dice = np.random.default_rng(seed)
    return [" ".join(dice.choice(WORDS, size=dice.integers(1, 60))) for _ in range(count)]


@pytest.fixture(scope="module")
def encoder(model_folder: Path) -> Encoder:
    return Encoder(model_folder, device="cpu", precision="float32")


def test_small_calls_of_many_threads_beside_a_large_one(encoder: Encoder) -> None:
    many, few = some_texts(5000), [some_texts(count, seed=count) for count in (1, 2, 3, 7, 1, 30)]
    expected_many, expected_few = encoder.encode(many), [encoder.encode(texts) for texts in few]
    tokens, truncated = encoder.num_tokens, encoder.num_truncated
    with ThreadPoolExecutor(9) as threads:
        large = threads.submit(encoder.encode, many)
        small = [threads.submit(encoder.encode, texts) for _ in range(20) for texts in few]
        for number, future in enumerate(small):
            np.testing.assert_allclose(future.result(), expected_few[number % len(few)], atol=1e-6)
        np.testing.assert_allclose(large.result(), expected_many, atol=1e-6)
    share = encoder.num_tokens - tokens, encoder.num_truncated - truncated
    encoder.encode(many)
    for texts in few * 20:
        encoder.encode(texts)
    assert (encoder.num_tokens - tokens, encoder.num_truncated - truncated) == (2 * share[0], 2 * share[1])


def test_many_tasks_of_an_event_loop(encoder: Encoder) -> None:
    texts = some_texts(40)
    expected = encoder.encode(texts)

    async def all_at_once() -> list[np.ndarray]:
        return list(await asyncio.gather(*(asyncio.to_thread(encoder.encode, text) for text in texts)))

    np.testing.assert_allclose(np.stack(asyncio.run(all_at_once())), expected, atol=1e-6)


def test_blocks_are_read_one_ahead_and_no_further(encoder: Encoder) -> None:
    drawn: list[int] = []

    def blocks() -> Iterator[list[str]]:
        for number in range(6):
            drawn.append(number)
            yield some_texts(3, seed=number)

    for number, encoded in enumerate(encoder.encode_blocks(blocks())):
        np.testing.assert_allclose(encoded.vectors, encoder.encode(some_texts(3, seed=number)), atol=1e-6)
        assert len(drawn) <= number + 2
    assert drawn == list(range(6))


def test_a_fault_of_the_texts_comes_out_and_no_thread_stays(encoder: Encoder) -> None:
    encoder.encode(some_texts(300))  # the engine's own threads are there now
    before = threading.active_count()

    def blocks() -> Iterator[list[str]]:
        yield ["coffee"]
        raise OSError("the disk is gone")

    found = encoder.encode_blocks(blocks())
    next(found)
    with pytest.raises(OSError, match="the disk is gone"):
        next(found)
    left = encoder.encode_blocks([["coffee"], ["water"], ["bean"]])
    next(left)
    del left  # who reads no further
    assert threading.active_count() == before
