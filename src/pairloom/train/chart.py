"""Curves of a run for a page: numbers to SVG paths and ticks; the page's template says what they look like.

Long runs are thinned to what a screen can show: the mean around each of some hundred places, and behind it the range of
all values, so that no peak is hidden and the page stays small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Paths are drawn into a square of so many units a side, which the page stretches.
UNITS = 2000
# Up to so many values each is drawn; beyond, ranges and means are drawn at half as many places.
_MOST_POINTS = 800
# A mean is over this share of a run: short enough for the shape, long enough to calm the noise of batches.
_SMOOTHING = 1 / 40
# But over five values at least, unless there are only a few of them.
_LEAST_WINDOW, _FEW = 5, 20
_MOST_Y_TICKS, _MOST_X_TICKS = 5, 5
# Larger numbers are no measurements, and their differences may overflow.
_LARGEST = 1e30
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, eq=False)
class Series:
    """A curve's numbers.

    Args:
        name: In the legend.
        steps: Rising, [N].
        values: Of these steps, [N]; what is not finite is a gap.
        ranges: Lower and upper end of each value's interval, [2, N], if it has one; then nothing is smoothed.
    """

    name: str
    steps: npt.NDArray[np.int64]
    values: Floats
    ranges: Floats | None = None


@dataclass(frozen=True)
class Tick:
    """A number on an axis, and where: in per cent from the left or from the top."""

    place: float
    label: str


@dataclass(frozen=True)
class Line:
    """A curve as SVG path data.

    Args:
        name: In the legend.
        path: The curve.
        raw: Every value, as a thin line behind it, or "".
        band: The area between smallest and largest values behind it, or "".
        last: The curve's last value.
    """

    name: str
    path: str
    raw: str
    band: str
    last: float


@dataclass(frozen=True)
class Chart:
    """A picture of one or more curves, ready for the template.

    Args:
        title: What is shown.
        unit: Of the values, with a power of ten if the ticks leave it out.
        description: The picture in words, for those who do not see it.
        note: How to read it, or "".
        lines: The curves.
        x_ticks: Of the steps.
        y_ticks: Of the values.
    """

    title: str
    unit: str
    description: str
    note: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...] = field(repr=False)


@dataclass(frozen=True, eq=False)
class _Thinned:
    """A series as it is drawn: steps, means and the range behind them; in ``raw`` all values, if they are few.

    Its ``usual`` values are between the 0.5 and 99.5 % quantiles of what is shown.
    """

    series: Series
    window: int
    usual: tuple[float, float]
    steps: npt.NDArray[np.int64]
    means: Floats
    raw: Floats | None
    band_steps: npt.NDArray[np.int64]
    band: Floats | None


def draw_chart(title: str, unit: str, series: Sequence[Series], *, smooth: bool = True) -> Chart | None:
    """Draws curves over one pair of axes; of a single one that is smoothed, the values are shown behind their means.

    Args:
        title: What is shown.
        unit: Of the values.
        series: The curves; those without a single number are left out.
        smooth: Whether means are drawn, and not the values themselves.

    Returns:
        The chart; None if there is nothing to draw.
    """
    thinned = [thin for one in series if (thin := _thin(one, smooth=smooth, alone=len(series) == 1)) is not None]
    if not thinned:
        return None
    low, high, cut = _y_range(thinned)
    first, last = min(int(one.steps[0]) for one in thinned), max(int(one.steps[-1]) for one in thinned)
    x_axis = _Axis(first, last) if first < last else _Axis(first - 1, first + 1)
    y_axis = _Axis(low, high)
    exponent = _exponent(max(abs(low), abs(high)))
    lines = tuple(_line(one, x_axis, y_axis) for one in thinned)
    return Chart(
        title,
        unit if not exponent else f"{unit} × 10{str(exponent).translate(_SUPERSCRIPTS)}".strip(),
        _describe(title, thinned),
        " ".join(filter(None, (_reading_note(thinned), cut))),
        lines,
        tuple(
            Tick(round(100 * x_axis.share(place), 2), f"{place:,.0f}")
            for place in tick_places(x_axis.low, x_axis.high, _MOST_X_TICKS, whole=True)
            if first <= place <= last
        ),
        tuple(
            Tick(round(100 - 100 * y_axis.share(place), 2), label)
            for place, label in _labelled(tick_places(low, high, _MOST_Y_TICKS), exponent)
        ),
    )


def mean_around(values: Floats, places: npt.NDArray[np.int64], window: int) -> Floats:
    """The mean of the finite values among the ``window`` nearest of each place, fewer at the ends; NaN if there is none.

    Args:
        values: [N].
        places: Indices into them, [P].
        window: How many values a mean is over; even numbers count as the next odd one.
    """
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    begin, end = np.maximum(places - window // 2, 0), np.minimum(places + window // 2 + 1, len(values))
    found = counts[end] - counts[begin]
    means: Floats = np.where(found > 0, (sums[end] - sums[begin]) / np.maximum(found, 1), np.nan)
    return means


def tick_places(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """Round numbers within a range, at most ``most`` + 1 of them, one, two or five times a power of ten apart."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough * (1 - 1e-9))
    if whole:
        step = max(step, 1.0)
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float

    def share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)

    def places(self, values: npt.NDArray[np.generic]) -> Floats:
        """Where values stand, from 0 to `UNITS`; what is beyond the axis is put on its end."""
        shares = (values.astype(np.float64) - self.low) / (self.high - self.low)
        return np.round(np.clip(shares, 0, 1) * UNITS)


def _thin(series: Series, *, smooth: bool, alone: bool) -> _Thinned | None:
    order = np.argsort(series.steps, kind="stable")
    steps, values = series.steps[order], _measured(series.values[order])
    if not np.isfinite(values).any():
        return None
    if series.ranges is not None:
        ranges = _measured(series.ranges[:, order])
        return _Thinned(series, 1, _usual(ranges), steps, values, None, steps, ranges)
    count = len(values)
    window = max(_LEAST_WINDOW, int(count * _SMOOTHING)) | 1 if smooth and count >= _FEW else 1
    few = count <= _MOST_POINTS
    places = np.arange(count) if few else np.linspace(0, count - 1, _MOST_POINTS // 2).astype(np.int64)
    means = mean_around(values, places, window)
    if not alone or window == 1:
        return _Thinned(series, window, _usual(means), steps[places], means, None, steps, None)
    if few:
        return _Thinned(series, window, _usual(values), steps[places], means, values, steps, None)
    begins = np.linspace(0, count, _MOST_POINTS // 2, endpoint=False).astype(np.int64)
    # fmin and fmax pass over what is not a number.
    band = np.stack([np.fmin.reduceat(values, begins), np.fmax.reduceat(values, begins)])
    return _Thinned(series, window, _usual(values), steps[places], means, None, steps[begins], band)


def _usual(values: Floats) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = np.quantile(finite, (0.005, 0.995)) if len(finite) else (np.inf, -np.inf)
    return float(low), float(high)


def _measured(values: Floats) -> Floats:
    return np.where(np.abs(values) < _LARGEST, values, np.nan)


def _y_range(thinned: Sequence[_Thinned]) -> tuple[float, float, str]:
    """The ends of the axis, and what is said of values that lie far beyond: a few must not flatten the curve."""
    seen = [
        array[np.isfinite(array)] for one in thinned for array in (one.means, one.raw, one.band) if array is not None
    ]
    everything = np.concatenate(seen)
    means = np.concatenate([one.means[np.isfinite(one.means)] for one in thinned])
    low = min(float(means.min()), *(one.usual[0] for one in thinned))
    high = max(float(means.max()), *(one.usual[1] for one in thinned))
    room = (high - low) / 2 or np.inf
    lowest, highest = float(everything.min()), float(everything.max())
    cut = []
    if highest > high + room:
        cut.append(f"Peaks up to {_number(highest)} are cut off.")
    else:
        high = highest
    if lowest < low - room:
        cut.append(f"Dips down to {_number(lowest)} are cut off.")
    else:
        low = lowest
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        around = abs(high) / 2 or 1.0
        low, high = low - around, high + around
    margin = 0.04 * (high - low)
    return (0.0 if 0 <= low < margin else low - margin), high + margin, " ".join(cut)


def _line(one: _Thinned, x_axis: _Axis, y_axis: _Axis) -> Line:
    band = ""
    if one.band is not None:
        inside = np.isfinite(one.band).all(axis=0)
        x = x_axis.places(one.band_steps[inside])
        low, high = y_axis.places(one.band[0, inside]), y_axis.places(one.band[1, inside])
        if len(x) > 1:
            band = _path(np.concatenate([x, x[::-1]]), UNITS - np.concatenate([high, low[::-1]])) + "Z"
    x = x_axis.places(one.steps)
    raw = "" if one.raw is None else _path(x, UNITS - y_axis.places(one.raw))
    finite = one.means[np.isfinite(one.means)]
    return Line(one.series.name, _path(x, UNITS - y_axis.places(one.means)), raw, band, float(finite[-1]))


def _path(x: Floats, y: Floats) -> str:
    """SVG path data through points; where y is not a number the line is broken."""
    parts: list[str] = []
    pen_down = False
    finite = np.isfinite(y)
    for place in range(len(x)):
        if not finite[place]:
            pen_down = False
            continue
        parts.append(f"{'L' if pen_down else 'M'}{x[place]:.0f} {y[place]:.0f}")
        if not pen_down and not finite[place + 1 : place + 2].any():
            parts.append("h0")  # a point on its own: with round ends it is a dot
        pen_down = True
    return "".join(parts)


def _exponent(largest: float) -> int:
    """The power of ten that ticks leave out, so that they are short; 0 for numbers of the usual size."""
    if 0.01 <= largest < 1e6 or largest == 0:
        return 0
    power = math.floor(math.log10(largest))
    return power - power % 3 if power > 0 else power


def _labelled(places: Sequence[float], exponent: int) -> list[tuple[float, str]]:
    scaled = [place / 10.0**exponent for place in places]
    apart = abs(scaled[1] - scaled[0]) if len(scaled) > 1 else abs(scaled[0]) or 1.0
    decimals = min(9, max(0, math.ceil(-math.log10(apart) - 1e-9)))
    # Adding 0 makes 0 of -0.
    return [(place, f"{round(label, decimals) + 0:,.{decimals}f}") for place, label in zip(places, scaled, strict=True)]


def _reading_note(thinned: Sequence[_Thinned]) -> str:
    if any(one.series.ranges is not None for one in thinned):
        return "Shaded: 95 % intervals."
    windows = sorted({one.window for one in thinned})
    if windows[-1] == 1:
        return ""
    if len(thinned) > 1:
        return "Means over a fortieth of the steps in which a dataset took part, five at least."
    one = thinned[0]
    mean = f"Line: mean over {one.window:,} steps"
    if one.band is not None:
        return f"{mean}; shaded: smallest to largest of {len(one.series.values) // len(one.band_steps):,} steps."
    return f"{mean}; thin: every step." if one.raw is not None else f"{mean}."


def _describe(title: str, thinned: Sequence[_Thinned]) -> str:
    tales = []
    for one in thinned:
        finite = np.flatnonzero(np.isfinite(one.means))
        begin, end = finite[0], finite[-1]
        tale = f"{_number(one.means[begin])} at step {one.steps[begin]:,}"
        if begin != end:
            tale = f"from {tale} to {_number(one.means[end])} at step {one.steps[end]:,}"
        tales.append(tale if len(thinned) == 1 else f"{one.series.name} {tale}")
    return f"{title}: {'; '.join(tales)}."


def _number(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 1e6 else f"{value:.3g}"
