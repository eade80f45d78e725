"""The weights of a hybrid search, found on one half of the queries and shown on the other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from pairloom.errors import InputError
from pairloom.evaluate.report import render_tuning, tuning_to_json
from pairloom.evaluate.searching import Mode
from pairloom.evaluate.tasks import RetrievalTask
from pairloom.evaluate.tuning import Tuning, tune
from pairloom.records import Text
from pairloom.search.fusion import reciprocal_rank_fusion

from .test_searching import RankingSearcher

NUM_DOCUMENTS = 60
IDS = [f"d{number}" for number in range(NUM_DOCUMENTS)]


def task_of(num_queries: int = 40) -> RetrievalTask:
    """Each query has one document, of the same number."""
    queries = tuple(Text(f"q{number}", f"query {number}") for number in range(num_queries))
    judgements = {query.id: {f"d{query.id[1:]}": 1} for query in queries}
    return RetrievalTask("numbers", queries, tuple(Text(key, key) for key in IDS), judgements)


def rankings_of(task: RetrievalTask, ranks: Sequence[int], *, seed: int) -> dict[str, list[str]]:
    """Random rankings in which the right document of each query has a given rank, from 1."""
    dice = np.random.default_rng(seed)
    made = {}
    for query, rank in zip(task.queries, ranks, strict=True):
        own = f"d{query.id[1:]}"
        others = [key for key in dice.permutation(IDS).tolist() if key != own]
        made[query.text] = [*others[: rank - 1], own, *others[rank - 1 :]]
    return made


def searcher_of(vector: Mapping[str, Sequence[str]], words: Mapping[str, Sequence[str]]) -> RankingSearcher:
    rankings: dict[Mode, Mapping[str, Sequence[str]]] = {"vector": vector, "words": words}
    return RankingSearcher(rankings, IDS)


def found_by(vector_ranks: Sequence[int], words_ranks: Sequence[int], **options: Any) -> Tuning:
    task = task_of(len(vector_ranks))
    searcher = searcher_of(rankings_of(task, vector_ranks, seed=1), rankings_of(task, words_ranks, seed=2))
    return tune(searcher, task, reciprocal_rank_fusion, **options)


def random_ranks(count: int, most: int, seed: int) -> list[int]:
    return [int(rank) for rank in np.random.default_rng(seed).integers(1, most + 1, count)]


def test_what_finds_more_gets_the_weight() -> None:
    better, worse = [1] * 40, random_ranks(40, 50, 3)
    for tuning, winner in ((found_by(worse, better), "words"), (found_by(better, worse), "vector")):
        assert tuning.weights._asdict()[winner] > 0.5
        assert sum(tuning.weights) == 1
        assert tuning.is_better
        comparison = tuning.held_out.comparison
        assert comparison is not None
        assert comparison.difference == pytest.approx(tuning.held_out.value - comparison.baseline)
        assert tuning.folds.value > comparison.baseline
        assert comparison.interval[0] > 0
        assert tuning.alone[winner] == 1  # type: ignore[index]


def test_the_collection_is_searched_once_by_each() -> None:
    task = task_of(40)
    ranking = rankings_of(task, [1] * 40, seed=1)
    searcher = searcher_of(ranking, ranking)
    tune(searcher, task, reciprocal_rank_fusion)
    assert searcher.calls == ["vector", "words"]


def test_where_nothing_is_gained_nothing_changes() -> None:
    tuning = found_by([1] * 40, [1] * 40, weights=(3.0, 1.0))
    assert tuning.before == tuning.weights == (0.75, 0.25)
    assert not tuning.is_better
    assert set(tuning.fold_weights) == {0.25}


def test_weights_count_by_their_ratio() -> None:
    ranks = random_ranks(40, 12, 3), random_ranks(40, 12, 4)
    assert found_by(*ranks, weights=(1.0, 1.0)) == found_by(*ranks, weights=(7.0, 7.0))
    # What there was until now need not be on the grid.
    tuning = found_by(*ranks, weights=(0.62, 0.38))
    assert tuning.before.words not in tuning.grid
    assert tuning.held_out.comparison is not None


def test_the_other_half_has_no_part_in_the_choice() -> None:
    task = task_of(60)
    vector, words = random_ranks(60, 12, 3), random_ranks(60, 12, 4)
    half, other = np.array_split(np.random.default_rng(5).permutation(60), 2)

    def found(words_ranks: Sequence[int]) -> Tuning:
        searcher = searcher_of(rankings_of(task, vector, seed=1), rankings_of(task, words_ranks, seed=2))
        return tune(searcher, task, reciprocal_rank_fusion, seed=5)

    before = found(words)
    changed = found([50 if row in other else rank for row, rank in enumerate(words)])
    assert changed.weights == before.weights
    assert changed.grid == before.grid
    assert changed.held_out.value < before.held_out.value
    assert found([50 if row in half else rank for row, rank in enumerate(words)]).grid != before.grid
    assert before.num_queries == (30, 30)


def test_noise_is_not_taken_for_a_gain() -> None:
    """Of rankings by chance some weights are the best on any half; on the others they are as good as any."""
    gains, chosen = [], []
    for seed in range(12):
        ranks = random_ranks(40, 50, 100 + seed), random_ranks(40, 50, 200 + seed)
        tuning = found_by(*ranks, num_resamples=50)
        assert tuning.held_out.comparison is not None
        gains.append(tuning.held_out.comparison.difference)
        chosen.append(max(tuning.grid.values()) - tuning.grid[0.5])
    assert min(chosen) >= 0
    assert np.mean(chosen) > np.mean(gains) + 0.01


def test_too_few_queries() -> None:
    with pytest.raises(InputError, match="numbers has 19 queries; tuning takes at least 20"):
        found_by([1] * 19, [1] * 19)


def test_a_collection_of_something_else() -> None:
    task = task_of(20)
    ranking = rankings_of(task, [1] * 20, seed=1)
    rankings: dict[Mode, Mapping[str, Sequence[str]]] = {"vector": ranking, "words": ranking}
    with pytest.raises(InputError, match="none of the 60 documents"):
        tune(RankingSearcher(rankings, ["x"]), task, reciprocal_rank_fusion)


def test_reports() -> None:
    console = Console(width=200, color_system=None)

    def lines(tuning: Tuning) -> str:
        with console.capture() as capture:
            console.print(render_tuning(tuning))
        return capture.get()

    tuning = found_by(random_ranks(41, 50, 3), [1] * 41)
    said = lines(tuning)
    assert f"best on 21 queries: vector {tuning.weights.vector:.2g}, words {tuning.weights.words:.2g}" in said
    assert "(until now: vector 0.5, words 0.5)" in said
    assert f"on the other 20: {tuning.held_out.value:.4f} (" in said
    assert "better" in said
    assert "words alone 1.0000" in said
    assert "on all 41" in said
    assert "The collection now searches with vector" in said
    same = lines(found_by([1] * 40, [1] * 40))
    assert "The weights stay as they were, vector 0.5, words 0.5: no others are better." in same
    facts = tuning_to_json(tuning)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["weights"] == {"vector": tuning.weights.vector, "words": tuning.weights.words}
    assert facts["better"] is True
    assert facts["queries"] == {"found_on": 21, "held_out": 20}
    assert len(facts["grid"]) == 21
