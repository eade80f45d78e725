"""The order of pairs: every row once an epoch, no text twice in a batch, and exact continuation."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pairloom.errors import InputError
from pairloom.pairs.mixture import Mixture
from pairloom.pairs.shards import Shards
from tests.conftest import make_pairs, make_shards


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    return Shards(make_shards(tmp_path / "a", make_pairs(50)))


def test_an_epoch_holds_every_row_once(shards: Shards) -> None:
    mixture = Mixture([shards], [1.0], batch_size=10, seed=3)
    epochs = [np.concatenate([mixture.next_batch().rows for _ in range(5)]) for _ in range(2)]
    for rows in epochs:
        assert sorted(rows.tolist()) == list(range(50))
    assert not np.array_equal(epochs[0], epochs[1]), "each epoch has an order of its own"


def test_the_texts_are_those_of_the_rows(shards: Shards) -> None:
    batch = Mixture([shards], [1.0], batch_size=10, seed=3).next_batch()
    pairs = list(shards)
    assert list(zip(*batch.columns, strict=True)) == [(pairs[row].anchor, pairs[row].positive) for row in batch.rows]


def test_no_text_occurs_twice_in_a_batch_and_no_row_is_lost(tmp_path: Path) -> None:
    rows = [(f"question {number % 12}", f"answer {number}") for number in range(36)] + [("answer 3", "other")]
    shards = Shards(make_shards(tmp_path / "a", rows))
    mixture = Mixture([shards], [1.0], batch_size=6, seed=0)
    drawn: Counter[int] = Counter()
    for _ in range(200):
        batch = mixture.next_batch()
        texts = [text for column in batch.columns for text in column]
        assert len(texts) == len(set(texts))
        drawn.update(batch.rows.tolist())
    assert set(drawn) == set(range(37))
    assert max(drawn.values()) - min(drawn.values()) <= 3, "deferred rows come, if later"


def test_weights_are_shares(tmp_path: Path) -> None:
    datasets = [Shards(make_shards(tmp_path / name, make_pairs(20))) for name in ("a", "b")]
    mixture = Mixture(datasets, [1.0, 3.0], batch_size=2, seed=1)
    counts = Counter(mixture.next_batch().dataset for _ in range(600))
    assert counts[1] / 600 == pytest.approx(0.75, abs=0.06), "more than three standard deviations"


@pytest.mark.parametrize("stop", [0, 1, 7, 23])
def test_a_continued_stream_equals_the_unbroken_one(tmp_path: Path, stop: int) -> None:
    rows = [(f"question {number % 9}", f"answer {number}") for number in range(30)]
    datasets = [Shards(make_shards(tmp_path / "a", rows)), Shards(make_shards(tmp_path / "b", make_pairs(21)))]
    unbroken = Mixture(datasets, [1.0, 2.0], batch_size=5, seed=2)
    expected = [unbroken.next_batch() for _ in range(30)]
    first = Mixture(datasets, [1.0, 2.0], batch_size=5, seed=2)
    for _ in range(stop):
        first.next_batch()
    second = Mixture(datasets, [1.0, 2.0], batch_size=5, seed=2)
    second.restore(json.loads(json.dumps(first.state())))
    for batch in expected[stop:]:
        again = second.next_batch()
        assert (again.dataset, again.columns) == (batch.dataset, batch.columns)


def test_too_few_rows(shards: Shards) -> None:
    with pytest.raises(InputError, match="has 50 pairs, too few for a batch of 51"):
        Mixture([shards], [1.0], batch_size=51, seed=0)


def test_too_few_different_texts(tmp_path: Path) -> None:
    shards = Shards(make_shards(tmp_path / "a", [("same", f"answer {number}") for number in range(9)]))
    with pytest.raises(InputError, match="too few different texts"):
        Mixture([shards], [1.0], batch_size=2, seed=0).next_batch()


def test_a_frequent_text_neither_stops_the_run_nor_piles_up(tmp_path: Path) -> None:
    """A fifth of the rows share their anchor: at most one of them fits into a batch, and the others must not wait for ever."""
    rows = [("thanks" if number % 5 == 0 else f"question {number}", f"answer {number}") for number in range(400)]
    mixture = Mixture([Shards(make_shards(tmp_path / "a", rows))], [1.0], batch_size=16, seed=0)
    drawn: Counter[int] = Counter()
    for _ in range(600):
        drawn.update(mixture.next_batch().rows.tolist())
        assert len(mixture.state()["cursors"][0]["deferred"]) <= 2 * 80
    others = [drawn[row] for row in range(400) if row % 5]
    assert max(others) - min(others) <= 2, "rows without the text come once an epoch"
    assert mixture.num_left_out > 0
    assert len(drawn) > 380, "and those with it take turns"
