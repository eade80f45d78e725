from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pairloom.evaluate import bootstrap, metrics

Case = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]


@st.composite
def drawn_pairs(draw: st.DrawFn, *, labels: bool) -> Case:
    """Targets and similarities with many ties, and a resample in which nothing is constant."""
    targets = draw(st.lists(st.integers(0, 1 if labels else 4), min_size=2, max_size=12))
    similarities = draw(st.lists(st.integers(-3, 3), min_size=len(targets), max_size=len(targets)))
    drawn = draw(st.lists(st.integers(0, len(targets) - 1), min_size=len(targets), max_size=len(targets)))
    return np.array(targets, float), np.array(similarities, float) / 3, np.array(drawn)


@pytest.mark.parametrize("name", ["spearman", "pearson"])
@settings(deadline=None)
@given(case=drawn_pairs(labels=False))
def test_correlations_of_counts_are_those_of_the_drawn_pairs(name: str, case: Case) -> None:
    targets, similarities, drawn = case
    statistic = getattr(bootstrap, f"{name}_statistic")(targets, similarities)
    counts = np.bincount(drawn, minlength=len(targets)).astype(float)
    if np.ptp(targets[drawn]) > 0 and np.ptp(similarities[drawn]) > 0:
        expected = getattr(metrics, name)(targets[drawn], similarities[drawn])
        assert statistic(counts[None])[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["average_precision", "best_f1"])
@settings(deadline=None)
@given(case=drawn_pairs(labels=True))
def test_metrics_of_counts_are_those_of_the_drawn_pairs(name: str, case: Case) -> None:
    labels, similarities, drawn = case
    statistic = getattr(bootstrap, f"{name}_statistic")(labels, similarities)
    counts = np.bincount(drawn, minlength=len(labels)).astype(float)
    expected = getattr(metrics, name)(labels[drawn], similarities[drawn]) if labels[drawn].any() else 0.0
    assert statistic(counts[None])[0] == pytest.approx(expected, abs=1e-12)


def test_constant_similarities_correlate_with_nothing_in_any_resample() -> None:
    for statistic in (
        bootstrap.spearman_statistic([1, 2, 3], [1, 1, 1]),
        bootstrap.pearson_statistic([1, 2, 3], [1] * 3),
    ):
        drawn = bootstrap.resample({"r": statistic}, 3, num_resamples=50)["r"]
        assert drawn.tolist() == [0.0] * 50


def test_the_interval_of_a_mean_is_scipys() -> None:
    values = np.random.default_rng(5).gamma(2.0, size=300)
    ours = bootstrap.interval(bootstrap.resample({"mean": bootstrap.mean_statistic(values)}, 300)["mean"])
    theirs = stats.bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=1).confidence_interval
    # Other random numbers: the ends may differ by a few hundredths of the width.
    assert ours == pytest.approx(tuple(theirs), abs=0.08 * (theirs.high - theirs.low))


def test_the_interval_of_a_correlation_is_scipys() -> None:
    random = np.random.default_rng(6)
    scores = random.normal(size=200)
    found = scores + random.normal(size=200)
    ours = bootstrap.interval(bootstrap.resample({"r": bootstrap.spearman_statistic(scores, found)}, 200)["r"])
    theirs = stats.bootstrap(
        (scores, found),
        lambda x, y: stats.spearmanr(x, y).statistic,
        n_resamples=1000,
        method="percentile",
        paired=True,
        vectorized=False,
        rng=1,
    ).confidence_interval
    assert ours == pytest.approx(tuple(theirs), abs=0.1 * (theirs.high - theirs.low))


def test_an_interval_covers_the_truth_about_19_times_in_20() -> None:
    random = np.random.default_rng(7)
    covered = 0
    for seed in range(200):
        values = random.normal(loc=0.3, size=100)
        drawn = bootstrap.resample({"mean": bootstrap.mean_statistic(values)}, 100, num_resamples=400, seed=seed)
        low, high = bootstrap.interval(drawn["mean"])
        covered += low <= 0.3 <= high
    assert 180 <= covered <= 198


def test_each_resample_draws_as_many_items_as_there_are() -> None:
    drawn = bootstrap.resample({"n": lambda counts: counts.sum(axis=1)}, 7, num_resamples=30)["n"]
    assert drawn.tolist() == [7.0] * 30


def test_a_seed_fixes_the_resamples_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = {"mean": bootstrap.mean_statistic(np.arange(40.0))}
    first = bootstrap.resample(statistics, 40, num_resamples=100)["mean"]
    other_seed = bootstrap.resample(statistics, 40, num_resamples=100, seed=1)["mean"]
    monkeypatch.setattr(bootstrap, "_BLOCK_ITEMS", 100)
    again = bootstrap.resample(statistics, 40, num_resamples=100)["mean"]
    assert np.allclose(first, again, rtol=1e-14)
    assert not np.array_equal(first, other_seed)
