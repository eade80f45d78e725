from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairloom.train.chart import UNITS, Chart, Series, draw_chart, mean_around, tick_places


def series(values: list[float] | np.ndarray, name: str = "x") -> Series:
    return Series(name, np.arange(1, len(values) + 1), np.array(values, dtype=np.float64))


def chart_of(values: list[float] | np.ndarray, *, smooth: bool = True) -> Chart:
    chart = draw_chart("Loss", "nats", [series(values)], smooth=smooth)
    assert chart is not None
    return chart


def points(path: str) -> list[tuple[int, int]]:
    return [(int(x), int(y)) for x, y in re.findall(r"[ML](-?\d+) (-?\d+)", path)]


def test_means_by_hand() -> None:
    values = np.array([1.0, 2, np.nan, 6, np.inf, 10])
    assert mean_around(values, np.arange(6), 3).tolist() == [1.5, 1.5, 4.0, 6.0, 8.0, 10.0]
    assert np.isnan(mean_around(values, np.array([2]), 1)).all()


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60), st.integers(1, 30))
def test_means_are_those_of_slices(values: list[float], window: int) -> None:
    array = np.array(values)
    half = window // 2
    expected = [array[max(0, place - half) : place + half + 1].mean() for place in range(len(array))]
    assert mean_around(array, np.arange(len(array)), window) == pytest.approx(expected, abs=1e-9)


def test_ticks_are_round_numbers() -> None:
    assert tick_places(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert tick_places(0.31, 2.4, 5) == [0.5, 1.0, 1.5, 2.0]
    assert tick_places(1, 4, 5, whole=True) == [1, 2, 3, 4]
    assert tick_places(-1, 1, 2) == [-1, 0, 1]


@given(st.floats(-1e12, 1e12), st.floats(1e-6, 1e12))
def test_ticks_are_few_and_in_the_range(low: float, span: float) -> None:
    high = low + span
    if high - low > 1e-9 * max(abs(low), abs(high)):
        ticks = tick_places(low, high, 5)
        assert 1 <= len(ticks) <= 6
        slack = 1e-6 * (high - low)
        assert all(low - slack <= tick <= high + slack for tick in ticks)


def test_a_few_values_are_drawn_as_they_are() -> None:
    chart = chart_of([4.0, 2.0, 3.0])
    (line,) = chart.lines
    ((x1, y1), (x2, y2), (x3, y3)) = points(line.path)
    assert (x1, x2, x3) == (0, UNITS // 2, UNITS)
    assert y3 - y1 == y2 - y3, "3 lies halfway between 4 and 2"
    assert 0 <= y1 < y3 < y2 <= UNITS, "large is at the top"
    assert (line.raw, line.band, line.last, chart.note) == ("", "", 3.0, "")
    assert chart.description == "Loss: from 4 at step 1 to 3 at step 3."
    assert [tick.label for tick in chart.x_ticks] == ["1", "2", "3"]
    assert [tick.place for tick in chart.x_ticks] == [0, 50, 100]
    places = {tick.label: tick.place for tick in chart.y_ticks}
    assert places["3.0"] == pytest.approx(100 * y3 / UNITS, abs=0.1)


def test_more_values_are_smoothed_and_stay_visible() -> None:
    chart = chart_of(np.tile([1.0, 3.0], 200))
    (line,) = chart.lines
    assert len(points(line.raw)) == 400
    assert chart.note == "Line: mean over 11 steps; thin: every step."
    heights = [y for _, y in points(line.path)][10:-10]
    raw = [y for _, y in points(line.raw)]
    assert max(heights) - min(heights) < (max(raw) - min(raw)) / 8
    plain = chart_of(np.tile([1.0, 3.0], 200), smooth=False)
    assert points(plain.lines[0].path) == points(line.raw)
    assert plain.lines[0].raw == plain.note == ""


def test_a_long_run_is_thinned_and_hides_no_peak() -> None:
    values = np.ones(100_000)
    values[71_234] = 1.8
    values[50::100] = 0.5
    values[51::100] = 1.5
    chart = chart_of(values)
    (line,) = chart.lines
    assert len(line.path) + len(line.band) < 20_000
    band = [y for _, y in points(line.band)]
    assert len(points(line.path)) == 400
    assert len(band) == 800
    peak = min(band)
    assert band.count(peak) == 1
    assert points(line.band)[band.index(peak)][0] == pytest.approx(UNITS * 0.712, abs=5)
    assert max(band) - peak > 0.9 * UNITS
    assert chart.note == "Line: mean over 2,501 steps; shaded: smallest to largest of 250 steps."


def test_a_few_huge_values_do_not_flatten_the_curve() -> None:
    values = np.linspace(1, 2, 5000)
    values[100] = 1e6
    values[200] = np.nan
    values[300] = np.inf
    chart = chart_of(values)
    assert chart.note.endswith("Peaks up to 1e+06 are cut off.")
    assert chart_of(-values).note.endswith("Dips down to -1e+06 are cut off.")
    smaller = values.copy()
    smaller[100] = 3e3
    heights = [y for _, y in points(chart_of(smaller).lines[0].path)]
    assert max(heights) - min(heights) > UNITS / 2


def test_gaps_are_gaps_and_single_values_are_dots() -> None:
    path = chart_of([1.0, 2.0, np.nan, 4.0, np.nan, 5.0, 6.0], smooth=False).lines[0].path
    assert path.count("M") == 3
    assert path.count("h0") == 1
    assert chart_of([3.0]).lines[0].path.endswith("h0")
    assert chart_of([3.0]).description == "Loss: 3 at step 1."


@pytest.mark.parametrize(
    "values",
    [
        [0.0],
        [0.0, 0.0],
        [1e-300, 2e-300],
        [1e300, 1.0],
        [1e15, 1e15 + 0.125],
        [-1e29, 1e29],
        [5e-5] * 10,
        [np.nan, 1.0],
        [1e7, 2e7, 3e7],
    ],
)
def test_any_numbers_can_be_drawn(values: list[float]) -> None:
    chart = chart_of(values)
    assert chart.y_ticks
    assert chart.x_ticks
    drawn = points(chart.lines[0].path)
    assert drawn
    assert all(0 <= place <= UNITS for point in drawn for place in point)
    assert all(0 <= tick.place <= 100 for tick in (*chart.x_ticks, *chart.y_ticks))
    assert len({tick.label for tick in chart.y_ticks}) == len(chart.y_ticks)


@pytest.mark.parametrize("values", [[], [np.nan], [np.inf, -np.inf], [1e31]])
def test_without_a_number_there_is_no_chart(values: list[float]) -> None:
    assert draw_chart("Loss", "nats", [series(values)]) is None


def test_small_and_large_numbers_have_short_labels() -> None:
    small = chart_of([1e-5, 2e-5])
    assert small.unit == "nats × 10⁻⁵"
    assert [tick.label for tick in small.y_ticks] == ["1.0", "1.5", "2.0"]
    large = chart_of([1.5e7, 2.5e7])
    assert large.unit == "nats × 10⁶"
    assert [tick.label for tick in large.y_ticks] == ["15", "20", "25"]
    assert [tick.label for tick in chart_of([0.0, 80_000.0]).y_ticks] == ["0", "20,000", "40,000", "60,000", "80,000"]


def test_several_curves_share_their_axes() -> None:
    late = Series("late", np.array([9, 7]), np.array([2.0, 1.0]))
    chart = draw_chart("Loss", "", [series([4.0, 3.0], "early"), series([np.nan], "none"), late])
    assert chart is not None
    assert [line.name for line in chart.lines] == ["early", "late"]
    early_points, late_points = (points(line.path) for line in chart.lines)
    assert [x for x, _ in early_points] == [0, UNITS // 8]
    assert [x for x, _ in late_points] == [UNITS * 6 // 8, UNITS], "in the order of the steps"
    assert early_points[1][1] < late_points[1][1] < late_points[0][1]
    assert chart.description == "Loss: early from 4 at step 1 to 3 at step 2; late from 1 at step 7 to 2 at step 9."


def test_intervals_are_shaded_and_nothing_is_smoothed() -> None:
    count = 60
    ranges = np.stack([np.full(count, 1.0), np.full(count, 3.0)])
    ranges[:, 7] = np.nan
    measured = Series("m", np.arange(count), np.full(count, 2.0), ranges)
    chart = draw_chart("nDCG@10", "", [measured])
    assert chart is not None
    assert chart.note == "Shaded: 95 % intervals."
    assert len(points(chart.lines[0].band)) == 2 * (count - 1)
    assert len(points(chart.lines[0].path)) == count
