"""Pictures: panels side by side in a PNG, drawn by matplotlib without its global state and without a screen."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pairloom.errors import ArtifactError, MissingExtraError, UsageError
from pairloom.terminal import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which the colour-blind tell apart: https://jfly.uni-koeln.de/color
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_GREY = "#5f6368"

_PANEL_INCHES = (6.4, 4.4)
_DOTS_PER_INCH = 144
# A range wider than this is drawn on a logarithmic axis.
_LINEAR_UP_TO = 20
_MIN_BINS, _MAX_BINS = 24, 60
# However few values there are: a single huge one must not squeeze the others into a bin.
_MIN_BINS_PER_DOUBLING = 3


class Panel(Protocol):
    """Something that can be drawn into a part of a picture."""

    def draw(self, axes: Axes) -> None:
        """Draws itself, with its title, its axes' labels and its legend."""


@dataclass(frozen=True)
class Distributions:
    """A panel with the distributions of whole numbers, one over the other.

    Heights are of bins as wide as the narrowest, so that equal areas are equal shares, on a logarithmic axis, too.

    Args:
        title: Above the panel.
        x_label: What the numbers are.
        series: Name to the different numbers, rising, and how often each occurs; none is empty.
        marks: Numbers at which a line is drawn, if they are in the range.
    """

    title: str
    x_label: str
    series: Mapping[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
    marks: Sequence[int] = ()

    def draw(self, axes: Axes) -> None:
        """Draws filled steps, a dotted line at each median, and the marks."""
        low = min(int(values[0]) for values, _ in self.series.values())
        high = max(int(values[-1]) for values, _ in self.series.values())
        num_values = max(int(counts.sum()) for _, counts in self.series.values())
        edges, logarithmic = bin_edges(low, high, num_values)
        for (name, (values, counts)), colour in zip(self.series.items(), COLOURS, strict=False):
            median = int(values[np.searchsorted(np.cumsum(counts), -(-counts.sum() // 2))])
            heights = bin_heights(values, counts, edges, logarithmic=logarithmic)
            axes.stairs(heights, edges, fill=True, color=colour, alpha=0.28, linewidth=0)
            axes.stairs(heights, edges, color=colour, linewidth=1.6, label=f"{name}, median {median:,}")
            axes.axvline(max(median, edges[0]), color=colour, linestyle=":", linewidth=1.4)
        _place_ticks(axes, edges, logarithmic=logarithmic)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(bottom=0)
        for mark in self.marks:
            if edges[0] < mark < edges[-1]:
                axes.axvline(mark, color=_GREY, linestyle="--", linewidth=1)
                style = {"rotation": 90, "color": _GREY, "fontsize": 8}
                axes.text(mark, 0.99, f"{mark:,} ", style, ha="right", va="top", transform=axes.get_xaxis_transform())
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_formatter("{x:g} %")
        width = f"× {np.min(edges[1:] / edges[:-1]):.2f}" if logarithmic else f"{edges[1] - edges[0]:,.0f} wide"
        _label(axes, self.title, self.x_label, f"share of texts in a bin ({width})")


def _place_ticks(axes: Axes, edges: NDArray[np.float64], *, logarithmic: bool) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    if not logarithmic:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return
    axes.set_xscale("log")
    # Over three decades, three labels in each would run into each other.
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if edges[-1] < 1000 * edges[0] else (1,)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _label(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, pad=24, parse_math=False)
    axes.set_xlabel(x_label, color=_GREY, parse_math=False)
    axes.set_ylabel(y_label, color=_GREY)
    axes.tick_params(which="both", color=_GREY, labelcolor=_GREY, labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GREY)
    axes.grid(axis="y", color="#e4e6e9")
    axes.set_axisbelow(True)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.01, 0.99),
        ncols=3,
        frameon=False,
        fontsize=9,
        handlelength=1.2,
        columnspacing=1.2,
        borderpad=0.3,
    )


def bin_edges(low: int, high: int, num_values: int) -> tuple[NDArray[np.float64], bool]:
    """Edges of bins for whole numbers from ``low`` to ``high``; each lies halfway between two of them.

    The more values there are, the more bins: twice the cube root, which is Rice's rule.

    Returns:
        The edges, rising, float64 [bins + 1], and whether the axis shall be logarithmic.
    """
    num_bins = int(np.clip(2 * np.cbrt(num_values), _MIN_BINS, _MAX_BINS))
    logarithmic = high > _LINEAR_UP_TO * max(low, 1)
    if logarithmic:
        low = max(low, 1)
        num_bins = max(num_bins, int(_MIN_BINS_PER_DOUBLING * np.log2(high / low)))
        wanted = np.geomspace(low, high + 1, num_bins + 1)
        return np.unique(np.round(wanted).astype(np.float64)) - 0.5, True
    width = -(-(high + 1 - low) // num_bins)
    return np.arange(low, high + width + 1, width, dtype=np.float64) - 0.5, False


def bin_heights(
    values: NDArray[np.int64], counts: NDArray[np.int64], edges: NDArray[np.float64], *, logarithmic: bool
) -> NDArray[np.float64]:
    """How high each bin stands, in per cent of all counts: [bins].

    A bin that is k times as wide on the axis as the narrowest stands for k of these, so its share is divided by k. What
    lies below the first edge (only 0 does, on a logarithmic axis) is put into the first bin.
    """
    sums, _ = np.histogram(np.maximum(values, edges[0]), edges, weights=counts)
    shares: NDArray[np.float64] = 100 * sums / counts.sum()
    widths: NDArray[np.float64] = np.diff(np.log(edges) if logarithmic else edges)
    return shares * (float(widths.min()) / widths)


def check_picture(path: Path) -> None:
    """Makes sure, before long work, that a picture can be drawn and where it shall be put.

    Raises:
        UsageError: The name does not end in ``.png``.
        ArtifactError: Its folder is missing, or something else than a file stands there.
        MissingExtraError: matplotlib is not installed.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: a picture is a PNG; give a name that ends in .png")
    if not path.absolute().parent.is_dir():
        raise ArtifactError(f"{path}: there is no folder {path.parent}; make it first")
    if path.exists() and not path.is_file():
        raise ArtifactError(f"{path}: is no regular file; choose another name")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtraError("drawing a plot", "matplotlib", "plot") from None


def save_picture(path: Path, title: str, panels: Sequence[Panel]) -> None:
    """Draws panels side by side and writes them as a PNG, whole or not at all; a file of this name is replaced.

    Raises:
        UsageError, ArtifactError, MissingExtraError: As `check_picture` does; also if the file cannot be written.
    """
    check_picture(path)
    from matplotlib.figure import Figure

    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * len(panels), height), dpi=_DOTS_PER_INCH, layout="constrained")
    figure.suptitle(one_line(title, 120), x=0.01, horizontalalignment="left", fontweight="bold", parse_math=False)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        panel.draw(axes)
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a name in any script is no reason to fail
        figure.savefig(content, format="png")
    _write(path, content.getvalue())


def _write(path: Path, content: bytes) -> None:
    try:
        path = path.resolve()  # a link stays, what it points to is written
        partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
        try:
            partial.write_bytes(content)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ArtifactError(f"{path}: cannot be written ({why}); free some space or choose another place") from None
