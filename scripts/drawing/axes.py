"""Axes: scales, ticks and labels at the ends of lines."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator
from scipy.optimize import isotonic_regression

from drawing.style import GREY, SMALL

Floats = npt.NDArray[np.float64]


def format_count(value: float, _position: float = 0) -> str:
    """1500 → 1.5k: short enough for ticks."""
    for divisor, suffix in ((1e6, "M"), (1e3, "k")):
        if value >= divisor:
            return f"{value / divisor:.4g}{suffix}"
    return f"{value:.4g}"


def format_ratio(value: float, _position: float) -> str:
    return f"{value:.3g}×"


def format_microseconds(value: float, _position: float = 0) -> str:
    for divisor, unit in ((1e6, "s"), (1e3, "ms")):
        if value >= divisor:
            return f"{value / divisor:g} {unit}"
    return f"{value:g} µs"


def choose_labels(connections: list[int], most: int) -> list[int]:
    """The counts to label on a logarithmic axis with room for `most` labels: the ends and powers of ten first."""
    ends = min(connections), max(connections)
    least = (math.log10(ends[1] / ends[0]) or 1.0) / most
    shown: list[int] = []
    for count in sorted(connections, key=lambda c: (c not in ends, math.log10(c) % 1 > 0, c)):
        if all(abs(math.log10(count / other)) > least for other in shown):
            shown.append(count)
    return shown


def set_connections_axis(axes: Axes, connections: list[int], most: int = 18) -> None:
    """Set a logarithmic axis with ticks at the measured counts, without labels that would touch."""
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    shown = choose_labels(connections, most)
    labels = [f"{count:,}" if count in shown else "" for count in connections]
    axes.set_xticks(connections, labels)
    axes.set_xlabel("connections (logarithmic)")


def set_logarithmic(axes: Axes, values: "pd.Series[float]") -> None:
    """Set a logarithmic y axis around the values, whose intervals may be far wider, with enough labels for any span."""
    if values.dropna().empty:
        return
    low, high = values.min() / 1.25, values.max() * 1.25
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    steps = (1, 2, 5) if high / low > 30 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_minor_locator(NullLocator())


def start_at_zero(axes: Axes, values: "pd.Series[float]") -> None:
    """Set a y axis from 0 to above the values, whose intervals may be far wider."""
    axes.set_ylim(0, values.max() * 1.12 if values.max() > 0 else 1)


def say_nothing_drawn(axes: Axes, text: str = "no valid run") -> None:
    """Write a text in place of lines, and remove the scale, which would be meaningless."""
    axes.yaxis.set_major_locator(NullLocator())
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=GREY)


def spread(wanted: Floats, sizes: Floats, low: float, high: float) -> Floats:
    """Positions of labels closest to the wanted ones, which ascend, so that none overlap or leave low…high."""
    offsets = np.cumsum(sizes) - sizes / 2
    free = isotonic_regression(wanted - offsets).x
    return np.asarray(np.clip(free, low, max(low, high - sizes.sum())) + offsets)


class End(NamedTuple):
    """The right end of a line (y is NaN if there is no line), and its label."""

    x: float
    y: float
    label: str
    color: str
    marker: str


def label_ends(axes: Axes, ends: list[End]) -> None:
    """Write each line's label near its end, moved as far as needed. Call this last: scales and layout must be final."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    box = axes.get_window_extent()
    drawn = [axes.transData.transform((end.x, end.y))[1] for end in ends]
    # Rounded, because the layout's last digits differ between processes.
    heights = np.round(np.nan_to_num(np.array(drawn, float), nan=box.y0), 3)
    order = np.argsort(heights, kind="stable")
    line_height = 1.3 * SMALL * figure.dpi / 72
    sizes = np.array([line_height * (1 + ends[number].label.count("\n")) for number in order])
    for number, position in zip(order, spread(heights[order], sizes, box.y0, box.y1), strict=True):
        _label_end(axes, ends[number], (position - box.y0) / box.height)


def _label_end(axes: Axes, end: End, height: float) -> None:
    """Draw a thin line from the end, its marker and the label, at a height relative to the axes'."""
    if math.isfinite(end.y):
        axes.annotate(
            "",
            (end.x, end.y),
            xytext=(1.03, height),
            textcoords=axes.transAxes,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": end.color,
                "linestyle": (0, (1, 1.5)),  # a solid line would look like a part of the server's
                "linewidth": 0.8,
                "shrinkA": 0,
                "shrinkB": 3,
            },
        )
    place = (1.04, height)
    (mark,) = axes.plot(*place, transform=axes.transAxes, color=end.color, marker=end.marker)
    mark.set(clip_on=False, markersize=4)
    text = axes.annotate(end.label, place, (5, 0), axes.transAxes, "offset points")
    text.set(va="center", fontsize=SMALL)
