from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairloom.errors import UsageError
from pairloom.evaluate.tasks import read_task
from pairloom.pairs.clean import text_hash
from pairloom.pairs.holdout import Hashes
from pairloom.pairs.selection import (
    SET_SIZE,
    HeldOutPairs,
    HeldOutSelection,
    choose_held_out_pairs,
    is_selection_file,
)


def in_parts(pairs: Hashes, size: int = 7) -> Callable[[], Iterator[Hashes]]:
    return lambda: iter(np.array_split(pairs, 1 + len(pairs) // size))


def choose(pairs: Hashes, num_pairs: int, *, seed: int = 0, num_in_all: int = 1) -> list[list[int]]:
    chosen = choose_held_out_pairs(in_parts(pairs), num_pairs=num_pairs, num_in_all=num_in_all, seed=seed)
    return [list(pair) for pair in zip(chosen.anchors.tolist(), chosen.positives.tolist(), strict=True)]


PAIRS = st.lists(st.tuples(st.integers(0, 60), st.integers(50, 120)), min_size=1, max_size=80)


@given(PAIRS, st.integers(1, 25), st.integers(0, 5), st.integers(0, 10**6))
def test_the_choice_depends_on_the_pairs_and_the_seed_alone(
    pairs: list[tuple[int, int]], wanted: int, seed: int, num_in_all: int
) -> None:
    """Whatever the order, the repetitions, and how many are looked at first."""
    pairs = [pair for pair in pairs if pair[0] != pair[1]] or [(1, 2)]
    table = np.array(pairs, dtype=np.uint64)
    shuffled = table[np.random.default_rng(seed).permutation(len(table))]
    try:
        expected = choose(table, wanted, seed=seed)
    except UsageError as error:
        assert "pairs cannot be held out: no more than" in str(error)
        with pytest.raises(UsageError):
            choose(shuffled, wanted, seed=seed, num_in_all=num_in_all)
        return
    assert choose(np.concatenate([shuffled, shuffled]), wanted, seed=seed, num_in_all=num_in_all) == expected
    assert len(expected) == wanted
    assert {tuple(pair) for pair in expected} <= set(pairs)
    texts = [text for pair in expected for text in pair]
    assert len(set(texts)) == len(texts)


def test_another_seed_chooses_others_and_all_alike() -> None:
    pairs = np.arange(20_000, dtype=np.uint64).reshape(-1, 2)
    chosen = choose(pairs, 1000, num_in_all=10_000)
    assert chosen != choose(pairs, 1000, seed=1)
    assert chosen[:100] == choose(pairs, 100)
    share = np.histogram([anchor for anchor, _ in chosen], bins=10, range=(0, 20_000))[0]
    assert share.min() > 60
    assert share.max() < 140


def test_too_few_are_refused() -> None:
    pairs = np.array([[1, 2], [1, 3], [4, 2], [5, 6]], dtype=np.uint64)
    with pytest.raises(UsageError, match=r"^3 pairs cannot be held out: no more than [12] were found of which no two"):
        choose(pairs[:3], 3)
    with pytest.raises(UsageError, match="1 pairs cannot be held out: no more than 0"):
        choose(np.empty((0, 2), dtype=np.uint64), 1)


def held_out(*, anchor_answers: bool = False) -> tuple[HeldOutSelection, list[tuple[str, str]]]:
    """A set in an order that is not that of the hashes."""
    texts = [(f"Anchor {number}", f"Positive {number}") for number in range(SET_SIZE)]
    hashes = np.array([[text_hash(text) for text in pair] for pair in texts], dtype=np.uint64)
    return HeldOutSelection(HeldOutPairs(hashes[:, 0], hashes[:, 1]), anchor_answers=anchor_answers), texts


def fill(selection: HeldOutSelection, rows: list[tuple[str, ...]]) -> None:
    table = np.array([[text_hash(text) for text in row] for row in rows], dtype=np.uint64)
    for row, hashes, held in zip(rows, table.tolist(), selection.holds(table), strict=True):
        if held:
            selection.add(row, hashes)


@pytest.mark.parametrize("name", ["task.jsonl", "task.jsonl.gz"])
@pytest.mark.parametrize("anchor_answers", [False, True])
def test_what_is_written_is_read_as_a_task(tmp_path: Path, name: str, anchor_answers: bool) -> None:
    selection, texts = held_out(anchor_answers=anchor_answers)
    others: list[tuple[str, ...]] = [("Anchor 3", "Positive 4"), ("anchor", "positive"), ("Positive 1", "Anchor 1")]
    fill(selection, [*others, *texts[::-1], ("ANCHOR 5", "positive 5"), ("anchor 6", "positive 6")])
    counts = selection.write(tmp_path / name)
    assert counts == {"num_queries": 100, "num_sets": 1, "candidates": 100}
    task = read_task(tmp_path / name)
    # Of spellings that differ in case the smallest stands for all, as in shards.
    expected = [(a, p) if (a, p) != texts[5] else ("ANCHOR 5", "positive 5") for a, p in texts]
    if anchor_answers:
        expected = [(p, a) if (a, p) != texts[5] else texts[5][::-1] for a, p in texts]
    assert list(zip(task.queries, task.responses, strict=True)) == expected  # type: ignore[union-attr]
    content = (tmp_path / name).read_bytes()
    lines = (gzip.decompress(content) if name.endswith(".gz") else content).decode().splitlines()
    assert json.loads(lines[0]) == {"candidates": 100}
    again, _ = held_out(anchor_answers=anchor_answers)
    fill(again, [*texts, ("anchor 6", "positive 6"), ("ANCHOR 5", "positive 5")])
    again.write(tmp_path / f"again-{name}")
    assert (tmp_path / f"again-{name}").read_bytes() == content


def test_its_texts_are_those_that_training_must_not_see() -> None:
    selection, texts = held_out()
    assert selection.texts.tolist() == sorted(text_hash(text) for pair in texts for text in pair)


@pytest.mark.parametrize(
    ("name", "expected"), [("a.jsonl", True), ("a.jsonl.gz", True), ("a.tsv", False), ("task", False), ("a.gz", False)]
)
def test_the_name_says_whether_it_is_a_file_of_sets(name: str, expected: bool) -> None:
    assert is_selection_file(Path("folder.jsonl", name)) is expected
